"""vgpu-deploy on a machine with a real systemd as its first process and a real sshd, in a virtual machine.

    vm_test.py run SOURCE BUILD FOLDER PART...    boots one, tries these parts one after the other, writes down what came
                                                  of each; exit status 77, with the reason, where there can be none
    vm_test.py report FOLDER PART                 says what came of it
"""

import json
import os
import pathlib
import signal
import sys
import time
import traceback

import guest as guests
import vm_checks
import vm_long_checks

PARTS = {
    "service": vm_checks.service,
    "hardened": vm_checks.hardened,
    "power_cut": vm_checks.power_cut,
    "restrictions": vm_long_checks.restrictions,
    "power_cuts": vm_long_checks.power_cuts,
    "sabotage": vm_long_checks.sabotage,
}


def run(source: str, build: str, folder: str, *parts: str) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leaves nothing behind
    os.nice(5)  # an emulated machine takes what it gets; the tests beside it are shorter
    came_of = {part: "the machine did not come up" for part in parts}
    place = pathlib.Path(folder)
    results = place.with_suffix(".json")
    results.unlink(missing_ok=True)
    try:
        guest = guests.Guest(pathlib.Path(source), pathlib.Path(build), place)
        started = time.monotonic()
        try:
            guest.start()
            print(f"the guest was up after {time.monotonic() - started:.0f} s", flush=True)
            for part in parts:
                print(f"==== {part}", flush=True)
                started = time.monotonic()
                try:
                    PARTS[part](vm_checks.Check(guest))
                    came_of[part] = "passed"
                except guests.Skip as skip:
                    came_of[part] = str(skip)
                except Exception:
                    came_of[part] = traceback.format_exc()
                    print(came_of[part])
                    came_of.update({later: f"not tried, since {part} failed" for later in parts[parts.index(part) + 1:]})
                    break
                print(f"==== {part}: {came_of[part]}, after {time.monotonic() - started:.0f} s", flush=True)
        finally:
            guest.stop()
            results.write_text(json.dumps(came_of))
    except guests.Skip as skip:
        results.write_text(json.dumps(dict.fromkeys(parts, str(skip))))
        print(skip)
        sys.exit(guests.SKIPPED)


def report(folder: str, part: str) -> None:
    results = pathlib.Path(folder).with_suffix(".json")
    came_of = json.loads(results.read_text())[part] if results.exists() else "it was not run"
    print(came_of)
    sys.exit(0 if came_of == "passed" else guests.SKIPPED if came_of.startswith("skipped") else 1)


if __name__ == "__main__":
    {"run": run, "report": report}[sys.argv[1]](*sys.argv[2:])
