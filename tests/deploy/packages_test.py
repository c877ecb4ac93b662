"""The Debian packages: what they hold, and that putting them on a machine activates nothing.

    packages_test.py CPACK BUILD FOLDER       exit status 77, with the reason, where they cannot be made
"""

import pathlib
import shutil
import subprocess
import sys

SKIPPED = 77


def output(*command, **more) -> str:
    done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **more)
    assert done.returncode == 0, f"{command}: status {done.returncode}\n{done.stdout}"
    return done.stdout


def main() -> None:
    cpack, build, folder = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    if not shutil.which("dpkg-deb"):
        print("skipped: dpkg-deb is not here; only Debian's packages are made")
        sys.exit(SKIPPED)
    for program in ("vgpu-device", "vgpu-probe", "vgpu-deploy"):
        if not (build / "tools" / program / program).exists():
            print(f"skipped: {program} is not built in {build}")
            sys.exit(SKIPPED)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(output(cpack, "-G", "DEB", "-B", folder, cwd=build)[-300:])
    packages = {path.name.split("_")[0]: path for path in folder.glob("*.deb")}
    assert set(packages) == {"vgpu-guest", "vgpu-host"}, packages
    root = folder / "root"
    for name, package in packages.items():
        listing = output("dpkg-deb", "-c", package)
        print(name, output("dpkg-deb", "-f", package, "Depends", "Version"), listing, sep="\n")
        output("dpkg-deb", "-x", package, root)
        output("dpkg-deb", "-e", package, folder / f"{name}.control")
        scripts = {path.name for path in (folder / f"{name}.control").iterdir()} - {"control", "md5sums"}
        assert not scripts, f"{name} does something when it is installed: {scripts}"
    held = {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}
    (libraries,) = {str(pathlib.PurePath(path).parent) for path in held if path.endswith("/libvgpu-cuda.so")}
    wanted = ["usr/sbin/vgpu-deploy", "usr/bin/vgpu-probe", "usr/bin/vgpu-device", "usr/lib/udev/rules.d/70-vgpu.rules", "usr/share/man/man8/vgpu-deploy.8"]
    wanted += [f"{libraries}/{name}" for name in ("vgpu-check", "libcuda.so.1", "libcudart.so.12", "libcublas.so.13", "libnvidia-ml.so.1")]
    assert not set(wanted) - held, f"missing: {set(wanted) - held}"
    # Nothing that acts by being there: no configuration, no unit, no library where the loader looks.
    acting = [path for path in held if path.startswith(("etc/", "usr/etc/")) or "/systemd/" in path or "ld.so.conf" in path]
    assert not acting, acting
    assert libraries.endswith("/vgpu"), libraries
    seen = output("/sbin/ldconfig", "-r", root, "-N", "-X", "-v") if pathlib.Path("/sbin/ldconfig").exists() else ""
    assert "libvgpu" not in seen and "libcuda" not in seen, seen
    for name in ("libvgpu-cuda.so", "libvgpu-cudart12.so"):
        assert b"vgpu shim library" in (root / libraries / name).read_bytes(), f"{name} does not say what it is"
    # The tool of the package finds its libraries.
    bundle = folder / "bundle.sh"
    print(output("dash", root / "usr/sbin/vgpu-deploy", "bundle", "-o", bundle))
    assert "install" in output("dash", bundle, "--help")


if __name__ == "__main__":
    main()
