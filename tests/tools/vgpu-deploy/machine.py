"""A folder that stands for the root of a machine with systemd, one service and a vGPU, for vgpu-deploy's tests."""

import os
import pathlib
import shutil
import stat
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
UNIT = "demo.service"
FUNCTION = "sys/devices/pci0000:00/0000:00:10.0"


class Machine:
    def __init__(self, folder: pathlib.Path, script: str, libraries: str):
        self.folder = folder
        self.root = folder / "root"
        self.state = folder / "state"
        self.source = folder / "bundle"
        self.script = self.source / "vgpu-deploy"
        folder.mkdir(parents=True)
        self.state.mkdir()
        self._make_bundle(script, libraries)
        self._make_root()
        self.before = self.tree()

    def _make_bundle(self, script: str, libraries: str) -> None:
        (self.source / "lib").mkdir(parents=True)
        shutil.copy(script, self.script)
        for library in pathlib.Path(libraries).glob("libvgpu-*.so"):
            shutil.copy(library, self.source / "lib")
        (self.source / "lib/libcuda.so.1").symlink_to("libvgpu-cuda.so")
        shutil.copy(HERE / "stand_ins/helper", self.source / "lib/vgpu-check")
        (self.source / "lib/70-vgpu.rules").write_text('# for the group\nSUBSYSTEM=="pci", GROUP="vgpu"\n')

    def _make_root(self) -> None:
        for name in (
            *("etc/systemd/system", "etc/udev/rules.d", "usr/local/sbin", "usr/local/lib", "usr/lib64", "var/lib", "opt"),
            *("run/systemd/system", "proc/1", "proc/77", f"sys/fs/cgroup/system.slice/{UNIT}", "sys/bus/pci/devices"),
            FUNCTION,
        ):
            (self.root / name).mkdir(parents=True)
        self.write("etc/group", "root:x:0:\ndaemon:x:1:\nlast:x:999:\n")
        self.write("etc/gshadow", "root:*::\ndaemon:*::\n", 0o640)
        self.write(f"etc/systemd/system/{UNIT}", '[Service]\nExecStart=/usr/bin/demo\nEnvironment="LD_LIBRARY_PATH=/srv/lib"\n')
        self.write("proc/1/comm", "systemd\n")
        self.write("proc/1/maps", "7f00-7f01 r-xp 0 08:02 1 /usr/lib/libc.so.6\n")
        self.write("proc/77/comm", "cron\n")
        self.write("proc/77/maps", "7f00-7f01 r-xp 0 08:02 1 /usr/lib/libc.so.6\n")
        self.write(f"{FUNCTION}/vendor", "0x1af4\n")
        self.write(f"{FUNCTION}/device", "0x1110\n")
        for name in ("resource0", "resource2", "resource2_wc"):
            self.write(f"{FUNCTION}/{name}", "", 0o600)
        (self.root / "sys/bus/pci/devices/0000:00:10.0").symlink_to("../../../devices/pci0000:00/0000:00:10.0")
        self.write(f"sys/fs/cgroup/system.slice/{UNIT}/cgroup.procs", "")
        (self.state / "device").touch()
        self.systemctl("start", UNIT)
        # Distant times, so that a change of them is seen.
        for path in sorted(self.root.rglob("*"), reverse=True):
            if not path.is_symlink():
                os.utime(path, ns=(10**18, 10**18 + 123456789))

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)
        (self.root / name).chmod(mode)

    def read(self, name: str) -> str:
        return (self.root / name).read_text()

    def exists(self, name: str) -> bool:
        return (self.root / name).exists()

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "PATH": f"{HERE / 'stand_ins'}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.folder),
            "VGPU_DEPLOY_ROOT": str(self.root),
            "VGPU_TEST_STATE": str(self.state),
            "VGPU_DEPLOY_POLL": "0.02",
            **more,
        }

    def run(self, *arguments: str, shell: str = "dash", script=None, **more: str) -> subprocess.CompletedProcess:
        """vgpu-deploy with these arguments; standard output and error together."""
        return subprocess.run(
            [*shell.split(), str(script or self.script), *arguments],
            env=self.environment(**more), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False, start_new_session=True,
        )

    def install(self, *arguments: str, **more: str) -> subprocess.CompletedProcess:
        return self.run("install", "--service", "demo", "--yes", *arguments, **more)

    def emergency(self, shell: str = "dash", **more: str) -> subprocess.CompletedProcess:
        return self.run(shell=shell, script=self.root / "usr/local/sbin/vgpu-emergency-recovery", **more)

    def systemctl(self, *arguments: str) -> None:
        subprocess.run([HERE / "stand_ins/systemctl", *arguments], env=self.environment(), check=True)

    def maps(self) -> str:
        """What the service's process maps."""
        pid = (self.state / "pid").read_text().strip()
        return self.read(f"proc/{pid}/maps")

    def whole_seconds(self) -> None:
        """Busybox keeps no finer times."""
        for path in sorted(self.root.rglob("*"), reverse=True):
            if not path.is_symlink():
                os.utime(path, ns=(10**18, 10**18))
        self.before = self.tree()

    def tree(self, folder_times: bool = True) -> dict[str, tuple]:
        """All that an installation may not change: names, kinds, modes, owners, times and contents."""
        found = {}
        for folder, folders, files in os.walk(self.root):
            relative = os.path.relpath(folder, self.root)
            if relative == ".":
                folders[:] = [name for name in folders if name not in ("proc", "run")]
            for name in (*folders, *files, "."):
                path = pathlib.Path(folder) / name
                key = os.path.normpath(os.path.join(relative, name))
                status = path.lstat()
                if key.startswith("sys/fs") or (name == "." and relative == "."):
                    continue
                # sysfs has no times worth keeping.
                keep_time = not key.startswith("sys") and (folder_times or not path.is_dir())
                content = path.read_bytes() if stat.S_ISREG(status.st_mode) else None
                if path.is_symlink():
                    content = os.readlink(path)
                found[key] = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns if keep_time else 0, content)
        return found


def differences(before: dict, after: dict) -> list[str]:
    lines = [f"missing: {name}" for name in before if name not in after]
    lines += [f"new: {name}" for name in after if name not in before]
    lines += [f"changed: {name}: {before[name]} -> {after[name]}" for name in before if name in after and before[name] != after[name]]
    return lines
