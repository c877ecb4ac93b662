"""Runs a benchmark program and checks that what it writes is whole: all expected cases, measured, none failed.

No figure is judged: a test machine is busy.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

SKIPPED = 77
FIGURES = ("p50", "p90", "p99", "p99_9", "max", "count")


def check_result(result: dict) -> None:
    where = f"{result['name']}/{result['variant']} {result['parameters']}"
    assert result["kind"] in ("latency", "rate", "amount"), where
    assert result["unit"], where
    assert result["rounds"], f"{where}: no round"
    for figures in [result, *result["rounds"]]:
        assert all(key in figures for key in FIGURES), f"{where}: {sorted(figures)}"
        assert figures["count"] > 0, f"{where}: nothing was measured"
        assert figures["p50"] <= figures["p90"] <= figures["p99"] <= figures["p99_9"] <= figures["max"], where
        assert figures["p50"] > 0 or result["kind"] == "amount", f"{where}: {figures['p50']}"
    if result["kind"] == "latency":
        counted = sum(count for _, count in result["histogram"])
        assert counted == result["count"], f"{where}: the histogram holds {counted} of {result['count']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", required=True)
    parser.add_argument("--expect", action="append", default=[], help="name/variant that must be among the results")
    parser.add_argument("command", nargs="+", help="the program and its options; --out is added")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "result.json"
        done = subprocess.run([*options.command, "--out", str(out)], check=False)
        if done.returncode == SKIPPED:
            sys.exit(SKIPPED)
        assert done.returncode == 0, f"the program ended with status {done.returncode}"
        whole = json.loads(out.read_text())
    assert whole["format"] == 1, whole["format"]
    assert whole["suite"] == options.suite, whole["suite"]
    assert whole["machine"]["cores"] >= 1, whole["machine"]
    assert not whole["failed"], whole["failed"]
    for result in whole["results"]:
        check_result(result)
    there = {f"{result['name']}/{result['variant']}" for result in whole["results"]}
    missing = [wanted for wanted in options.expect if wanted not in there]
    assert not missing, f"not among the results: {missing}; there are {sorted(there)}"
    print(f"{len(whole['results'])} results")


if __name__ == "__main__":
    try:
        main()
    except AssertionError as error:
        sys.exit(f"not so: {error}")
