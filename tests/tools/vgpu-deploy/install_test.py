"""install, verify, upgrade, rollback and uninstall, as they should go."""

import json
import os
import shutil
import subprocess

import deploy_case
import machine


class Install(deploy_case.DeployCase):
    def test_uninstall_leaves_the_tree_as_it_was(self):
        self.assert_done(self.machine.install(), "Installed: demo.service uses the vGPU")
        self.assertIn("/opt/vgpu/lib/", self.machine.maps())
        self.assertNotEqual(machine.differences(self.machine.before, self.machine.tree()), [])
        done = self.machine.run("uninstall")
        self.assert_done(done, "Everything is as it was before")
        self.assert_untouched(done)

    def test_folders_that_are_missing_are_made_and_removed(self):
        for name in ("opt", "etc/udev/rules.d", "etc/udev", "usr/local/sbin"):
            (self.machine.root / name).rmdir()
        os.utime(self.machine.root, ns=(10**18, 10**18 + 123456789))
        self.machine.before = self.machine.tree()
        root_before = self.machine.root.stat().st_mtime_ns
        self.assert_done(self.machine.install(), "Installed: demo.service uses the vGPU")
        self.assert_done(self.machine.run("uninstall"))
        self.assert_untouched()
        self.assertEqual(self.machine.root.stat().st_mtime_ns, root_before)

    def test_second_install_changes_nothing(self):
        self.assert_done(self.machine.install())
        after_first = self.machine.tree()
        restarts = (self.machine.state / "systemctl.log").read_text().count("restart ")
        self.assert_done(self.machine.install(), "nothing to change")
        self.assertEqual(machine.differences(after_first, self.machine.tree()), [])
        self.assertEqual((self.machine.state / "systemctl.log").read_text().count("restart "), restarts)

    def test_installed_tool_installs_what_is_installed(self):
        self.assert_done(self.machine.install())
        done = self.machine.run("install", "--yes", script=self.machine.root / "opt/vgpu/bin/vgpu-deploy")
        self.assert_done(done, "nothing to change")

    def test_dry_run_shows_every_file_and_changes_nothing(self):
        done = self.machine.install("--dry-run")
        self.assert_done(done, "Dry run: nothing was changed")
        shown = done.stdout
        self.assert_untouched(done)
        self.machine.install()
        for name in self.machine.tree():
            if name in self.machine.before or "vgpu-deploy" in name and name.startswith("var/"):
                continue
            covered = name in shown or name.startswith("opt/vgpu") or (self.machine.root / name).is_dir()
            self.assertTrue(covered, f"{name} was written and not shown")

    def test_without_yes_and_terminal_nothing_is_changed(self):
        self.assert_refused(self.machine.run("install", "--service", "demo"), "nobody can be asked here")

    def test_drop_in_keeps_the_units_own_library_path(self):
        self.assert_done(self.machine.install())
        dropin = self.machine.read("etc/systemd/system/demo.service.d/vgpu.conf")
        self.assertRegex(dropin, r'Environment="LD_LIBRARY_PATH=/opt/vgpu/lib/[^:"]*:/srv/lib"')
        self.assertNotIn(".so.13", dropin)

    def test_how_path_preloads_nothing(self):
        self.assert_done(self.machine.install("--how", "path"))
        self.assertNotIn("LD_PRELOAD", self.machine.read("etc/systemd/system/demo.service.d/vgpu.conf"))

    def test_cuda_13_alone(self):
        self.assert_done(self.machine.install("--cuda", "13"))
        libraries = {path.name for path in (self.machine.root / "opt/vgpu/lib").glob("*/lib*")}
        self.assertIn("libcudart.so.13", libraries)
        self.assertNotIn("libcudart.so.12", libraries)

    def test_device_memory_is_for_the_group_alone_and_given_back(self):
        self.assert_done(self.machine.install())
        resource = self.machine.root / machine.FUNCTION / "resource2"
        group = next(line for line in self.machine.read("etc/group").splitlines() if line.startswith("vgpu:"))
        self.assertEqual(resource.stat().st_mode & 0o777, 0o660)
        self.assertEqual(resource.stat().st_gid, int(group.split(":")[2]))
        self.assertNotIn(group.split(":")[2], ("0", "1", "999"))
        self.assert_done(self.machine.run("uninstall"))
        self.assert_untouched()

    def test_json_says_the_same(self):
        self.assert_done(self.machine.install())
        done = self.machine.run("verify", "--json")
        self.assert_done(done)
        said = json.loads(done.stdout)
        self.assertTrue(said["passed"])
        self.assertEqual(said["service"], machine.UNIT)
        checks = {check["check"]: check["status"] for check in said["checks"]}
        self.assertEqual(checks["processes"], "ok")
        self.assertEqual(checks["others"], "ok")
        (self.machine.state / "device").unlink()
        done = self.machine.run("verify", "--json")
        self.assertEqual(done.returncode, 1)
        said = json.loads(done.stdout)
        self.assertFalse(said["passed"])
        self.assertIn({"check": "vgpu", "status": "fail"}, [{k: c[k] for k in ("check", "status")} for c in said["checks"]])

    def test_status_and_logs(self):
        self.assert_refused(self.machine.run("status"), "not installed")
        (self.machine.state / "journal").write_text("unrelated\ninference compute library=CUDA\n")
        self.assert_done(self.machine.install())
        self.assert_done(self.machine.run("status"), "demo.service: active", "/opt/vgpu/lib/", "test device")
        logs = self.machine.run("logs")
        self.assert_done(logs, "inference compute")
        self.assertNotIn("unrelated", logs.stdout)

    def test_a_service_that_does_not_run_is_not_started(self):
        self.machine.systemctl("stop", machine.UNIT)
        self.assert_done(self.machine.install(), "was not running before, and was not started")
        self.assertEqual((self.machine.state / "active").read_text(), "inactive\n")

    def test_a_client_that_is_over_by_now_counts_as_use(self):
        state = self.machine.state
        (state / "no-owner").touch()
        (state / "launches").write_text("1000\n")
        quick = {"VGPU_DEPLOY_WAIT": "0"}
        self.assert_done(self.machine.install(**quick), "warn  use", "has not called CUDA yet")
        self.assert_done(self.machine.run("status"))
        self.assert_done(self.machine.run("verify", **quick), "warn  use")
        (state / "launches").write_text(f"{int((state / 'launches').read_text()) + 7}\n")
        self.assert_done(self.machine.run("verify", **quick), "ok    use          7 launches since the installation")
        self.assert_done(self.machine.run("verify", **quick), "ok    use          7 launches")
        # The device was started anew, and has counted our own look alone.
        (state / "generation").write_text("00000000000000a2\n")
        (state / "launches").write_text("0\n")
        self.assert_done(self.machine.run("verify", **quick), "warn  use")
        self.assert_done(self.machine.run("uninstall"))
        self.assert_untouched()

    def test_bash_and_busybox_do_the_same(self):
        self.machine.whole_seconds()
        for shell in ("bash --posix", f"{shutil.which('busybox')} sh"):
            if not shutil.which(shell.split()[0]):
                continue
            with self.subTest(shell=shell):
                self.assert_done(self.machine.run("install", "--service", "demo", "--yes", shell=shell), "Installed")
                self.assert_done(self.machine.run("verify", shell=shell), "All is well")
                self.assert_done(self.machine.run("uninstall", shell=shell))
                self.assert_untouched()

    def test_another_service_is_refused(self):
        self.assert_done(self.machine.install())
        done = self.machine.run("install", "--service", "other", "--yes")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("one service at a time", done.stdout)


    def test_one_at_a_time(self):
        self.machine.write("run/vgpu-deploy.lock", f"{os.getpid()}\n")
        self.assert_refused(self.machine.install(), f"another vgpu-deploy is at work (process {os.getpid()})")
        # Left by one that was killed.
        ended = subprocess.Popen(["true"])
        ended.wait()
        self.machine.write("run/vgpu-deploy.lock", f"{ended.pid}\n")
        self.assert_done(self.machine.install())
        self.assertFalse(self.machine.exists("run/vgpu-deploy.lock"))


