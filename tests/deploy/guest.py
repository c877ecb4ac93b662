"""A virtual machine with a Debian of its own: systemd as its first process, sshd, a disk that survives power cuts
as long as the object is there, a vGPU, and this machine's files read-only under /host."""

import os
import pathlib
import re
import shutil
import socket
import subprocess
import time

SKIPPED = 77
# For an emulated machine beside a busy build: generous, since each wait ends with its condition.
BOOT_SECONDS = 400
CALL_SECONDS = 600


class Skip(Exception):
    pass


def bound(command: list) -> list:
    """Ends with this process, however that ends."""
    return ["setpriv", "--pdeathsig", "KILL", "--", *map(str, command)]


class Guest:
    def __init__(self, source: pathlib.Path, build: pathlib.Path, folder: pathlib.Path):
        self.source, self.build, self.folder = source, build, folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if not shutil.which("ssh-keygen"):
            raise Skip("skipped: ssh-keygen is not installed (scripts/setup installs it with openssh-client)")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "user"], check=True)
        made = subprocess.run([source / "tests/deploy/guest/make_initrd", source, folder], stdout=subprocess.PIPE, text=True, check=False)
        if made.returncode == SKIPPED:
            raise Skip(made.stdout.strip())
        assert made.returncode == 0, "make_initrd failed"
        self.found = dict(line.split("=", 1) for line in made.stdout.splitlines() if "=" in line)
        self.disk = folder / "disk"
        subprocess.run(["cp", "--sparse=always", self.found["image"], self.disk], check=True)
        self.image_time = int(pathlib.Path(self.found["image"]).stat().st_mtime)
        sums = pathlib.Path(self.found["image"]).with_suffix(".sums").read_text()
        self.sums = {name: content for content, name in (line.split(None, 1) for line in sums.splitlines())}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        # The names of sockets must be short.
        self.short = pathlib.Path("/dev/shm") / f"vgpu-deploy-vm-{os.getpid()}"
        self.device: subprocess.Popen | None = None
        self.files: subprocess.Popen | None = None
        self.qemu: subprocess.Popen | None = None
        self.connection: subprocess.Popen | None = None

    # ---- the host's side ----

    def start_device(self) -> None:
        self.device = subprocess.Popen(
            bound([self.build / "tools/vgpu-device/vgpu-device", "--guests-dir", self.short, "--guest", "vm",
                   "--log", self.folder / "device.log"]),
            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        probe = [self.build / "tools/vgpu-probe/vgpu-probe", "show", self.short / "vm.bar"]
        self.until(120, lambda: subprocess.run(probe, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0,
                   "the device did not come up")

    def stop_device(self) -> None:
        self.device = self.end(self.device)

    @staticmethod
    def end(child: subprocess.Popen | None) -> None:
        if child is not None:
            child.terminate()
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def start(self) -> None:
        self.start_device()
        self.power_on()

    def power_on(self) -> None:
        share = self.short / "files.sock"
        share.unlink(missing_ok=True)
        self.files = subprocess.Popen(
            bound([self.found["virtiofsd"], f"--socket-path={share}", "-o", "source=/", "-o", "sandbox=chroot", "-o", "cache=always",
                   "-o", "log_level=err"]),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(self.folder / "virtiofsd.log", "ab"),
        )

        def served():
            if self.files.poll() is not None:
                raise Skip(f"skipped: virtiofsd does not run here: {(self.folder / 'virtiofsd.log').read_text()[-300:].strip()}")
            return share.exists()

        self.until(60, served, "virtiofsd did not come up")
        bar = self.short / "vm.bar"
        kvm = os.access("/dev/kvm", os.W_OK) and re.search(r"\b(vmx|svm)\b", pathlib.Path("/proc/cpuinfo").read_text())
        machine = ["-accel", "kvm", "-cpu", "host"] if kvm else ["-accel", "tcg,thread=multi"]
        command = [
            self.found["qemu"], "-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none",
            "-chardev", f"file,id=console,path={self.folder}/console.log,append=on", "-serial", "chardev:console",
            "-M", "pc,memory-backend=ram", "-m", "1536M", "-smp", "2", *machine,
            "-object", "memory-backend-memfd,id=ram,size=1536M,share=on",
            "-kernel", self.found["kernel"], "-initrd", f"{self.folder}/initrd",
            # no_timer_check: on a busy machine the kernel's own check of an emulated timer fails, and panics.
            "-append", "console=ttyS0 quiet loglevel=4 panic=1 net.ifnames=0 random.trust_cpu=on tsc=reliable no_timer_check mitigations=off",
            # What the guest has written to its disk is in a file of this machine, which no power cut of the guest touches.
            "-drive", f"file={self.disk},format=raw,if=virtio,cache=unsafe",
            "-netdev", f"user,id=net,restrict=off,hostfwd=tcp:127.0.0.1:{self.port}-:22", "-device", "virtio-net-pci,netdev=net,romfile=",
            "-chardev", f"socket,id=hostroot,path={share}", "-device", "vhost-user-fs-pci,chardev=hostroot,tag=hostroot",
            "-object", f"memory-backend-file,id=bar,share=on,mem-path={bar},size={bar.stat().st_size}",
            "-device", "ivshmem-plain,memdev=bar,addr=0x10",
        ]
        self.qemu = subprocess.Popen(bound(command), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(self.folder / "qemu.log", "ab"))

        def up():
            assert self.qemu.poll() is None, f"QEMU ended: {(self.folder / 'qemu.log').read_text()[-500:]}"
            return self.call("systemctl is-system-running --wait", seconds=BOOT_SECONDS).stdout.strip() in ("running", "degraded")

        self.until(BOOT_SECONDS, up, "the guest did not come up")
        # Until it stands, and without it, each call is a login of its own.
        self.connection = subprocess.Popen(bound([*self.ssh(), "-M", "-N", "-S", self.short / "connection", "root@127.0.0.1"]),
                                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def power_off(self) -> None:
        """At once, as when the power fails: nothing is there afterwards that was not written to the disk."""
        self.connection = self.end(self.connection)
        (self.short / "connection").unlink(missing_ok=True)
        if self.qemu is not None:
            self.qemu.kill()
            self.qemu.wait()
        self.qemu = None
        self.files = self.end(self.files)

    def stop(self) -> None:
        self.power_off()
        self.stop_device()
        shutil.rmtree(self.short, ignore_errors=True)
        self.disk.unlink(missing_ok=True)

    @staticmethod
    def until(seconds: float, condition, otherwise: str) -> None:
        end = time.monotonic() + seconds
        while not condition():  # AssertionErrors of its own pass through
            assert time.monotonic() < end, f"{otherwise} within {seconds} s"
            time.sleep(0.2)

    # ---- in the guest ----

    def ssh(self) -> list[str]:
        return ["ssh", "-p", str(self.port), "-i", str(self.folder / "user"), "-F", "none", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
                "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=60", "-o", "ServerAliveInterval=60"]

    def call(self, command: str, seconds: float = CALL_SECONDS, new_login: bool = False, **more) -> subprocess.CompletedProcess:
        """Runs a command; output and errors together. Over one connection, unless a new login is asked for."""
        shared = [] if new_login else ["-S", str(self.short / "connection")]
        try:
            return subprocess.run([*self.ssh(), *shared, "root@127.0.0.1", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  timeout=seconds, check=False, **({} if more else {"stdin": subprocess.DEVNULL}), **more)
        except subprocess.TimeoutExpired as expired:
            return subprocess.CompletedProcess(expired.cmd, 124, f"no end within {seconds} s: {expired.output}")

    def must(self, command: str, **more) -> str:
        done = self.call(command, **more)
        assert done.returncode == 0, f"{command}: status {done.returncode}\n{done.stdout}"
        return done.stdout

    def write(self, path: str, text: str) -> None:
        self.must(f"cat >{path}", input=text)

    def cut_power_at(self, mark: str, command: str) -> str:
        """Runs a command until it prints this mark, cuts the power, and starts the machine again. What was said until then."""
        session = subprocess.Popen([*self.ssh(), "root@127.0.0.1", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True)
        said = []
        for line in session.stdout:  # ends with the session, at the latest
            said.append(line)
            if mark in line:
                break
        self.power_off()
        session.kill()
        session.wait()
        assert said and mark in said[-1], "".join(said)
        self.power_on()
        return "".join(said)

    # Files of the running system itself, which change by themselves.
    ALIVE = ("/var/log", "/tmp", "/var/tmp", "/var/lib/systemd", "/root/.ssh", "/host", "/proc", "/sys", "/dev", "/run")

    def tree(self) -> dict[str, str]:
        """Every file on the disk: kind, mode, owner, times, where a link leads to, and the sum of the content."""
        prune = " -o ".join(f"-path {path}" for path in self.ALIVE)
        # A file whose inode has not changed since the image was made has the content that it had then.
        listing = self.must(
            f"find / -xdev \\( {prune} \\) -prune -o -printf '%p\\t%y %m %U:%G %T@ %s %l\\n' && echo SUMS && "
            f"find / -xdev \\( {prune} \\) -prune -o -type f -newerct @{self.image_time} -print0 | xargs -r -0 sha256sum"
        )
        entries, sums = listing.split("SUMS\n")
        fresh = {name: content for content, name in (line.split(None, 1) for line in sums.splitlines())}
        found = dict(line.split("\t", 1) for line in entries.splitlines())
        for name in found:
            content = fresh.get(name, self.sums.get(name))
            if content is not None:
                found[name] += " " + content
        # The folders that hold what lives are alive themselves.
        for path in ("/", "/var", "/var/lib", "/root"):
            found.pop(path, None)
        return found


def differences(before: dict, after: dict) -> list[str]:
    lines = [f"missing: {name}" for name in before if name not in after]
    lines += [f"new: {name}" for name in after if name not in before]
    return lines + [f"changed: {name}: {before[name]} -> {after[name]}" for name in before if name in after and before[name] != after[name]]
