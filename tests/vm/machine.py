"""Guests and their vgpu-device, for the tests of this folder: started, talked to, killed, and never left behind."""

import base64
import contextlib
import json
import mmap
import os
import pathlib
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# A machine without hardware virtualisation, shared with other tests, is slow: what takes longer than this is stuck.
LIMIT = 180.0


class Failure(Exception):
    """A check that did not hold."""


def check(condition: bool, text: str) -> None:
    if not condition:
        raise Failure(text)


def wait_until(condition: Callable[[], bool], what: str, limit: float = LIMIT) -> float:
    """Waits for the condition and returns the seconds that it took."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > limit:
            raise Failure(f"{what}: not within {limit:.0f} s")
        time.sleep(0.01)
    return time.monotonic() - started


class Region:
    """What the host sees of a guest's region: the figures in its header (docs/region.md)."""

    def __init__(self, path: pathlib.Path):
        self.path = path

    def _word(self, offset: int, form: str) -> int:
        with open(self.path, "rb") as file, mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ) as page:
            return struct.unpack_from(form, page, offset)[0]

    def ready(self) -> bool:
        return (
            self.path.exists()
            and self.path.stat().st_size >= 4096
            and self._word(0, "<Q") == 0x3147525550475621
            and self._word(1024, "<I") == 2
        )

    @property
    def generation(self) -> int:
        return self._word(40, "<Q")

    @property
    def memory_in_use(self) -> int:
        return self._word(1024 + 24, "<Q")

    @property
    def channels_served(self) -> int:
        return self._word(1024 + 32, "<I")

    @property
    def worker(self) -> int:
        return self._word(1024 + 4, "<I")

    @property
    def launches(self) -> int:
        return self._word(2560 + 8, "<Q")


