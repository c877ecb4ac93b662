#!/usr/bin/env python3
"""How long the demo's client takes to load its model, beside reading the file and copying it once.

Of the client the loading call alone is timed, by the client itself; the vGPU's device is warm: it stays, and has
loaded the model before. Writes a result file as the benchmarks of bench/ do. Exit status 77 is a skip: what
scripts/fetch gets is not there.
"""

import argparse
import contextlib
import ctypes
import json
import mmap
import pathlib
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator

from client import MODEL, ROOT, check_on_device, command, facts, latency, skip_unless_there

class Memory:
    """Anonymous memory; `present`: with its pages there already."""

    def __init__(self, size: int, present: bool):
        self.size = size
        self.map = mmap.mmap(-1, size)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        if present:
            ctypes.memset(self.address, 1, size)

    def view(self) -> memoryview:
        """The memory as something to read into; it goes away with the process."""
        return memoryview((ctypes.c_char * self.size).from_address(self.address)).cast("B")


class ReadAndCopy:
    """The file, which the page cache holds, into memory; from there once more."""

    def __init__(self, present: bool):
        self.present = present
        self.size = MODEL.stat().st_size
        self.buffers = self.make()

    def make(self) -> tuple[Memory, Memory]:
        return Memory(self.size, self.present), Memory(self.size, self.present)

    def __call__(self) -> float:
        first, second = self.buffers if self.present else self.make()
        view = first.view()
        with MODEL.open("rb", buffering=0) as file:
            start = time.perf_counter_ns()
            read = 0
            while read < self.size:
                read += file.readinto(view[read:])
            ctypes.memmove(second.address, first.address, self.size)
            return time.perf_counter_ns() - start


def client_command(*extra: str) -> list[str]:
    return command(MODEL, "--json", "--max-tokens", "0", *extra, "--", "Hello")


def load_on_cpu() -> float:
    done = subprocess.run(client_command("--cpu"), stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)["model_seconds"] * 1e9


@contextlib.contextmanager
def warm_device(device: pathlib.Path) -> Iterator[Callable[[], float]]:
    """A device that stays, and a function that has a new client load the model on it."""
    loop = f"while read -r _; do {shlex.join(client_command())} || exit 1; done"
    with subprocess.Popen([device, "run", "--cuda", "12", "--", "/bin/sh", "-c", loop],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # fmt: skip

        def load() -> float:
            print("load", file=process.stdin, flush=True)
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("the client on the vGPU failed")
            said = json.loads(line)
            check_on_device(said)
            return said["model_seconds"] * 1e9

        load()
        yield load
        process.stdin.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, help="write the results to this file, as JSON")
    parser.add_argument("--rounds", type=int, default=5, help="measure every way this many times, in turn (5)")
    parser.add_argument("--quick", action="store_true", help="taken for the sake of scripts/bench; changes nothing")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "release", help="what was built")
    options = parser.parse_args()
    skip_unless_there(MODEL)
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    about = facts(options.build)
    ways: dict[str, Callable[[], float]] = {
        "read_and_memcpy": ReadAndCopy(present=True),
        # The same into memory that the kernel has yet to provide, as whoever loads a model has it.
        "read_and_memcpy_new_memory": ReadAndCopy(present=False),
        "cpu": load_on_cpu,
    }
    values: dict[str, list[float]] = {}
    with warm_device(options.build / "tools" / "vgpu-device" / "vgpu-device") as load_on_vgpu:
        ways["vgpu"] = load_on_vgpu
        for name, way in ways.items():
            if name != "vgpu":
                way()
        for number in range(options.rounds):
            for name, way in ways.items():
                values.setdefault(name, []).append(way())
                print(f"round {number + 1}: {name} {values[name][-1] / 1e6:.1f} ms", flush=True)
    whole = {
        **about,
        "format": 1,
        "suite": "model_load",
        "started": started,
        "options": {"rounds": options.rounds, "quick": options.quick, "model": MODEL.name},
        "results": [
            latency("model_load", name, {"bytes": MODEL.stat().st_size}, [[value] for value in values[name]])
            for name in ways
        ],
        "skipped": [],
        "failed": [],
    }
    if options.out:
        options.out.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()
