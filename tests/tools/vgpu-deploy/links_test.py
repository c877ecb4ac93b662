"""install --how links: links in the folder that a program loads its own CUDA libraries from, and nothing preloaded."""

import os
import shutil

import deploy_case
import machine

FOLDER = "usr/local/lib/ollama/cuda_v12"
NAMES = ("libcuda.so.1", "libnvidia-ml.so.1", "libcudart.so.12", "libcublas.so.12", "libcublasLt.so.12")


class Links(deploy_case.DeployCase):
    def setUp(self):
        super().setUp()
        here = self.machine
        (here.root / "etc/systemd/system/demo.service").rename(here.root / "etc/systemd/system/ollama.service")
        (here.root / "sys/fs/cgroup/system.slice/demo.service").rename(here.root / "sys/fs/cgroup/system.slice/ollama.service")
        # As Ollama ships it: links to files of a longer name; and here one that is a file itself.
        here.write(f"{FOLDER}/libcudart.so.12.8.90", "theirs: cudart")
        here.write(f"{FOLDER}/libcublas.so.12.8.4.1", "theirs: cublas")
        here.write(f"{FOLDER}/libcublasLt.so.12", "theirs: cublasLt", 0o640)
        here.write(f"{FOLDER}/libggml-cuda.so", "theirs: ggml")
        (here.root / FOLDER / "libcudart.so.12").symlink_to("libcudart.so.12.8.90")
        (here.root / FOLDER / "libcublas.so.12").symlink_to("libcublas.so.12.8.4.1")
        here.systemctl("restart", "ollama.service")
        for path in sorted((here.root / "usr/local").rglob("*"), reverse=True):
            os.utime(path, ns=(10**18, 10**18 + 987654321), follow_symlinks=False)
        here.before = here.tree()

    def install(self, *arguments: str, **more: str):
        return self.machine.run("install", "--yes", *(arguments or ("--how", "links")), VGPU_DEPLOY_WAIT="0", **more)

    def leads_to(self, name: str) -> str:
        path = (self.machine.root / FOLDER / name)
        target = os.readlink(path)
        self.assertTrue(target.startswith("/opt/vgpu/current/"), target)
        return os.path.realpath(f"{self.machine.root}{target}")

    def newer(self):
        with open(self.machine.source / "lib/libvgpu-nvml.so", "ab") as library:
            library.write(b"another build")

    def test_links_alone_and_back_byte_for_byte(self):
        done = self.install()
        self.assert_done(done, "Installed: ollama.service uses the vGPU", "ok    links", "was a link to libcudart.so.12.8.90", "was a file")
        for name in NAMES:
            self.assertRegex(self.leads_to(name), r"/opt/vgpu/lib/[^/]*/libvgpu-[a-zA-Z0-9]+\.so$")
            self.assertTrue(os.path.exists(self.leads_to(name)))
        dropin = self.machine.read("etc/systemd/system/ollama.service.d/vgpu.conf")
        self.assertNotIn("LD_", dropin)
        self.assertIn("SupplementaryGroups=vgpu", dropin)
        self.assert_done(self.machine.run("verify", VGPU_DEPLOY_WAIT="0"), "ok    links", "All is well")
        self.assert_done(self.install(), "nothing to change")
        self.assert_done(self.machine.run("uninstall"))
        self.assert_untouched()

    def test_dry_run_shows_each_link(self):
        done = self.install("--how", "links", "--dry-run")
        self.assert_done(done, *(f"/{FOLDER}/{name}" for name in NAMES), "/opt/vgpu/current")
        self.assert_untouched(done)

    def test_emergency_and_rescue_system(self):
        self.machine.whole_seconds()
        for way in ("emergency", "busybox", "rescue"):
            with self.subTest(way=way):
                self.assert_done(self.install())
                if way == "emergency":
                    done = self.machine.emergency()
                elif way == "busybox":
                    done = self.machine.emergency(shell=f"{shutil.which('busybox')} sh", PATH="/nonexistent")
                else:
                    copy = self.machine.folder / "copy"
                    shutil.copy(self.machine.root / "usr/local/sbin/vgpu-emergency-recovery", copy)
                    done = self.machine.run("--root", str(self.machine.root), script=copy, VGPU_DEPLOY_ROOT="")
                self.assert_done(done)
                self.machine.systemctl("restart", "ollama.service")
                # busybox copies a link with the time of the copy.
                mine = {name: entry for name, entry in self.machine.tree().items() if not (self.machine.root / name).is_symlink()}
                before = {name: entry for name, entry in self.machine.before.items() if not (self.machine.root / name).is_symlink()}
                self.assertEqual(machine.differences(before, mine), [], done.stdout)
                self.assertEqual(os.readlink(self.machine.root / FOLDER / "libcudart.so.12"), "libcudart.so.12.8.90")

    def test_an_upgrade_is_one_rename(self):
        self.assert_done(self.install())
        old = self.leads_to("libcuda.so.1")
        links = {name: (self.machine.root / FOLDER / name).lstat() for name in NAMES}
        self.newer()
        self.assert_done(self.machine.run("install", "--yes", VGPU_DEPLOY_WAIT="0"), "change  /opt/vgpu/current")
        self.assertNotEqual(self.leads_to("libcuda.so.1"), old)
        self.assertEqual({name: (self.machine.root / FOLDER / name).lstat() for name in NAMES}, links)
        self.assert_done(self.machine.run("rollback"), "Back to version")
        self.assertEqual(self.leads_to("libcuda.so.1"), old)
        self.assert_done(self.machine.run("verify", VGPU_DEPLOY_WAIT="0"), "ok    links")
        self.assert_done(self.machine.run("uninstall"))
        self.assert_untouched()

    def test_an_update_of_the_program_is_seen_and_stays(self):
        self.assert_done(self.install())
        for name, content in (("libcudart.so.12", None), ("libcublasLt.so.12", "newer: cublasLt")):
            path = self.machine.root / FOLDER / name
            path.unlink()
            if content is None:
                path.symlink_to("libcudart.so.12.9.1")
            else:
                path.write_text(content)
        done = self.machine.run("verify", VGPU_DEPLOY_WAIT="0")
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"FAIL  links        /{FOLDER}/libcudart.so.12 does not lead to /opt/vgpu/current/libcudart.so.12", done.stdout)
        self.assert_done(self.machine.run("uninstall"), "was replaced after the installation: left as it is")
        self.assertEqual(os.readlink(self.machine.root / FOLDER / "libcudart.so.12"), "libcudart.so.12.9.1")
        self.assertEqual(self.machine.read(f"{FOLDER}/libcublasLt.so.12"), "newer: cublasLt")
        self.assertEqual(os.readlink(self.machine.root / FOLDER / "libcublas.so.12"), "libcublas.so.12.8.4.1")
        self.assertFalse(os.path.lexists(self.machine.root / FOLDER / "libcuda.so.1"))

    def test_killed_at_each_step(self):
        """From the last step before the first link on; those before are the same in every installation."""
        told = self.install("--how", "links", VGPU_DEPLOY_AT='every:echo "point $points"').stdout
        self.assert_done(self.machine.run("uninstall"))
        points = [int(line.split()[1]) for line in told.split("linked /opt/vgpu/current")[0].splitlines() if line.startswith("point ")]
        first, last = points[-5], int(told.rsplit("point ", 1)[1].split()[0])
        for point in range(first, last):
            killed = self.install("--how", "links", VGPU_DEPLOY_AT=f"{point}:kill -9 $$")
            self.assertEqual(killed.returncode, -9, killed.stdout)
            done = self.machine.run("uninstall")
            self.assert_done(done)
            self.assert_untouched(done)
        self.assertGreater(last - first, 20)

    def test_the_verification_fails(self):
        (self.machine.state / "device").touch()
        done = self.install("--how", "links", VGPU_DEPLOY_AT="50:rm -f $VGPU_TEST_STATE/device")
        self.assert_refused(done, "everything is as it was before", "it does not answer")

    def test_another_folder_by_name(self):
        (self.machine.root / "srv/cuda").mkdir(parents=True)
        self.machine.before = self.machine.tree()
        self.assert_done(self.install("--into", "/srv/cuda"), "Installed")
        self.assertTrue((self.machine.root / "srv/cuda/libcuda.so.1").is_symlink())
        self.assert_done(self.machine.run("uninstall"))
        self.assert_untouched()

    def test_refusals(self):
        for options, said in (
            (("--into", "/usr/lib/x86_64-linux-gnu"), "never system-wide"),
            (("--into", "/lib/"), "never system-wide"),
            (("--into", "/srv/../usr/lib"), "an absolute path"),
            (("--into", "cuda"), "an absolute path"),
            (("--into", "/nosuch"), "there is no folder /nosuch"),
            (("--how", "links", "--cuda", "13"), "name the one that it loads its CUDA libraries from with --into"),
        ):
            with self.subTest(options=options):
                self.assert_refused(self.install(*options), said)
        self.assert_done(self.install("--how", "preload"))
        done = self.install("--how", "links")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("uninstall, then install with --how links", done.stdout)


if __name__ == "__main__":
    deploy_case.main()
