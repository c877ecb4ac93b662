"""A virtual machine with a Debian of its own: systemd as its first process, sshd, a disk that survives power cuts
as long as the machine is there, a vGPU, and this machine's files read-only under /host."""

import os
import pathlib
import re
import shutil
import socket
import subprocess
import time

SKIPPED = 77
BOOT_SECONDS = 240
CALL_SECONDS = 400


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
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "user"], check=True)
        made = subprocess.run([source / "tests/deploy/guest/make_initrd", source, folder], stdout=subprocess.PIPE, text=True, check=False)
        if made.returncode == SKIPPED:
            raise Skip(made.stdout.strip())
        assert made.returncode == 0, "make_initrd failed"
        self.found = dict(line.split("=", 1) for line in made.stdout.splitlines() if "=" in line)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.guests = pathlib.Path("/dev/shm") / f"vgpu-deploy-vm-{os.getpid()}"
        self.children: list[subprocess.Popen] = []
        self.device: subprocess.Popen | None = None
        self.sums: dict[str, str] = {}
        self.sums_taken = 0

    # ---- the host's side ----

    def start_device(self) -> None:
        self.device = subprocess.Popen(
            bound([self.build / "tools/vgpu-device/vgpu-device", "--guests-dir", self.guests, "--guest", "vm",
                   "--cache-dir", self.folder / "kernels", "--log", self.folder / "device.log"]),
            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        probe = [self.build / "tools/vgpu-probe/vgpu-probe", "show", self.guests / "vm.bar"]
        self.until(60, lambda: subprocess.run(probe, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0)

    def stop_device(self) -> None:
        assert self.device is not None
        self.device.terminate()
        self.device.wait()
        self.device = None

    def start(self) -> None:
        self.start_device()
        share = self.folder / "virtiofs.sock"
        self.children.append(
            subprocess.Popen(
                bound([self.found["virtiofsd"], f"--socket-path={share}", "-o", "source=/", "-o", "sandbox=chroot", "-o", "cache=always",
                       "-o", "log_level=err"]),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(self.folder / "virtiofsd.log", "wb"),
            )
        )
        self.until(30, share.exists)
        bar = self.guests / "vm.bar"
        kvm = os.access("/dev/kvm", os.W_OK) and re.search(r"\b(vmx|svm)\b", pathlib.Path("/proc/cpuinfo").read_text())
        machine = ["-accel", "kvm", "-cpu", "host"] if kvm else ["-accel", "tcg,thread=multi"]
        command = [
            self.found["qemu"], "-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none",
            "-serial", f"file:{self.folder}/console.log", "-M", "pc,memory-backend=ram", "-m", "2G", "-smp", "2", *machine,
            "-object", "memory-backend-memfd,id=ram,size=2G,share=on",
            "-kernel", self.found["kernel"], "-initrd", f"{self.folder}/initrd",
            "-append", "console=ttyS0 quiet loglevel=4 panic=1 net.ifnames=0 random.trust_cpu=on tsc=reliable systemd.journald.forward_to_console=0",
            # Writes go to a file that is gone with QEMU; a reset of the machine keeps them.
            "-drive", f"file={self.found['image']},format=raw,if=virtio,snapshot=on",
            "-netdev", f"user,id=net,restrict=off,hostfwd=tcp:127.0.0.1:{self.port}-:22", "-device", "virtio-net-pci,netdev=net,romfile=",
            "-chardev", f"socket,id=hostroot,path={share}", "-device", "vhost-user-fs-pci,chardev=hostroot,tag=hostroot",
            "-object", f"memory-backend-file,id=bar,share=on,mem-path={bar},size={bar.stat().st_size}",
            "-device", "ivshmem-plain,memdev=bar,addr=0x10",
        ]
        self.qemu = subprocess.Popen(
            bound(command), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(self.folder / "qemu.log", "wb"),
            env={**os.environ, "TMPDIR": str(self.folder)},
        )
        self.children.append(self.qemu)
        self.wait_booted()

    def wait_booted(self) -> None:
        def up():
            assert self.qemu.poll() is None, f"QEMU ended: {(self.folder / 'qemu.log').read_text()[-500:]}"
            return self.call("systemctl is-system-running --wait", seconds=BOOT_SECONDS).stdout.strip() in ("running", "degraded")

        self.until(BOOT_SECONDS, up)

    def stop(self) -> None:
        if self.device is not None:
            self.children.append(self.device)
        for child in reversed(self.children):
            child.terminate()
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        shutil.rmtree(self.guests, ignore_errors=True)

    @staticmethod
    def until(seconds: float, condition) -> None:
        end = time.monotonic() + seconds
        while not condition():  # AssertionErrors of its own pass through
            assert time.monotonic() < end, f"not within {seconds} s: {condition}"
            time.sleep(0.1)

    # ---- in the guest ----

    def ssh(self) -> list[str]:
        return ["ssh", "-p", str(self.port), "-i", str(self.folder / "user"), "-F", "none", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
                "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=60", "-o", "ServerAliveInterval=20"]

    def call(self, command: str, seconds: float = CALL_SECONDS, **more) -> subprocess.CompletedProcess:
        """A new login, which runs this command. Output and errors together."""
        try:
            return subprocess.run([*self.ssh(), "root@127.0.0.1", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  timeout=seconds, check=False, **({} if more else {"stdin": subprocess.DEVNULL}), **more)
        except subprocess.TimeoutExpired as expired:
            return subprocess.CompletedProcess(expired.cmd, 124, f"no end within {seconds} s: {expired.output}")

    def must(self, command: str, **more) -> str:
        done = self.call(command, **more)
        assert done.returncode == 0, f"{command}: status {done.returncode}\n{done.stdout}"
        return done.stdout

    def write(self, path: str, text: str, mode: str = "644") -> None:
        self.must(f"cat >{path} && chmod {mode} {path}", input=text)

    # Files of the running system itself, which change by themselves.
    ALIVE = ("/var/log", "/tmp", "/var/tmp", "/var/lib/systemd", "/root/.ssh", "/host", "/proc", "/sys", "/dev", "/run")

    def tree(self) -> dict[str, str]:
        """Every file on the disk: kind, mode, owner, times, where a link leads to, and the sum of the content."""
        prune = " -o ".join(f"-path {path}" for path in self.ALIVE)
        # A file's content is read again only if its inode has changed since the first time.
        since = f"-newerct @{self.sums_taken}" if self.sums else ""
        listing = self.must(
            f"date +%s && find / -xdev \\( {prune} \\) -prune -o -printf '%p\\t%y %m %U:%G %T@ %s %l\\n' && echo SUMS && "
            f"find / -xdev \\( {prune} \\) -prune -o -type f {since} -print0 | xargs -r -0 sha256sum"
        )
        now, listing = listing.split("\n", 1)
        entries, sums = listing.split("SUMS\n")
        if not self.sums:
            self.sums_taken = int(now) - 1
        fresh = {name: content for content, name in (line.split(None, 1) for line in sums.splitlines())}
        if not self.sums:
            self.sums = fresh
        found = dict(line.split("\t", 1) for line in entries.splitlines())
        for name in found:
            content = fresh.get(name, self.sums.get(name))
            if content is not None:
                found[name] += " " + content
        # The folders that hold what lives are alive themselves.
        for path in ("/", "/var", "/var/lib", "/root"):
            found.pop(path, None)
        return found

    def cut_by(self, command: str) -> str:
        """A command that comes to a reset of the machine (echo b >/proc/sysrq-trigger), which is a power cut: nothing
        that was not written to the disk is there afterwards. What the command said until then."""
        boot = self.must("cat /proc/sys/kernel/random/boot_id")
        said = self.call(command, seconds=CALL_SECONDS).stdout
        self.until(BOOT_SECONDS, lambda: self.call("cat /proc/sys/kernel/random/boot_id").stdout not in ("", boot))
        self.wait_booted()
        return said


def differences(before: dict, after: dict) -> list[str]:
    lines = [f"missing: {name}" for name in before if name not in after]
    lines += [f"new: {name}" for name in after if name not in before]
    return lines + [f"changed: {name}: {before[name]} -> {after[name]}" for name in before if name in after and before[name] != after[name]]
