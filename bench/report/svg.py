"""A few words of SVG: axes, marks with native tooltips, and labels that keep out of each other's way.

Figures are drawn 480 units wide, so that text keeps its size in one column of a phone and in two of a page.
Colours are classes of style.css, which has them for light, dark and paper.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence

from . import units

WIDTH = 480.0
LETTER = 6.1  # mean width of a letter at the figures' 11.5 units


def text_width(text: str) -> float:
    return len(text) * LETTER


class Canvas:
    def __init__(self, height: float, label: str, width: float = WIDTH, css: str = "figure"):
        self.width, self.height, self.label, self.css = width, height, label, css
        self.parts: list[str] = []

    def _add(self, tag: str, css: str, tip: str, **attributes: object) -> None:
        body = "".join(f' {key.replace("_", "-")}="{_plain(value)}"' for key, value in attributes.items())
        inside = f"<title>{html.escape(tip)}</title>" if tip else ""
        self.parts.append(f'<{tag} class="{css}"{body}>{inside}</{tag}>' if inside else f'<{tag} class="{css}"{body}/>')

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str, tip: str = "") -> None:
        self._add("line", css, tip, x1=x1, y1=y1, x2=x2, y2=y2)

    def rect(self, x: float, y: float, width: float, height: float, css: str, tip: str = "") -> None:
        self._add("rect", css, tip, x=x, y=y, width=max(width, 0), height=max(height, 0))

    def circle(self, x: float, y: float, radius: float, css: str, tip: str = "") -> None:
        self._add("circle", css, tip, cx=x, cy=y, r=radius)

    def path(self, points: Sequence[tuple[float, float]], css: str, close: bool = False, tip: str = "") -> None:
        if points:
            trace = "M" + "L".join(f"{_plain(x)} {_plain(y)}" for x, y in points) + ("Z" if close else "")
            self._add("path", css, tip, d=trace)

    def diamond(self, x: float, y: float, radius: float, css: str, tip: str = "") -> None:
        self.path([(x - radius, y), (x, y - radius), (x + radius, y), (x, y + radius)], css, close=True, tip=tip)

    def square(self, x: float, y: float, radius: float, css: str, tip: str = "") -> None:
        self.rect(x - radius, y - radius, 2 * radius, 2 * radius, css, tip)

    def text(self, x: float, y: float, text: str, css: str = "", anchor: str = "start") -> None:
        self.parts.append(
            f'<text class="{css}" x="{_plain(x)}" y="{_plain(y)}" text-anchor="{anchor}">' f"{html.escape(text)}</text>"
        )

    def render(self) -> str:
        return (
            f'<svg class="{self.css}" viewBox="0 0 {_plain(self.width)} {_plain(self.height)}" role="img" '
            f'aria-label="{html.escape(self.label)}">{"".join(self.parts)}</svg>'
        )


def _plain(value: object) -> str:
    return html.escape(f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value))


class Log:
    """A logarithmic scale from values to positions."""

    def __init__(self, low: float, high: float, start: float, end: float):
        low = max(low, 1e-12)
        self.low, self.high = low, max(high, low * 1.0001)
        self.start, self.end = start, end
        self._from, self._span = math.log(self.low), math.log(self.high) - math.log(self.low)

    def __call__(self, value: float) -> float:
        share = (math.log(max(value, 1e-12)) - self._from) / self._span
        return self.start + min(max(share, -0.02), 1.02) * (self.end - self.start)

    def ticks(self, at_most: int = 6) -> list[float]:
        """Round values: decades, with 2 and 5 or more between them as there is room."""
        for steps in ((1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
            found = [
                digit * 10.0**power
                for power in range(math.floor(math.log10(self.low)) - 1, math.ceil(math.log10(self.high)) + 1)
                for digit in steps
                if self.low * 0.999 <= digit * 10.0**power <= self.high * 1.001
            ]
            if len(found) <= at_most:
                break
        while len(found) > at_most:
            found = found[::2]
        if len(found) < 2:
            found = nice_ticks(self.low, self.high, at_most)
        return found

    def size_ticks(self, at_most: int = 7) -> list[float]:
        powers = range(math.ceil(math.log2(self.low) - 1e-6), math.floor(math.log2(self.high) + 1e-6) + 1)
        step = max(1, math.ceil(len(powers) / at_most))
        return [2.0**power for power in powers[::step]]


class Linear:
    def __init__(self, low: float, high: float, start: float, end: float):
        self.low, self.high = low, high if high > low else low + 1
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, -0.02), 1.02) * (self.end - self.start)

    def ticks(self, at_most: int = 5) -> list[float]:
        return nice_ticks(self.low, self.high, at_most)


class Nines:
    """A scale for shares below 1 on which 50 %, 90 %, 99 % and 99.9 % stand apart."""

    def __init__(self, deepest: float, start: float, end: float):
        self.deepest = max(deepest, 1.5)  # in nines
        self.start, self.end = start, end

    def __call__(self, share: float) -> float:
        nines = -math.log10(max(1 - share, 10**-self.deepest))
        return self.start + nines / self.deepest * (self.end - self.start)


def nice_ticks(low: float, high: float, at_most: int) -> list[float]:
    span = high - low
    if span <= 0:
        return [low]
    raw = span / max(at_most - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * digit for digit in (1, 2, 2.5, 5, 10) if power * digit >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def dodge(places: Sequence[float], apart: float, low: float, high: float) -> list[float]:
    """Moves labels as little as needed so that none overlaps its neighbour; the order is kept."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = [places[index] for index in order]
    for _ in range(60):
        calm = True
        for index in range(len(moved) - 1):
            overlap = apart - (moved[index + 1] - moved[index])
            if overlap > 0.01:
                moved[index] -= overlap / 2
                moved[index + 1] += overlap / 2
                calm = False
        if moved:
            shift = max(0.0, low - moved[0]) - max(0.0, moved[-1] - high)
            moved = [value + shift for value in moved]
        if calm:
            break
    placed = [0.0] * len(places)
    for index, value in zip(order, moved):
        placed[index] = value
    return placed


def x_axis(
    canvas: Canvas,
    scale: Log | Linear,
    top: float,
    bottom: float,
    ticks: Sequence[float],
    label: Callable[[float], str],
    title: str,
) -> None:
    for tick in ticks:
        x = scale(tick)
        canvas.line(x, top, x, bottom, "grid")
        text = units.brief(label(tick))
        half = text_width(text) / 2
        canvas.text(min(max(x, half), canvas.width - half), bottom + 14, text, "tick", "middle")
    if title:
        canvas.text((scale.start + scale.end) / 2, bottom + 29, title, "axis", "middle")


def y_axis(
    canvas: Canvas,
    scale: Log | Linear,
    left: float,
    right: float,
    ticks: Sequence[float],
    label: Callable[[float], str],
    title: str,
) -> None:
    for tick in ticks:
        y = scale(tick)
        canvas.line(left, y, right, y, "grid")
        canvas.text(left - 6, y + 4, units.brief(label(tick)), "tick", "end")
    if title:
        canvas.text(0, min(scale.start, scale.end) - 10, title, "axis", "start")
