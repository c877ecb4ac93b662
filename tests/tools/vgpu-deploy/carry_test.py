"""bundle and push: the installation travels whole, or not at all."""

import contextlib
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import time
import unittest

import deploy_case
import machine

CACHE = pathlib.Path(os.environ.get("VGPU_CACHE", pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "vgpu"))


class Bundle(deploy_case.DeployCase):
    def make(self) -> pathlib.Path:
        made = self.machine.folder / "bundle.sh"
        self.assert_done(self.machine.run("bundle", "-o", str(made)), "install --dry-run")
        return made

    def test_it_installs(self):
        done = self.machine.run("install", "--service", "demo", "--yes", script=self.make())
        self.assert_done(done, "Installed")
        self.assert_done(self.machine.run("uninstall", script=self.machine.root / "opt/vgpu/bin/vgpu-deploy"))
        self.assert_untouched()

    def test_it_is_text_that_can_be_pasted(self):
        lines = self.make().read_text(encoding="ascii").splitlines()
        self.assertLess(max(map(len, lines)), 200)

    def test_the_same_bytes_each_time(self):
        first = self.make().read_bytes()
        self.assertEqual(self.make().read_bytes(), first)

    def test_cut_off_nothing_of_it_is_used(self):
        made = self.make()
        made.write_bytes(made.read_bytes()[:-10_000])
        self.assert_refused(self.machine.run("install", "--yes", script=made), "damaged or was cut off")

    def test_damaged_nothing_of_it_is_used(self):
        made = self.make()
        text = bytearray(made.read_bytes())
        text[-5000] = ord("A") if text[-5000] != ord("A") else ord("B")
        made.write_bytes(text)
        self.assert_refused(self.machine.run("install", "--yes", script=made), "damaged or was cut off")


def find_sshd():
    for folder, libraries in ((None, None), (CACHE / "sshd", CACHE / "sshd/usr/lib/x86_64-linux-gnu")):
        found = shutil.which("sshd", path="/usr/sbin:/usr/bin") if folder is None else folder / "usr/sbin/sshd"
        if found and pathlib.Path(found).exists():
            return str(found), libraries
    raise unittest.SkipTest("no sshd here: scripts/fetch sshd unpacks one into the cache, without installing it")


class Sshd:
    """A real sshd on a port of this machine's own interface, without sftp and scp, whose logins end in the machine
    of a test. As root it needs its user and its folder, which it gets in a mount namespace of its own."""

    def __init__(self, folder: pathlib.Path, here: machine.Machine):
        program, libraries = find_sshd()
        self.folder = folder
        folder.mkdir()
        self.home = folder / "home"
        self.home.mkdir()
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        environment = here.environment()
        self.user = pwd.getpwuid(os.getuid()).pw_name
        (folder / "config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n"
            f"PidFile {folder}/pid\nLogLevel VERBOSE\n"
            + "SetEnv " + " ".join(f'{name}="{environment[name]}"' for name in ("VGPU_DEPLOY_ROOT", "VGPU_TEST_STATE", "VGPU_DEPLOY_POLL", "HOME", "PATH")).replace(
                f'HOME="{environment["HOME"]}"', f'HOME="{self.home}"') + "\n"
        )
        command = [program, "-D", "-e", "-f", str(folder / "config")]
        if os.getuid() == 0:
            # No scp either, wherever a login looks for it.
            setup = (
                "mount -t tmpfs none /run && mkdir -m 755 /run/sshd && cp /etc/passwd /run/passwd && "
                "{ grep -q ^sshd: /run/passwd || echo sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin >>/run/passwd; } && "
                "mount --bind /run/passwd /etc/passwd && "
                "for name in scp sftp; do for where in /usr/bin /bin; do [ ! -e $where/$name ] || mount --bind /dev/null $where/$name; done; done && "
                'exec "$@"'
            )
            command = ["unshare", "--mount", "sh", "-c", setup, "sh", *command]
        self.log = open(folder / "log", "wb")
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True,
            env={**os.environ, **({"LD_LIBRARY_PATH": str(libraries)} if libraries else {})},
        )
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5) as probe:
                if probe.recv(4) == b"SSH-":
                    break
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise unittest.SkipTest(f"sshd does not run here: {(folder / 'log').read_text()[-300:]}")

    def ssh(self) -> str:
        options = "-o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -F none"
        return f"ssh -p {self.port} -i {self.folder}/user {options}"

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait()
        self.log.close()


