"""Do figures come out alike elsewhere? Chapters under other threads, locales, packages, ..."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from .chapters import chapters
from .freshness import computed
from .passport import commit
from .paths import BUILD, ROOT
from .rerun import rerun, together
from .results import read, report

QUICK = ("03-neuron-astrocyte-network", "06-astrocyte-calcium")  # neither needs downloaded weights
VERSIONS = """
import json, platform
from importlib.metadata import distributions
found = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in distributions()}
print(json.dumps(found | {"python": platform.python_version()}))
"""


# kernels of OpenBLAS by the processor that they are for, the levels of x86-64 that such a processor
# does not have, and the feature that this machine must have to execute them
PROCESSORS = {
    "SkylakeX": ((), "AVX512F"),
    "Haswell": (("X86_V4", "AVX512_ICL", "AVX512_SPR"), "AVX2"),
    "Sandybridge": (("X86_V3", "X86_V4", "AVX512_ICL", "AVX512_SPR"), "AVX"),
    "Nehalem": (("X86_V3", "X86_V4", "AVX512_ICL", "AVX512_SPR"), "SSE42"),
}


@dataclass(frozen=True)
class Environment:
    """What differs from a plain run: words for a reader, variables, packages, the checkout."""

    name: str
    what: str
    variables: dict[str, str] = field(default_factory=dict)
    every_chapter: bool = False
    resolution: str | None = None  # of uv; None is the lock
    read_only: bool = False


def processors() -> list[Environment]:
    """Older processors as far as this one can stand in for them, in OpenBLAS alone and in NumPy too."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    known = []
    for core, (above, needed) in PROCESSORS.items():
        if not __cpu_features__.get(needed):
            continue
        blas = {"OPENBLAS_CORETYPE": core}
        known.append(Environment(core.lower(), f"linear algebra as on {core}", blas, True))
        if off := " ".join(f for f in above if f in __cpu_dispatch__ and __cpu_features__[f]):
            words = f"linear algebra and NumPy as on {core}"
            both = blas | {"NPY_DISABLE_CPU_FEATURES": off}
            known.append(Environment(f"{core.lower()}-numpy", words, both, True))
    return known


def processor() -> str:
    """This machine's processor: its name, and the highest level of x86-64 that NumPy finds."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    levels = [f for f in __cpu_dispatch__ if __cpu_features__[f]]
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return f"{names[0] if names else platform.machine()}, {levels[-1] if levels else 'baseline'}"


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
        wanted = ["--resolution", resolution, "--requirements", str(ROOT / "pyproject.toml")]
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
    return not subprocess.run(
        command, env=os.environ | variables, stderr=subprocess.DEVNULL
    ).returncode


def run(environment: Environment, temporary: Path, workers: int) -> dict:
    """Deviations of all figures, claims that fail and package versions in one environment."""
    settings: dict = {"environment": dict(environment.variables), "python": sys.executable}
    if environment.resolution:
        folder = BUILD / "environments" / f"venv-{environment.resolution}"
        settings["python"] = virtual_environment(folder, environment.resolution)
    if environment.read_only:
        settings["root"] = read_only_checkout(temporary / "checkout")
        if os.getuid() == 0:  # whom no permission stops, unless this right is taken away
            settings["prefix"] = [
                "setpriv",
                "--bounding-set=-dac_override",
                "--inh-caps=-dac_override",
            ]
    known = chapters()
    chosen = [c for c in known if environment.every_chapter or c.slug in QUICK]
    kept = BUILD / "environments" / environment.name
    jobs = {
        (environment.name, c.slug): partial(
            rerun, c.slug, {}, kept / f"{c.slug}.json", computed(c), **settings
        )
        for c in chosen
    }
    runs = dict(together(jobs, workers, lambda line: print(line, flush=True)))
    found = {}
    for (_, slug), result in sorted(runs.items()):
        fails = [c["statement"] for c in result.get("claims", {}).values() if not c["holds"]]
        found[slug] = {"of": result["of"], "figures": result.get("figures", {}), "fails": fails}
        found[slug] |= {"texts": sorted(result.get("differences", {}))}
        found[slug] |= {"error": result["error"]} if "error" in result else {}
    words = {"name": environment.name, "what": environment.what}
    words |= {"commit": commit(), "processor": processor()}
    return words | {"packages": packages(settings["python"]), "chapters": found}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--workers", type=int, default=1)
    options.add_argument(
        "names", nargs="*", help="only these; the others keep what they have shown"
    )
    given = options.parse_args()
    known = {environment.name: environment for environment in [*ENVIRONMENTS, *processors()]}
    if odd := set(given.names) - known.keys():
        raise SystemExit(f"{', '.join(odd)}: must be among {', '.join(known)}")
    before = {e["name"]: e for e in read("environments").get("environments", [])}
    results, left_out = [], []
    for environment in known.values():
        if given.names and environment.name not in given.names:
            results += [before[environment.name]] if environment.name in before else []
            continue
        wanted = environment.variables.get("LC_ALL")
        if wanted and not has_locale(wanted, environment.variables):
            left_out.append(environment.what)
            continue
        with tempfile.TemporaryDirectory() as temporary:
            results.append(run(environment, Path(temporary), given.workers))
    report("environments", {"left_out": left_out, "environments": results})
    broken = [
        f"{result['name']}: {slug}: {found}"
        for result in results
        for slug, found in result["chapters"].items()
        if "error" in found
        or found["fails"]
        or found["texts"]
        or any(not deviation <= tolerance for deviation, tolerance in found["figures"].values())
    ]
    raise SystemExit("\n".join(broken) or None)


if __name__ == "__main__":
    main()
