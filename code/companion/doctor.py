"""Is this machine ready for the book? Environment, cache, disk, network, kernel, browser."""

from __future__ import annotations

import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

from . import fetch
from .paths import BUILD, ROOT
from .verify import differing_packages

NEEDED_GB = 1.0  # for a build beside a sweep


class Check(NamedTuple):
    """state: ok, warning (the book works without it) or problem; advice where it is not ok."""

    name: str
    state: str
    found: str
    advice: str = ""


def diagnose() -> Iterator[Check]:
    """Every check in turn; none of them raises."""
    for check in CHECKS:
        try:
            yield check()
        except Exception as error:  # a check that fails is a finding
            name = check.__name__.strip("_")
            yield Check(name, "problem", f"{type(error).__name__}: {error}")


def _python() -> Check:
    found = f"{platform.python_version()} at {sys.executable}"
    return _check("python", sys.version_info >= (3, 11), found, "make PYTHON=/path/to/python3.11")


def _packages() -> Check:
    different = differing_packages()
    found = "; ".join(different[:5]) if different else "as in requirements.lock"
    advice = "make setup; other versions may change digits"
    return _check("packages", not different, found, advice, "warning")


def _checkout() -> Check:
    git = shutil.which("git") is not None and (ROOT / ".git").exists()
    found = str(ROOT) if git else f"{ROOT}, without git"
    advice = "passports and citations name no commit, verify cannot tell what was edited"
    return _check("checkout", git, found, advice, "warning")


def _models() -> Check:
    missing = [name for name in fetch.BOOK if not fetch.is_cached(name)]
    found = f"{fetch.cache_directory()}: " + (f"lacks {', '.join(missing)}" if missing else "whole")
    advice = "tripartite fetch, which make book also does; some chapters need none"
    return _check("models", not missing, found, advice, "warning")


def _disk() -> Check:
    place = BUILD if BUILD.exists() else ROOT
    free = shutil.disk_usage(place).free / 1e9
    return _check("disk", free > NEEDED_GB, f"{free:.1f} GB free at {place}", "make room")


def _hub() -> Check:
    hosts = {urlsplit(model.hub).hostname for model in fetch.MODELS.values() if model.hub}
    dead = []
    for host in sorted(hosts):
        try:
            socket.create_connection((host, 443), fetch.TIMEOUT[0]).close()
        except OSError as error:
            dead.append(f"{host}: {error}")
    found = "; ".join(dead) or f"{', '.join(sorted(hosts))} answers"
    advice = "needed only for models that are not in the cache; a wheel may have them"
    return _check("hub", not dead, found, advice, "warning")


def _kernel() -> Check:
    from jupyter_client.manager import start_new_kernel

    from .execute import ARGUMENTS

    options = {"startup_timeout": 20, "extra_arguments": ARGUMENTS}
    try:
        manager, client = start_new_kernel(kernel_name="python3", **options)
    except RuntimeError as error:
        advice = "it needs the loopback network, 127.0.0.1; sweep does without"
        return Check("kernel", "problem", str(error), advice)
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    return Check("kernel", "ok", "a Jupyter kernel starts and answers")


def _browser() -> Check:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    found = "no Chromium"
    if path:
        command = [path, "--version"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()
    return _check("browser", bool(path), found, "apt-get install chromium: for tests", "warning")


def _check(name: str, good: bool, found: str, advice: str, otherwise: str = "problem") -> Check:
    return Check(name, "ok", found) if good else Check(name, otherwise, found, advice)


CHECKS: list[Callable[[], Check]] = [
    _python, _packages, _checkout, _models, _disk, _hub, _kernel, _browser,
]  # fmt: skip
