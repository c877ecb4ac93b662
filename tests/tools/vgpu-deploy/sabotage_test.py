"""What can be wrong before, in the middle of and after an installation: each ends in a clear message and a machine
that is untouched, or fully restored."""

import os
import shutil
import subprocess
import unittest

import deploy_case
import machine


class Refusals(deploy_case.DeployCase):
    """Seen before anything is changed."""

    def library(self, name: str):
        return self.machine.source / "lib" / name

    def test_a_truncated_library(self):
        with open(self.library("libvgpu-cudart12.so"), "r+b") as library:
            library.truncate(100_000)
        self.assert_refused(self.machine.install(), "libvgpu-cudart12.so: it is cut off: 100000 bytes", "nothing was changed")

    def test_an_empty_library(self):
        self.library("libvgpu-cuda.so").write_bytes(b"")
        self.assert_refused(self.machine.install(), "libvgpu-cuda.so: it is not an ELF file")

    def test_a_missing_library(self):
        self.library("libvgpu-nvml.so").unlink()
        self.assert_refused(self.machine.install(), "libvgpu-nvml.so: it is missing")

    def test_a_library_for_another_processor(self):
        with open(self.library("libvgpu-nvml.so"), "r+b") as library:
            library.seek(18)
            library.write(b"\xb7\x00")
        self.assert_refused(self.machine.install(), "libvgpu-nvml.so: it is for another processor (ELF machine 183")

    def test_a_library_of_another_version(self):
        text = self.library("libvgpu-nvml.so").read_bytes()
        self.library("libvgpu-nvml.so").write_bytes(text.replace(b"vgpu shim library 0.", b"vgpu shim library 9."))
        self.assert_refused(self.machine.install(), "libvgpu-nvml.so: it is of version 9.")

    def test_a_foreign_library(self):
        shutil.copy("/lib/x86_64-linux-gnu/libm.so.6", self.library("libvgpu-nvml.so"))
        self.assert_refused(self.machine.install(), "it is not one of vgpu's libraries")

    def test_a_bundle_that_differs_from_its_sums(self):
        names = sorted(path.name for path in (self.machine.source / "lib").glob("libvgpu-*.so"))
        sums = subprocess.run(["sha256sum", *names], cwd=self.machine.source / "lib", stdout=subprocess.PIPE, check=True)
        (self.machine.source / "lib/SHA256SUMS").write_bytes(sums.stdout)
        self.assert_done(self.machine.install("--dry-run"))
        with open(self.library("libvgpu-nvml.so"), "r+b") as library:
            library.seek(5000)
            library.write(b"flipped")
        self.assert_refused(self.machine.install(), "differs from its SHA256SUMS")

    def test_no_device(self):
        shutil.rmtree(self.machine.root / machine.FUNCTION)
        (self.machine.root / "sys/bus/pci/devices/0000:00:10.0").unlink()
        self.machine.before = self.machine.tree()
        self.assert_refused(self.machine.install(), "no PCI device 1af4:1110", "docs/vm.md")

    def test_a_device_that_does_not_answer(self):
        (self.machine.state / "device").unlink()
        self.assert_refused(self.machine.install(), "does not answer: cuInit gives CUDA_ERROR_NO_DEVICE", "Is vgpu-device running")

    def test_no_systemd(self):
        (self.machine.root / "run/systemd/system").rmdir()
        self.assert_refused(self.machine.install(), "systemd does not run this machine", "vgpu-device run")

    def test_not_root(self):
        (self.machine.state / "uid").write_text("1000\n")
        for command in (["install", "--yes"], ["uninstall"], ["rollback"], ["verify"], ["emergency"]):
            self.assert_refused(self.machine.run(*command), "run it as root")

    def test_no_such_service(self):
        self.assert_refused(self.machine.run("install", "--service", "nosuch", "--yes"), "there is no nosuch.service")

    def test_a_service_name_that_is_a_path(self):
        self.assert_refused(self.machine.run("install", "--service", "../x", "--yes"), "cannot be a service's name")

    def test_nvidias_own_driver(self):
        self.machine.write("proc/driver/nvidia/version", "NVRM\n")
        self.assert_refused(self.machine.install(), "NVIDIA's own driver is loaded")

    def test_a_stale_copy_where_the_loader_looks(self):
        shutil.copy(self.library("libvgpu-cuda.so"), self.machine.root / "usr/lib64/libcuda.so.1")
        self.machine.before = self.machine.tree()
        self.assert_refused(self.machine.install(), "/usr/lib64/libcuda.so.1 is an older copy of vgpu's libraries (version 0.")

    def test_a_library_path_for_everybody(self):
        self.machine.write("etc/ld.so.conf.d/vgpu.conf", "/opt/vgpu/lib\n")
        self.machine.before = self.machine.tree()
        self.assert_refused(self.machine.install(), "/etc/ld.so.conf.d/vgpu.conf puts a folder of vgpu on every program's library path")

    def test_a_preload_that_names_a_library_of_vgpu(self):
        self.machine.write("etc/ld.so.preload", "/usr/local/lib/libcuda.so.1\n")
        self.machine.before = self.machine.tree()
        self.assert_refused(self.machine.install(), "/etc/ld.so.preload loads /usr/local/lib/libcuda.so.1 into every process")

    def test_a_renamed_library_in_the_preload_is_known_by_its_content(self):
        shutil.copy(self.library("libvgpu-cuda.so"), self.machine.root / "opt/innocent.so")
        self.machine.write("etc/ld.so.preload", "/opt/innocent.so\n")
        self.machine.before = self.machine.tree()
        self.assert_refused(self.machine.install(), "/etc/ld.so.preload loads /opt/innocent.so into every process")

    def test_another_preload_is_not_our_business(self):
        self.machine.write("etc/ld.so.preload", "/usr/lib/libother.so\n")
        self.assert_done(self.machine.install("--dry-run"))

    def test_a_system_wide_preload_is_never_written(self):
        self.assert_refused(self.machine.install("--ld.so.preload"), "never system-wide", "locks everybody out")

    def test_a_foreign_file_in_the_place_of_the_way_back(self):
        self.machine.write("usr/local/sbin/vgpu-emergency-recovery", "echo mine\n")
        self.machine.before = self.machine.tree()
        self.assert_refused(self.machine.install(), "exists and is not ours")

    def test_a_disk_that_is_nearly_full(self):
        fake = self.machine.folder / "bin"
        fake.mkdir()
        (fake / "df").write_text("#!/bin/sh\necho header\necho /dev/x 100 90 1000 99% /\n")
        (fake / "df").chmod(0o755)
        path = f"{fake}:{self.machine.environment()['PATH']}"
        self.assert_refused(self.machine.install(PATH=path), "/opt has 0 MB free")


