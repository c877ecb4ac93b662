"""What got worse or better between two result files, beyond their noise.

A result counts as changed if the medians of its rounds differ by more than 3 standard deviations of a round (from
the pooled median absolute deviation of both files), by more than 5 % (a p99: 10 %), and if 19 of 20 pairs of rounds
agree. With 5 rounds of pure noise about one result in a thousand passes for changed. Where a result has a baseline
in its own run, its ratio to that must have changed likewise: then it was not just the machine.
"""

from __future__ import annotations

import dataclasses
import statistics

from . import roles, units
from .measure import cost
from .model import Result, Results

DEVIATIONS = 3.0 * 1.4826  # a normal distribution's standard deviation in median absolute deviations
ROUNDS = 5  # of fewer even complete agreement is too likely by chance
SHARES = {"p50": 0.05, "p99": 0.10}
AGREEMENT = 0.95


@dataclasses.dataclass(frozen=True)
class Change:
    result: Result
    field: str
    before: float  # in the result's unit
    after: float
    cost_ratio: float  # > 1: worse

    @property
    def worse(self) -> bool:
        return self.cost_ratio > 1

    def line(self) -> str:
        share = (self.cost_ratio - 1) * 100
        unit = self.result.unit
        word = "worse" if self.worse else "better"
        if not self.result.lower_is_better:
            share = (1 / self.cost_ratio - 1) * 100
        return (
            f"{word:<6} {self.result.path()} {self.field.replace('_', '.')}: "
            f"{units.quantity(self.before, unit)} -> {units.quantity(self.after, unit)} ({share:+.1f} %)"
        )


@dataclasses.dataclass(frozen=True)
class Comparison:
    worse: list[Change]
    better: list[Change]
    machine: list[Change]  # baselines and peers: the machine changed, not vgpu
    compared: int
    too_few: list[Result]
    only_old: list[Result]
    only_new: list[Result]


def deviations(values: list[float]) -> list[float]:
    """From the median; without the median's own deviation from itself, which would make the noise look small."""
    middle = statistics.median(values)
    found = sorted(abs(value - middle) for value in values)
    return found[1:] if len(found) % 2 else found


def differ(old: list[float], new: list[float], share: float) -> bool:
    """Whether two sets of rounds differ beyond their noise."""
    before, after = statistics.median(old), statistics.median(new)
    if before <= 0 or after <= 0:
        return False
    pooled = statistics.median(deviations(old) + deviations(new))
    step = abs(after - before)
    if step <= DEVIATIONS * pooled or step <= share * before:
        return False
    higher = sum((b > a) - (b < a) for a in old for b in new) / (len(old) * len(new))
    return abs(higher) >= 2 * AGREEMENT - 1


def _ratios(result: Result, field: str, by_key: dict) -> list[float] | None:
    """The result's cost over its baseline's p50, round by round; None where it has no baseline."""
    baseline = roles.baseline_of(result, by_key.values())
    if baseline is None or baseline.key == result.key:
        return None
    above, below = cost(result, field), cost(baseline, "p50")
    if len(above) != len(below) or not all(below):
        return None
    return [one / other for one, other in zip(above, below)]


def compare(old: Results, new: Results) -> Comparison:
    before = {one.key: one for one in old}
    after = {one.key: one for one in new}
    outcome = Comparison(
        [],
        [],
        [],
        0,
        [],
        [one for key, one in before.items() if key not in after],
        [one for key, one in after.items() if key not in before],
    )
    compared = 0
    for key, result in after.items():
        if key not in before:
            continue
        if min(len(result.rounds), len(before[key].rounds)) < ROUNDS:
            outcome.too_few.append(result)
            continue
        compared += 1
        for field, share in SHARES.items() if result.kind == "latency" else (("p50", SHARES["p50"]),):
            a, b = cost(before[key], field), cost(result, field)
            if min(len(a), len(b)) < ROUNDS or not differ(a, b, share):
                continue
            change = Change(
                result,
                field,
                before[key].median(field),
                result.median(field),
                statistics.median(b) / statistics.median(a),
            )
            if roles.of(result) != roles.OURS:
                outcome.machine.append(change)
                continue
            ratio_a, ratio_b = _ratios(before[key], field, before), _ratios(result, field, after)
            if ratio_a and ratio_b:
                rises = statistics.median(ratio_b) > statistics.median(ratio_a)
                if not differ(ratio_a, ratio_b, share) or rises != change.worse:
                    outcome.machine.append(change)
                    continue
            (outcome.worse if change.worse else outcome.better).append(change)
    for changes in (outcome.worse, outcome.better, outcome.machine):
        changes.sort(key=lambda one: -max(one.cost_ratio, 1 / one.cost_ratio))
    return dataclasses.replace(outcome, compared=compared)


def report(comparison: Comparison) -> str:
    lines = [change.line() for change in comparison.worse + comparison.better]
    if comparison.machine:
        lines.append("The machine, not vgpu (baselines and peers, and what moved with its baseline):")
        lines += [f"  {change.line()}" for change in comparison.machine]
    for title, results in (
        (f"too few rounds to compare ({ROUNDS} are needed)", comparison.too_few),
        ("only in the old file", comparison.only_old),
        ("only in the new file", comparison.only_new),
    ):
        lines += [f"{title}: {result.path()}" for result in results]
    unchanged = comparison.compared - len({one.result.key for one in comparison.worse + comparison.better})
    lines.append(
        f"{len(comparison.worse)} worse, {len(comparison.better)} better, "
        f"{unchanged} of {comparison.compared} results within the noise or moved with the machine"
    )
    return "\n".join(lines)
