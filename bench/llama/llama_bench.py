#!/usr/bin/env python3
"""How fast llama.cpp generates text and reads prompts on the software vGPU, beside the same package's CPU build.

Both clients stay loaded and are asked in turn, each with as many threads as there are processors, on a warm cache. For
some models a third one does the same without the confinement of addresses. Then how long the demo takes to start. Writes
a result file as the benchmarks of bench/ do. Exit status 77 is a skip: what scripts/fetch gets is not there.
"""

import argparse
import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from client import MODEL, MODELS, NODE, ROOT, Client, check_on_device, command, facts, latency, measuring
from client import on_device, rate, skip_unless_there

PREFILL = 512
GENERATION_PROMPT = 16
# The models with which the third client is measured, too.
UNCONFINED = ("demo", "Q4_0")
DEMO_PROMPT = "Why is the sky blue?"


class Speeds:
    """What one client did of one model, round by round."""

    def __init__(self, client: Client, tokens: int):
        self.client = client
        self.tokens = tokens
        self.token_times: list[list[float]] = []
        self.generation: list[float] = []
        self.prefill: list[float] = []

    def warm_up(self, what: set[str]) -> None:
        """Every kernel is compiled and loaded; the first use of the weights is over."""
        self.client.ask(GENERATION_PROMPT, 4)
        if "prefill" in what:
            self.client.ask(PREFILL, 1)

    def generate(self) -> float:
        seconds = self.client.ask(GENERATION_PROMPT, self.tokens + 1)["token_seconds"]
        self.token_times.append([value * 1e9 for value in seconds])
        self.generation.append(len(seconds) / sum(seconds))
        return self.generation[-1]

    def read_prompt(self) -> float:
        self.prefill.append(PREFILL / self.client.ask(PREFILL, 1)["prompt_seconds"])
        return self.prefill[-1]

    def results(self, variant: str, model: str) -> list[dict]:
        parameters = {"model": model}
        found = []
        if self.generation:
            found.append(rate("generation", variant, parameters, "tokens/s", self.generation))
            found.append(latency("token", variant, parameters, self.token_times))
        if self.prefill:
            parameters = {**parameters, "tokens": PREFILL}
            found.append(rate("prefill", variant, parameters, "tokens/s", self.prefill))
        return found


