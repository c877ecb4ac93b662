"""The goals of the hot path, in one table: what is measured, how, and what it has to be.

A row is met only if each of its checks is; what was not measured is not met.
"""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Callable

from . import roles, units
from .measure import Figure, Measured, Missing, absolute, ratio, select
from .model import Results

RING, TRANSPORT, LOAD = "ring_bench", "transport_bench", "model_load"
KERNELS, LLAMA = "kernel_bench", "llama_bench"


@dataclasses.dataclass(frozen=True)
class Check:
    what: str
    figure: Callable[[Results], Figure]
    limit: float
    unit: str = "x"
    at_most: bool = True
    strictly: bool = False
    spread: bool = False  # the least and the greatest round are shown, too

    @property
    def goal(self) -> str:
        sign = ("<" if self.strictly else "≤") if self.at_most else "≥"
        return f"{sign} {units.quantity(self.limit, self.unit)}"


@dataclasses.dataclass(frozen=True)
class Row:
    what: str
    checks: tuple[Check, ...]


@dataclasses.dataclass(frozen=True)
class Outcome:
    check: Check
    figure: Figure

    @property
    def met(self) -> bool:
        if isinstance(self.figure, Missing):
            return False
        value, limit = self.figure.value, self.check.limit
        if self.check.strictly:
            return value < limit if self.check.at_most else value > limit
        return value <= limit if self.check.at_most else value >= limit

    @property
    def measured(self) -> str:
        if isinstance(self.figure, Missing):
            return "-"
        value = units.quantity(self.figure.value, self.figure.unit)
        if not self.check.spread or len(self.figure.rounds) < 2:
            return value
        least, most = (units.quantity(bound(self.figure.rounds), self.figure.unit) for bound in (min, max))
        return f"{value} ({least.removesuffix(' ×')} to {most.removesuffix(' ×')})"

    @property
    def verdict(self) -> str:
        if isinstance(self.figure, Missing):
            return "not measured"
        return "met" if self.met else "not met"


@dataclasses.dataclass(frozen=True)
class RowOutcome:
    row: Row
    outcomes: tuple[Outcome, ...]

    @property
    def met(self) -> bool:
        return all(one.met for one in self.outcomes)

    @property
    def verdict(self) -> str:
        if self.met:
            return "met"
        return (
            "not met"
            if any(isinstance(one.figure, Measured) and not one.met for one in self.outcomes)
            else "not measured"
        )


def at_least(limit: float) -> Callable[[float], bool]:
    return lambda value: value >= limit


BIG = at_least(16 << 20)

BURST, EACH = {"timed": "burst"}, {"timed": "each"}
_launch = {"suite": TRANSPORT, "name": "launch_submit", "variant": "cuLaunchKernel", "parameters": 8}
_synchronous = select(TRANSPORT, "synchronous_call", ("cuMemGetInfo", "cuStreamSynchronize", "cuCtxSynchronize"))


def _stream(**batch: int) -> Callable[[Results], Figure]:
    return ratio(
        select(RING, "stream", "vgpu", bytes=64, **batch),
        select(RING, "stream", role=roles.PEER, bytes=64, **batch),
        best_top=True,
        best_bottom=True,
    )


def _copies(variant: str) -> Callable[[Results], Figure]:
    return ratio(
        select(TRANSPORT, "copy", variant, bytes=BIG),
        select(TRANSPORT, "copy", "memcpy", bytes=BIG),
        as_speed=True,
        pair_on=("bytes",),
    )


