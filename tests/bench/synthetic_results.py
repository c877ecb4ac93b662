"""Result files as the benchmarks write them, with figures that are made up and known: for tests of the report."""

from __future__ import annotations

import functools
import json
import math
import random

QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99_9", 0.999))


def _percentiles(values: list[float]) -> dict:
    ordered = sorted(values)
    found = {name: ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] for name, share in QUANTILES}
    return {**found, "max": ordered[-1], "count": len(ordered)}


def _histogram(values: list[float]) -> list[list[float]]:
    buckets: dict[float, int] = {}
    for value in values:
        upper = round(1.008 ** math.ceil(math.log(value) / math.log(1.008)), 3)
        buckets[upper] = buckets.get(upper, 0) + 1
    return [[upper, buckets[upper]] for upper in sorted(buckets)]


class Maker:
    """Makes results whose rounds scatter by `noise` around their median; the same seed gives the same file."""

    def __init__(self, seed: int = 1, rounds: int = 5, noise: float = 0.02, samples: int = 200):
        self.random = random.Random(seed)
        self.rounds, self.noise, self.samples = rounds, noise, samples

    def _drift(self) -> float:
        return math.exp(self.random.gauss(0, self.noise))

    def latency(self, name: str, variant: str, median: float, tail: float = 0.06, **parameters: object) -> dict:
        """A latency in ns with a long tail, whose p50 over the rounds is about `median`."""
        per_round = []
        for _ in range(self.rounds):
            middle = median * self._drift()
            values = [middle * math.exp(abs(self.random.gauss(0, tail)) - 0.67 * tail) for _ in range(self.samples)]
            for index in range(0, self.samples, 300):
                values[index] = middle * self.random.uniform(2, 30)
            per_round.append(values)
        together = [value for values in per_round for value in values]
        return {
            "name": name,
            "variant": variant,
            "parameters": parameters,
            "kind": "latency",
            "unit": "ns",
            "rounds": [_percentiles(values) for values in per_round],
            **_percentiles(together),
            "histogram": _histogram(together),
        }

    def single(self, name: str, variant: str, value: float, kind: str, unit: str, **parameters: object) -> dict:
        values = [value * self._drift() for _ in range(self.rounds)]
        return {
            "name": name,
            "variant": variant,
            "parameters": parameters,
            "kind": kind,
            "unit": unit,
            "rounds": [_percentiles([one]) for one in values],
            **_percentiles(values),
        }


def suite(name: str, results: list[dict], **about: object) -> dict:
    return {
        "format": 1,
        "suite": name,
        "started": "2026-11-22T06:00:00Z",
        "commit": "0123456789abcdef0123",
        "dirty": False,
        "compiler": "GNU 12.2.0",
        "build_type": "Release",
        "machine": {
            "cpu": "Made-up CPU",
            "cores": 2,
            "kernel": "Linux 6.1.0",
            "memory_bytes": 8 << 30,
            "caches": ["L3 32 MiB"],
            "numa_nodes": 1,
            "placements": {"same_core": None, "same_cache": [0, 1], "far": None},
        },
        "options": {"rounds": 5, "quick": True},
        "results": results,
        **about,
    }


