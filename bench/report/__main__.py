"""What scripts/bench calls; each command says what it needs with --help.

merge: several suites' files into one; render: HTML from one; goals: the table, and status 1 unless all are met;
compare: two files, and status 1 if something got worse; machine: what else runs, as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import sys

from . import compare, goals, machine, model, page, software_goals


def _write(path: str, text: str) -> None:
    # Whole or not at all: a report half written must not pass for one.
    target = pathlib.Path(path)
    part = target.with_name(target.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, target)


def _rows(results: model.Results) -> tuple[goals.Row, ...]:
    """The goals that a file is to be held against: it says which."""
    return software_goals.SOFTWARE_GOALS if results.raw.get("goals") == "software" else goals.GOALS


def _merge(arguments: argparse.Namespace) -> int:
    merged: dict = {"format": model.FORMAT, "suites": [], "failures": [], "environment": []}
    for key in ("started", "commit", "mode", "command", "goals"):
        if value := getattr(arguments, key):
            merged[key] = value
    for path in arguments.suite:
        raw = model.read_json(path)
        model.parse(raw, path)
        merged["suites"] += raw["suites"] if "suites" in raw else [raw]
    for entry in arguments.failed:
        suite, _, reason = entry.partition(":")
        merged["failures"].append({"suite": suite, "reason": reason.strip() or "no reason given"})
    for entry in arguments.environment:
        suite, _, path = entry.partition(":")
        merged["environment"].append({"suite": suite, **model.read_json(path)})
    _write(arguments.out, json.dumps(merged, indent=1) + "\n")
    return 0


def _render(arguments: argparse.Namespace) -> int:
    results = model.load(arguments.file)
    _write(arguments.out, page.render(results, _rows(results)))
    return 0


def _goals(arguments: argparse.Namespace) -> int:
    results = model.load(arguments.file)
    outcomes = goals.evaluate(results, _rows(results))
    print(
        goals.markdown(outcomes)
        if arguments.markdown
        else goals.table(outcomes, shutil.get_terminal_size((110, 24)).columns)
    )
    return 0 if all(one.met for one in outcomes) else 1


def _compare(arguments: argparse.Namespace) -> int:
    comparison = compare.compare(model.load(arguments.old), model.load(arguments.new))
    print(compare.report(comparison))
    return 1 if comparison.worse else 0


def _machine(arguments: argparse.Namespace) -> int:
    observed = machine.observe(arguments.seconds)
    observed["warnings"] = machine.warnings(observed)
    if arguments.out:
        _write(arguments.out, json.dumps(observed, indent=1) + "\n")
    for line in observed["warnings"]:
        print(line)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="report", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("merge", help="several suites' files into one")
    command.add_argument("--suite", action="append", default=[], metavar="FILE", help="what a benchmark wrote")
    command.add_argument("--out", required=True)
    command.add_argument("--failed", action="append", default=[], metavar="SUITE:REASON")
    command.add_argument(
        "--environment", action="append", default=[], metavar="SUITE:FILE", help="what `machine` wrote before the suite"
    )
    for key in ("started", "commit", "mode", "command", "goals"):
        command.add_argument(f"--{key}")
    command.set_defaults(run=_merge)

    command = commands.add_parser("render", help="one self-contained HTML file")
    command.add_argument("file")
    command.add_argument("--out", required=True)
    command.set_defaults(run=_render)

    command = commands.add_parser("goals", help="the goals table; status 1 unless all are met")
    command.add_argument("file")
    command.add_argument("--markdown", action="store_true", help="as a table for a document")
    command.set_defaults(run=_goals)

    command = commands.add_parser("compare", help="what got worse or better; status 1 if something got worse")
    command.add_argument("old")
    command.add_argument("new")
    command.set_defaults(run=_compare)

    command = commands.add_parser("machine", help="what else runs on this machine")
    command.add_argument("--out")
    command.add_argument("--seconds", type=float, default=1.0)
    command.set_defaults(run=_machine)

    arguments = parser.parse_args()
    try:
        return arguments.run(arguments)
    except model.BadFile as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
