"""What goes wrong on real machines: each is one line with a way out, and nothing half-written."""

import json
import math
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time

import pytest

from companion import execute, fetch, files
from companion.chapters import Chapter, ChapterError
from companion.run import name_of
from test_cli import invoke, tiny_book  # noqa: F401
from test_fetch import CLOSED, CONTENT, everything_under, hub, model, no_pip, wheel  # noqa: F401  (fixtures)
from test_sweep import Slow


@pytest.fixture
def slow(checkout) -> Slow:
    return Slow(checkout)


def assert_one_line(result, *named):
    """Exit code 2, no traceback, and a last line that says all of this."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    for text in named:
        assert text in result.stderr.splitlines()[-1], result.stderr


def left(folder) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".locks"} if folder.exists() else set()


# --- killed ---


def test_killed_run_leaves_no_result_and_the_next_one_clears_up(slow):
    slow.set("pause", "60")
    process = slow.start("-p", "seed=3", command="run")
    slow.wait_for(lambda: slow.log() == ["begun 3"])
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (slow.runs / "seed=3").exists()
    slow.set("pause", "0")
    assert slow.checkout.tripartite("run", "1", "-p", "seed=3").returncode == 0
    assert left(slow.runs) == {"seed=3"}


def test_kernel_killed_while_it_publishes_is_one_line(accepted):
    """The kernel dies between the bytes of a picture and its name."""
    kill = "import os, signal\\nos.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\\n"
    accepted.edit("book/01-tiny.ipynb", "fig, ax =", f"{kill}fig, ax =")
    result = accepted.tripartite("run", "1")
    assert_one_line(result, "01-tiny: Kernel died", "tripartite doctor")
    assert left(accepted.root / "runs/01-tiny") == set()


FETCH = """
import sys
sys.path.insert(0, "tests")
from companion import fetch
from test_fetch import CONTENT, sha256
files = {name: fetch.File(sha256(data), len(data)) for name, data in CONTENT.items()}
fetch.MODELS = {"toy": fetch.RemoteModel(files, sys.argv[1])}
fetch.model_directory("toy")
"""


def test_killed_fetch_keeps_what_was_whole_and_the_next_one_clears_up(hub, model, no_pip, tmp_path):  # noqa: F811
    release = threading.Event()
    hub.wait_before = {"/model.safetensors": release}
    command = [sys.executable, "-c", FETCH, f"http://127.0.0.1:{hub.server_port}"]
    process = subprocess.Popen(command)
    end = time.monotonic() + 60
    while "/model.safetensors" not in hub.asked:
        assert time.monotonic() < end
        time.sleep(0.02)
    process.kill()
    process.wait()
    release.set()
    folder = tmp_path / "cache" / "toy"
    assert [path.name for path in folder.glob(".part-*")]  # it could not clear up
    assert not (folder / "model.safetensors").exists()
    fetch.model_directory("toy")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENT


# --- disks ---


def limited(command, folder, size):
    """Run with no file larger than size bytes, as on a disk that is full."""
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder / "code")},
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )


def test_full_disk_while_a_file_is_replaced(tmp_path):
    (tmp_path / "kept").write_text("old")
    write = "import pathlib; write_bytes(pathlib.Path('kept'), bytes(10_000))"
    command = [sys.executable, "-c", f"from companion.files import write_bytes; {write}"]
    assert "File too large" in limited(command, tmp_path, 5_000).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept").read_text() == "old"


def test_full_disk_during_a_run(slow):
    """Small enough for the kernel's own files, too small for the notebook."""
    slow.write("seed: int = 0  # seed; none; 0 .. 9", "print('x' * 100_000)")
    command = [sys.executable, "-m", "companion.cli", "run", "1"]
    assert_one_line(limited(command, slow.root, 50_000), "File too large")
    assert left(slow.runs) == set()


