"""What the measurements with llama.cpp compute from what they are told; nothing is measured."""

from __future__ import annotations

import pathlib
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench" / "llama"))

import client  # noqa: E402
import llama_bench  # noqa: E402
import samples  # noqa: E402


def ran(launches: int, blocks: int, time_ns: int, least_block_ps: int = 0) -> dict:
    return {"launches": launches, "blocks": blocks, "time_ns": time_ns, "least_block_ps": least_block_ps}


class Kernels(unittest.TestCase):
    def test_what_ran_between_two_looks_is_their_difference(self) -> None:
        before = {"a": ran(1, 10, 100), "idle": ran(5, 5, 5)}
        after = {"a": ran(3, 30, 250, least_block_ps=7), "idle": ran(5, 5, 5), "new": ran(1, 2, 3, least_block_ps=4)}
        self.assertEqual(
            client.kernels_between(before, after),
            {"a": ran(2, 20, 150, least_block_ps=7), "new": ran(1, 2, 3, least_block_ps=4)},
        )

    def test_each_line_of_a_kernel_counts(self) -> None:
        line = {"name": "product", "block": [32, 4, 1]}
        plain, with_gate = {**line, "counts": {"null_words": 6}}, {**line, "counts": {"null_words": 2}}
        other = {"name": "gemm", "block": [0, 0, 0], "counts": {}}
        self.assertEqual(list(client.by_kernel([plain, with_gate, other]).values()), [plain, with_gate, other])
        with self.assertRaisesRegex(RuntimeError, "product"):
            client.by_kernel([plain, with_gate, plain])

    def test_at_best_weighs_the_same_blocks_on_both_devices(self) -> None:
        blocks = {"generate": {"a": ran(1, 100, 0), "only_here": ran(1, 1000, 0)}}
        confined = {"a": ran(9, 9, 9, least_block_ps=1100), "only_here": ran(1, 1, 1, least_block_ps=1)}
        results = llama_bench.at_best(
            "demo", blocks, {"vgpu": confined, "vgpu_unconfined": {"a": ran(7, 7, 7, least_block_ps=1000)}}
        )
        self.assertEqual(
            {one["variant"]: one["p50"] for one in results}, {"vgpu": 110.0, "vgpu_unconfined": 100.0}
        )


class Instructions(unittest.TestCase):
    def test_instructions_have_the_class_of_what_they_do(self) -> None:
        for mnemonic, name in {
            "vpgatherqd": "gathers, scatters",
            "vscatterdps": "gathers, scatters",
            "vpdpbusd": "integer dot products",
            "vcvtph2ps": "conversions",
            "vpmovsxbd": "conversions",
            "vpermt2w": "permutes, shuffles, inserts",
            "vpinsrd": "permutes, shuffles, inserts",
            "kxnorw": "masks, comparisons of vectors",
            "vpcmpltub": "masks, comparisons of vectors",
            "vmovdqu64": "moves of vectors",
            "vfmadd231ps": "floating point",
            "vpaddd": "integers in vectors",
            "vpminud": "integers in vectors",
            "jne": "branches, calls",
            "cmovge": "scalars",
        }.items():
            self.assertEqual(samples.class_of(mnemonic), name, mnemonic)


if __name__ == "__main__":
    unittest.main()
