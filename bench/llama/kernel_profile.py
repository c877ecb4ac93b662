#!/usr/bin/env python3
"""Which kernels take a model's time on the software vGPU, from the device's own statistics: each kernel's share, the
least time that a block of it took, and how its loads and stores were compiled; and, where perf and objdump are there, which
instructions the time goes to. Exit status 77 is a skip."""

import argparse
import concurrent.futures
import ctypes
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import tempfile
import time

from client import MODELS, ROOT, Client, check_on_device, command, measuring, on_device, skip_unless_there
from samples import sampled

# The columns of the table that the device logs when it ends (device/software/runtime/kernel_statistics.cpp).
COLUMNS = ("ms", "launches", "us_each", "blocks", "least", "shape", "compile_ms", "same", "row", "window", "gather",
           "stored", "scattered", "branches", "parting", "kernel")  # fmt: skip
SHAPE = re.compile(r"\d+x\d+x\d+")


def kernels(log: str) -> list[dict[str, str]]:
    found = []
    for line in log.splitlines():
        _, debug, text = line.partition(" debug ")
        fields = text.partition(": ")[2].split(None, len(COLUMNS) - 1) if debug else []
        if len(fields) == len(COLUMNS) and SHAPE.fullmatch(fields[COLUMNS.index("shape")]):
            found.append(dict(zip(COLUMNS, fields)))
    return found


def short(name: str) -> str:
    """A kernel's name and template arguments, without what it takes."""
    name = re.sub(r"^void ", "", name)
    depth = 0
    for index, letter in enumerate(name):
        if letter == "(" and depth == 0 and index > 0:
            return name[:index]
        depth += (letter in "<(") - (letter in ">)")
    return name


def demangled(names: list[str]) -> list[str]:
    if not names or shutil.which("c++filt") is None:
        return names
    done = subprocess.run(["c++filt"], input="\n".join(names), stdout=subprocess.PIPE, text=True, check=True)
    return [short(name).replace("(bool)0", "no").replace("(bool)1", "yes") for name in done.stdout.splitlines()]


def work(client: Client, part: str, model_bytes: int) -> float:
    """Returns how long it took."""
    if part == "prefill":
        each = [client.ask(512, 1)["prompt_seconds"] for _ in range(2)]
        print(f"{512 / min(each):.1f} tokens/s")
        return sum(each)
    # The shortest prompt: what reading it takes hardly shows.
    answer = client.ask(1, 17)
    seconds = sum(answer["token_seconds"])
    each = statistics.median(answer["token_seconds"])
    print(f"{1 / each:.2f} tokens/s: {model_bytes / each / 1e9:.2f} GB/s of weights are read; "
          f"this memory gives {memory_speed() / 1e9:.1f} GB/s")  # fmt: skip
    return answer["prompt_seconds"] + seconds


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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=MODELS, default="demo")
    parser.add_argument("--part", choices=("generation", "prefill"), default="generation")
    parser.add_argument("--top", type=int, default=15, help="so many kernels (15)")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "release", help="what was built")
    options = parser.parse_args()
    model = MODELS[options.model]
    skip_unless_there(model)
    device = options.build / "tools" / "vgpu-device" / "vgpu-device"
    with tempfile.TemporaryDirectory(prefix="vgpu-profile.") as folder:
        log = pathlib.Path(folder) / "device.log"
        logging = ("--log", str(log), "--log-level", "debug")
        with measuring(on_device(device, command(model, "--measure"), *logging)) as client:
            check_on_device(client.about)
            print(f"{options.model}, {options.part}")
            with sampled(client.process.pid) as samples:
                seconds = work(client, options.part, model.stat().st_size)
                if samples is not None:
                    print(samples.table())
        found = kernels(log.read_text())
    if not found:
        raise SystemExit(f"{device} logged no kernels: are its statistics written in another form?")
    whole = sum(float(one["ms"]) for one in found)
    print(f"kernels: {whole / 1e3:.2f} s of {seconds:.2f} s; in the rest are BLAS calls, and waiting for the client")
    names = demangled([one["kernel"] for one in found])
    print("share      ms launches blocks/launch least ns/block    block  loads: same row window gather  stores: row "
          "scatter  kernel")  # fmt: skip
    for one, name in list(zip(found, names))[: options.top]:
        print(
            f"{float(one['ms']) / whole:5.1%} {one['ms']:>7} {one['launches']:>8} {one['blocks']:>13} {one['least']:>14} "
            f"{one['shape']:>8}  {one['same']:>11} {one['row']:>3} {one['window']:>6} {one['gather']:>6}  "
            f"{one['stored']:>11} {one['scattered']:>7}  {name}"
        )


if __name__ == "__main__":
    main()
