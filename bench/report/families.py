"""Which results make one figure, and what the report says of them.

A family is all results of one name in a suite. The figures follow from the data: curves where a size or a count
varies, rows of percentiles where variants do, distributions where there are histograms.
"""

from __future__ import annotations

import dataclasses
import html
import statistics
from collections.abc import Sequence

from . import roles, units
from .measure import cost
from .model import Result, Suite
from .plots import CROWD, Item, Series, cumulative, curves, histograms, percentile_rows
from .texts import JOINED, SUITES, TEXTS

COPY_LIMITS = ((16 << 20, 0.85, "goal, pageable"), (16 << 20, 0.95, "goal, pinned"))
# Of fewer samples a distribution says less than its percentiles.
FEWEST_SAMPLES = 20
COUNTS = ("processes", "threads", "clients")
# In what results of one figure agree.
FACETS = ("placement", "batch", "timed", "of", "idle_us", "asleep_us")


@dataclasses.dataclass(frozen=True)
class Figure:
    title: str
    drawing: str
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Family:
    title: str
    text: str
    figures: tuple[Figure, ...]


def title_of(suite: str) -> str:
    return SUITES.get(suite, suite.replace("_", " "))


def of(suite: Suite) -> list[Family]:
    by_name: dict[str, dict[str, list[Result]]] = {}
    for result in suite.results:
        name, words = JOINED.get((suite.name, result.name), (result.name, ""))
        by_name.setdefault(name, {}).setdefault(words, []).append(result)
    known = [name for place, name in TEXTS if place == suite.name and name in by_name]
    built = []
    for name in known + [name for name in by_name if name not in known]:
        title, text = TEXTS.get((suite.name, name), (name.replace("_", " ").capitalize(), ""))
        parts = sorted(by_name[name].items(), reverse=True)  # what has words of its own first
        alone = len(parts) == 1
        figures = [
            figure
            for words, results in parts
            for figure in _figures(results, "" if alone else f", {words or 'each timed by itself'}")
        ]
        built.append(Family(title, text, tuple(figures)))
    return built


def _figures(results: list[Result], suffix: str) -> list[Figure]:
    """A figure's results have one unit, and agree in what would make them hard to compare."""
    groups: dict[tuple, list[Result]] = {}
    for result in results:
        key = (result.unit, result.kind, *(result.parameters.get(name) for name in FACETS))
        groups.setdefault(key, []).append(result)
    figures = []
    for (_, _, *places), group in groups.items():
        told = [
            units.parameter(name, place)
            for name, place in zip(FACETS, places)
            if place is not None and len({str(one.parameters.get(name)) for one in results}) > 1
        ]
        figures += _of_group(group, suffix + "".join(f", {one}" for one in told))
    return figures


def _values_of(results: Sequence[Result], name: str) -> list[float]:
    return sorted(
        {
            value
            for one in results
            if isinstance(value := one.parameters.get(name), (int, float)) and not isinstance(value, bool)
        }
    )


def varying(results: Sequence[Result]) -> list[str]:
    """The parameters in which results of one variant differ."""
    names: dict[str, dict[str, set]] = {}
    for one in results:
        for name, value in one.parameters.items():
            names.setdefault(name, {}).setdefault(one.variant, set()).add(str(value))
    return [name for name, by_variant in names.items() if any(len(values) > 1 for values in by_variant.values())]


def label_of(result: Result, shown: Sequence[str]) -> str:
    parts = [units.parameter(name, result.parameters[name]) for name in shown if name in result.parameters]
    return ", ".join([roles.name_of(result.variant), *parts])


def _role_css(result: Result) -> str:
    return {roles.OURS: "s1", roles.PEER: "peer", roles.BASELINE: "base"}[roles.of(result)]


OUR_COLOURS, PEER_COLOURS, ALL_COLOURS = ("s1", "s6", "s3"), ("s2", "s5", "s4"), ("s1", "s2", "s3", "s4", "s5", "s6")


def colours(results: Sequence[Result]) -> list[str]:
    """Blue and green are ours where there are peers; the baseline is drawn in ink. Beyond the pool lines are dotted."""
    mixed = any(roles.of(one) == roles.PEER for one in results)
    used: dict[str, int] = {}
    found = []
    for one in results:
        role = roles.of(one)
        pool = (
            ("base",)
            if role == roles.BASELINE
            else ALL_COLOURS if not mixed else OUR_COLOURS if role == roles.OURS else PEER_COLOURS
        )
        index = used.get(role, 0)
        used[role] = index + 1
        found.append(pool[index % len(pool)] + (" dash" if index >= len(pool) else ""))
    return found


