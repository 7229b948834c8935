"""Do figures come out alike elsewhere? Chapters under other threads, locales, packages, ..."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from .chapters import chapters
from .passport import commit
from .paths import BUILD, ROOT
from .rerun import report, rerun, together

QUICK = ("03-neuron-astrocyte-network", "06-astrocyte-calcium")  # neither needs downloaded weights
VERSIONS = """
import json, platform
from importlib.metadata import distributions
found = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in distributions()}
print(json.dumps(found | {"python": platform.python_version()}))
"""


@dataclass(frozen=True)
class Environment:
    """What differs from a plain run: words for a reader, variables, packages, the checkout."""

    name: str
    what: str
    variables: dict[str, str] = field(default_factory=dict)
    every_chapter: bool = False
    resolution: str | None = None  # of uv; None is the lock
    read_only: bool = False


ENVIRONMENTS = [
    Environment("lock", "the lock, one thread", every_chapter=True),
    Environment("threads", "two BLAS threads", {"TRIPARTITE_THREADS": "2"}, True),
    Environment("newest", "newest packages that pyproject.toml allows", {}, True, "highest"),
    Environment("oldest", "oldest packages that pyproject.toml allows", {}, True, "lowest-direct"),
    *(
        Environment(f"hash-{seed}", f"PYTHONHASHSEED={seed}", {"PYTHONHASHSEED": seed})
        for seed in ("0", "1", "4294967295")
    ),
    Environment("locale-c", "locale C", {"LC_ALL": "C", "PYTHONUTF8": "0"}),
    Environment("locale-de", "locale de_DE.UTF-8, decimal comma", {"LC_ALL": "de_DE.UTF-8"}),
    Environment("east", "time zone Pacific/Kiritimati, UTC+14", {"TZ": "Pacific/Kiritimati"}),
    Environment("west", "time zone Pacific/Niue, UTC-11", {"TZ": "Pacific/Niue"}),
    Environment("read-only", "a checkout that the user may not write to", read_only=True),
]


def packages(python: str) -> dict[str, str]:
    done = subprocess.run([python, "-I", "-c", VERSIONS], capture_output=True, check=True)
    return json.loads(done.stdout)


def virtual_environment(folder: Path, resolution: str) -> str:
    """Python of a throwaway environment with what pyproject.toml asks for."""
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        uv = [sys.executable, "-m", "uv", "--quiet"]
        subprocess.run([*uv, "venv", "--clear", "--python", sys.executable, folder], check=True)
        wanted = ["--resolution", resolution, "--requirements", ROOT / "pyproject.toml"]
        install = [*uv, "pip", "install", "--python", python, *wanted, "--extra", "book"]
        subprocess.run(install, check=True)
        (folder / "complete").touch()
    return str(python)


def read_only_checkout(folder: Path) -> Path:
    for name in ("code", "book", "data"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    return folder


def has_locale(name: str, variables: dict[str, str]) -> bool:
    check = f"import locale; locale.setlocale(locale.LC_ALL, {name!r})"
    command = [sys.executable, "-c", check]
    return not subprocess.run(command, env=os.environ | variables, stderr=subprocess.DEVNULL).returncode


def run(environment: Environment, temporary: Path, workers: int) -> dict:
    """Deviations of all figures, claims that fail and package versions in one environment."""
    settings: dict = {"environment": dict(environment.variables), "python": sys.executable}
    if environment.resolution:
        folder = BUILD / "environments" / f"venv-{environment.resolution}"
        settings["python"] = virtual_environment(folder, environment.resolution)
    if environment.read_only:
        settings["root"] = read_only_checkout(temporary / "checkout")
        if os.getuid() == 0:  # whom no permission stops, unless this right is taken away
            settings["prefix"] = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]
    known = chapters()
    chosen = [c for c in known if environment.every_chapter or c.slug in QUICK]
    kept = BUILD / "environments" / environment.name
    jobs = {
        (environment.name, c.slug): partial(rerun, c.slug, {}, kept / f"{c.slug}.json", **settings)
        for c in chosen
    }
    runs = dict(together(jobs, workers, lambda line: print(line, flush=True)))
    found = {}
    for (_, slug), result in sorted(runs.items()):
        fails = [c["statement"] for c in result.get("claims", {}).values() if not c["holds"]]
        found[slug] = {"figures": result.get("figures", {}), "fails": fails}
        found[slug] |= {"error": result["error"]} if "error" in result else {}
    words = {"name": environment.name, "what": environment.what}
    return words | {"packages": packages(settings["python"]), "chapters": found}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--workers", type=int, default=1)
    workers = options.parse_args().workers
    results, left_out = [], []
    for environment in ENVIRONMENTS:
        wanted = environment.variables.get("LC_ALL")
        if wanted and not has_locale(wanted, environment.variables):
            left_out.append(environment.what)
            continue
        with tempfile.TemporaryDirectory() as temporary:
            results.append(run(environment, Path(temporary), workers))
    report("environments", {"commit": commit(), "left_out": left_out, "environments": results})
    broken = [
        f"{result['name']}: {slug}: {found}"
        for result in results
        for slug, found in result["chapters"].items()
        if "error" in found
        or found["fails"]
        or any(not deviation <= tolerance for deviation, tolerance in found["figures"].values())
    ]
    raise SystemExit("\n".join(broken) or None)


if __name__ == "__main__":
    main()
