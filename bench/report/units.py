"""How quantities are written: three significant digits, and the unit a reader expects at that size."""

from __future__ import annotations

import math

_TIMES = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns"))
_TO_NS = {"ns": 1.0, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9}
_SIZES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B"))


def digits(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value == 0:
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{places}f}"
    # 9.999 rounds to 10.00: one digit more than asked for.
    if places and len(text.lstrip("-0.").replace(".", "")) > 3:
        text = f"{value:.{places - 1}f}"
    return text


def is_time(unit: str) -> bool:
    return unit in _TO_NS


def to_base(value: float, unit: str) -> float:
    """Times in nanoseconds; everything else as it is."""
    return value * _TO_NS.get(unit, 1.0)


def time(ns: float) -> str:
    for scale, name in _TIMES:
        # A value that rounds to 1000 of a unit is written in the next one.
        if abs(ns) >= scale * 0.9995:
            return f"{digits(ns / scale)} {name}"
    return f"{digits(ns)} ns"


def size(count: float) -> str:
    count = int(count)
    for scale, name in _SIZES:
        if scale > 1 and count >= scale and count % scale == 0:
            return f"{count // scale} {name}"
    for scale, name in _SIZES[:-1]:
        if count >= scale:
            return f"{digits(count / scale)} {name}"
    return f"{count} B"


def _with_prefix(value: float, unit: str) -> str:
    for scale, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale * 0.9995:
            return f"{digits(value / scale)} {prefix}{unit}"
    return f"{digits(value)} {unit}".rstrip()


def quantity(value: float, unit: str) -> str:
    if is_time(unit):
        return time(to_base(value, unit))
    if unit == "B/s":
        return _with_prefix(value, "B/s")
    if unit == "B":
        return size(value)
    if unit in ("x", "ratio"):
        return f"{value:.2f} ×" if value < 99.5 else f"{value:.0f} ×"
    if unit.startswith("of "):  # a share of something
        return f"{value:.2f} {unit}"
    if unit in ("1/s", "/s", "ops/s", "calls/s", "items/s", "records/s"):
        return _with_prefix(value, "/s")
    return f"{digits(value)} {unit}".rstrip()


def brief(text: str) -> str:
    """A quantity as an axis has it: 1.00 µs is 1 µs."""
    number, _, unit = text.partition(" ")
    if "." in number:
        number = number.rstrip("0").rstrip(".")
    return f"{number} {unit}".rstrip()


def parameter(name: str, value: object) -> str:
    """One parameter of a result as a reader says it: 16 MiB, batch 8, same cache."""
    if name in ("bytes", "size"):
        return size(float(value)) if isinstance(value, (int, float)) else str(value)
    if name == "idle_us" and isinstance(value, (int, float)):
        return f"after {brief(time(value * 1e3))} idle"
    if name == "asleep_us" and isinstance(value, (int, float)):
        return f"asleep for {brief(time(value * 1e3))}"
    if name == "batch":
        return "one by one" if value == 1 else f"batches of {value}"
    if name == "of":
        return {"sum": "all together", "slowest": "the slowest"}.get(str(value), str(value))
    if name == "seconds":
        return f"{value} s"
    if name == "timed":
        return {"each": "each call timed by itself", "burst": "in bursts"}.get(str(value), str(value))
    words = name.replace("_", " ")
    if isinstance(value, bool):
        return words if value else f"no {words}"
    if isinstance(value, (int, float)):
        plural = {"processes": "process", "threads": "thread", "parameters": "parameter", "clients": "client"}
        if name in plural:
            return f"{value} {plural[name] if value == 1 else name}"
        return f"{words} {value}"
    return str(value).replace("_", " ")
