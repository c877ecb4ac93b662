#!/usr/bin/env python3
"""How fast llama.cpp generates text and reads prompts on the software vGPU, beside the same package's CPU build.

Both clients stay loaded and are asked in turn, each with as many threads as there are processors, on a warm cache. For
some models a third one does the same without the confinement of addresses; what that costs is told by the kernels' quickest
launches. Then how long the demo takes to start. Writes a result file as the benchmarks of bench/ do. Exit status 77 is a
skip: what scripts/fetch gets is not there.
"""

import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from client import MODEL, MODELS, NODE, ROOT, Client, check_on_device, command, facts, kernels, kernels_between
from client import latency, measuring, on_device, rate, skip_unless_there, with_region

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
        """Every kernel is compiled, for several blocks too where that is faster; the first use of the weights is over."""
        self.client.ask(GENERATION_PROMPT, 32)
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
        self.build: pathlib.Path = options.build
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
        measure = command(path, "--measure")
        devices = {"vgpu": self.device}
        if name in UNCONFINED and self.unconfined.exists() and "confinement" in what:
            devices["vgpu_unconfined"] = self.unconfined
        regions = {variant: f"/dev/shm/vgpu-bench-{os.getpid()}-{variant}" for variant in devices}
        commands = {
            variant: with_region(on_device(device, measure), regions[variant]) for variant, device in devices.items()
        }
        commands["cpu"] = [*measure, "--cpu"]
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
            ran = {}
            for number in range(self.rounds):
                for kind, unit in kinds:
                    before = kernels(self.build, regions["vgpu"])
                    for variant, one in speeds.items():
                        print(f"{name}, round {number + 1}: {variant} {getattr(one, kind)():.1f} {unit}", flush=True)
                    ran[kind] = kernels_between(before, kernels(self.build, regions["vgpu"]))
            if len(devices) > 1:
                self.results += at_best(name, ran, {one: kernels(self.build, regions[one]) for one in devices})
        for variant, one in speeds.items():
            self.results += one.results(variant, name)

    def start(self) -> None:
        """From nothing until the demo's second token, by which all kernels are compiled, in turn without and with them
        in the cache, and by the CPU build; of the latter also what it says that loading the model took."""
        client = command(MODEL, "--json", "--max-tokens", "2")
        prompt = ("--", DEMO_PROMPT)
        times: dict[str, list[list[float]]] = {}
        for number in range(self.rounds):
            with tempfile.TemporaryDirectory(prefix="vgpu-bench.") as folder:
                on_vgpu = on_device(self.device, [*client, *prompt], "--cache-dir", folder)
                took = {}
                took["vgpu_empty_cache"], _ = until_answered(on_vgpu)
                took["vgpu_with_cache"], _ = until_answered(on_vgpu)
                took["cpu"], said = until_answered([*client, "--cpu", *prompt])
                took["cpu_model"] = said["model_seconds"] * 1e9
            for variant, nanoseconds in took.items():
                times.setdefault(variant, []).append([nanoseconds])
                print(f"start, round {number + 1}: {variant} {nanoseconds / 1e6:.0f} ms", flush=True)
        self.results += [latency("start", variant, {}, rounds) for variant, rounds in times.items()]


def at_best(model: str, ran: dict[str, dict], kernels_of: dict[str, dict]) -> list[dict]:
    """What the kernels of each part would take if every launch were as quick as the quickest of its kernel: a figure that
    hardly anything disturbs. Of kernels that ran on all devices."""
    found = []
    for kind, part in (("generate", "generation"), ("read_prompt", "prefill")):
        keys = [key for key in ran.get(kind, {}) if all(key in one for one in kernels_of.values())]
        for variant, of_device in kernels_of.items() if keys else ():
            picoseconds = sum(ran[kind][key]["blocks"] * of_device[key]["least_block_ps"] for key in keys)
            found.append(latency("kernels_at_best", variant, {"model": model, "part": part}, [[picoseconds / 1000]]))
    return found


def until_answered(whole_command: list[str]) -> tuple[float, dict]:
    """Nanoseconds from the start of the client until it has said its answer of two tokens, and what it said."""
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
    return taken, said


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
