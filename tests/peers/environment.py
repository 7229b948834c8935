"""Environments for the peers that we are compared with, each in _build/peers/NAME.

.venv/bin/python tests/peers/environment.py hf    that of hf-requirements.txt
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from companion.paths import ROOT


def set_up(name: str, lock: Path, *, python: str | None = None, hashes: bool = True) -> Path | None:
    """Python of an environment with what the lock pins, made unless it is there; None: no success.

    python: the version that it needs, which uv may have to get; None takes the one that runs.
    """
    venv = ROOT / "_build" / "peers" / name
    stamp, interpreter = venv / ".installed", venv / "bin" / "python"
    if stamp.exists() and stamp.read_text() == lock.read_text():
        return interpreter
    print(f"setting up _build/peers/{name}", flush=True)
    shutil.rmtree(venv, ignore_errors=True)
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    options = ["--require-hashes"] if hashes else []
    if python and uv:
        commands = [
            [uv, "venv", "--quiet", "--python", python, venv],
            [uv, "pip", "install", "--quiet", "--python", interpreter, *options, "-r", lock],
        ]
    else:
        commands = [
            [sys.executable, "-m", "venv", venv],
            [interpreter, "-m", "pip", "install", "--quiet", *options, "-r", lock],
        ]
    for command in commands:
        if subprocess.run(command, check=False).returncode:
            return None
    stamp.write_text(lock.read_text())
    return interpreter


if __name__ == "__main__":
    (wanted,) = sys.argv[1:]
    pinned = Path(__file__).with_name(f"{wanted}-requirements.txt")
    sys.exit(set_up(wanted, pinned, hashes=False) is None)