def ring_bench(make: Maker) -> dict:
    place = {"placement": "same_cache"}
    peers = {
        "boost_spsc_queue": 101.0,
        "moodycamel_readerwriterqueue": 109.0,
        "index_queue": 96.0,
        "dpdk_rte_ring": 118.0,
        "unix_stream": 9400.0,
        "unix_seqpacket": 9300.0,
        "tcp_loopback": 17800.0,
        "pipe": 7900.0,
        "eventfd": 7200.0,
    }
    results = [make.latency("round_trip_mean", "bare_full_line", 79.0, bytes=64, **place)]
    for name, clock in (("round_trip", 18.0), ("round_trip_mean", 0.0)):
        results += [
            make.latency(name, "bare_cache_line", 74.0 + clock, bytes=64, **place),
            make.latency(name, "vgpu", 76.0 + clock, bytes=64, **place),
            make.latency(name, "vgpu", 101.0 + clock, bytes=256, **place),
            make.latency(name, "vgpu_no_wakeup", 75.5 + clock, bytes=64, **place),
        ]
        results += [
            make.latency(name, variant, median + clock, 0.1, bytes=8 if variant == "eventfd" else 64, **place)
            for variant, median in peers.items()
        ]
    one_by_one = {
        "bare_lines": 4.0,
        "vgpu": 6.0,
        "vgpu_no_wakeup": 5.0,
        "boost_spsc_queue": 18.0,
        "moodycamel_readerwriterqueue": 22.0,
        "index_queue": 17.0,
        "dpdk_rte_ring": 25.0,
        "unix_stream": 900.0,
        "unix_seqpacket": 930.0,
        "tcp_loopback": 1300.0,
        "pipe": 700.0,
    }
    for size in (64, 256, 1024, 4096):
        scale = (size / 64) ** 0.8
        results += [
            make.latency("stream", variant, cost * scale, 0.15, bytes=size, batch=1, **place)
            for variant, cost in one_by_one.items()
        ]
        results += [
            make.latency("stream", variant, cost * scale, 0.15, bytes=size, batch=32, **place)
            for variant, cost in (("vgpu", 4.0), ("boost_spsc_queue", 13.0), ("dpdk_rte_ring", 14.0), ("pipe", 130.0))
        ]
    return suite(
        "ring_bench",
        results,
        skipped=[
            {
                "name": "any",
                "variant": "any",
                "parameters": {"placement": "far"},
                "why": "this machine has no two processors placed so",
            }
        ],
    )


def transport_bench(make: Maker) -> dict:
    results = [
        make.latency("synchronous_call", "bare_cache_line", 75.0),
        make.latency("synchronous_call", "cuMemGetInfo", 139.0),
        make.latency("synchronous_call", "cuStreamSynchronize", 131.0),
        make.latency("synchronous_call", "cuCtxSynchronize", 133.0),
        make.latency("synchronous_call", "cuLaunchKernel+cuStreamSynchronize", 209.0),
        make.single("launch_sustained", "cuLaunchKernel", 9.1e6, "rate", "1/s", parameters=8),
        make.single("idle_cpu", "vgpu", 1.9, "amount", "ms", seconds=10),
    ]
    for timed, extra in (("each", 22), ("burst", 0)):
        results += [
            make.latency("ring_submit", "vgpu", 24 + extra, 0.2, bytes=256, timed=timed),
            make.latency("copy_submit", "cuMemcpyHtoD", 92 + extra, 0.2, bytes=64, timed=timed),
            make.latency("copy_submit", "cuMemcpyHtoDAsync", 81 + extra, 0.2, bytes=64, timed=timed),
            make.latency("launch_submit", "cudaLaunchKernel", 77 + extra, 0.2, parameters=8, timed=timed),
        ]
        results += [
            make.latency(
                "launch_submit", "cuLaunchKernel", 55 + extra + 1.6 * count, 0.2, parameters=count, timed=timed
            )
            for count in (1, 8, 32)
        ]
    for idle in (300, 1200000):
        results += [
            make.latency("device_wake_up", variant, median + idle / 1e3, 0.3, idle_us=idle)
            for variant, median in (
                ("vgpu", 9100.0),
                ("eventfd", 8200.0),
                ("futex", 8100.0),
                ("vgpu_synchronize", 12100.0),
            )
        ]
    results += [
        make.latency("client_wake_up", "vgpu", 9300.0, 0.3),
        make.latency("client_wake_up", "eventfd", 8100.0, 0.3),
    ]
    power = 6
    while power <= 30:
        size = 1 << power
        speed = 11e9 / (1 + 40 / size) * (1.5 if size <= 1 << 20 else 1)
        results.append(make.single("copy", "memcpy", speed, "rate", "B/s", bytes=size))
        for variant, share, fixed in (
            ("pageable_to_device", 0.92, 2e3),
            ("pageable_to_host", 0.9, 4e3),
            ("pinned_to_device", 0.98, 1e3),
            ("pinned_to_host", 0.97, 1e3),
        ):
            results.append(
                make.single("copy", variant, size / (size / (speed * share) + fixed * 1e-9), "rate", "B/s", bytes=size)
            )
        power += 2
    for name, loss in (("processes", 0.008), ("threads", 0.04)):
        for variant, speed, unit in (("launch", 9.8e6, "1/s"), ("pageable_to_device", 9.1e9, "B/s")):
            for count in (1, 2, 4, 8):
                results.append(
                    make.single(name, variant, speed * (1 - loss * count), "rate", unit, clients=count, of="sum")
                )
                results.append(
                    make.single(
                        name, variant, 1 - loss * 3 * (count - 1), "rate", "of the mean", clients=count, of="slowest"
                    )
                )
    return suite("transport_bench", results)


