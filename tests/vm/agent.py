"""The test's hand inside a guest: takes commands, a JSON document a line, from the virtio port and answers the same way.

Run by scripts/vm as the guest's command; ends when it is told to. See machine.py for the other end.
"""

import base64
import json
import os
import subprocess
import sys
import threading
import time

PORT = "/dev/virtio-ports/vgpu.port"


class Agent:
    def __init__(self, port: int):
        self.port = port
        self.write_lock = threading.Lock()
        self.children: dict[int, subprocess.Popen] = {}

    def say(self, document: dict) -> None:
        with self.write_lock:
            data = json.dumps(document).encode() + b"\n"
            while data:
                data = data[os.write(self.port, data) :]

    def run(self, request: dict) -> dict:
        done = subprocess.run(
            request["command"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            env={**os.environ, **request.get("environment", {})},
        )
        return {
            "status": done.returncode,
            "out": base64.b64encode(done.stdout).decode(),
            "err": base64.b64encode(done.stderr).decode(),
        }

    def spawn(self, request: dict) -> dict:
        child = subprocess.Popen(
            request["command"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **request.get("environment", {})},
        )
        self.children[child.pid] = child
        return {"pid": child.pid}

    def tell(self, request: dict) -> dict:
        """A line to a child, and the line it answers; none when it ended instead."""
        child = self.children[request["pid"]]
        try:
            child.stdin.write(request["line"].encode() + b"\n")
            child.stdin.flush()
        except BrokenPipeError:
            return {"line": None}
        line = child.stdout.readline()
        return {"line": line.decode().rstrip("\n") if line else None}

    def kill(self, request: dict) -> dict:
        child = self.children.pop(request["pid"])
        child.kill()
        return {"status": child.wait()}

    def finish(self, request: dict) -> dict:
        child = self.children.pop(request["pid"])
        child.stdin.close()
        return {"status": child.wait()}

    def reboot(self, _request: dict) -> dict:
        with open("/proc/sysrq-trigger", "w", encoding="ascii") as trigger:
            trigger.write("b")
        return {}

    def serve(self) -> None:
        self.say({"id": 0, "hello": True})
        buffer = b""
        while True:
            data = os.read(self.port, 65536)
            if not data:  # nobody is connected on the host
                time.sleep(0.02)
            buffer += data
            while b"\n" in buffer:
                line, buffer = buffer.split(b"\n", 1)
                request = json.loads(line)
                if request["op"] == "quit":
                    self.say({"id": request["id"]})
                    return
                # A thread each, so that a child that is slow to answer holds nobody else up.
                threading.Thread(target=self.answer, args=(request,), daemon=True).start()

    def answer(self, request: dict) -> None:
        try:
            reply = getattr(self, request["op"])(request)
        except Exception as error:  # what went wrong is the test's to judge
            reply = {"failed": f"{type(error).__name__}: {error}"}
        self.say({"id": request["id"], **reply})


def main() -> None:
    Agent(os.open(PORT, os.O_RDWR)).serve()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
