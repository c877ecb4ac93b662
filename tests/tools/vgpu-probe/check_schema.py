#!/usr/bin/env python3
"""Everything that vgpu-probe prints with --json, against docs/probe-schema.json, on a living device, a dead one,
a corrupt region and none.

    check_schema.py VGPU_PROBE VGPU_DEVICE SCHEMA
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

try:
    import jsonschema
except ImportError:
    print("skipped: python3-jsonschema is not installed (scripts/setup installs it)")
    sys.exit(77)

probe, device_program, schema_file = sys.argv[1:4]
schema = json.loads(pathlib.Path(schema_file).read_text())
checked = 0


def valid(definition, document, what):
    global checked
    validator = jsonschema.Draft202012Validator({"$ref": f"#/$defs/{definition}", "$defs": schema["$defs"]})
    errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]
    assert not errors, f"{what}:\n" + "\n".join(errors[:10])
    checked += 1


def run(command, *arguments, status=None, environment=None):
    done = subprocess.run([probe, command, *arguments], capture_output=True, text=True, timeout=120,
                          env={**os.environ, **(environment or {})})
    assert done.returncode in (0, 1), f"{command} {arguments}: status {done.returncode}\n{done.stderr}"
    if status is not None:
        assert done.returncode == status, f"{command} {arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def ask(command, *arguments, status=None, definition=None, environment=None):
    document = json.loads(run(command, *arguments, *([] if command == "dump" else ["--json"]), status=status,
                              environment=environment))
    valid(definition or command, document, f"{command} {' '.join(arguments)}")
    return document


def all_commands(path, good):
    status = 0 if good else None
    ask("list", environment={"VGPU_DEVICE": path})
    ask("show", path, status=status)
    ask("topo", path, status=0)
    ask("dump", path, status=0)
    ask("watch", path, "--count", "1", "--interval", "0.1", status=0)
    ask("test", path, status=0 if good else 1)
    if good:
        ask("latency", path, "--count", "20", status=0)
        ask("bandwidth", path, "--largest", "4k", status=0)
        ran = ask("kernels", path, status=0)["kernels"]
        assert any(kernel["function"] == "block_sum" and kernel["launches"] > 0 for kernel in ran), ran
    else:
        ask("latency", path, "--count", "20", status=1, definition="error")
        ask("bandwidth", path, "--largest", "4k", status=1, definition="error")
        ask("kernels", path, status=1, definition="error")


folder = tempfile.mkdtemp(prefix="vgpu-schema-test-")
path = f"/dev/shm/vgpu-schema-test-{os.getpid()}"
copy = path + "-corrupt"
device = subprocess.Popen([device_program, "--path", path, "--memory", "64M", "--threads", "1", "--size", "64M",
                           "--cache-dir", folder + "/cache", "--log", folder + "/log"])
try:
    end = time.monotonic() + 60
    while True:
        try:
            if json.loads(run("show", path, "--json")).get("health") == "ready":
                break
        except json.JSONDecodeError:
            pass
        assert time.monotonic() < end, "the device does not become ready"
    all_commands(path, True)
    text = json.dumps(ask("dump", path))
    for secret in (os.uname().nodename, os.environ.get("PATH", "\0"), str(pathlib.Path.home()) + "/"):
        assert len(secret) < 4 or secret not in text, f"the dump tells {secret}"

    header = bytearray(pathlib.Path(path).read_bytes()[:65536])
    device.send_signal(signal.SIGKILL)
    device.wait()
    while json.loads(run("show", path, "--json")).get("status", {}).get("device_lock") == "held":
        assert time.monotonic() < end, "the worker does not go with its supervisor"
    dead = ask("show", path, status=0)
    assert dead["health"] == "dead" and not dead["usable"], dead["health"]
    all_commands(path, False)

    header[80:84] = (1000).to_bytes(4, "little")  # the number of channels
    pathlib.Path(copy).write_bytes(header)
    os.truncate(copy, 64 << 20)
    assert ask("show", copy, status=1)["health"] == "corrupt"
    all_commands(copy, False)

    os.truncate(copy, 65536)
    header[80:84] = (16).to_bytes(4, "little")
    pathlib.Path(copy).write_bytes(header)
    assert ask("show", copy, status=1)["health"] == "truncated"
    all_commands(copy, False)

    pathlib.Path(copy).write_bytes(b"a text that is no region, and secret " * 200)
    foreign = ask("show", copy, status=1)
    assert foreign["health"] == "no region" and "secret" not in json.dumps(ask("dump", copy)), foreign
    all_commands(copy, False)

    for command in ("show", "test", "latency", "bandwidth", "kernels"):
        ask(command, path + "-none", status=1, definition="error")
    valid("error", json.loads(run("show", "no-such-guest", "--json", status=1)), "show no-such-guest")
finally:
    device.kill()
    device.wait()
    for leftover in (path, copy):
        pathlib.Path(leftover).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
print(f"{checked} documents fit the schema")
