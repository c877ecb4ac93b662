"""Who a result belongs to: to vgpu, to another way of doing the same (a peer), or to the machine (a baseline)."""

from __future__ import annotations

from collections.abc import Iterable

from .model import Result

OURS, PEER, BASELINE = "vgpu", "peer", "baseline"

# What the machine, or the simplest program, does: whatever else is measured beside it stands on it.
_BASELINES = ("bare", "memcpy", "read_and_memcpy", "cpp")


# What a reader calls them.
_NAMES = {
    "bare_cache_line": "bare cache line",
    "bare_full_line": "bare full line",
    "bare_lines": "bare lines",
    "vgpu_no_wakeup": "vgpu without wake-ups",
    "vgpu_fence_each": "vgpu, fences on both sides",
    "boost_spsc_queue": "boost spsc_queue",
    "moodycamel_readerwriterqueue": "readerwriterqueue",
    "index_queue": "index queue",
    "dpdk_rte_ring": "DPDK rte_ring",
    "unix_stream": "UNIX stream socket",
    "unix_seqpacket": "UNIX packet socket",
    "tcp_loopback": "TCP loopback",
    "memcpy_huge_pages": "memcpy, huge pages",
    "read_and_memcpy": "read + memcpy",
    "read_and_memcpy_new_memory": "read + memcpy, new memory",
    "cpp": "C++, one core",
    "cpp_all_cores": "C++, all cores",
    "cpu": "the same client on its CPU",
    "vgpu_unconfined": "vgpu, addresses not confined",
    "vgpu_empty_cache": "vgpu, nothing in its cache",
    "vgpu_with_cache": "vgpu, with its cache",
    "cpu_model": "of which on the CPU loading the model",
}


def of(result: Result) -> str:
    variant = result.variant
    if variant.startswith(_BASELINES) or (result.name.endswith("wake_up") and variant == "eventfd"):
        return BASELINE
    if variant in ("futex", "cpu") or (result.suite == "ring_bench" and not variant.startswith("vgpu")):
        return PEER
    return OURS


def name_of(variant: str) -> str:
    return _NAMES.get(variant, variant.replace("_", " "))


def plainness(result: Result) -> bool:
    """A sorting key: of several baselines the plainest is what everything is compared with."""
    return result.variant not in ("bare_cache_line", "memcpy", "read_and_memcpy", "cpp_all_cores")


def baseline_of(result: Result, among: Iterable[Result]) -> Result | None:
    """The baseline measured beside a result: of its suite and name, at its own place and size. A time may also be
    held against one of another size or batch, where there is none of its own."""
    candidates = [
        one
        for one in among
        if one.suite == result.suite and one.name == result.name and of(one) == BASELINE and units_agree(one, result)
    ]
    candidates.sort(key=plainness)
    for may_differ in ((), ("bytes", "batch") if result.lower_is_better else ()):
        for one in candidates:
            shared = (one.parameters.keys() & result.parameters.keys()).difference(may_differ)
            if all(one.parameters[key] == result.parameters[key] for key in shared):
                return one
    return None


def units_agree(one: Result, other: Result) -> bool:
    return one.unit == other.unit and one.lower_is_better == other.lower_is_better
