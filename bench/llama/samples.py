"""Where the processor is while the vGPU's device works: samples of perf's clock, by library and by instruction.

The instructions are those of compiled kernels. The clock's interrupt waits for gathers and scatters, which take long, and
then shows what follows them: such samples count for the gather. A load that is waited for shows at what uses it.
"""

import collections
import contextlib
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator

RATE = 997  # a second

GATHERS = "gathers, scatters"
# The first that matches a mnemonic is its class.
CLASSES = (
    (GATHERS, r"vp?gather|vp?scatter"),
    ("integer dot products", r"vpdp|vpmadd"),
    ("conversions", r"vcvt|cvt|vpmov[sz]x|vpmov(w|d|q|us|s)"),
    ("permutes, shuffles, inserts", r"vperm|vpperm|vpshuf|vshuf|vpunpck|vunpck|v?p?ins|v?p?ext|vpalign|valign|"
                                    r"vp?broadcast|vpack|vmovs[lh]dup|vmovddup|vpblend|vblend|vpcompress|vpexpand"),
    ("masks, comparisons of vectors", r"k[a-z]+[bwdq]$|vpcmp|vcmp|vptest|vpmovm2|vpmov[bwdq]2m"),
    ("moves of vectors", r"vmov|vlddqu"),
    ("floating point", r"v(f?n?m?add|fm|fnm|sub|mul|div|max|min|rcp|rsqrt|sqrt|rndscale|round|scalef|range|reduce|getexp)"),
    ("integers in vectors", r"vp|vdbpsad|vand|vor|vxor|vtern"),
    ("branches, calls", r"j|call|ret|loop"),
    ("scalars", r""),
)  # fmt: skip


def available() -> bool:
    return shutil.which("perf") is not None and shutil.which("objdump") is not None


def device_processes(root: int) -> list[int]:
    """The processes of a device below the one that started it."""
    children = collections.defaultdict(list)
    names = {}
    for entry in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            number, _, rest = entry.read_text().partition(" (")
            name, _, fields = rest.rpartition(") ")
            children[int(fields.split()[1])].append(int(number))
            names[int(number)] = name
    found, waiting = [], [root]
    while waiting:
        one = waiting.pop()
        waiting += children[one]
        if "device" in names.get(one, ""):
            found.append(one)
    return found


class Samples:
    def __init__(self, perf: subprocess.Popen, file: pathlib.Path):
        self.perf = perf
        self.file = file

    def stop(self) -> None:
        if self.perf.poll() is None:
            self.perf.send_signal(signal.SIGINT)
            self.perf.wait()

    def table(self) -> str:
        """Ends the sampling. To be asked while the processes live: the code that was sampled is read from them."""
        self.stop()
        libraries: collections.Counter[str] = collections.Counter()
        kernels: collections.Counter[tuple[int, int]] = collections.Counter()
        script = subprocess.run(
            ["perf", "script", "-i", str(self.file), "-F", "pid,ip,dso"], stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, check=True,
        )  # fmt: skip
        for line in script.stdout.splitlines():
            found = re.match(r"\s*(\d+)\s+([0-9a-f]+)\s+\((.*)\)$", line)
            if not found:
                continue
            number, address, library = int(found[1]), int(found[2], 16), found[3]
            # Code in no file: what perf calls it depends on when it appeared. The upper half is the system's.
            if re.search(r"perf-\d+\.map|\[JIT\]|//anon|\[unknown\]", library) and address < 1 << 47:
                kernels[number, address] += 1
                library = "compiled kernels"
            libraries[pathlib.Path(library).name if library.startswith("/") else library] += 1
        every = libraries.total()
        if every == 0:
            return "no samples"
        lines = [f"where {every} samples lie:"]
        lines += [f"{count / every:6.1%}  {name}" for name, count in libraries.most_common(8)]
        instructions = self._instructions(kernels)
        if instructions:
            inside = instructions.total()
            lines.append("of those in compiled kernels, by instruction (with an operand in memory):")
            by_class: collections.Counter[str] = collections.Counter()
            with_memory: collections.Counter[str] = collections.Counter()
            of_class: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
            for (mnemonic, memory), count in instructions.items():
                name = class_of(mnemonic)
                by_class[name] += count
                with_memory[name] += count if memory else 0
                of_class[name][mnemonic] += count
            for name, count in by_class.most_common():
                most = ", ".join(f"{one} {share / inside:.1%}" for one, share in of_class[name].most_common(4))
                lines.append(f"{count / inside:6.1%}  ({with_memory[name] / inside:5.1%})  {name}: {most}")
        return "\n".join(lines)

    def _instructions(self, kernels: collections.Counter[tuple[int, int]]) -> collections.Counter[tuple[str, bool]]:
        found: collections.Counter[tuple[str, bool]] = collections.Counter()
        for process in {number for number, _ in kernels}:
            addresses = {address: count for (number, address), count in kernels.items() if number == process}
            code = disassembled(process, addresses)
            for address, count in addresses.items():
                if address in code:
                    found[code[address]] += count
        return found


def disassembled(process: int, addresses: dict[int, int]) -> dict[int, tuple[str, bool]]:
    """Of each address the instruction, and whether it has an operand in memory."""
    code: dict[int, tuple[str, bool]] = {}
    with contextlib.suppress(OSError), open(f"/proc/{process}/mem", "rb", buffering=0) as memory:
        for line in pathlib.Path(f"/proc/{process}/maps").read_text().splitlines():
            bounds, access, *_ = line.split()
            first, behind = (int(one, 16) for one in bounds.split("-"))
            if "x" not in access or not any(first <= one < behind for one in addresses):
                continue
            memory.seek(first)
            with tempfile.NamedTemporaryFile() as part:
                part.write(memory.read(behind - first))
                part.flush()
                dump = subprocess.run(
                    ["objdump", "-D", "-b", "binary", "-m", "i386:x86-64", "--no-show-raw-insn",
                     f"--adjust-vma={first:#x}", part.name], stdout=subprocess.PIPE, text=True, check=True,
                )  # fmt: skip
            before = ("", False)
            for text in dump.stdout.splitlines():
                found = re.match(r"\s*([0-9a-f]+):\s+(?:[a-z]+ )*?(\S+)\s*(.*)", text)
                if not found:
                    continue
                here = (found[2], "(" in found[3])
                if (address := int(found[1], 16)) in addresses:
                    code[address] = before if class_of(before[0]) == GATHERS else here
                before = here
    return code


def class_of(mnemonic: str) -> str:
    return next(name for name, pattern in CLASSES if re.match(pattern, mnemonic))


@contextlib.contextmanager
def sampled(root: int) -> Iterator[Samples | None]:
    """Samples of the device below a process, while the context lasts; None where perf or objdump are not there."""
    processes = device_processes(root) if available() else []
    if not processes:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="vgpu-samples.") as folder:
        file = pathlib.Path(folder) / "perf.data"
        perf = subprocess.Popen(
            ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(RATE), "-o", str(file), "-p",
             ",".join(map(str, processes))], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

        samples = Samples(perf, file)
        try:
            yield samples
        finally:
            samples.stop()