class Upgrade(deploy_case.DeployCase):
    def newer(self):
        """The bundle's libraries become those of another build."""
        with open(self.machine.source / "lib/libvgpu-nvml.so", "ab") as library:
            library.write(b"another build")

    def versions(self):
        return sorted(path.name for path in (self.machine.root / "opt/vgpu/lib").iterdir())

    def test_upgrade_then_rollback_then_uninstall(self):
        self.assert_done(self.machine.install())
        first = self.machine.tree(folder_times=False)
        (old,) = self.versions()
        self.newer()
        self.assert_done(self.machine.run("install", "--yes"), "Installed")
        (new,) = set(self.versions()) - {old}
        self.assertIn(new, self.machine.maps())
        self.assertNotIn(old, self.machine.maps())
        self.assert_done(self.machine.run("rollback"), f"Back to version {old}")
        self.assertIn(old, self.machine.maps())
        self.assertEqual(
            [line for line in machine.differences(first, self.machine.tree(folder_times=False)) if "var/lib" not in line], []
        )
        self.assert_done(self.machine.run("verify"), "All is well")
        self.assert_done(self.machine.run("install", "--yes"), "Installed")
        self.assert_done(self.machine.run("uninstall"))
        self.assert_untouched()

    def test_upgrade_keeps_the_options(self):
        self.assert_done(self.machine.install("--how", "path", "--cuda", "13"))
        self.newer()
        self.assert_done(self.machine.run("install", "--yes"), "Installed")
        dropin = self.machine.read("etc/systemd/system/demo.service.d/vgpu.conf")
        self.assertNotIn("LD_PRELOAD", dropin)
        self.assertFalse(list((self.machine.root / "opt/vgpu/lib").glob("*/libcudart.so.12")))

    def test_failed_upgrade_goes_back_to_the_version_before(self):
        self.assert_done(self.machine.install())
        maps = self.machine.maps()
        self.newer()
        (self.machine.state / "foreign").write_text("7f00-7f01 r-xp 0 08:02 1 /usr/lib64/libcudart.so.12.4\n")
        done = self.machine.run("install", "--yes")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("another copy", done.stdout)
        (self.machine.state / "foreign").unlink()
        self.machine.systemctl("restart", machine.UNIT)
        self.assertEqual(len(self.versions()), 1)
        self.assertEqual(self.machine.maps(), maps)

    def test_at_no_point_is_the_service_without_whole_libraries(self):
        """Killed anywhere in an upgrade: the drop-in names a folder that is there, and is whole."""
        self.assert_done(self.machine.install())
        self.newer()
        shutil.copytree(self.machine.folder, str(self.machine.folder) + ".installed", symlinks=True)
        for point in range(1, 200):
            done = self.machine.run("install", "--yes", VGPU_DEPLOY_AT=f"{point}:kill -9 $$")
            dropin = self.machine.read("etc/systemd/system/demo.service.d/vgpu.conf")
            for path in dropin.split('LD_PRELOAD=')[1].split('"')[0].split(":"):
                self.assertTrue((self.machine.root / path[1:]).exists(), f"point {point}: {path}")
                folder = (self.machine.root / path[1:]).parent
            subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=folder, check=True)
            if done.returncode == 0:
                break
            done = self.machine.run("uninstall")
            self.assert_done(done)
            self.assert_untouched(done, folder_times=False)
            shutil.rmtree(self.machine.folder)
            shutil.copytree(str(self.machine.folder) + ".installed", self.machine.folder, symlinks=True)
        self.assertGreater(point, 5)
        shutil.rmtree(str(self.machine.folder) + ".installed")


