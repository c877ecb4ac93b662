"""The report's figures: percentiles side by side, distributions, curves over size or count, and a goal's strip."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from . import roles, units
from .goals import Outcome
from .measure import Measured
from .model import Result
from .svg import Canvas, Linear, Log, Nines, dodge, text_width, x_axis, y_axis


@dataclasses.dataclass(frozen=True)
class Item:
    """A result as one row, strip or line of a figure."""

    label: str
    result: Result
    css: str  # s1, s2, ... or base, peer


def _in_ns(result: Result, field: str) -> float | None:
    value = result.median(field)
    return None if value is None else units.to_base(value, result.unit)


def percentile_rows(
    items: Sequence[Item], label: str, note: Callable[[Result], str] = lambda result: "", note_title: str = ""
) -> str:
    """One row a result: its p50 as a mark, p50 to p99 as a thick line, on to p99.9 as a thin one; log axis."""
    row, top = 36.0, 22.0
    unit = items[0].result.unit
    timed = units.is_time(unit)
    spread = any(_in_ns(item.result, "p99") != _in_ns(item.result, "p50") for item in items)
    fields = ("p50", "p99", "p99_9") if spread and items[0].result.lower_is_better else ("p50",)
    values = [value for item in items for field in fields if (value := _in_ns(item.result, field)) and value > 0]
    if not values:
        return ""
    bottom = top + row * len(items)
    canvas = Canvas(bottom + 34, label)
    scale = Log(min(values) / 1.25, max(values) * 1.15, 4, canvas.width - 4)
    show = units.time if timed else lambda value: units.quantity(value, unit)
    x_axis(canvas, scale, top, bottom, scale.ticks(), show, ("time" if timed else unit) + ", log scale")
    # The columns of figures, from the right.
    columns: list[tuple[str, Callable[[Result], str]]] = [(note_title, note)] if note_title else []
    for field in reversed(fields[:2]):
        columns.append((field, lambda result, field=field: _shown(result, field)))
    places, right = [], canvas.width
    for title, value in columns:
        places.append(right)
        right -= max([text_width(value(item.result)) + 14 for item in items] + [text_width(title) + 10])
    for (title, _), place in zip(columns, places):
        canvas.text(place, 11, title if len(fields) > 1 or title == note_title else "", "axis", "end")
    for index, item in enumerate(items):
        y = top + row * index
        result = item.result
        p50, p99, p999 = (_in_ns(result, field) for field in ("p50", "p99", "p99_9"))
        tip = _tip(item)
        canvas.text(0, y + 14, item.label, f"row {item.css}")
        for (title, value), place in zip(columns, places):
            canvas.text(place, y + 14, value(result), "row value" if title == "p50" else "row value second", "end")
        track = y + 24
        if p50 is not None and p50 > 0:
            if len(fields) > 1 and p99:
                if p999:
                    canvas.line(scale(p50), track, scale(p999), track, f"thin {item.css}")
                canvas.line(scale(p50), track, scale(p99), track, f"thick {item.css}")
            mark = {"base": canvas.square, "peer": canvas.diamond}.get(item.css, canvas.circle)
            mark(scale(p50), track, 5.0, f"mark {item.css}")
        canvas.rect(0, y + 1, canvas.width, row - 2, "hover", tip)
    return canvas.render()


def _shown(result: Result, field: str) -> str:
    value = result.median(field)
    return "" if value is None else units.quantity(value, result.unit)


def _tip(item: Item) -> str:
    parts = [
        f"{field.replace('_', '.')} {units.quantity(value, item.result.unit)}"
        for field in ("p50", "p90", "p99", "p99_9", "max")
        if (value := item.result.median(field)) is not None
    ]
    return f"{item.label}: " + ", ".join(parts)


def _density(histogram: Sequence[tuple[float, float]], low: float, high: float, bins: int) -> list[float]:
    """Counts on a logarithmic grid, each spread over the width of its own bucket."""
    amounts = [0.0] * bins
    span = math.log(high / low)
    previous = None
    for index, (upper, count) in enumerate(histogram):
        # The bucket's lower end is its neighbour's upper one, unless empty ones were left out between.
        following = histogram[index + 1][0] - upper if index + 1 < len(histogram) else math.inf
        width = min(upper - previous if previous is not None else following, following, upper * 0.1)
        previous = upper
        if not count or upper <= 0:
            continue
        start = math.log(max(upper - max(width, 0), 1e-9) / low) / span * bins
        end = math.log(upper / low) / span * bins
        if end <= 0 or start >= bins:
            continue
        whole = max(end - start, 1e-9)
        for place in range(max(0, math.floor(start)), min(bins - 1, math.floor(end)) + 1):
            share = (min(end, place + 1) - max(start, place)) / whole if whole > 1e-8 else 1.0
            amounts[place] += count * max(share, 0.0)
    return amounts


def histograms(items: Sequence[Item], label: str) -> str:
    """How often which time was taken, a strip for each, from the fastest to the slowest p99."""
    low = min(_share_value(item.result.histogram, 0.0005) for item in items)
    high = max(_share_value(item.result.histogram, 0.99) for item in items)
    low, high = low / 1.03, max(high * 1.05, low * 1.2)
    strip, top = 60.0, 2.0
    bottom = top + strip * len(items)
    canvas = Canvas(bottom + 34, label)
    scale = Log(low, high, 4, canvas.width - 4)
    x_axis(canvas, scale, top, bottom, scale.ticks(), units.time, "time, log scale")
    bins = 150
    for index, item in enumerate(items):
        base = top + strip * (index + 1)
        amounts = _density(item.result.histogram, low, high, bins)
        peak = max(amounts) or 1.0
        points = [
            (4 + (place + 0.5) / bins * (canvas.width - 8), base - amount / peak * (strip - 24))
            for place, amount in enumerate(amounts)
        ]
        canvas.path([(points[0][0], base), *points, (points[-1][0], base)], f"area {item.css}", tip=_tip(item))
        canvas.path(points, f"curve solid {item.css}")
        canvas.line(4, base, canvas.width - 4, base, "baseline")
        # The name stands where the strip is empty.
        left = scale(_in_ns(item.result, "p50") or low) > canvas.width / 2
        canvas.text(
            4 if left else canvas.width - 4,
            base - strip + 16,
            item.label,
            f"row {item.css}",
            "start" if left else "end",
        )
    return canvas.render()


def _share_value(histogram: Sequence[tuple[float, float]], share: float) -> float:
    total = sum(count for _, count in histogram)
    reached = 0.0
    for upper, count in histogram:
        reached += count
        if reached >= share * total and count:
            return max(upper, 0.1)
    return max(histogram[-1][0], 0.1)


def cumulative(items: Sequence[Item], label: str) -> str:
    """Which share took no longer than a time; each further nine has the same room."""
    left, top, bottom = 52.0, 22.0, 262.0
    canvas = Canvas(bottom + 34, label)
    right = canvas.width - 6
    deepest = 1.5
    for item in items:
        deepest = max(deepest, math.log10(max(sum(count for _, count in item.result.histogram), 10)))
    deepest = min(deepest, 6.0)
    low = min(_share_value(item.result.histogram, 0.0) for item in items)
    high = max(_share_value(item.result.histogram, 1.0) for item in items)
    scale, nines = Log(low / 1.05, high * 1.1, left, right), Nines(deepest, bottom, top)
    canvas.text(0, 11, "share that took no longer", "axis")
    x_axis(canvas, scale, top, bottom, scale.ticks(), units.time, "time, log scale")
    for share, name in (
        (0.0, "0"),
        (0.5, "50 %"),
        (0.9, "90 %"),
        (0.99, "99 %"),
        (0.999, "99.9 %"),
        (0.9999, "99.99 %"),
        (0.99999, "99.999 %"),
    ):
        if -math.log10(1 - share) <= deepest + 1e-9:
            canvas.line(left, nines(share), right, nines(share), "grid")
            canvas.text(left - 5, nines(share) + 4, name, "tick", "end")
    # Named in the corner that no curve can reach before its last nine, the fastest first.
    for index, item in enumerate(reversed(sorted(items, key=lambda one: _share_value(one.result.histogram, 0.5)))):
        canvas.text(right, bottom - 8 - 15 * index, item.label, f"row {item.css}", "end")
    for item in items:
        total = sum(count for _, count in item.result.histogram)
        points, reached = [], 0.0
        for upper, count in item.result.histogram:
            if count:
                if not points:
                    points.append((scale(max(upper, 0.1)), nines(0.0)))
                else:
                    points.append((scale(upper), points[-1][1]))
                reached += count
                points.append((scale(max(upper, 0.1)), nines(reached / total)))
        canvas.path(_thinned(points), f"curve {item.css}", tip=_tip(item))
        for share, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9")):
            if -math.log10(1 - share) < deepest:
                value = _share_value(item.result.histogram, share)
                canvas.circle(
                    scale(value), nines(share), 3.2, f"mark {item.css}", f"{item.label}: {name} {units.time(value)}"
                )
    return canvas.render()


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Leaves out what moves by less than half a unit."""
    kept: list[tuple[float, float]] = []
    for index, point in enumerate(points):
        if not kept or index == len(points) - 1 or abs(point[0] - kept[-1][0]) + abs(point[1] - kept[-1][1]) >= 0.5:
            kept.append(point)
    return kept