# Stands between vgpu-deploy and ssh: lets half of the bundle through, waits for it over there, and kills ssh.
CUTTING_SSH = """#!/bin/sh
if [ -e {folder}/cut ]; then exec {ssh} "$@"; fi
: >{folder}/cut
mkfifo {folder}/through
{ssh} "$@" <{folder}/through &
session=$!
head -c 600000 >{folder}/through
tries=0
until [ "$(cat {home}/.vgpu-push/* 2>/dev/null | wc -c)" -gt 400000 ] || [ $tries -gt 600 ]; do
  sleep 0.05
  tries=$((tries + 1))
done
kill -9 $session
wait $session
"""


class Push(deploy_case.DeployCase):
    def setUp(self):
        super().setUp()
        if not shutil.which("ssh"):
            raise unittest.SkipTest("ssh is not installed")
        self.sshd = Sshd(self.machine.folder / "sshd", self.machine)
        self.addCleanup(self.sshd.stop)

    def push(self, *options: str, ssh: str | None = None):
        return self.machine.run(
            "push", f"{self.sshd.user}@127.0.0.1", "--ssh", ssh or self.sshd.ssh(), *options, "--", "--service", "demo", VGPU_DEPLOY_ROOT=""
        )

    def leftovers(self):
        return [str(path.relative_to(self.sshd.home)) for path in self.sshd.home.rglob("*")]

    def test_scp_and_sftp_do_not_work_here(self):
        (self.machine.folder / "file").write_text("x")
        for program in ("scp", "sftp"):
            if shutil.which(program):
                words = self.sshd.ssh().replace("-p", "-P", 1).split()[1:]
                done = subprocess.run(
                    [program, *words, self.machine.folder / "file", f"{self.sshd.user}@127.0.0.1:{self.sshd.home}/file"],
                    check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )
                self.assertNotEqual(done.returncode, 0)
        self.assertEqual(self.leftovers(), [])

    def test_one_session_installs(self):
        done = self.push()
        self.assert_done(done, "Installed: demo.service uses the vGPU", "sending")
        self.assertEqual((self.sshd.folder / "log").read_text().count("Accepted publickey"), 1)
        self.assertEqual(self.leftovers(), [])
        self.assert_done(self.machine.run("verify", script=self.machine.root / "opt/vgpu/bin/vgpu-deploy"), "All is well")
        self.assert_done(self.machine.run("uninstall"))
        self.assert_untouched()

    def test_a_cut_connection_goes_on_where_it_ended(self):
        cutting = self.machine.folder / "cutting-ssh"
        cutting.write_text(CUTTING_SSH.format(folder=self.machine.folder, ssh=self.sshd.ssh(), home=self.sshd.home))
        cutting.chmod(0o755)
        done = self.push(ssh=str(cutting))
        self.assert_done(done, "the connection was lost", "the others are there already", "Installed: demo.service")
        sent = [int(line.split("sending ")[1].split()[0]) for line in done.stdout.splitlines() if "sending " in line]
        self.assertEqual(len(sent), 2)
        self.assertLess(sent[1], sent[0] - 400_000)
        self.assertEqual(self.leftovers(), [])

    def test_half_a_bundle_is_never_unpacked(self):
        cutting = self.machine.folder / "cutting-ssh"
        cutting.write_text(CUTTING_SSH.format(folder=self.machine.folder, ssh=self.sshd.ssh(), home=self.sshd.home).replace("exec ", "exec false "))
        cutting.chmod(0o755)
        self.assert_refused(self.push(ssh=str(cutting)))
        self.assertEqual([name for name in self.leftovers() if "unpacked" in name], [])

    def test_a_wrong_prefix_is_not_built_upon(self):
        part = self.sshd.home / ".vgpu-push"
        first = self.machine.folder / "cutting-ssh"
        first.write_text(CUTTING_SSH.format(folder=self.machine.folder, ssh=self.sshd.ssh(), home=self.sshd.home).replace("exec ", "exec false "))
        first.chmod(0o755)
        self.push(ssh=str(first))
        (kept,) = part.iterdir()
        kept.write_bytes(b"x" * kept.stat().st_size)
        done = self.push()
        self.assert_done(done, "Installed: demo.service")
        self.assertNotIn("there already", done.stdout)

    def test_the_far_checks_decide(self):
        (self.machine.state / "device").unlink()
        self.assert_refused(self.push(), "does not answer", "nothing was changed")
        self.assertEqual(self.leftovers(), [])

    def test_no_such_host(self):
        self.assert_refused(self.push(ssh="false"), "the session with")


if __name__ == "__main__":
    deploy_case.main()
