"""While llama.cpp's prebuilt CUDA library generates text, its kernels compute what their PTX says.

checked_device runs sampled launches twice from the same memory, compiled and by the oracle, the plain interpreter
of PTX, and compares all of the memory afterwards. Exit status 77 is a skip: what scripts/fetch gets is not there.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

import llama_generation as llama

PROMPT = "What is the capital of France?"
TOKENS = 3
# Each kernel and block shape once; a grid that takes the oracle longer than this is checked in part.
SETTINGS = {"VGPU_CHECK_PER_SHAPE": "1", "VGPU_CHECK_MAX_STEPS": "600000"}
PREFIX = "checked:"
# Copies, integer dot products and float arithmetic in which PTX leaves nothing open: the same to the bit. Of the
# matrix products those count that are not fused with an activation function.
EXACT = [
    "quantize_q8_1(",
    "quantize_mmq_q8_1<",
    "mul_mat_q<(ggml_type)3,",
    "mul_mat_vec_q<(ggml_type)3, 1, false,",
    "mul_mat_vec_q<(ggml_type)8, 1, false,",
    "k_get_rows_float<",
    "k_set_rows<",
    "k_bin_bcast<",
]
# With exponentials, sines and reciprocal roots, whose last places PTX leaves open: within the tool's bound.
WITHIN = ["rms_norm_f32<", "rope_norm<", "flash_attn_tile<", "unary_gated_op_kernel<"]


def run_checked(device: str, libraries: str, client: str, environment: dict[str, str]) -> list[dict]:
    done = subprocess.run(
        [device, "run", "--libs", libraries, "--cuda", "12", "--"]
        + [str(llama.NODE), client, "--packages", str(llama.PACKAGES), "--model", str(llama.MODEL)]
        + ["--max-tokens", str(TOKENS), "--", PROMPT],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, **SETTINGS, **environment},
    )
    checks = []
    for line in done.stderr.splitlines():
        if line.startswith(PREFIX):
            checks.append(json.loads(line[len(PREFIX) :]))
        else:
            print(line)
    assert done.returncode == 0, f"the client on the checked device ended with status {done.returncode}"
    return checks


def describe(check: dict) -> str:
    blocks = check["grid"][0] * check["grid"][1] * check["grid"][2]
    text = f"{check['verdict']:11} {check['kernel'].split('(float')[0][:90]}, block {check['block']}"
    text += f", {check['blocks_checked']} of {blocks} blocks, {check['bytes_stored']} bytes"
    if check["differing_values"] or check["differing_strays"]:
        text += f": {check['differing_values']} values differ, by {check['max_scaled_relative']:.1e} of the largest"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", required=True, help="the program checked_device")
    parser.add_argument("--libraries", required=True, help="the folder of the shim libraries")
    parser.add_argument("--client", required=True, help="scripts/llama/client.mjs")
    parser.add_argument("--unfused", action="store_true", help="llama.cpp fuses no operations")
    options = parser.parse_args()
    llama.skip_without_packages()
    environment = {"GGML_CUDA_DISABLE_FUSION": "1"} if options.unfused else {}
    checks = run_checked(options.device, options.libraries, options.client, environment)
    failures = []
    for check in checks:
        print(describe(check))
        if check["verdict"] not in ("exact", "within"):
            failures.append(f"{check['verdict']}: {check['kernel']}, launch {check['launch']}: {check['detail']}")
        if check["verdict"] != "exact" and any(name in check["kernel"] for name in EXACT):
            failures.append(f"not exact: {check['kernel']}, launch {check['launch']}: {check['detail']}")
    for name in EXACT + WITHIN:
        if not any(name in check["kernel"] for check in checks):
            failures.append(f"no launch of {name}…> was checked")
    sys.exit("\n".join(failures) if failures else 0)


if __name__ == "__main__":
    main()
