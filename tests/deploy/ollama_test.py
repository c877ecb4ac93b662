"""An installed Ollama generates on the vGPU, in a process tree of its own.

    ollama_test.py VGPU_DEVICE SOURCE FOLDER      exit status 77, with the reason, where there is no Ollama or no model
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

SKIPPED = 77


def skip(reason: str) -> None:
    print("skipped:", reason)
    sys.exit(SKIPPED)


def main() -> None:
    device, source, folder = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    if not shutil.which("ollama"):
        skip("there is no ollama on this machine (no 'ollama' on PATH)")
    cache = pathlib.Path(os.environ.get("VGPU_CACHE", pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "vgpu"))
    gguf = pathlib.Path(os.environ.get("VGPU_MODEL", cache / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"))
    if not gguf.exists():
        skip(f"{gguf} is not there; scripts/fetch gets it")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "Modelfile").write_text(f"FROM {gguf}\n")
    (folder / "create").write_text(
        '#!/bin/sh\n# ollama-once asks for a model by name: it is made by a server of the same folder of models.\n'
        f'ollama serve >{folder}/create.log 2>&1 & server=$!\n'
        'tries=0; until ollama list >/dev/null 2>&1 || [ $tries -gt 120 ]; do sleep 1; tries=$((tries + 1)); done\n'
        f'ollama create vgpu-test -f {folder}/Modelfile; status=$?\nkill $server; wait $server; exit $status\n'
    )
    environment = {**os.environ, "OLLAMA_MODELS": str(folder / "models"), "OLLAMA_HOST": "127.0.0.1:11499"}
    subprocess.run(["sh", folder / "create"], env=environment, check=True)
    counters = folder / "counters.json"
    done = subprocess.run(
        [device, "run", "--preload", "--cuda", "12", "--counters", counters, "--", source / "scripts/llama/ollama-once", "vgpu-test", "Say hello."],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, f"status {done.returncode}"
    assert "offloaded" in done.stdout, "the log does not say that layers were offloaded"
    assert json.loads(counters.read_text())["launches"] > 0, "the device counted no launches"


if __name__ == "__main__":
    main()
