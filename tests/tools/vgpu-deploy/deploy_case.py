"""What the tests of vgpu-deploy share: one machine a test, and the command line that ctest gives.

    FILE.py SCRIPT LIBRARIES FOLDER TEST    one test, in FOLDER; exit status 77 when it is skipped
"""

import contextlib
import pathlib
import shutil
import sys
import unittest

import machine

SKIPPED = 77
_options: dict[str, str] = {}


class DeployCase(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        folder = pathlib.Path(_options["folder"]) / self._testMethodName
        shutil.rmtree(folder, ignore_errors=True)
        self.machine = machine.Machine(folder, _options["script"], _options["libraries"])

    def new_machine(self, name: str) -> machine.Machine:
        folder = pathlib.Path(_options["folder"]) / f"{self._testMethodName}-{name}"
        shutil.rmtree(folder, ignore_errors=True)
        return machine.Machine(folder, _options["script"], _options["libraries"])

    def tearDown(self):
        folder = pathlib.Path(_options["folder"])
        for made in folder.glob(f"{self._testMethodName}*"):
            shutil.rmtree(made, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rmdir()

    def assert_done(self, done, *said: str):
        self.assertEqual(done.returncode, 0, done.stdout)
        for words in said:
            self.assertIn(words, done.stdout)

    def assert_refused(self, done, *said: str):
        """It fails, says why, and nothing is different from before."""
        self.assertNotEqual(done.returncode, 0, done.stdout)
        for words in said:
            self.assertIn(words, done.stdout)
        self.assert_untouched(done)

    def assert_untouched(self, done=None, folder_times: bool = True):
        here = self.machine
        before = here.before
        if not folder_times:
            before = {name: (*entry[:3], 0 if entry[4] is None else entry[3], entry[4]) for name, entry in before.items()}
        self.assertEqual(machine.differences(before, here.tree(folder_times)), [], done and done.stdout)
        self.assertNotIn("vgpu", here.maps())


def main():
    _options["script"], _options["libraries"], _options["folder"], test = sys.argv[1:5]
    suite = unittest.defaultTestLoader.loadTestsFromName(test, sys.modules["__main__"])
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    if not result.wasSuccessful() or result.testsRun == 0:
        sys.exit(1)
    sys.exit(SKIPPED if result.skipped else 0)
