"""The goals of the software device: real models on it, beside the same client's CPU build."""

from __future__ import annotations

from .goals import KERNELS, LLAMA, Check, Row
from .measure import absolute, difference, ratio, select

# The name in the results, and what a reader calls it.
MODELS = {
    "demo": "the demo's model",
    "Q4_0": "llama 1B, Q4_0",
    "Q8_0": "llama 1B, Q8_0",
    "Q4_K_M": "llama 1B, Q4_K_M",
    "F16": "llama 1B, F16",
}


# Of a generation's tokens the median counts, which another process's turn on a processor does not move.
def _against_cpu(name: str, model: str, limit: float) -> Check:
    figure = ratio(
        select(LLAMA, name, "vgpu", model=model),
        select(LLAMA, name, "cpu", model=model),
        as_speed=True,
    )
    return Check(MODELS[model], figure, limit, at_most=False, spread=True)


# Some per cent: less than what one run of a whole model differs from the next by.
def _confinement(part: str) -> Check:
    figure = ratio(
        select(LLAMA, "kernels_at_best", "vgpu", part=part),
        select(LLAMA, "kernels_at_best", "vgpu_unconfined", part=part),
        pair_on=("model",),
    )
    return Check(f"{part}, the model that pays most", figure, 1.05)


def _start(variant: str, seconds: float) -> Check:
    figure = difference(select(LLAMA, "start", variant), select(LLAMA, "start", "cpu_model"))
    return Check({"vgpu_empty_cache": "no cache"}.get(variant, "with cache"), figure, seconds * 1e9, "ns", spread=True)


SOFTWARE_GOALS = (
    Row(
        "generation, speed / the CPU build's with as many threads",
        (
            _against_cpu("token", "demo", 0.6),
            _against_cpu("token", "Q4_0", 1.0),
            _against_cpu("token", "Q8_0", 1.0),
            _against_cpu("token", "Q4_K_M", 0.8),
            _against_cpu("token", "F16", 0.8),
        ),
    ),
    Row("prefill of 512 tokens, likewise", tuple(_against_cpu("prefill", model, 1.0) for model in MODELS)),
    Row(
        "cold start of the demo, until its second token, beyond what its CPU build takes to load the model",
        (_start("vgpu_empty_cache", 10), _start("vgpu_with_cache", 2)),
    ),
    Row(
        "confinement of addresses: time of the kernels with it / without",
        (_confinement("generation"), _confinement("prefill")),
    ),
    Row(
        "launch of an empty kernel, from the call until it has run",
        (Check("p50", absolute(select(KERNELS, "empty_kernel", "vgpu", blocks=1)), 2000, "ns", spread=True),),
    ),
)
