"""How busy the machine is with other things than what is to be measured, from /proc alone."""

from __future__ import annotations

import os
import pathlib
import time

BUSY_LOAD = 0.5  # runnable tasks, in the last minute
BUSY_PROCESS = 0.05  # of one core
BUSY_STEAL = 0.02  # of all cores, taken by the machine below

_TICK = os.sysconf("SC_CLK_TCK")


def _ancestors() -> set[int]:
    """This process and those that wait for it."""
    found, pid = set(), os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        try:
            pid = int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
    return found


def _cpu_ticks() -> dict[int, tuple[str, int]]:
    ticks = {}
    for folder in pathlib.Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                head, _, rest = (folder / "stat").read_text().rpartition(")")
                fields = rest.split()
                ticks[int(folder.name)] = (head.partition("(")[2], int(fields[11]) + int(fields[12]))
            except (OSError, ValueError, IndexError):
                continue  # it ended meanwhile
    return ticks


def _steal() -> tuple[int, int]:
    """Ticks that another machine's work took from this one's cores, and all ticks."""
    fields = [int(value) for value in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return fields[7], sum(fields)


def observe(seconds: float = 1.0) -> dict:
    """What else ran during this time: the load average, processes by their share of a core, and steal time."""
    mine = _ancestors()
    before, stolen, started = _cpu_ticks(), _steal(), time.monotonic()
    time.sleep(seconds)
    after, stolen_after, elapsed = _cpu_ticks(), _steal(), time.monotonic() - started
    others = []
    for pid, (name, ticks) in after.items():
        share = (ticks - before.get(pid, (name, ticks))[1]) / _TICK / elapsed
        if pid not in mine and share >= BUSY_PROCESS:
            others.append({"name": name, "pid": pid, "share_of_a_core": round(share, 2)})
    others.sort(key=lambda one: -one["share_of_a_core"])
    total = stolen_after[1] - stolen[1]
    return {
        "load": list(os.getloadavg()),
        "processes": others,
        "steal": round((stolen_after[0] - stolen[0]) / total, 4) if total else 0.0,
    }


def warnings(observed: dict) -> list[str]:
    """What of it would disturb a measurement, in words."""
    found = []
    # The load average lags a minute behind: a build that has just ended shows there, and disturbs no more.
    if observed["processes"]:
        named = ", ".join(f"{one['name']} ({one['share_of_a_core'] * 100:.0f} %)" for one in observed["processes"][:6])
        found.append(f"other processes use the cores: {named}")
    elif observed["load"][0] > BUSY_LOAD + len(os.sched_getaffinity(0)):
        found.append(f"the load average is {observed['load'][0]:.1f}")
    if observed["steal"] > BUSY_STEAL:
        found.append(f"the host gives {observed['steal'] * 100:.0f} % of the cores' time to others (steal)")
    return found