class Bench:
    def __init__(self, options: argparse.Namespace):
        self.rounds: int = options.rounds
        self.tokens: int = options.tokens
        self.device: pathlib.Path = options.build / "tools" / "vgpu-device" / "vgpu-device"
        self.unconfined: pathlib.Path = options.build / "bench" / "llama" / "unconfined_device"
        self.results: list[dict] = []
        self.failed: list[dict] = []

    def case(self, name: str, variant: str, measure: Callable[[], None]) -> None:
        """One that fails is named in the results and keeps no other from being measured."""
        try:
            measure()
        except (RuntimeError, OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
            print(f"FAILED: {name}, {variant}: {error}", flush=True)
            self.failed.append({"name": name, "variant": variant, "why": str(error)})

    def model(self, name: str, what: set[str]) -> None:
        path = MODELS[name]
        commands = {
            "vgpu": on_device(self.device, command(path, "--measure")),
            "cpu": command(path, "--measure", "--cpu"),
        }
        if name in UNCONFINED and self.unconfined.exists() and "confinement" in what:
            commands["vgpu_unconfined"] = on_device(self.unconfined, command(path, "--measure"))
        with contextlib.ExitStack() as stack:
            speeds = {}
            for variant, whole_command in commands.items():
                client = stack.enter_context(measuring(whole_command))
                if variant != "cpu":
                    check_on_device(client.about)
                speeds[variant] = Speeds(client, self.tokens)
                speeds[variant].warm_up(what)
            kinds = [("generate", "tokens/s generated")] if "generation" in what else []
            kinds += [("read_prompt", "tokens/s of a prompt")] if "prefill" in what else []
            for number in range(self.rounds):
                for kind, unit in kinds:
                    for variant, one in speeds.items():
                        print(f"{name}, round {number + 1}: {variant} {getattr(one, kind)():.1f} {unit}", flush=True)
        for variant, one in speeds.items():
            self.results += one.results(variant, name)

    def start(self) -> None:
        """From nothing until the demo's second token, by which all kernels are compiled, in turn without and with them
        in the cache, and by the CPU build; and reading the model's file."""
        client = command(MODEL, "--json", "--max-tokens", "2")
        prompt = ("--", DEMO_PROMPT)
        times: dict[str, list[list[float]]] = {}
        for number in range(self.rounds):
            with tempfile.TemporaryDirectory(prefix="vgpu-bench.") as folder:
                on_vgpu = on_device(self.device, [*client, *prompt], "--cache-dir", folder)
                for variant, measure in (
                    ("vgpu_empty_cache", lambda whole=on_vgpu: until_answered(whole)),
                    ("vgpu_with_cache", lambda whole=on_vgpu: until_answered(whole)),
                    ("cpu", lambda: until_answered([*client, "--cpu", *prompt])),
                    ("read_model", read_model),
                ):
                    times.setdefault(variant, []).append([measure()])
                    print(f"start, round {number + 1}: {variant} {times[variant][-1][0] / 1e6:.0f} ms", flush=True)
        self.results += [latency("start", variant, {}, rounds) for variant, rounds in times.items()]


def until_answered(whole_command: list[str]) -> float:
    started = time.perf_counter_ns()
    with subprocess.Popen(whole_command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        line = process.stdout.readline()
        taken = time.perf_counter_ns() - started
        process.stdout.read()
    if process.returncode != 0 or not line:
        raise RuntimeError(f"the client ended with status {process.returncode}")
    said = json.loads(line)
    if "--cpu" not in whole_command:
        check_on_device(said)
    if len(said["answers"][0]["tokens"]) != 2:
        raise RuntimeError(f"the client did not answer with two tokens: {said}")
    return taken


def read_model() -> float:
    buffer = bytearray(1 << 20)
    with MODEL.open("rb", buffering=0) as file:
        started = time.perf_counter_ns()
        while file.readinto(buffer):
            pass
        return time.perf_counter_ns() - started


def main() -> None:
    parts = ("generation", "prefill", "confinement", "start")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, help="write the results to this file, as JSON")
    parser.add_argument("--rounds", type=int, default=5, help="measure every way this many times, in turn (5)")
    parser.add_argument("--quick", action="store_true", help="fewer tokens a round")
    parser.add_argument("--model", action="append", choices=MODELS, help="only this model (repeatable; all)")
    parser.add_argument("--part", action="append", choices=parts, help="only this (repeatable; all)")
    parser.add_argument("--tokens", type=int, help="to generate in each round (64, --quick: 24)")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "release", help="what was built")
    options = parser.parse_args()
    options.tokens = options.tokens or (24 if options.quick else 64)
    names = options.model or list(MODELS)
    what = set(options.part or parts)
    skip_unless_there(MODEL, *(MODELS[name] for name in names))
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    about = facts(options.build)
    bench = Bench(options)
    for name in names if what & {"generation", "prefill"} else ():
        bench.case("generation", name, lambda name=name: bench.model(name, what))
    if "start" in what:
        bench.case("start", "vgpu", bench.start)
    whole = {
        **about,
        "format": 1,
        "suite": "llama_bench",
        "started": started,
        "options": {
            "rounds": options.rounds,
            "quick": options.quick,
            "tokens": options.tokens,
            "client": subprocess.run([NODE, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip(),
        },
        "results": bench.results,
        "skipped": [],
        "failed": bench.failed,
    }
    if options.out:
        options.out.write_text(json.dumps(whole, indent=1) + "\n")
    if bench.failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