def _of_group(group: list[Result], suffix: str) -> list[Figure]:
    if len(group) == 1 and group[0].kind != "latency":
        return [_single(group[0], suffix)]
    count = next((name for name in COUNTS if len(_values_of(group, name)) >= 3), None)
    if count:
        return _over_count(group, count, suffix)
    sizes = _values_of(group, "bytes")
    by_variant = [
        _values_of([one for one in group if one.variant == variant], "bytes")
        for variant in {one.variant for one in group}
    ]
    if all(len(one) < 3 for one in by_variant):
        return _rows(group, suffix)
    figures = _over_sizes(group, suffix)
    if group[0].kind == "latency":
        smallest = [one for one in group if one.parameters.get("bytes") == sizes[0]]
        figures += _rows(smallest, f"{suffix}, {units.size(sizes[0])}")
    return figures


def _single(result: Result, suffix: str) -> Figure:
    value, rounds = result.median(), result.per_round()
    spread = (
        f"{len(rounds)} rounds, {units.quantity(min(rounds), result.unit)} to "
        f"{units.quantity(max(rounds), result.unit)}"
        if len(rounds) > 1
        else ""
    )
    label = label_of(result, list(result.parameters))
    return Figure(
        f"{label}{suffix}", f'<p class="single">{html.escape(units.quantity(value or 0.0, result.unit))}</p>', spread
    )


def _against(result: Result, group: Sequence[Result]) -> float | None:
    """The result's cost over its baseline's, the median of the rounds' ratios; None where it has no baseline."""
    baseline = roles.baseline_of(result, group)
    if baseline is None or baseline.key == result.key:
        return None
    above, below = cost(result), cost(baseline)
    if not above or len(above) != len(below) or not all(below):
        return None
    return statistics.median(one / other for one, other in zip(above, below))


def _rank(result: Result, group: Sequence[Result]) -> float:
    """Cheapest first. Where there is a baseline, by the ratio to it: the rounds of a machine that drifts make the
    medians of two results hard to compare."""
    middle = result.median() or 0.0
    if not result.lower_is_better:
        return -middle
    baseline = roles.baseline_of(result, group)
    if baseline is None:
        return middle
    return (_against(result, group) or 1.0) * (baseline.median() or 0.0)


def _rows(group: list[Result], suffix: str) -> list[Figure]:
    group = sorted(group, key=lambda one: _rank(one, group))
    shown = varying(group)
    items = [Item(label_of(one, shown), one, _role_css(one)) for one in group]

    def note(result: Result) -> str:
        ratio = _against(result, group)
        return "" if ratio is None else f"{ratio:.2f} ×" if ratio < 9.95 else f"{ratio:.0f} ×"

    spread = any(one.median("p99") != one.median("p50") for one in group)
    caption = "The mark is p50; the thick line reaches to p99, the thin one to p99.9." if spread else ""
    noted = {roles.name_of(roles.baseline_of(one, group).variant) for one in group if note(one)}
    if noted:
        caption += " Ratios are taken round by round."
    against = f"/ {noted.pop()}" if len(noted) == 1 else "/ baseline" if noted else ""
    figures = [
        Figure(
            f"Percentiles{suffix}" if spread else f"Figures{suffix}",
            percentile_rows(items, f"percentiles{suffix}", note, against),
            caption,
        )
    ]
    # Means, bursts and batches tell costs; how a single one varies is told where each is timed.
    single = (
        group[0].kind == "latency"
        and not group[0].name.endswith("_mean")
        and group[0].parameters.get("timed") != "burst"
        and group[0].parameters.get("batch", 1) == 1
    )
    told = _told(group) if single else []
    if told:
        items = [Item(label_of(one, shown), one, css) for one, css in zip(told, colours(told))]
        figures.append(
            Figure(
                f"How often, up to p99{suffix}",
                histograms(items, f"histograms{suffix}"),
                "Each strip is drawn to its own peak.",
            )
        )
        figures.append(
            Figure(
                f"Cumulative, to the last sample{suffix}",
                cumulative(items, f"cumulative{suffix}"),
                "Each further nine has the same room. Dots: p50, p90, p99, p99.9.",
            )
        )
    return figures


def _told(group: list[Result]) -> list[Result]:
    """Not more than four of a crowd: the baseline, the best of ours, the best peers; none if one has few samples."""
    with_histogram = [one for one in group if one.histogram]
    if any(sum(count for _, count in one.histogram) < FEWEST_SAMPLES for one in with_histogram):
        return []
    if len(with_histogram) <= 4:
        return with_histogram
    by_role: dict[str, list[Result]] = {}
    for one in with_histogram:
        by_role.setdefault(roles.of(one), []).append(one)
    chosen = sorted(by_role.get(roles.BASELINE, []), key=roles.plainness)[:1] + by_role.get(roles.OURS, [])[:2]
    return (chosen + by_role.get(roles.PEER, []) + by_role.get(roles.OURS, [])[2:])[:4]