class Device:
    """One vgpu-device over several guests."""

    def __init__(self, program: str, folder: pathlib.Path, names: list[str], options: list[str]):
        self.folder = folder
        self.names = names
        self.command = [program, "--guests-dir", str(folder)]
        for name in names:
            self.command += ["--guest", name]
        self.command += options
        self.regions = {name: Region(folder / f"{name}.bar") for name in names}
        self.process: subprocess.Popen | None = None
        self.start()

    def start(self) -> None:
        before = {name: region.generation if region.path.exists() else 0 for name, region in self.regions.items()}
        with open(self.folder / "device.log", "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def ready() -> bool:
            if self.process.poll() is not None:
                raise Failure(f"vgpu-device ended with {self.process.returncode}: {self.log()}")
            return all(region.ready() and region.generation != before[name] for name, region in self.regions.items())

        wait_until(ready, "vgpu-device to serve its guests")

    def log(self) -> str:
        return (self.folder / "device.log").read_text(errors="replace")[-3000:]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait()
            self.process = None


class Program:
    """tests/vm/client.cpp, or the like, running in a guest: a line in, a line out."""

    def __init__(self, machine: "Machine", command: list[str], environment: dict[str, str] | None = None):
        self.machine = machine
        self.pid = machine.ask("spawn", command=command, environment=environment or {})["pid"]
        machine.programs.append(self)

    def tell(self, line: str) -> list[str]:
        answer = self.machine.ask("tell", pid=self.pid, line=line)["line"]
        check(answer is not None, f"the program ended instead of answering '{line}'")
        words = answer.split()
        check(words[0] == line.split()[0], f"'{line}' was answered '{answer}'")
        return words[1:]

    def must(self, line: str) -> list[str]:
        """The same, for a command that CUDA must carry out."""
        words = self.tell(line)
        check(words[0] == "0", f"{self.machine.name}: '{line}' gives CUDA error {words[0]}")
        return words[1:]

    def kill(self) -> None:
        self.machine.programs.remove(self)
        self.machine.ask("kill", pid=self.pid)

    def finish(self) -> int:
        self.machine.programs.remove(self)
        return self.machine.ask("finish", pid=self.pid)["status"]


class Machine:
    """A guest with agent.py in it."""

    def __init__(self, name: str, folder: pathlib.Path, options: list[str]):
        self.name = name
        self.folder = folder / f"vm-{name}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.socket_path = self.folder / "port"
        self.socket_path.unlink(missing_ok=True)
        self.output = open(self.folder / "output", "wb")
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [str(ROOT / "scripts" / "vm"), "--guest", name, "--guests-dir", str(folder), "--reboot"]
            + ["--folder", str(self.folder), "--port", str(self.socket_path), *options]
            + ["--", "python3", str(HERE / "agent.py")],
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
        )
        self.stream: socket.socket | None = None
        self.answers: dict[int, dict] = {}
        self.news = threading.Condition()
        self.hellos = 0
        self.closed = False
        self.next_id = 1
        self.programs: list[Program] = []  # that run in the guest

    def kill_programs(self) -> None:
        for program in list(self.programs):
            with contextlib.suppress(Failure, OSError):
                program.kill()

    def console(self) -> str:
        text = ""
        for file in ("output", "status", "qemu.log", "console.log"):
            with contextlib.suppress(OSError):
                text += f"\n--- {file}\n" + (self.folder / file).read_text(errors="replace")[-2000:]
        return text

    def up(self) -> "Machine":
        """Waits until the agent of this boot has said hello."""
        if self.stream is None:

            def connected() -> bool:
                if self.process.poll() is not None:
                    raise Failure(f"{self.name}: scripts/vm ended with {self.process.returncode}{self.console()}")
                stream = socket.socket(socket.AF_UNIX)
                try:
                    stream.connect(str(self.socket_path))
                except OSError:
                    stream.close()
                    return False
                self.stream = stream
                return True

            wait_until(connected, f"{self.name}: QEMU")
            threading.Thread(target=self._listen, daemon=True).start()
        self._wait(lambda: self.hellos > 0, f"{self.name}: the agent in the guest")
        return self

    def _wait(self, condition: Callable[[], bool], what: str, limit: float = LIMIT) -> None:
        deadline = time.monotonic() + limit
        with self.news:
            while not condition():
                if self.closed:
                    raise Failure(f"{what}: the machine is gone{self.console()}")
                if not self.news.wait(deadline - time.monotonic()) and time.monotonic() > deadline:
                    raise Failure(f"{what}: not within {limit:.0f} s{self.console()}")

    def _listen(self) -> None:
        buffer = b""
        while True:
            try:
                data = self.stream.recv(65536)
            except OSError:
                data = b""
            if not data:
                break
            buffer += data
            while b"\n" in buffer:
                line, buffer = buffer.split(b"\n", 1)
                with contextlib.suppress(ValueError):  # what a reboot cut off
                    document = json.loads(line)
                    with self.news:
                        if document.get("hello"):
                            self.hellos += 1
                        else:
                            self.answers[document["id"]] = document
                        self.news.notify_all()
        with self.news:
            self.closed = True
            self.news.notify_all()

    def send(self, op: str, **arguments: object) -> int:
        identity = self.next_id
        self.next_id += 1
        self.stream.sendall(json.dumps({"id": identity, "op": op, **arguments}).encode() + b"\n")
        return identity

    def ask(self, op: str, **arguments: object) -> dict:
        identity = self.send(op, **arguments)
        self._wait(lambda: identity in self.answers, f"{self.name}: the answer to {op} {arguments}")
        answer = self.answers.pop(identity)
        check("failed" not in answer, f"{self.name}: {op} {arguments}: {answer.get('failed')}")
        return answer

    def run(self, *command: str, environment: dict[str, str] | None = None) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        answer = self.ask("run", command=list(command), environment=environment or {})
        out, err = (base64.b64decode(answer[which]).decode(errors="replace") for which in ("out", "err"))
        return answer["status"], out, err

    def must_run(self, *command: str, environment: dict[str, str] | None = None) -> str:
        status, out, err = self.run(*command, environment=environment)
        check(status == 0, f"{self.name}: {' '.join(command)} ended with {status}: {out}{err}")
        return out

    def reboot(self) -> None:
        self.hellos = 0
        self.programs.clear()
        self.send("reboot")
        self.up()

    def qemu(self) -> int:
        return int((self.folder / "qemu.pid").read_text())

    def kill(self) -> None:
        """As if the host had lost it: SIGKILL for QEMU."""
        self.programs.clear()
        os.kill(self.qemu(), signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            if self.stream is not None and not self.closed:
                with contextlib.suppress(Failure, OSError):
                    self.ask("quit")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(20)
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.stream is not None:
            self.stream.close()
        self.output.close()


@contextlib.contextmanager
def on_processor(process: int, number: int) -> Iterator[None]:
    """Keeps all threads that the process has now on one processor."""
    threads = [int(entry.name) for entry in pathlib.Path(f"/proc/{process}/task").iterdir()]
    before = {thread: os.sched_getaffinity(thread) for thread in threads}
    for thread in threads:
        os.sched_setaffinity(thread, {number})
    try:
        yield
    finally:
        for thread, processors in before.items():
            with contextlib.suppress(OSError):  # it has ended
                os.sched_setaffinity(thread, processors)


@contextlib.contextmanager
def stopping(*things: object) -> Iterator[None]:
    try:
        yield
    finally:
        for thing in things:
            thing.stop()
