#!/usr/bin/env python3
"""vgpu-probe as a person sees it: on terminals of 80 columns no line is longer, in no state of the device; the live
view obeys its keys, follows the terminal's size, and gives the terminal back whatever ends it.

    check_terminals.py VGPU_PROBE VGPU_DEVICE
"""
import errno
import fcntl
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import xml.etree.ElementTree

probe, device_program = sys.argv[1:3]
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
LEAVE = "\x1b[?1049l"


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, *arguments, columns=80, rows=24, **environment):
        self.master, slave = pty.openpty()
        self.resize(columns, rows)
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.text = ""
        self.process = subprocess.Popen(
            [probe, *arguments], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0), env={**os.environ, "TERM": "xterm", **environment})

    def resize(self, columns, rows):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read_until(self, condition, what, seconds=60):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{what} does not come; there is:\n{self.text[-2000:]!r}"
            if select.select([self.master], [], [], 0.05)[0]:
                try:
                    self.text += os.read(self.master, 65536).decode()
                except OSError as error:
                    if error.errno != errno.EIO:
                        raise
        return self.text

    def wait_for(self, pattern):
        start = len(self.text)
        self.read_until(lambda: re.search(pattern, self.text[start:]), pattern)

    def key(self, key):
        os.write(self.master, key.encode())

    def end(self):
        """Exit status; everything it printed is then in text."""
        self.read_until(lambda: self.process.poll() is not None, "the end")
        while select.select([self.master], [], [], 0)[0]:
            self.text += os.read(self.master, 65536).decode()
        status = self.process.wait()
        assert termios.tcgetattr(self.slave) == self.before, "the terminal's settings are not as they were"
        os.close(self.master)
        os.close(self.slave)
        return status


def check_width(text, columns, what):
    for line in ESCAPE.sub("", text).replace("\r", "").split("\n"):
        assert len(line) <= columns, f"{what}: a line of {len(line)} columns: {line}"


def every_command(path, columns):
    for command in (["list"], ["show", path], ["show", "--all", path], ["topo", path], ["test", path],
                    ["latency", path, "--count", "20"], ["bandwidth", path, "--largest", "1k"],
                    ["kernels", path, "--top", "2"], ["kernels", path, "--details"],
                    ["watch", path, "--count", "1", "--interval", "0.1"], ["dump", path, "-o", folder + "/dump"]):
        terminal = Terminal(*command, columns=columns, VGPU_DEVICE=path)
        status = terminal.end()
        assert status in (0, 1), f"{command}: status {status}\n{terminal.text}"
        assert len(terminal.text) > 20, f"{command} says nothing"
        check_width(terminal.text, columns, f"{command} on {columns} columns")


def watch_is_left(how):
    watch = Terminal("watch", path, "--interval", "0.1")
    watch.wait_for("every 100 ms")
    how(watch)
    status = watch.end()
    assert watch.text.rstrip().endswith(LEAVE), f"the page was not left: {watch.text[-200:]!r}"
    return status


folder = tempfile.mkdtemp(prefix="vgpu-terminal-test-")
path = f"/dev/shm/vgpu-terminal-test-{os.getpid()}"
corrupt = path + "-corrupt"


