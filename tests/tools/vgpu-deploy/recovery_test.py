"""The way back: after a kill at every step, with every file of ours gone, with busybox alone, with no command at all."""

import os
import pathlib
import shutil
import subprocess
import unittest

import deploy_case
import machine

POINTS = 200  # more than there are


class Killed(deploy_case.DeployCase):
    """kill -9 at each step of an installation, and then one of the ways on."""

    def at_each_point(self, go_on, first: int = 1, step: int = 1):
        for point in range(first, POINTS, step):
            killed = self.machine.install(VGPU_DEPLOY_AT=f"{point}:kill -9 $$")
            if killed.returncode == 0:
                self.machine.run("uninstall")
                break
            self.assertEqual(killed.returncode, -9, killed.stdout)
            with self.subTest(point=point):
                go_on()
        self.assertGreater(point, 30)
        self.assertLess(point, POINTS - step)
        self.assert_untouched()

    def test_then_uninstall(self):
        def uninstall():
            done = self.machine.run("uninstall")
            self.assert_done(done)
            self.assert_untouched(done)

        self.at_each_point(uninstall)

    def test_then_emergency(self):
        def emergency():
            if not self.machine.exists("usr/local/sbin/vgpu-emergency-recovery"):
                # Killed before the way back was there: nothing but the record may be new.
                for name in machine.differences(self.machine.before, self.machine.tree(folder_times=False)):
                    if name.startswith("new"):
                        self.assertRegex(name, "var/lib/vgpu-deploy|usr/local/sbin/vgpu-emergency-recovery.vgpu-new")
                self.machine.run("uninstall")
                return
            done = self.machine.emergency()
            self.assert_done(done, "done")
            self.assert_untouched(done)

        self.at_each_point(emergency)

    def install_again(self):
        done = self.machine.install()
        self.assert_done(done)
        # Killed after the very last step, it has nothing left to do.
        self.assertRegex(done.stdout, "Installed: demo.service uses the vGPU|Everything is in place already")
        self.assert_done(self.machine.run("uninstall"))
        self.assert_untouched()

    def test_then_install_again_odd(self):
        self.at_each_point(self.install_again, 1, 2)

    def test_then_install_again_even(self):
        self.at_each_point(self.install_again, 2, 2)

    def test_a_half_written_record_is_not_acted_on(self):
        self.assert_done(self.machine.install())
        with open(self.machine.root / "var/lib/vgpu-deploy/manifest", "a", encoding="utf-8") as manifest:
            manifest.write("begin\tx\tdemo.service\t12\tpreload\t-\t.\ntree\t/opt")
        self.assert_done(self.machine.install(), "An installation was interrupted")
        self.assert_done(self.machine.run("uninstall"))
        self.assert_untouched()


class Emergency(deploy_case.DeployCase):
    def setUp(self):
        super().setUp()
        self.machine.whole_seconds()
        self.assert_done(self.machine.install())

    def test_everything_of_ours_is_missing(self):
        shutil.rmtree(self.machine.root / "opt/vgpu")
        shutil.rmtree(self.machine.root / "etc/systemd/system/demo.service.d")
        (self.machine.root / "etc/udev/rules.d/70-vgpu.rules").unlink()
        done = self.machine.emergency()
        self.assert_done(done)
        self.assertEqual(machine.differences(self.machine.before, self.machine.tree()), [], done.stdout)

    def test_twice(self):
        script = self.machine.read("usr/local/sbin/vgpu-emergency-recovery")
        self.assert_done(self.machine.emergency())
        kept = self.machine.folder / "kept"
        kept.write_text(script)
        self.assert_done(self.machine.run(script=kept), "nothing to undo")
        self.assert_untouched()

    def test_busybox_alone(self):
        busybox = shutil.which("busybox")
        if not busybox:
            raise unittest.SkipTest("busybox is not installed (scripts/setup installs it)")
        done = self.machine.emergency(shell=f"{busybox} sh", PATH="/nonexistent")
        self.assert_done(done)
        tree = self.machine.tree()
        self.assertEqual(machine.differences(self.machine.before, tree), [], done.stdout)

    def test_no_command_works_at_all(self):
        """Only the shell itself: the service no longer loads anything, and the record is kept for later."""
        script = self.machine.read("usr/local/sbin/vgpu-emergency-recovery")
        blind = self.machine.folder / "blind"
        blind.write_text(script.replace("/bin/busybox", "/nonexistent/busybox"))
        done = self.machine.run(script=blind, PATH="/nonexistent", shell="/bin/dash")
        self.assert_done(done, "emptied /etc/systemd/system/demo.service.d/vgpu.conf", "Run this again when commands work")
        self.assertEqual(self.machine.read("etc/systemd/system/demo.service.d/vgpu.conf"), "")
        self.assert_done(self.machine.emergency())
        self.machine.systemctl("restart", machine.UNIT)
        self.assert_untouched(folder_times=False)

    def test_from_a_rescue_system(self):
        copy = self.machine.folder / "copy"
        shutil.copy(self.machine.root / "usr/local/sbin/vgpu-emergency-recovery", copy)
        done = self.machine.run("--root", str(self.machine.root), script=copy, VGPU_DEPLOY_ROOT="")
        self.assert_done(done, "Reboot this machine")
        self.assertEqual(machine.differences(self.machine.before, self.machine.tree()), [])

    def test_a_preload_in_the_way_is_named(self):
        self.machine.write("etc/ld.so.preload", "/usr/local/lib/libcuda.so.1\n")
        done = self.machine.emergency()
        self.assertEqual(done.returncode, 1)
        self.assertIn("loads a CUDA library into every process of this machine", done.stdout)
        self.assertIn(": > ", done.stdout)

    def test_through_the_tool(self):
        self.assert_done(self.machine.run("emergency"))
        self.assert_untouched()

    def test_kills_of_the_recovery_itself(self):
        """Killed after each of its commands, it is run again."""
        shutil.copytree(self.machine.folder, str(self.machine.folder) + "-installed", symlinks=True)
        for stop in range(1, 60):
            counter = self.machine.folder / "counter"
            counter.mkdir()
            bin_folder = self.machine.folder / "bin"
            bin_folder.mkdir()
            for name in ("rm", "mv", "cp", "rmdir", "touch", "chmod"):
                real = shutil.which(name)
                # Stands for a kill between two commands: the count reaches `stop`, and the shell that called dies.
                (bin_folder / name).write_text(
                    f'#!/bin/sh\n{real} "$@"; status=$?\n/bin/mkdir {counter}/$$\n'
                    f'set -- {counter}/*\n[ $# -ne {stop} ] || kill -9 $PPID\nexit $status\n'
                )
                (bin_folder / name).chmod(0o755)
            script = self.machine.read("usr/local/sbin/vgpu-emergency-recovery")
            first = self.machine.emergency(PATH=f"{bin_folder}:{self.machine.environment()['PATH']}")
            kept = self.machine.folder / "kept"
            kept.write_text(script)
            if first.returncode == 0:
                break
            done = self.machine.run(script=kept)
            self.assert_done(done)
            self.assertEqual(
                machine.differences(
                    {name: (*entry[:3], 0 if entry[4] is None else entry[3], entry[4]) for name, entry in self.machine.before.items()},
                    self.machine.tree(folder_times=False),
                ), [], f"stopped after {stop} commands\n{first.stdout}\n{done.stdout}",
            )
            shutil.rmtree(self.machine.folder)
            shutil.copytree(str(self.machine.folder) + "-installed", self.machine.folder, symlinks=True)
        self.assertGreater(stop, 20)


