#!/usr/bin/env python3
"""Which kernels take a model's time on the software vGPU, from the device's own statistics: each kernel's share, the
least time that a block of it took, and how its loads and stores were compiled. Exit status 77 is a skip."""

import argparse
import pathlib
import re
import shutil
import subprocess
import tempfile

from client import MODELS, ROOT, check_on_device, command, measuring, on_device, skip_unless_there

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
            if options.part == "generation":
                # The shortest prompt: what reading it takes hardly shows.
                seconds = client.ask(1, 33)["token_seconds"]
                print(f"{options.model}: {len(seconds) / sum(seconds):.2f} tokens/s generated")
            else:
                for _ in range(2):
                    seconds = client.ask(512, 1)["prompt_seconds"]
                print(f"{options.model}: {512 / seconds:.1f} tokens/s of a prompt of 512")
        found = kernels(log.read_text())
    if not found:
        raise SystemExit(f"{device} logged no kernels: are its statistics written in another form?")
    whole = sum(float(one["ms"]) for one in found)
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