def test_full_disk_during_a_sweep(tmp_path, slow):
    """A real file system of 100 kB: the runs that fit are kept, the others say why."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "none", disk])
    if mounted.returncode:
        pytest.skip("may not mount a small file system here")
    try:
        slow.write("seed: int = 0  # seed; none; 0 .. 9", "print('x' * 40_000)")
        result = slow.sweep("-p", "seed=0..3", "-o", str(disk / "runs"), "-j", "1")
        assert result.returncode in (1, 2) and "No space left on device" in (
            result.stdout + result.stderr
        )
        assert "Traceback" not in result.stderr
        whole = [
            path for path in (disk / "runs").glob("[!.]*") if (path / "chapter.ipynb").exists()
        ]
        assert whole
        for path in whole:
            assert (path / "report.json").exists()
            Chapter(path / "chapter.ipynb").read()
        assert not list((disk / "runs").glob(".*~*"))
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("kind", ["link", "file", "other"])
def test_output_folder_that_is_no_folder_of_a_run_is_refused_untouched(
    slow,
    tiny_book,  # noqa: F811
    tmp_path,
    kind,
):
    target, kept = tmp_path / "target", tmp_path / "kept"
    kept.mkdir()
    (kept / "thesis.tex").write_text("years of work")
    if kind == "link":
        target.symlink_to(kept)
    elif kind == "file":
        target.write_text("years of work")
    else:
        target = kept
    problem = {"link": "is a symbolic link", "file": "is a file", "other": "holds other files"}
    result = invoke("run", "1", "-o", str(target))
    assert result.exit_code == 2 and problem[kind] in result.output and "give" in result.output
    assert slow.log() == []
    assert (kept / "thesis.tex").read_text() == "years of work"
    assert target.is_symlink() == (kind == "link")


def test_sweep_into_a_folder_with_other_files_touches_none(slow, tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/defaults").mkdir()
    (tmp_path / "kept/defaults/thesis.tex").write_text("years of work")
    result = slow.sweep("-o", str(tmp_path / "kept"))
    assert_one_line(result, "holds other files")
    assert (tmp_path / "kept/defaults/thesis.tex").read_text() == "years of work"


# --- networks ---


def test_proxy_that_answers_with_a_page_is_not_believed(model, hub, no_pip, monkeypatch, tmp_path):  # noqa: F811
    """Every request goes to a proxy which answers 200 and a login page, as hotels have them."""
    page = b"<!doctype html><title>Welcome to our network</title>"
    hub.content = dict.fromkeys((f"{CLOSED}/{name}" for name in CONTENT), page)
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{hub.server_port}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{hub.server_port}")
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.delenv("no_proxy", raising=False)
    for trust, known in (("0", model.files), ("1", dict.fromkeys(CONTENT, fetch.UNKNOWN))):
        monkeypatch.setenv("TRIPARTITE_TRUST_FIRST", trust)
        monkeypatch.setattr(fetch, "MODELS", {"toy": fetch.RemoteModel(known, CLOSED)})
        with pytest.raises(fetch.FetchError) as caught:
            fetch.model_directory("toy")
        said = ("does not match the known hash", "a web page came in its place")[int(trust)]
        assert said in str(caught.value) and "Connect to the network" in str(caught.value)
        assert hub.asked and everything_under(tmp_path / "cache") == []


def test_kernel_that_never_answers_is_one_line(slow, monkeypatch):
    """As without a loopback network: nothing answers, and nbclient gives up."""
    from nbclient import NotebookClient

    def never(self, **_):
        raise RuntimeError("Kernel didn't respond in 60 seconds")

    monkeypatch.setattr(NotebookClient, "start_new_kernel_client", never)
    with pytest.raises(ChapterError, match="01-tiny: Kernel didn't respond .*tripartite doctor"):
        execute.execute(Chapter(slow.checkout.notebook), slow.root / "out.ipynb", {})
    assert not (slow.root / "out.ipynb").exists()


# --- bad files ---

BROKEN = {
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "a list": lambda data: b"[]",
    "no cells": lambda data: b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}',
    "bytes": lambda data: b"\x89PNG\r\n",
    "wrong cells": lambda data: data.replace(b'"cell_type": "code"', b'"cell_type": "cod"'),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_corrupted_notebook_is_named(slow, damage):
    path = slow.checkout.notebook
    path.write_bytes(BROKEN[damage](path.read_bytes()))
    with pytest.raises(ChapterError, match="01-tiny.ipynb is not a notebook .*git checkout"):
        Chapter(path).read()


def test_corrupted_notebook_is_one_line_in_every_command(slow):
    slow.checkout.notebook.write_bytes(b'{"cells": [')
    for command in (
        ["run", "1"],
        ["sweep", "1"],
        ["verify", "1"],
        ["list"],
        ["figure", "tiny-wave"],
    ):
        assert_one_line(slow.checkout.tripartite(*command), "01-tiny.ipynb is not a notebook")


def test_damaged_results_of_runs_are_made_again(slow):
    assert slow.sweep("-p", "seed=0..2").returncode == 0
    for seed, damage in enumerate(
        [
            lambda text: text[:50],
            lambda _: "",
            lambda text: text.replace('"sources": "', '"sources": "0'),
        ]
    ):
        report = slow.runs / ("defaults" if seed == 0 else f"seed={seed}") / "report.json"
        report.write_text(damage(report.read_text()))
    assert "3 of 3 runs done, 0 of them earlier" in slow.sweep("-p", "seed=0..2").stdout
    assert slow.ended() == ["0", "0", "1", "1", "2", "2"]


# --- at once ---


def test_two_runs_of_the_same_at_once_leave_one_whole_result(slow):
    slow.set("pause", "0.2")
    processes = [slow.start("-p", "seed=5", command="run") for _ in range(2)]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert left(slow.runs) == {"seed=5"}
    log = [line.split()[0] for line in slow.log()]
    assert log == ["begun", "ended"] * 2  # one after the other


def test_shell_metacharacters_reach_the_chapter_as_text(slow):
    evil = "$(touch hacked) `touch hacked`; touch hacked #{gain} '\" \\ \n"
    slow.write('text: str = "x"  # a text; none; x | FILE', "print(repr(text))")
    (slow.root / evil).write_text("a file with a hostile name")
    folder = slow.root / "a {gain} $(touch hacked)"
    path = str(slow.root / evil)
    result = slow.checkout.tripartite("run", "1", "-p", f"text={path}", "-o", str(folder))
    assert result.returncode == 0, result.stderr
    cells = Chapter(folder / "chapter.ipynb").read().cells
    assert [o.text for c in cells for o in c.outputs] == [repr(path) + "\n"]
    assert not list(slow.root.rglob("hacked"))
    name = name_of(Chapter(slow.checkout.notebook), {"text": path})
    assert name.isalnum()  # the folder of a run without -o: a hash, no metacharacter


# --- what people do ---


def test_a_run_is_written_where_its_folder_was_typed(accepted, tmp_path):
    """Chapters are executed in a folder of their own: all of a run lands in one place."""
    done = subprocess.run(
        [sys.executable, "-m", "companion.cli", "run", "1", "-o", "mine"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(accepted.root / "code")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert left(tmp_path / "mine") == {"chapter.ipynb", "figures", "report.json"}
    assert (tmp_path / "mine/figures/tiny-wave/tiny-wave.svg").exists()
    assert not (accepted.root / "book/mine").exists()


def test_a_reader_s_own_file_that_has_a_library_s_name_is_not_imported(slow, tmp_path):
    """Python looks for modules where a command is typed, unless told not to."""
    for name in ("random.py", "numpy.py", "companion.py"):
        (tmp_path / name).write_text("raise SystemExit('not this one')")
    for command in (["run", "1"], ["sweep", "1", "-p", "seed=1..2"]):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "companion.cli", *command],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(slow.root / "code")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_numbers_that_are_not_finite_leave_reports_readable(accepted):
    """JSON has no infinity: readers other than Python's refuse it."""
    accepted.edit("book/01-tiny.ipynb", "y.max()", "y.max() / np.zeros(1)[0]")
    done = accepted.tripartite("run", "1", "--json")

    def refuse(constant):
        raise AssertionError(constant)

    path = accepted.root / "runs/01-tiny/defaults/report.json"
    for text in (done.stdout, path.read_text()):
        assert '"inf"' in text
        json.loads(text, parse_constant=refuse)
    numbers = {"a": [math.inf, -math.inf, 1.5, "x"], "b": {"c": math.nan}}
    back = files.from_json(files.to_json(numbers))
    assert back["a"] == numbers["a"] and math.isnan(back["b"]["c"])