def kernel_bench(make: Maker) -> dict:
    results = [
        make.latency("empty_kernel", variant, median, 0.2, blocks=1)
        for variant, median in (("submit", 80.0), ("vgpu", 2100.0))
    ]
    for name, median in (("saxpy", 41e3), ("mul_mat_vec_q4", 310e3)):
        results += [
            make.latency(name, "vgpu", median * 1.2, 0.2, elements=1 << 20),
            make.latency(name, "cpp", median * 1.9, 0.2, elements=1 << 20),
            make.latency(name, "cpp_all_cores", median, 0.2, elements=1 << 20),
        ]
    return suite("kernel_bench", results)


def model_load(make: Maker) -> dict:
    return suite(
        "model_load", [make.latency("model_load", "read_and_memcpy", 61e6), make.latency("model_load", "vgpu", 72e6)]
    )


def merged(*suites: dict, **about: object) -> dict:
    return {
        "format": 1,
        "started": "2026-11-22T06:00:00Z",
        "commit": "0123456789abcdef0123",
        "mode": "quick",
        "suites": list(suites),
        "failures": [],
        "environment": [],
        **about,
    }


@functools.cache
def _whole_run(seed: int, options: tuple) -> str:
    make = Maker(seed, **dict(options))
    return json.dumps(merged(ring_bench(make), transport_bench(make), kernel_bench(make), model_load(make)))


def whole_run(seed: int = 1, **options: object) -> dict:
    """All suites; the caller's to change."""
    return json.loads(_whole_run(seed, tuple(sorted(options.items()))))


def software_run(vgpu_over_cpu: float, start_seconds: float = 1.5, loading_seconds: float = 0.0) -> dict:
    """What scripts/bench --software writes, without noise: every speed is the same share of the CPU's."""
    make = Maker(noise=0)
    results = []
    for model in ("demo", "Q4_0", "Q8_0", "Q4_K_M", "F16"):
        for variant, share in (("cpu", 1.0), ("vgpu", vgpu_over_cpu)):
            results += [
                make.single("token", variant, 50e6 / share, "latency", "ns", model=model),
                make.single("prefill", variant, 100 * share, "rate", "tokens/s", model=model, tokens=512),
            ]
    for part in ("generation", "prefill"):
        for variant, value in (("vgpu", 1.02e9), ("vgpu_unconfined", 1e9)):
            results += [
                make.single("kernels_at_best", variant, value, "latency", "ns", model=model, part=part)
                for model in ("demo", "Q4_0")
            ]
    for variant, seconds in (
        ("vgpu_empty_cache", start_seconds + 5), ("vgpu_with_cache", start_seconds), ("cpu_model", loading_seconds)
    ):  # fmt: skip
        results.append(make.single("start", variant, seconds * 1e9, "latency", "ns"))
    kernels = suite("kernel_bench", [make.single("empty_kernel", "vgpu", 1500, "latency", "ns", blocks=1)])
    return {"format": 1, "goals": "software", "suites": [suite("llama_bench", results), kernels]}