@dataclasses.dataclass(frozen=True)
class Series:
    label: str
    css: str
    points: tuple  # (x, y, low, high) with the rounds' extremes


# Of more lines than these the bands of the rounds would hide each other, and are left out.
CROWD = 6


def curves(
    series: Sequence[Series],
    label: str,
    *,
    x_title: str,
    y_title: str,
    y_unit: str,
    sizes: bool,
    log_y: bool,
    limits: Sequence[tuple[float, float, str]] = (),
) -> str:
    """Lines over a size (log axis) or a count, named at their right ends; limits are (from x, y, name)."""
    series = [one for one in series if one.points]
    if not series:
        return ""
    top, bottom = 26.0, 290.0
    names = [one.label for one in series] + [name for *_, name in limits]
    room = min(210.0, max(text_width(name) for name in names) + 18)
    canvas = Canvas(bottom + 36, label)
    right = canvas.width - room
    xs = sorted({point[0] for one in series for point in one.points})
    ys = [value for one in series for point in one.points for value in point[1:] if value > 0 or not log_y]
    ys += [limit[1] for limit in limits]
    if log_y:
        y: Log | Linear = Log(min(ys) / 1.3, max(ys) * 1.3, bottom, top)
    else:
        y = Linear(0.0, max(ys) * 1.08, bottom, top)
    ticks = y.ticks(6)
    tick_unit = "" if y_unit.startswith("of ") else y_unit  # the title has it
    left = max(text_width(units.brief(units.quantity(tick, tick_unit))) for tick in ticks) + 4
    y_axis(canvas, y, left, right, ticks, lambda value: units.quantity(value, tick_unit), y_title)
    if sizes:
        x = Log(xs[0] / 1.2, xs[-1] * 1.2, left, right)
        x_axis(canvas, x, top, bottom, x.size_ticks(6), units.size, x_title)
    else:
        x = Linear(xs[0] - 0.3, xs[-1] + 0.3, left, right)
        x_axis(canvas, x, top, bottom, xs, lambda value: f"{value:g}", x_title)
    for start, limit, _ in limits:
        canvas.line(x(max(start, xs[0])), y(limit), right, y(limit), "limit")
    for one in series:
        if len(series) <= CROWD and any(point[3] > point[2] for point in one.points):
            canvas.path(
                [(x(point[0]), y(point[3])) for point in one.points]
                + [(x(point[0]), y(point[2])) for point in reversed(one.points)],
                f"band {one.css}",
                close=True,
            )
        canvas.path([(x(point[0]), y(point[1])) for point in one.points], f"curve {one.css}")
        for point in one.points:
            at = units.size(point[0]) if sizes else f"{point[0]:g}"
            canvas.circle(
                x(point[0]),
                y(point[1]),
                2.8,
                f"mark {one.css}",
                f"{one.label}, {at}: {units.quantity(point[1], y_unit)}",
            )
    ends = [(x(one.points[-1][0]), y(one.points[-1][1]), one.label, one.css) for one in series]
    ends += [(right - 4, y(limit), name, "ink") for _, limit, name in limits]
    for (from_x, from_y, name, css), place in zip(ends, dodge([end[1] for end in ends], 14, top + 4, bottom - 2)):
        canvas.path([(from_x + 4, from_y), (right + 4, place)], f"leader {css}")
        canvas.text(right + 7, place + 4, name, f"row {css}")
    return canvas.render()