def nap():
    time.sleep(60)


def test_processes_end_at_once_where_their_work_is_interrupted():
    """Else Ctrl-C in `tripartite book` and `verify --all` waited for all chapters."""
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), execute.processes(2) as pool:
        jobs = [pool.submit(nap) for _ in range(8)]
        while not any(job.running() for job in jobs):
            time.sleep(0.05)
        raise KeyboardInterrupt
    while multiprocessing.active_children():  # the pool's own thread may still note the last end
        assert time.monotonic() - start < 20
        time.sleep(0.05)


def test_a_folder_within_another_project_s_repository_has_no_commit(accepted):
    """As a release that was unpacked there: that repository's commit says nothing of it."""
    subprocess.run(["git", "init", "-q", str(accepted.root.parent)], check=True)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    commit = ["git", *identity, "commit", "-q", "--allow-empty", "-m", "theirs"]
    subprocess.run(commit, cwd=accepted.root.parent, check=True)
    (accepted.root / "ask.py").write_text("from companion.passport import commit\nprint(commit())")
    assert accepted.call("ask").stdout == "None\n"
    subprocess.run(["git", "init", "-q", str(accepted.root)], check=True)
    subprocess.run(commit, cwd=accepted.root, check=True)
    assert len(accepted.call("ask").stdout) > 40