class Restrictions(deploy_case.DeployCase):
    def unit(self, *lines: str):
        self.machine.write(f"etc/systemd/system/{machine.UNIT}", "\n".join(["[Service]", "ExecStart=/usr/bin/demo", *lines, ""]))

    def test_read_only_sysfs_gets_the_devices_files_writable(self):
        self.unit("ProtectKernelTunables=yes")
        self.assert_done(self.machine.install())
        dropin = self.machine.read("etc/systemd/system/demo.service.d/vgpu.conf")
        self.assertIn(f"ReadWritePaths=-/{machine.FUNCTION}/resource2\n", dropin)

    def test_unprotected_units_get_no_paths(self):
        self.unit("ProtectSystem=strict", "PrivateTmp=yes", "MemoryDenyWriteExecute=yes")
        self.assert_done(self.machine.install())
        self.assertNotIn("Paths=", self.machine.read("etc/systemd/system/demo.service.d/vgpu.conf"))

    def test_directives_in_the_way_are_named(self):
        for line, said in (
            ("InaccessiblePaths=/opt", "InaccessiblePaths=/opt hides"),
            ("TemporaryFileSystem=/opt:ro", "TemporaryFileSystem=/opt:ro hides"),
            ("RootDirectory=/srv/root", "RootDirectory=/srv/root"),
            ("SystemCallFilter=~futex ptrace", "SystemCallFilter= forbids futex:"),
            ("SystemCallFilter=read write", "SystemCallFilter= forbids mmap munmap"),
            ("LimitAS=1000000", "LimitAS=1000000"),
        ):
            with self.subTest(line=line):
                self.unit(line)
                self.assert_done(self.machine.install("--dry-run"), "warn  restrictions", said)

    def test_a_locked_down_kernel_is_named(self):
        self.machine.write("sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
        self.assert_done(self.machine.install("--dry-run"), "locked down (Secure Boot)")

    def test_a_restriction_that_hides_the_libraries_is_named_and_undone(self):
        self.unit("TemporaryFileSystem=/opt")
        self.machine.before = self.machine.tree()
        (self.machine.state / "fail-load").touch()
        self.assert_refused(self.machine.install(), "TemporaryFileSystem=/opt hides", "everything is as it was before")


if __name__ == "__main__":
    deploy_case.main()