def start_device():
    device = subprocess.Popen([device_program, "--path", path, "--memory", "64M", "--threads", "1", "--size", "64M",
                               "--cache-dir", folder + "/cache", "--log", folder + "/log"])
    end = time.monotonic() + 60
    while subprocess.run([probe, "test", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0:
        assert time.monotonic() < end, "the device does not become ready"
    return device


device = start_device()
try:
    for command in ("list", "show", "test", "latency", "bandwidth", "kernels", "topo", "watch", "dump", "completion", "man"):
        help_text = Terminal(command, "--help")
        assert help_text.end() == 0
        check_width(help_text.text, 80, f"{command} --help")
        assert "Examples:" in help_text.text, f"{command} --help shows no example"
    overview = Terminal("--help")
    assert overview.end() == 0
    check_width(overview.text, 80, "--help")

    every_command(path, 80)

    # Colours are for terminals, and for who wants them.
    assert "\x1b[" in (show := Terminal("show", path)).read_until(lambda: show.process.poll() is not None, "show")
    plain = Terminal("show", path, NO_COLOR="1")
    plain.end()
    assert "\x1b" not in plain.text
    piped = subprocess.run([probe, "show", path], capture_output=True, text=True, check=True)
    assert "\x1b" not in piped.stdout

    # The live view.
    assert watch_is_left(lambda watch: watch.key("q")) == 0
    assert watch_is_left(lambda watch: watch.key("\x03")) == 128 + signal.SIGINT
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        status = watch_is_left(lambda watch, number=number: watch.process.send_signal(number))
        assert status == 128 + number, status
    assert watch_is_left(lambda watch: watch.process.send_signal(signal.SIGSEGV)) == -signal.SIGSEGV
    watch = Terminal("watch", path, "--interval", "0.1")
    watch.wait_for("every 100 ms")
    watch.key("-")
    watch.wait_for("every 200 ms")
    watch.key("h")
    watch.wait_for("free channels too")
    watch.key("i")
    watch.wait_for(r"\b0 +.*free")
    watch.key(" ")
    watch.wait_for("PAUSED")
    watch.key(" ")
    start = len(watch.text)
    watch.resize(60, 10)
    watch.read_until(lambda: watch.text[start:].count("\x1b[H") > 3, "the smaller page")
    pages = watch.text[start:].split("\x1b[H")[3:-1]
    for page in pages:
        check_width(page, 60, "the smaller page")
        assert page.count("\n") < 10, f"the smaller page has {page.count(chr(10)) + 1} lines"
    # Stopped, the terminal is the shell's; continued, the page comes back. A key just before is thrown away by the
    # terminal, sooner or later.
    for _ in range(20):
        start = len(watch.text)
        watch.key("\x1b[B")
        watch.key("\x1a")
        watch.read_until(lambda: LEAVE in watch.text[start:], "the page's end")
        state = os.waitid(os.P_PID, watch.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert state.si_code == os.CLD_STOPPED, f"it ended with status {state.si_status}"
        watch.process.send_signal(signal.SIGCONT)
        start = len(watch.text)
        watch.read_until(lambda: "\x1b[?1049h" in watch.text[start:] and "every" in watch.text[start:], "the page again")
    watch.key("q")
    assert watch.end() == 0
    dumb = Terminal("watch", path, "--count", "2", "--interval", "0.1", TERM="dumb")
    assert dumb.end() == 0
    assert "\x1b" not in dumb.text and dumb.text.count("ready") == 2, dumb.text

    svg = subprocess.run([probe, "topo", path, "--svg", "-"], capture_output=True, check=True).stdout
    assert xml.etree.ElementTree.fromstring(svg).tag.endswith("svg")

    header = bytearray(pathlib.Path(path).read_bytes()[:65536])
    header[80:84] = (1000).to_bytes(4, "little")
    pathlib.Path(corrupt).write_bytes(header)
    os.truncate(corrupt, 64 << 20)
    every_command(corrupt, 80)
    os.truncate(corrupt, 65536)
    every_command(corrupt, 80)
    every_command(path + "-none", 80)
    device.kill()
    device.wait()
    every_command(path, 80)

    script = subprocess.run([probe, "completion"], capture_output=True, text=True, check=True).stdout
    completed = subprocess.run(
        ["bash", "-c", script + "\nCOMP_WORDS=(vgpu-probe la); COMP_CWORD=1; _vgpu_probe; echo \"${COMPREPLY[@]}\"\n"
         "COMP_WORDS=(vgpu-probe show --); COMP_CWORD=2; _vgpu_probe; echo \"${COMPREPLY[@]}\"\n"],
        capture_output=True, text=True, check=True)
    assert completed.stderr == "", completed.stderr
    assert completed.stdout.split("\n")[0] == "latency", completed.stdout
    assert "--all" in completed.stdout.split("\n")[1] and "--json" in completed.stdout.split("\n")[1], completed.stdout
    if shutil.which("man"):
        page = subprocess.run([probe, "man"], capture_output=True, check=True).stdout
        shown = subprocess.run(["man", "--warnings", "-l", "-"], input=page, capture_output=True,
                               env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80"}, check=True)
        assert shown.stderr == b"", shown.stderr
        for word in (b"vgpu-probe bandwidth", b"--largest", b"EXIT STATUS"):
            assert word in shown.stdout, word
finally:
    device.kill()
    device.wait()
    for leftover in (path, corrupt):
        pathlib.Path(leftover).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
print("fits")
