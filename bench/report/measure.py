"""Turns results into one figure of a goal: an absolute percentile, or a ratio taken round by round.

Rounds are interleaved by the benchmarks, so round i of two results of one suite saw the same machine: a
ratio is taken per round, and its median is what counts.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence

from . import roles, units
from .model import Result, Results


@dataclasses.dataclass(frozen=True)
class Measured:
    value: float
    unit: str
    rounds: tuple = ()
    basis: str = ""  # what it was computed from, with the figures


@dataclasses.dataclass(frozen=True)
class Missing:
    reason: str


Figure = Measured | Missing
Find = Callable[[Results], Sequence[Result]]


def cost(result: Result, field: str = "p50") -> list[float]:
    """Per round, something of which less is better: a time in ns, or seconds per unit of a rate."""
    values = result.per_round(field) or [value for value in (result.median(field),) if value is not None]
    if result.lower_is_better:
        return [units.to_base(value, result.unit) for value in values]
    return [1e9 / value for value in values if value > 0]


def median_cost(result: Result, field: str = "p50") -> float:
    values = cost(result, field)
    return statistics.median(values) if values else float("inf")


def select(
    suite: str, name: str, variant: str | Sequence[str] | None = None, role: str | None = None, **parameters: object
) -> Find:
    """A search that says in words what it looked for."""

    def find(results: Results) -> Sequence[Result]:
        return [one for one in results.find(suite, name, variant, **parameters) if role in (None, roles.of(one))]

    variants = variant if isinstance(variant, str) else "/".join(variant) if variant else role or "any variant"
    wanted = ", ".join(f"{key} {value}" for key, value in parameters.items() if not callable(value))
    find.suite, find.name = suite, name
    find.words = f"{name} of {variants}" + (f" with {wanted}" if wanted else "")
    return find


def absent(results: Results, find: Find) -> Missing:
    return Missing(
        results.failure(find.suite) or results.left_out(find.suite, find.name) or f"{find.suite} holds no {find.words}"
    )


def describe(result: Result, field: str = "p50") -> str:
    value = result.median(field)
    amount = "nothing" if value is None else units.quantity(value, result.unit)
    at = ", ".join(units.parameter(name, value) for name, value in result.parameters.items() if name != "placement")
    return f"{roles.name_of(result.variant)}{f' ({at})' if at else ''} {amount}"


def absolute(find: Find, field: str = "p50", in_unit: str = "") -> Callable[[Results], Figure]:
    """A percentile: the median over the rounds, of the worst result where several match."""

    def compute(results: Results) -> Figure:
        found = [one for one in find(results) if one.median(field) is not None]
        if not found:
            return absent(results, find)
        pick = (
            max(found, key=lambda one: one.median(field))
            if found[0].lower_is_better
            else min(found, key=lambda one: one.median(field))
        )
        unit = in_unit or ("ns" if units.is_time(pick.unit) else pick.unit)
        values = [units.to_base(value, pick.unit) for value in pick.per_round(field)] or [
            units.to_base(pick.median(field), pick.unit)
        ]
        return Measured(statistics.median(values), unit, tuple(values), describe(pick, field))

    return compute


def _rounds_of_ratio(top: Result, bottom: Result, field: str, as_speed: bool) -> tuple[list[float], str]:
    above, below = cost(top, field), cost(bottom, field)
    if as_speed:
        above, below = below, above
    if top.suite == bottom.suite and len(above) == len(below):
        return [one / other for one, other in zip(above, below) if other > 0], ""
    # Programs of their own do not interleave their rounds.
    return (
        [statistics.median(above) / statistics.median(below)] if above and below else [],
        "; ratio of the medians, as the rounds are not interleaved",
    )


def _of_pair(result: Result, name: str) -> object:
    return result.variant if name == "variant" else result.parameters.get(name)


def difference(top: Find, bottom: Find, field: str = "p50") -> Callable[[Results], Figure]:
    """How much more top takes than bottom, in ns: the median over the rounds."""

    def compute(results: Results) -> Figure:
        for find in (top, bottom):
            if not find(results):
                return absent(results, find)
        one, other = top(results)[0], bottom(results)[0]
        values = [above - below for above, below in zip(cost(one, field), cost(other, field))]
        if not values:
            return Missing(f"{top.words} and {bottom.words} have no rounds in common")
        basis = f"{describe(one, field)} - {describe(other, field)}"
        return Measured(statistics.median(values), "ns", tuple(values), basis)

    return compute


def ratio(
    top: Find,
    bottom: Find,
    *,
    field: str = "p50",
    as_speed: bool = False,
    best_bottom: bool = False,
    best_top: bool = False,
    pair_on: Sequence[str] = (),
) -> Callable[[Results], Figure]:
    """Cost of top over cost of bottom (as_speed: bottom over top, a share of the speed), the worst of all pairs
    that agree in the parameters pair_on ("variant": and in that). best_top, best_bottom: the cheapest match only.
    """

    def compute(results: Results) -> Figure:
        tops, bottoms = list(top(results)), list(bottom(results))
        for find, found in ((top, tops), (bottom, bottoms)):
            if not found:
                return absent(results, find)
        if best_top:
            tops = [min(tops, key=median_cost)]
        if best_bottom:
            bottoms = [min(bottoms, key=median_cost)]
        pairs = []
        for one in tops:
            for other in bottoms:
                if any(_of_pair(one, name) != _of_pair(other, name) for name in pair_on):
                    continue
                values, note = _rounds_of_ratio(one, other, field, as_speed)
                if values:
                    basis = f"{describe(one, field)} / {describe(other, field)}{note}"
                    pairs.append(Measured(statistics.median(values), "x", tuple(values), basis))
        if not pairs:
            return Missing(f"nothing of {bottom.suite} is measured beside {top.words}")
        return min(pairs, key=lambda pair: pair.value) if as_speed else max(pairs, key=lambda pair: pair.value)

    return compute