def _lines(group: list[Result], by: str) -> list[tuple[str, str, list[Result]]]:
    """Label, colour and results of each line over a parameter: ours first, then baselines, then peers."""
    lines: dict[tuple, list[Result]] = {}
    for one in group:
        if isinstance(one.parameters.get(by), (int, float)):
            rest = tuple(sorted((k, str(v)) for k, v in one.parameters.items() if k != by))
            lines.setdefault((one.variant, rest), []).append(one)
    shown = [name for name in varying(group) if name != by]
    order = {roles.OURS: 0, roles.BASELINE: 1, roles.PEER: 2}
    ordered = sorted(lines.values(), key=lambda line: order[roles.of(line[0])])
    return [
        (label_of(line[0], shown), css, sorted(line, key=lambda one: one.parameters[by]))
        for line, css in zip(ordered, colours([line[0] for line in ordered]))
    ]


def _series(group: list[Result], by: str) -> list[Series]:
    series = []
    for label, css, line in _lines(group, by):
        points = []
        for one in line:
            values = one.per_round() or [one.median()]
            points.append((float(one.parameters[by]), one.median(), min(values), max(values)))
        series.append(Series(label, css, tuple(points)))
    return series


def _over_sizes(group: list[Result], suffix: str) -> list[Figure]:
    unit, rate = group[0].unit, not group[0].lower_is_better
    series = _series(group, "bytes")
    figures = [
        Figure(
            f"{'Bandwidth' if unit == 'B/s' else 'Rate' if rate else 'Cost'} against size{suffix}",
            curves(
                series,
                f"against size{suffix}",
                x_title="size, log scale",
                y_title=f"{'bandwidth' if unit == 'B/s' else 'rate' if rate else 'time'}, log scale",
                y_unit=unit,
                sizes=True,
                log_y=True,
            ),
            "Medians of the rounds" + ("; the band spans the rounds." if len(series) <= CROWD else "."),
        )
    ]
    shares = _shares(group)
    if shares:
        copies = group[0].name == "copy"
        figures.append(
            Figure(
                f"Share of {roles.name_of(_baseline_name(group))}'s speed{suffix}",
                curves(
                    shares,
                    f"share of the baseline's speed{suffix}",
                    x_title="size, log scale",
                    y_title="speed / baseline's",
                    y_unit="x",
                    sizes=True,
                    log_y=False,
                    limits=COPY_LIMITS if copies else (),
                ),
                "The ratio of each round, and its median."
                + (" Dashed: the goals for 16 MiB and more." if copies else ""),
            )
        )
    return figures


def _baseline_name(group: Sequence[Result]) -> str:
    return min((one for one in group if roles.of(one) == roles.BASELINE), key=roles.plainness).variant


def _shares(group: list[Result]) -> list[Series]:
    """Each line's speed as a share of the baseline's of the same size, round by round."""
    if group[0].lower_is_better:
        return []
    series = []
    for label, css, line in _lines(group, "bytes"):
        points = []
        for one in line:
            base = roles.baseline_of(one, group)
            if base is None or roles.of(one) == roles.BASELINE:
                continue
            above, below = cost(base), cost(one)
            if above and len(above) == len(below):
                ratios = [a / b for a, b in zip(above, below)]
                points.append((float(one.parameters["bytes"]), statistics.median(ratios), min(ratios), max(ratios)))
        series.append(Series(label, css, tuple(points)))
    return [one for one in series if one.points]


def _over_count(group: list[Result], count: str, suffix: str) -> list[Figure]:
    unit = group[0].unit
    series = _series(group, count)
    what = f"{series[0].label}{suffix}" if len(series) == 1 else suffix.removeprefix(", ")
    of_whom = group[0].name if group[0].name in COUNTS else count
    return [
        Figure(
            (
                f"{what[:1].upper()}{what[1:]}, against the number of {of_whom}"
                if what
                else f"Against the number of {of_whom}"
            ),
            curves(
                series,
                f"{what}, against the number of {of_whom}",
                x_title=of_whom,
                y_title=unit if unit.startswith("of ") else "",
                y_unit=unit,
                sizes=False,
                log_y=False,
            ),
            "Medians of the rounds; the band spans the rounds.",
        )
    ]