GOALS = (
    Row(
        "ring round trip, payload of up to 48 B / bare cache-line ping-pong",
        (
            Check(
                "p50, record of 64 B with its header",
                ratio(
                    select(RING, "round_trip_mean", "vgpu", bytes=64),
                    select(RING, "round_trip_mean", "bare_cache_line"),
                    pair_on=("placement",),
                ),
                1.05,
            ),
        ),
    ),
    Row(
        "ring one way, 64 B records / the best peer",
        (
            Check("one by one", _stream(batch=1), 0.4),
            Check("each in its best batch", _stream(), 0.4),
        ),
    ),
    Row(
        "submit of cuLaunchKernel with 8 parameters",
        (
            Check("p50, bursts of 16 calls", absolute(select(**_launch, **BURST)), 100, "ns"),
            Check("p99, each call timed by itself", absolute(select(**_launch, **EACH), "p99"), 250, "ns"),
            Check(
                "p50 / the ring's own 256 B record",
                ratio(select(**_launch, **BURST), select(TRANSPORT, "ring_submit", "vgpu", bytes=256, **BURST)),
                3.0,
            ),
        ),
    ),
    Row(
        "synchronous call through the CUDA API / bare ping-pong",
        (
            Check(
                "p50, both sides spinning",
                ratio(_synchronous, select(TRANSPORT, "synchronous_call", "bare_cache_line")),
                2.0,
            ),
        ),
    ),
    Row(
        "copy of 64 B to the device, submit",
        (Check("p50, bursts of 16 calls", absolute(select(TRANSPORT, "copy_submit", bytes=64, **BURST)), 150, "ns"),),
    ),
    Row(
        "pageable copy of 16 MiB and more / memcpy of the same",
        (
            Check("speed to the device", _copies("pageable_to_device"), 0.85, at_most=False),
            Check("speed to the host", _copies("pageable_to_host"), 0.85, at_most=False),
        ),
    ),
    Row(
        "pinned copy of 16 MiB and more to the device, submit to completion / memcpy",
        (Check("speed", _copies("pinned_to_device"), 0.95, at_most=False),),
    ),
    Row(
        "model load through the demo's client / reading the file and one memcpy",
        (Check("time", ratio(select(LOAD, "model_load", "vgpu"), select(LOAD, "model_load", "read_and_memcpy")), 1.3),),
    ),
    Row(
        "8 client processes / one",
        (
            Check(
                "sum of the throughput / one process's",
                ratio(
                    select(TRANSPORT, "processes", clients=8, of="sum"),
                    select(TRANSPORT, "processes", clients=1, of="sum"),
                    as_speed=True,
                    pair_on=("variant",),
                ),
                0.9,
                at_most=False,
            ),
            Check(
                "the slowest / the mean",
                absolute(select(TRANSPORT, "processes", clients=8, of="slowest"), in_unit="x"),
                0.5,
                at_most=False,
            ),
        ),
    ),
    Row(
        "idle system, CPU time of all processes over 10 s",
        (Check("sum", absolute(select(TRANSPORT, "idle_cpu", seconds=10)), 10e6, "ns", strictly=True),),
    ),
    Row(
        "wake-up of a parked device / eventfd wake-up",
        (
            Check(
                "p50",
                ratio(
                    select(TRANSPORT, "device_wake_up", "vgpu"),
                    select(TRANSPORT, "device_wake_up", "eventfd"),
                    pair_on=("idle_us",),
                ),
                1.3,
            ),
        ),
    ),
)


def evaluate(results: Results, goals: tuple[Row, ...] = GOALS) -> list[RowOutcome]:
    return [RowOutcome(row, tuple(Outcome(check, check.figure(results)) for check in row.checks)) for row in goals]


def summary(outcomes: list[RowOutcome]) -> str:
    met = sum(one.met for one in outcomes)
    missing = sum(one.verdict == "not measured" for one in outcomes)
    text = f"{met} of {len(outcomes)} goals met"
    return text + (f", {missing} not measured" if missing else "")


def table(outcomes: list[RowOutcome], width: int = 100) -> str:
    """For a terminal: one line a row, where a row has several checks one line for each."""
    lines = [("what", "measured", "goal", "")]
    reasons = []
    for one in outcomes:
        several = len(one.outcomes) > 1
        if several:
            lines.append((one.row.what, "", "", one.verdict))
        for outcome in one.outcomes:
            what = f"  {outcome.check.what}" if several else one.row.what
            lines.append((what, outcome.measured, outcome.check.goal, outcome.verdict))
            if isinstance(outcome.figure, Missing):
                reasons.append(outcome.figure.reason)
    room = max(40, width - 2 - sum(max(len(line[column]) for line in lines) + 2 for column in (1, 2, 3)))
    wide = [max(len(line[column]) for line in lines) for column in range(4)]
    wide[0] = min(wide[0], room)
    text = []
    for what, measured, goal, verdict in lines:
        first, *rest = textwrap.wrap(
            what, room, subsequent_indent="    ", initial_indent="  " if what.startswith("  ") else ""
        ) or [""]
        # The figures stand on the last line of the words.
        text.extend([first, *rest][:-1] if rest else [])
        text.append(f"{([first, *rest])[-1]:<{wide[0]}}  {measured:>{wide[1]}}  {goal:>{wide[2]}}  {verdict}".rstrip())
    for reason in dict.fromkeys(reasons):
        text.append(f"not measured: {reason}")
    return "\n".join([*text, summary(outcomes)])


def markdown(outcomes: list[RowOutcome]) -> str:
    """The same for a document: a row of a table each."""
    lines = ["| what | goal | measured | |", "|---|---|---|---|"]
    for one in outcomes:
        goal = "; ".join(outcome.check.goal for outcome in one.outcomes)
        measured = "; ".join(
            f"{outcome.check.what}: {outcome.measured}" if len(one.outcomes) > 1 else outcome.measured
            for outcome in one.outcomes
        )
        lines.append(f"| {one.row.what} | {goal} | {measured} | {one.verdict} |")
    return "\n".join(lines)