def goal_strip(outcome: Outcome) -> str:
    """Where the rounds lie against the limit: measured / limit from a half to two, log scale, the good side shaded."""
    canvas = Canvas(26, f"{outcome.verdict}: {outcome.measured}, goal {outcome.check.goal}", width=200, css="strip")
    low, high, y = 8.0, canvas.width - 8, 13.0
    scale = Log(1 / 2, 2, low, high)
    middle = scale(1.0)
    if outcome.check.at_most:
        canvas.rect(low, 5, middle - low, 16, "good")
    else:
        canvas.rect(middle, 5, high - middle, 16, "good")
    canvas.line(low, y, high, y, "baseline")
    canvas.line(middle, 2, middle, 24, "limit")
    figure = outcome.figure
    if isinstance(figure, Measured):
        css = "met" if outcome.met else "missed"
        rounds = figure.rounds or (figure.value,)
        for value in rounds:
            if 1 / 2 <= value / outcome.check.limit <= 2:
                canvas.line(
                    scale(value / outcome.check.limit), 6, scale(value / outcome.check.limit), 20, f"round {css}"
                )
        tip = (
            f"median {units.quantity(figure.value, figure.unit)}, rounds "
            f"{units.quantity(min(rounds), figure.unit)} to {units.quantity(max(rounds), figure.unit)}"
        )
        share = figure.value / outcome.check.limit
        if share < 1 / 2:
            canvas.path([(low - 6, y), (low + 3, y - 5), (low + 3, y + 5)], f"mark {css}", close=True, tip=tip)
        elif share > 2:
            canvas.path([(high + 6, y), (high - 3, y - 5), (high - 3, y + 5)], f"mark {css}", close=True, tip=tip)
        else:
            canvas.diamond(scale(share), y, 5, f"mark {css}", tip)
    return canvas.render()
