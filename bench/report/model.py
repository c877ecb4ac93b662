"""Result files: one per benchmark program, or one of scripts/bench that merges them; checked when read.

A result keeps the percentiles of each of its interleaved rounds; whatever is compared is compared per round.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import statistics
from collections.abc import Callable, Iterable

FORMAT = 1
PERCENTILES = ("p50", "p90", "p99", "p99_9", "max")


class BadFile(Exception):
    """A result file that cannot be used; says which and why."""


@dataclasses.dataclass(frozen=True)
class Result:
    suite: str
    name: str
    variant: str
    parameters: dict
    kind: str
    unit: str
    rounds: tuple
    summary: dict
    histogram: tuple

    @property
    def key(self) -> tuple:
        return (self.suite, self.name, self.variant, tuple(sorted((k, str(v)) for k, v in self.parameters.items())))

    @property
    def lower_is_better(self) -> bool:
        return self.kind not in ("rate", "throughput", "ratio")

    def per_round(self, field: str = "p50") -> list[float]:
        return [float(one[field]) for one in self.rounds if one.get(field) is not None]

    def median(self, field: str = "p50") -> float | None:
        """The median of the rounds' percentile; of all rounds together where no round has it."""
        values = self.per_round(field)
        if values:
            return statistics.median(values)
        value = self.summary.get(field)
        return None if value is None else float(value)

    def path(self) -> str:
        parameters = ",".join(f"{name}={value}" for name, value in self.parameters.items())
        return f"{self.suite}/{self.name}/{self.variant}" + (f"[{parameters}]" if parameters else "")


@dataclasses.dataclass
class Suite:
    name: str
    about: dict
    results: list[Result]


class Results:
    """All suites of one run."""

    def __init__(self, raw: dict, suites: list[Suite]):
        self.raw = raw
        self.suites = suites

    def __iter__(self):
        return (result for suite in self.suites for result in suite.results)

    def failure(self, suite: str) -> str | None:
        """Why a suite has no results; None if it has."""
        for one in self.raw.get("failures", []):
            if one.get("suite") == suite:
                return f"{suite} failed: {one.get('reason', 'no reason given')}"
        if all(one.name != suite for one in self.suites):
            return f"{suite} was not run"
        return None

    def left_out(self, suite: str, name: str) -> str | None:
        """Why a suite skipped a case of this name, or failed in it, in the suite's own words."""
        for one in self.suites:
            for verb in ("failed", "skipped") if one.name == suite else ():
                for case in one.about.get(verb) or []:
                    if isinstance(case, dict) and case.get("name") == name:
                        return f"{suite} {verb} {name}/{case.get('variant', '')}: {case.get('why', 'no reason given')}"
        return None

    def find(
        self, suite: str, name: str, variant: str | Iterable[str] | None = None, **parameters: object
    ) -> list[Result]:
        """Results by name; a parameter is a value, or a function that says yes."""
        variants = (variant,) if isinstance(variant, str) else variant
        return [
            one
            for one in self
            if one.suite == suite
            and one.name == name
            and (variants is None or one.variant in variants)
            and all(_matches(one.parameters.get(key), wanted) for key, wanted in parameters.items())
        ]

    @property
    def commit(self) -> str:
        about = self.suites[0].about if self.suites else {}
        return str(self.raw.get("commit") or about.get("commit") or "unknown")

    @property
    def started(self) -> str:
        about = self.suites[0].about if self.suites else {}
        return str(self.raw.get("started") or about.get("started") or "unknown")


def _matches(value: object, wanted: object) -> bool:
    if isinstance(wanted, Callable):
        return value is not None and bool(wanted(value))
    return value == wanted


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _result(raw: object, suite: str, where: str) -> Result:
    if not isinstance(raw, dict):
        raise BadFile(f"{where}: not an object")
    for key, kind in (("name", str), ("variant", str), ("kind", str), ("unit", str), ("rounds", list)):
        if not isinstance(raw.get(key), kind):
            raise BadFile(f"{where}: '{key}' is missing or no {kind.__name__}")
    rounds = []
    for one in raw["rounds"]:
        if not isinstance(one, dict) or not _number(one.get("p50")):
            raise BadFile(f"{where} ({raw['name']}/{raw['variant']}): a round without a number 'p50'")
        rounds.append({key: value for key, value in one.items() if _number(value)})
    summary = {key: raw[key] for key in (*PERCENTILES, "count") if _number(raw.get(key))}
    if not rounds and "p50" not in summary:
        raise BadFile(f"{where} ({raw['name']}/{raw['variant']}): neither rounds nor a 'p50'")
    histogram = []
    for pair in raw.get("histogram") or []:
        if not isinstance(pair, list) or len(pair) != 2 or not all(_number(value) for value in pair):
            raise BadFile(f"{where} ({raw['name']}/{raw['variant']}): a histogram entry is no [upper, count]")
        histogram.append((float(pair[0]), float(pair[1])))
    return Result(
        suite,
        raw["name"],
        raw["variant"],
        dict(raw.get("parameters") or {}),
        raw["kind"],
        raw["unit"],
        tuple(rounds),
        summary,
        tuple(sorted(histogram)),
    )


def _suite(raw: object, where: str) -> Suite:
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        found = raw.get("format") if isinstance(raw, dict) else None
        raise BadFile(f"{where}: result format {found!r}, and this program reads format {FORMAT}")
    if not isinstance(raw.get("suite"), str) or not isinstance(raw.get("results"), list):
        raise BadFile(f"{where}: no 'suite', or no 'results'")
    name = raw["suite"]
    results = [_result(one, name, f"{where}: result {index + 1} of {name}") for index, one in enumerate(raw["results"])]
    seen = set()
    for one in results:
        if one.key in seen:
            raise BadFile(f"{where}: two results of the same name: {one.path()}")
        seen.add(one.key)
    return Suite(name, {key: value for key, value in raw.items() if key != "results"}, results)


def parse(raw: object, where: str) -> Results:
    if isinstance(raw, dict) and isinstance(raw.get("suites"), list):
        if raw.get("format") != FORMAT:
            raise BadFile(f"{where}: result format {raw.get('format')!r}, and this program reads format {FORMAT}")
        return Results(raw, [_suite(one, where) for one in raw["suites"]])
    suite = _suite(raw, where)
    return Results({"format": FORMAT, "suites": [raw]}, [suite])


def read_json(path: str | pathlib.Path) -> object:
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise BadFile(f"{path}: not JSON: {error}") from error


def load(path: str | pathlib.Path) -> Results:
    return parse(read_json(path), str(path))
