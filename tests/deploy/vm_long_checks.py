"""What is tried in the virtual machine when it is asked for (label deploy-long): every way of sabotage, every usual
restriction of a unit, every way on after a power cut."""

import time

from vm_checks import ANSWER, DROP_IN, HALF_COPIED, HARDENED, HELPER, PROGRAM, SERVICE, TOOL, UNIT, Check, cut_power


def restrictions(check: Check) -> None:
    """Units with every usual restriction work in every way of installing; a restriction that cannot work is named."""
    guest = check.guest
    # As Ollama's unit and folder of libraries are to its runners.
    guest.must("mkdir -p /srv/cuda_v12 && echo theirs >/srv/cuda_v12/libcuda.so.1 && ln -sf libcudart.so.12.8 /srv/cuda_v12/libcudart.so.12")
    check.service(PROGRAM, *HARDENED, "Environment=LD_LIBRARY_PATH=/srv/cuda_v12")
    before = guest.tree()
    for how in (("--how", "path"), ("--into", "/srv/cuda_v12")):
        said = check.installed(*how)
        assert "restrictions" not in said, said
        check.logs(ANSWER)
        check.uninstalled(before)
    check.service(PROGRAM, "NoExecPaths=/", "ExecPaths=/usr /lib /lib64 /bin /srv", "User=nobody")
    before = guest.tree()
    check.installed()
    check.logs(ANSWER)
    check.uninstalled(before)
    for line, said in (
        ("InaccessiblePaths=/opt", "InaccessiblePaths=/opt hides"),
        ("TemporaryFileSystem=/opt", "TemporaryFileSystem=/opt hides"),
    ):
        check.service(PROGRAM, line)
        before = guest.tree()
        done = check.install()
        assert done.returncode != 0 and said in done.stdout and "everything is as it was before" in done.stdout, done.stdout
        print("named and undone:", line, flush=True)
        check.untouched(before)


def power_cuts(check: Check) -> None:
    """After a power cut the next installation undoes what was half done, and starts again."""
    guest = check.guest
    check.service(PROGRAM, "User=nobody")
    guest.must(f"systemctl enable {SERVICE} && sync")
    before = guest.tree()
    for step in (HALF_COPIED, DROP_IN):
        cut_power(check, step)
        said = check.installed()
        assert "An installation was interrupted" in said, said
        check.logs(ANSWER)
        check.uninstalled(before)
        guest.must("sync")
    guest.must(f"systemctl disable {SERVICE}")


def sabotage(check: Check) -> None:
    guest = check.guest
    check.service(PROGRAM, "User=nobody")
    before = guest.tree()

    def refused(setup: str, undo: str, *said: str, folder_times: bool = True):
        done = guest.call(f"{setup}; sh {check.script} install --service {SERVICE} --yes; status=$?; {undo}; exit $status")
        assert done.returncode != 0, done.stdout
        for words in said:
            assert words in done.stdout, f"{words!r} is not in\n{done.stdout}"
        check.untouched(before, folder_times)
        check.nobody_else_maps_ours()
        print("refused:", said[0], flush=True)

    refused("mount --bind /etc /etc && mount -o remount,ro,bind /etc", "umount /etc", "is its file system mounted read-only?")
    refused("mount -t tmpfs -o size=4m small /opt", "umount /opt", "/opt has 4 MB free")
    refused("echo /usr/lib/libcuda.so.1 >/run/preload; touch /etc/ld.so.preload; mount --bind /run/preload /etc/ld.so.preload",
            "umount /etc/ld.so.preload; rm /etc/ld.so.preload", "/etc/ld.so.preload loads /usr/lib/libcuda.so.1", folder_times=False)
    before = guest.tree()
    # The disk fills up while the libraries are copied, and stays full while they are taken off again.
    refused(f"export VGPU_DEPLOY_AT='every:{HALF_COPIED} && [ ! -e /filler ] && cat /dev/zero >/filler 2>/dev/null'", "rm -f /filler",
            "is the disk full?", "everything is as it was before")
    # A service whose program fails as soon as the libraries are there.
    guest.write(UNIT, "[Service]\nType=notify\nTimeoutStartSec=300\n"
                "ExecStart=/bin/sh -c '[ -z \"$LD_PRELOAD\" ] || exit 3; systemd-notify --ready; exec sleep 1000000'\nNotifyAccess=all\n")
    guest.must(f"systemctl daemon-reload && systemctl restart {SERVICE}")
    before = guest.tree()
    refused("true", "true", "does not start with vgpu's libraries", "everything is as it was before")
    assert guest.must(f"systemctl is-active {SERVICE}").strip() == "active"
    check.service(PROGRAM, "User=nobody")
    before = guest.tree()
    # kill -9 of the installer, and each of the ways on.
    for step, way in ((HALF_COPIED, "sh /usr/local/sbin/vgpu-emergency-recovery"), (DROP_IN, f"sh {check.script} uninstall"),
                      (f"{DROP_IN} && grep -q . /var/lib/vgpu-deploy/looks", f"sh {check.script} rollback")):
        done = check.install(before=f"VGPU_DEPLOY_AT='every:if {step}; then kill -9 $$; fi'")
        assert done.returncode != 0 and "Installed" not in done.stdout, done.stdout
        check.nobody_else_maps_ours()
        check.uninstalled(before, way)
    # The device goes away under a service that has it: the service ends its work with an error, in bounded time,
    # starts again without one, and verify says so.
    check.installed()
    check.logs(ANSWER)
    guest.stop_device()
    check.logs("CUDA_ERROR_NO_DEVICE")
    started = time.monotonic()
    guest.must(f"systemctl restart {SERVICE}")
    guest.must(f"LD_LIBRARY_PATH=/host{guest.build}/shim/lib {HELPER} device libcuda.so.1; [ $? = 1 ]")
    print(f"without a device a CUDA program ended within {time.monotonic() - started:.1f} s", flush=True)
    done = guest.call(f"{TOOL} verify")
    assert done.returncode == 1 and "FAIL  vgpu" in done.stdout, done.stdout
    check.uninstalled(before)
    refused("true", "true", "does not answer")
    guest.start_device()
