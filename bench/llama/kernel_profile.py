#!/usr/bin/env python3
"""Which kernels take a model's time on the software vGPU, as vgpu-probe tells it.

Of each kernel its share, the least time that a block of it took, and how its loads and stores were compiled; beside it how
fast weights are read and what the memory gives, and, where perf and objdump are there, which instructions the time goes to.
Exit status 77 is a skip: what scripts/fetch gets is not there.
"""

import argparse
import concurrent.futures
import ctypes
import os
import pathlib
import statistics
import time
from collections.abc import Callable

from client import MODELS, ROOT, Client, check_on_device, command, kernels, kernels_between, measuring, on_device
from client import skip_unless_there, with_region
from samples import sampled

# The counts of vgpu-probe's JSON that are shown, and what they are called here.
COUNTS = {"loads_uniform": "same", "loads_contiguous": "row", "loads_windowed": "window", "loads_transposed": "turned",
          "loads_gathered": "gather", "stores_contiguous": "row", "stores_scattered": "scatter"}  # fmt: skip


def table(found: list[dict], top: int) -> str:
    whole = sum(one["time_ns"] for one in found)
    counted = [(name, words) for name, words in COUNTS.items() if any(name in one["counts"] for one in found)]
    lines = ["share       ms launches blocks/launch least ns/block     block  loads, stores:"
             f" {' '.join(f'{words:>7}' for _, words in counted)}  kernel"]  # fmt: skip
    for one in found[:top]:
        counts = " ".join(f"{one['counts'].get(name, 0):>7}" for name, _ in counted)
        block = "x".join(map(str, one["block"]))
        function = one["function"].replace("(bool)0", "no").replace("(bool)1", "yes")
        lines.append(
            f"{one['time_ns'] / whole:5.1%} {one['time_ns'] / 1e6:8.1f} {one['launches']:>8} "
            f"{one['blocks'] / one['launches']:>13.1f} {one['least_block_ps'] / 1e3:>14.1f} {block:>9}                 "
            f"{counts}  {function}"
        )
    return "\n".join(lines)


def generate(client: Client, seconds: float) -> list[float]:
    """Token after token for about so long; the time of each."""
    times: list[float] = []
    while sum(times) < seconds:
        times += client.ask(1, 17)["token_seconds"]
    return times


def read_prompts(client: Client, seconds: float) -> list[float]:
    times: list[float] = []
    while sum(times) < seconds:
        times.append(client.ask(512, 1)["prompt_seconds"])
    return times


def memory_speed() -> float:
    """Bytes a second that as many threads as there are processors read together; the best of three."""
    threads, size = len(os.sched_getaffinity(0)), 256 << 20
    search = ctypes.CDLL(None).memchr
    search.argtypes, search.restype = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t), ctypes.c_void_p
    blocks = [ctypes.create_string_buffer(b"\1" * size, size) for _ in range(threads)]
    best = float("inf")
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for _ in range(3):
            started = time.perf_counter()
            list(pool.map(lambda block: search(ctypes.addressof(block), 0, size), blocks))
            best = min(best, time.perf_counter() - started)
    return threads * size / best


def main() -> None:
    parts: dict[str, Callable[[Client, float], list[float]]] = {"generation": generate, "prefill": read_prompts}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=MODELS, default="demo")
    parser.add_argument("--part", choices=parts, default="generation")
    parser.add_argument("--top", type=int, default=15, help="so many kernels (15)")
    parser.add_argument("--seconds", type=float, default=3, help="to measure for at least so long (3)")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "release", help="what was built")
    options = parser.parse_args()
    model = MODELS[options.model]
    skip_unless_there(model)
    region = f"/dev/shm/vgpu-profile-{os.getpid()}"
    device = options.build / "tools" / "vgpu-device" / "vgpu-device"
    with measuring(with_region(on_device(device, command(model, "--measure")), region)) as client:
        check_on_device(client.about)
        work = parts[options.part]
        work(client, 0)
        before = kernels(options.build, region)
        with sampled(client.process.pid) as samples:
            started = time.perf_counter()
            times = work(client, options.seconds)
            taken = time.perf_counter() - started
            if samples is not None:
                samples.stop()
            ran = kernels_between(before, kernels(options.build, region))
            found = sorted(ran.values(), key=lambda one: -one["time_ns"])
            each = statistics.median(times)
            if options.part == "prefill":
                print(f"{options.model}, prefill: {512 / each:.1f} tokens/s")
            else:
                print(
                    f"{options.model}, generation: {1 / each:.2f} tokens/s, for which "
                    f"{model.stat().st_size / each / 1e9:.2f} GB/s of weights are read; "
                    f"this memory gives {memory_speed() / 1e9:.1f} GB/s"
                )
            print(f"in kernels: {sum(one['time_ns'] for one in found) / 1e9:.2f} of {taken:.2f} s")
            print(table(found, options.top))
            if samples is not None:
                print(samples.table())


if __name__ == "__main__":
    main()