class Failures(deploy_case.DeployCase):
    """Seen when changes have been made: they are undone."""

    def assert_rolled_back(self, done, *said: str):
        self.assert_refused(done, "everything is as it was before", *said)

    def test_the_service_does_not_start(self):
        (self.machine.state / "fail-start").touch()
        self.assert_rolled_back(self.machine.install(), "demo.service does not start with vgpu's libraries")
        self.assertEqual((self.machine.state / "active").read_text(), "active\n")

    def test_systemd_does_not_reload(self):
        (self.machine.state / "fail-reload").touch()
        done = self.machine.install()
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("systemctl daemon-reload failed", done.stdout)
        # Systemd does not answer, so that the record stays for the second try.
        (self.machine.state / "fail-reload").unlink()
        self.assert_done(self.machine.run("uninstall"))
        self.assert_untouched()

    def test_the_service_loads_nothing(self):
        (self.machine.state / "fail-load").touch()
        self.assert_rolled_back(self.machine.install(), "maps no library of /opt/vgpu/lib/")

    def test_the_service_maps_a_second_copy(self):
        (self.machine.state / "foreign").write_text("7f00-7f01 r-xp 0 08:02 1 /usr/lib/ollama/cuda_v12/libcudart.so.12.8.90\n")
        self.machine.systemctl("restart", machine.UNIT)
        done = self.machine.install()
        self.assertNotEqual(done.returncode, 0, done.stdout)
        self.assertIn("maps /usr/lib/ollama/cuda_v12/libcudart.so.12.8.90, another copy than /opt/vgpu/lib/", done.stdout)
        self.assertEqual(machine.differences(self.machine.before, self.machine.tree()), [])

    def test_another_process_maps_the_libraries(self):
        self.machine.write("proc/77/maps", "7f00-7f01 r-xp 0 08:02 1 /opt/vgpu/lib/0/libvgpu-cuda.so\n")
        self.assert_rolled_back(self.machine.install(), "process 77 (cron) maps vgpu's libraries, and is not part of demo.service")

    def test_the_first_process_maps_the_libraries(self):
        self.machine.write("proc/1/maps", "7f00-7f01 r-xp 0 08:02 1 /usr/lib64/libvgpu-cuda.so\n")
        self.assert_rolled_back(self.machine.install(), "process 1 (systemd) maps vgpu's libraries")

    def test_another_unit_fails_meanwhile(self):
        (self.machine.state / "failed-units").write_text("")
        done = self.machine.install(VGPU_DEPLOY_AT="40:echo other.service loaded failed >$VGPU_TEST_STATE/failed-units")
        self.assert_rolled_back(done, "failed since the installation: other.service")

    def test_the_system_goes_into_maintenance_meanwhile(self):
        done = self.machine.install(VGPU_DEPLOY_AT="40:echo maintenance >$VGPU_TEST_STATE/system")
        self.assert_rolled_back(done, "maintenance, before the installation: running")

    def test_logins_fail(self):
        fake = self.machine.folder / "bin"
        fake.mkdir()
        for name in ("su", "sh"):
            (fake / name).write_text("#!/bin/dash\necho no login >&2\nexit 1\n")
            (fake / name).chmod(0o755)
        path = f"{fake}:{self.machine.environment()['PATH']}"
        self.assert_rolled_back(self.machine.install(PATH=path), "a new login shell fails: no login")

    def in_own_mounts(self, setup: str):
        """An installation after `setup`, in a mount namespace of its own. $root is the machine's."""
        if subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
            raise unittest.SkipTest("mount namespaces are not allowed here")
        command = f'root={self.machine.root}; {setup} || exit 99; exec dash {self.machine.script} install --service demo --yes'
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", command], env=self.machine.environment(PATH=self.path()),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )
        if done.returncode == 99:
            raise unittest.SkipTest(f"cannot mount here: {done.stdout}")
        return done

    def path(self):
        """With a df that sees no full disk."""
        fake = self.machine.folder / "bin"
        fake.mkdir(exist_ok=True)
        (fake / "df").write_text("#!/bin/sh\necho header\necho /dev/x 100 90 1000000 9% /\n")
        (fake / "df").chmod(0o755)
        return f"{fake}:{self.machine.environment()['PATH']}"

    def test_a_read_only_etc(self):
        done = self.in_own_mounts("mount --bind $root/etc $root/etc && mount -o remount,ro,bind $root/etc")
        self.assert_refused(done, "/etc cannot be written: is its file system mounted read-only?")

    def test_the_disk_fills_up_while_libraries_are_copied(self):
        done = self.in_own_mounts("mount -t tmpfs -o size=1m full $root/opt")
        self.assert_rolled_back(done, "is the disk full?")

    def test_the_disk_of_the_record_fills_up(self):
        done = self.in_own_mounts("mount -t tmpfs -o size=16k full $root/var/lib")
        self.assertNotEqual(done.returncode, 0, done.stdout)
        self.assertIn("is the disk full", done.stdout)
        self.assert_untouched(done)

    def test_the_disk_of_etc_fills_up(self):
        fill = "mount -t tmpfs full /mnt && cp -a $root/etc /mnt/ && mount --move /mnt $root/run && mount --bind $root/run/etc $root/etc"
        done = self.in_own_mounts(
            f"{fill} && mkdir -p $root/run/systemd/system && mount -o remount,size=$(($(du -sk $root/etc | cut -f 1) + 20))k $root/run"
        )
        self.assertNotEqual(done.returncode, 0, done.stdout)
        self.assertIn("is the disk full", done.stdout)
        self.assert_untouched(done)


