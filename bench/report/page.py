"""The report: one HTML file that needs nothing beside it, with the goals first and every result at the end."""

from __future__ import annotations

import datetime
import html
import pathlib

from . import families, units
from .goals import GOALS, Missing, Outcome, Row, RowOutcome, evaluate, summary
from .model import PERCENTILES, Results, Suite
from .plots import goal_strip

_CSS = {"met": "is-met", "not met": "is-missed", "not measured": "is-none"}
_SIGN = {"met": "✓", "not met": "✗", "not measured": "–"}


def escape(value: object) -> str:
    return html.escape(str(value))


def render(results: Results, goals: tuple[Row, ...] = GOALS) -> str:
    outcomes = evaluate(results, goals)
    suites = "".join(_suite(suite) for suite in results.suites)
    tables = "".join(_table(suite) for suite in results.suites)
    links = "".join(
        f'<a href="#{escape(suite.name)}">{escape(families.title_of(suite.name))}</a>' for suite in results.suites
    )
    style = (pathlib.Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    date = _date(results.started)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>vgpu performance, {escape(date)}, {escape(results.commit[:12])}</title>
<style>
{style}</style>
</head>
<body>
<main>
<header>
<h1>vgpu: {"models on the software device" if results.raw.get("goals") == "software" else "what a CUDA call costs"}</h1>
<p class="lead">{escape(summary(outcomes))}. {escape(_where(results))}</p>
<p class="soft">Commit <code>{escape(results.commit[:12])}</code>{_dirty(results)},
measured {escape(date)}{_form(results)}.
Reproduce it with <code>{escape(results.raw.get("command", "scripts/bench"))}</code>.</p>
{_warnings(results)}
<nav><a href="#goals">Goals</a>{links}<a href="#all">All results</a><a href="#machine">Machine and options</a></nav>
</header>
{_goals(outcomes)}
{suites}
<section id="all"><h2>All results</h2>
<p class="soft">Percentiles over all rounds together. The goals and the figures above take the median of the rounds,
which one disturbed round does not move; “rounds” is the spread of the rounds’ p50.</p>
{tables}</section>
{_machine(results)}
</main>
</body>
</html>
"""


def _date(iso: str) -> str:
    try:
        return datetime.datetime.fromisoformat(iso.replace("Z", "+00:00")).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return iso


def _facts(results: Results) -> dict:
    return next(
        (suite.about["machine"] for suite in results.suites if isinstance(suite.about.get("machine"), dict)), {}
    )


def _where(results: Results) -> str:
    machine = _facts(results)
    if not machine:
        return ""
    cores = machine.get("cores")
    return (
        f"{machine.get('cpu', 'unknown CPU')}, {cores} core{'' if cores == 1 else 's'}, "
        f"{machine.get('kernel', 'unknown kernel')}."
    )


def _dirty(results: Results) -> str:
    return " with uncommitted changes" if any(suite.about.get("dirty") for suite in results.suites) else ""


def _form(results: Results) -> str:
    return f", {escape(results.raw['mode'])} form" if results.raw.get("mode") else ""


def _warnings(results: Results) -> str:
    lines = [f"{one.get('suite')} gave no results: {one.get('reason')}" for one in results.raw.get("failures", [])]
    for one in results.raw.get("environment", []):
        lines += [f"before {one.get('suite')}: {text}" for text in one.get("warnings", [])]
    for suite in results.suites:
        if suite.about.get("build_type") not in (None, "Release"):
            lines.append(f"{suite.name} is a {suite.about['build_type']} build")
        lines += [
            f"{suite.name} failed in {_case(case)}: {case.get('why')}" for case in suite.about.get("failed") or []
        ]
    if not lines:
        return ""
    return (
        '<div class="warning" role="note"><strong>Read these figures with care.</strong><ul>'
        + "".join(f"<li>{escape(line)}</li>" for line in lines)
        + "</ul></div>"
    )


def _verdict(text: str) -> str:
    return f'<span class="badge {_CSS[text]}">{_SIGN[text]} {escape(text)}</span>'


def _basis(outcome: Outcome) -> str:
    figure = outcome.figure
    if isinstance(figure, Missing):
        return figure.reason
    text = figure.basis
    if len(figure.rounds) > 1:
        text += (
            f"; {len(figure.rounds)} rounds, {units.quantity(min(figure.rounds), figure.unit)} to "
            f"{units.quantity(max(figure.rounds), figure.unit)}"
        )
    return text


def _goals(outcomes: list[RowOutcome]) -> str:
    rows = []
    for one in outcomes:
        rows.append(
            f'<tr class="head"><td class="what" colspan="3">{escape(one.row.what)}</td>'
            f'<td class="verdict">{_verdict(one.verdict)}</td><td></td></tr>'
        )
        for outcome in one.outcomes:
            word = (
                f'<span class="{_CSS[outcome.verdict]}">{escape(outcome.verdict)}</span>'
                if len(one.outcomes) > 1
                else ""
            )
            rows.append(
                f'<tr class="check"><td class="sub name">{escape(outcome.check.what)}'
                f'<span class="basis">{escape(_basis(outcome))}</span></td>'
                f'<td class="sub number measured {_CSS[outcome.verdict]}">{escape(outcome.measured)}</td>'
                f'<td class="sub number">{escape(outcome.check.goal)}</td>'
                f'<td class="sub word">{word}</td><td class="sub strip-cell">{goal_strip(outcome)}</td></tr>'
            )
    return f"""<section id="goals"><h2>Goals</h2>
<p class="soft">Medians of interleaved rounds; ratios are taken within a round and compare with the best measured beside
it, in the same run, on the same cores. The strip shows measured / goal from a half to two, on a log
scale: the dashed line is the goal, the shaded side meets it, each stroke is a round, the diamond their median.</p>
<div class="card goals"><table>
<thead><tr><th>what</th><th class="number">measured</th><th class="number">goal</th>
<th></th><th>rounds against the goal</th></tr></thead>
<tbody>{"".join(rows)}</tbody></table></div></section>"""


def _suite(suite: Suite) -> str:
    blocks = []
    for family in families.of(suite):
        figures = "".join(
            f'<figure class="card"><h4>{escape(one.title)}</h4>{one.drawing}'
            + (f"<figcaption>{escape(one.caption)}</figcaption>" if one.caption else "")
            + "</figure>"
            for one in family.figures
        )
        if figures:
            text = f'<p class="soft">{escape(family.text)}</p>' if family.text else ""
            blocks.append(f'<h3>{escape(family.title)}</h3>{text}<div class="figures">{figures}</div>')
    reasons: dict[str, dict[str, int]] = {}
    for case in suite.about.get("skipped") or []:
        told = reasons.setdefault(str(case.get("why")), {})
        words = _case({**case, "variant": "any"})
        told[words] = told.get(words, 0) + 1
    skipped = "".join(
        f"<li>{escape('; '.join(_counted(*one) for one in cases.items()))}: {escape(why)}</li>"
        for why, cases in reasons.items()
    )
    if skipped:
        blocks.append(f'<h3>Not measured on this machine</h3><ul class="soft">{skipped}</ul>')
    return (
        f'<section id="{escape(suite.name)}"><h2>{escape(families.title_of(suite.name))}</h2>'
        f'{"".join(blocks)}</section>'
    )


def _counted(words: str, variants: int) -> str:
    return words if variants == 1 else f"{words} ({variants} variants)"


def _case(case: dict) -> str:
    parts = [case[key] for key in ("name", "variant") if case.get(key, "any") != "any"]
    return ", ".join([*parts, *(units.parameter(*one) for one in (case.get("parameters") or {}).items())])


def _table(suite: Suite) -> str:
    rows = []
    for result in suite.results:
        cells = []
        for field in PERCENTILES:
            value = result.summary.get(field)
            value = result.median(field) if value is None else value
            cells.append(
                f'<td class="number">{"" if value is None else escape(units.quantity(value, result.unit))}</td>'
            )
        values = result.per_round()
        spread = (
            " … ".join(units.quantity(value, result.unit) for value in (min(values), max(values))) if values else ""
        )
        count = result.summary.get("count")
        parameters = ", ".join(units.parameter(name, value) for name, value in result.parameters.items())
        rows.append(
            f"<tr><th>{escape(result.name)}</th><td>{escape(result.variant)}</td><td>{escape(parameters)}</td>"
            f'{"".join(cells)}<td class="number">{escape(spread)}</td>'
            f'<td class="number">{"" if count is None else f"{count:,.0f}"}</td></tr>'
        )
    heads = "".join(f'<th class="number">{field.replace("_", ".")}</th>' for field in PERCENTILES)
    return f"""<h3>{escape(suite.name)}</h3><div class="scroll card"><table class="results">
<thead><tr><th>name</th><th>variant</th><th>parameters</th>{heads}
<th class="number">rounds</th><th class="number">samples</th></tr></thead>
<tbody>{"".join(rows)}</tbody></table></div>"""


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_plain(one)}" for key, one in value.items())
    if isinstance(value, list):
        return ", ".join(_plain(one) for one in value) or "none"
    return "none" if value is None else "yes" if value is True else "no" if value is False else str(value)


def _machine(results: Results) -> str:
    facts = [("commit", results.commit + _dirty(results)), ("started", results.started)]
    for key, value in _facts(results).items():
        text = units.size(value) if key == "memory_bytes" and isinstance(value, (int, float)) else _plain(value)
        facts.append((key.replace("_bytes", "").replace("_", " "), text))
    for suite in results.suites:
        about = suite.about
        facts.append(
            (
                suite.name,
                f"{about.get('build_type', 'unknown build')}, {about.get('compiler', 'unknown compiler')}; "
                f"{_plain(about.get('options') or {})}",
            )
        )
        if about.get("notes"):
            facts.append((f"{suite.name} notes", _plain(about["notes"])))
    for one in results.raw.get("environment", []):
        facts.append(
            (
                f"beside {one.get('suite')}",
                _plain({key: value for key, value in one.items() if key not in ("suite", "warnings")}),
            )
        )
    body = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts)
    return f'<section id="machine"><h2>Machine and options</h2><dl class="card facts">{body}</dl></section>'
