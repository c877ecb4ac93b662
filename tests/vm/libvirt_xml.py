"""The libvirt XML in docs/vm.md is what libvirt's own schema takes, with the plain device and with the doorbell's.

Exit status 77 is a skip: virt-xml-validate is missing.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

DOCUMENT = pathlib.Path(__file__).resolve().parent.parent.parent / "docs" / "vm.md"


def main() -> None:
    if shutil.which("virt-xml-validate") is None:
        print("skipped: virt-xml-validate is not installed (scripts/setup installs libvirt-clients)")
        sys.exit(77)
    blocks = re.findall(r"```xml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    domains = [block for block in blocks if block.startswith("<domain")]
    devices = [block for block in blocks if block.startswith("<shmem")]
    assert len(domains) == 1 and len(devices) == 1, f"{DOCUMENT} has {len(domains)} domains, {len(devices)} devices"
    with_doorbell, replaced = re.subn(r"<shmem.*?</shmem>\n", devices[0], domains[0], flags=re.DOTALL)
    assert replaced == 1 and "ivshmem-doorbell" in with_doorbell
    failed = False
    for name, text in (("plain", domains[0]), ("doorbell", with_doorbell)):
        with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
            file.write(text)
            file.flush()
            done = subprocess.run(
                ["virt-xml-validate", file.name, "domain"], capture_output=True, text=True, check=False
            )
        print(name, done.stdout, done.stderr)
        failed |= done.returncode != 0
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