class Ollama(deploy_case.DeployCase):
    def setUp(self):
        super().setUp()
        root = self.machine.root
        (root / "etc/systemd/system/demo.service").rename(root / "etc/systemd/system/ollama.service")
        (root / "sys/fs/cgroup/system.slice/demo.service").rename(root / "sys/fs/cgroup/system.slice/ollama.service")
        (root / "usr/local/lib/ollama").mkdir()
        self.machine.write("etc/systemd/system/ollama.service", "[Service]\nExecStart=/usr/local/bin/ollama serve\n")
        self.machine.before = self.machine.tree()

    def journal(self, *lines: str):
        (self.machine.state / "journal").write_text("\n".join(lines) + "\n")

    def test_the_gpu_is_found(self):
        self.journal(
            'msg="inference compute" id=0 library=CUDA compute=6.1 name=CUDA0', "initial_count=1", "offloaded 31/31 layers to GPU"
        )
        done = self.machine.run("install", "--yes")
        self.assert_done(done, "ok    discovery    library=CUDA compute=6.1", "initial_count=1", "skip  generation")
        dropin = self.machine.read("etc/systemd/system/ollama.service.d/vgpu.conf")
        self.assertRegex(dropin, r"LD_LIBRARY_PATH=/opt/vgpu/lib/[^:]*:/usr/local/lib/ollama\"")

    def test_ollama_falls_back_to_its_cpu(self):
        self.journal('msg="inference compute" id=cpu library=cpu compute=""')
        self.assert_refused(self.machine.run("install", "--yes"), "Ollama found no GPU", "everything is as it was before")

    def test_every_device_was_dropped(self):
        self.journal('msg="inference compute" library=cuda', "initial_count=0")
        self.assert_refused(self.machine.run("install", "--yes"), "Ollama dropped every device", "everything is as it was before")


if __name__ == "__main__":
    deploy_case.main()
