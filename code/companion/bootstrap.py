"""Make .venv from the lock. Only the standard library, and syntax that an old Python can read."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "Scripts" if os.name == "nt" else "bin", "python")
LOCK = os.path.join(ROOT, "requirements.lock")
STAMP = os.path.join(VENV, ".installed")
OLDEST = (3, 11)
NEEDED_GB = 1.5  # the environment takes 0.7 GB, its installation and a build the rest


def main():
    if sys.version_info[:2] < OLDEST:
        stop(
            "Python %d.%d is too old: the book needs Python %d.%d or newer.\n"
            "Name one with: make PYTHON=/path/to/python3.11 ..." % (sys.version_info[:2] + OLDEST)
        )
    free = shutil.disk_usage(ROOT).free / 1e9
    if not os.path.exists(STAMP) and free < NEEDED_GB:
        stop("Disk too full: %.1f GB free at %s, %.1f GB needed." % (free, ROOT, NEEDED_GB))
    if installed() == wanted():
        return
    if moved():  # its scripts and its link to the checkout name the old place
        shutil.rmtree(VENV)
    sys.stdout.write("setting up .venv from requirements.lock: a minute or more, by the network\n")
    sys.stdout.flush()
    if not os.path.exists(PYTHON):
        call(
            [sys.executable, "-m", "venv", VENV],
            "Could not create .venv. On Debian and Ubuntu: apt-get install python3-venv",
        )
    install()
    with open(STAMP, "w") as file:
        file.write(wanted())


def install():
    hint = (
        "Could not install the locked packages. Is the network up, and the disk not full?\n"
        "Run the same command again to go on where it stopped."
    )
    uv = uv_command()
    if uv:
        call(uv + ["--require-hashes", "--requirement", LOCK], hint)
        call(uv + ["--no-deps", "--no-build-isolation", "--editable", ROOT], hint)
        return
    pip = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    call(pip + ["--require-hashes", "--requirement", LOCK], hint)
    call(pip + ["--no-deps", "--no-build-isolation", "--editable", ROOT], hint)


def uv_command():
    """uv installs eight times faster than pip: take the machine's, or the lock's own, or none."""
    found = shutil.which("uv")
    if not found:
        with open(LOCK) as file:
            pin = re.search(r"^uv==(?:.*\\\n)*.*\n", file.read(), re.M)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "uv.txt")
            with open(path, "w") as file:
                file.write(pin.group(0))
            pip = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
            subprocess.call(pip + ["--require-hashes", "--requirement", path])
        found = os.path.join(os.path.dirname(PYTHON), "uv")
    if not os.path.exists(found):
        return None
    return [found, "pip", "install", "--quiet", "--python", PYTHON]


def call(command, hint):
    if subprocess.call(command):
        stop(hint)


def wanted():
    digest = hashlib.sha256()
    for name in (LOCK, os.path.join(ROOT, "pyproject.toml")):
        with open(name, "rb") as file:
            digest.update(file.read())
    return digest.hexdigest() + "\n" + os.path.realpath(VENV) + "\n"


def moved():
    """Whether .venv is one that was made here, before the checkout had its present place."""
    made = (installed() or "").splitlines()
    return len(made) == 2 and made[1] != os.path.realpath(VENV) and not os.path.islink(VENV)


def installed():
    try:
        with open(STAMP) as file:
            return file.read()
    except OSError:
        return None


def stop(message):
    sys.exit("setup: " + message)


if __name__ == "__main__":
    main()