class LaterEdits(deploy_case.DeployCase):
    def test_other_groups_made_meanwhile_stay(self):
        self.assert_done(self.machine.install())
        with open(self.machine.root / "etc/group", "a", encoding="utf-8") as groups:
            groups.write("newcomer:x:1001:\n")
        self.assert_done(self.machine.run("uninstall"), "which others have changed since")
        self.assertEqual(self.machine.read("etc/group"), "root:x:0:\ndaemon:x:1:\nlast:x:999:\nnewcomer:x:1001:\n")

    def test_an_edited_drop_in_is_kept_beside(self):
        self.assert_done(self.machine.install())
        name = "etc/systemd/system/demo.service.d/vgpu.conf"
        self.machine.write(name, self.machine.read(name) + "Environment=MINE=1\n")
        self.assert_done(self.machine.run("verify"), "was edited after the installation")
        self.assert_done(self.machine.run("uninstall"), "kept as")
        self.assertIn("MINE=1", self.machine.read(name + ".vgpu-saved"))
        self.assertFalse(self.machine.exists(name))

    def test_a_foreign_drop_in_of_that_name_comes_back(self):
        name = "etc/systemd/system/demo.service.d/vgpu.conf"
        self.machine.write(name, "[Service]\nEnvironment=THEIRS=1\n", 0o600)
        self.machine.before = self.machine.tree()
        self.assert_done(self.machine.install(), "change  /etc/systemd/system/demo.service.d/vgpu.conf")
        self.assert_done(self.machine.run("uninstall"))
        self.assert_untouched()

    def test_a_group_that_was_there_stays(self):
        self.machine.write("etc/group", "root:x:0:\nvgpu:x:500:me\n")
        self.machine.before = self.machine.tree()
        self.assert_done(self.machine.install())
        self.assertEqual((self.machine.root / machine.FUNCTION / "resource2").stat().st_gid, 500)
        self.assert_done(self.machine.run("uninstall"))
        self.assert_untouched()


class Lint(unittest.TestCase):
    def test_shellcheck(self):
        if not shutil.which("shellcheck"):
            raise unittest.SkipTest("shellcheck is not installed (scripts/setup installs it)")
        script = pathlib.Path(deploy_case._options["script"])
        done = subprocess.run(
            ["shellcheck", script, script.parent / "vgpu-emergency-recovery", *map(str, (machine.HERE / "stand_ins").iterdir())],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_shells_parse_it(self):
        for shell in ("dash", "bash --posix", "busybox sh"):
            if shutil.which(shell.split()[0]):
                for name in ("vgpu-deploy", "vgpu-emergency-recovery"):
                    script = pathlib.Path(deploy_case._options["script"]).parent / name
                    subprocess.run([*shell.split(), "-n", str(script)], check=True)


if __name__ == "__main__":
    deploy_case.main()
