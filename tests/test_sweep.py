"""Sweeps: nothing lost, nothing doubled, nothing leaked, whatever is killed in between."""

import ast
import csv
import json
import os
import signal
import subprocess
import sys
import time

import nbformat
import pyarrow.parquet
import pytest

from companion import sweep, warm
from companion.chapters import Chapter, chapters
from companion.parameters import ParameterError

PARAMETERS = """\
seed: int = 0  # seed; none; 0 .. 100
gain: float = 1.0  # gain; none; 0.1 .. 10.0
wave: str = "sine"  # shape; none; sine | cosine
"""
# what stands in files beside book/ steers a run from outside, without making it another one
WORK = """\
import os, signal, time
from companion import claim
from tripartite import attention
def note(what):
    with open("../log.txt", "a") as file:
        file.write(f"{what} {seed}\\n")
note("begun")
time.sleep(float(open("../pause.txt").read()))
if str(seed) in open("../killed.txt").read().split():
    os.kill(os.getpid(), signal.SIGKILL)
claim("C5", "gain", "Gain", gain * {1: 2}.get(seed, 1) / (seed != 13), "< 3", kind="result")"""
END = 'note("ended")\nclaim("C5", "seed", "Seed", float(seed), "< 50", kind="result")'


class Slow:
    """A checkout whose chapter logs when it begins and ends, and pauses in between."""

    def __init__(self, checkout):
        self.checkout, self.root = checkout, checkout.root
        self.runs = self.root / "runs/01-tiny"
        self.write(PARAMETERS, WORK, END)
        self.set("pause", "0")
        self.set("killed", "")

    def write(self, *sources):
        cells = [nbformat.v4.new_code_cell(s, id=f"c{i}") for i, s in enumerate(sources)]
        cells[0].metadata = {"tags": ["parameters"]}
        nbformat.write(nbformat.v4.new_notebook(cells=cells), self.checkout.notebook)

    def set(self, name, text):
        (self.root / f"{name}.txt").write_text(text)

    def log(self):
        path = self.root / "log.txt"
        return path.read_text().splitlines() if path.exists() else []

    def ended(self):
        return sorted(line.split()[1] for line in self.log() if line.startswith("ended"))

    def kept(self):
        """Seeds of the runs that have their folder."""
        names = [path.name for path in self.runs.glob("[!.]*")] if self.runs.exists() else []
        return ["0" if name == "defaults" else name.removeprefix("seed=") for name in names]

    def sweep(self, *arguments):
        return self.checkout.tripartite("sweep", "1", *arguments)

    def start(self, *arguments, command="sweep", interrupt=signal.SIG_DFL):
        return subprocess.Popen(
            [sys.executable, "-m", "companion.cli", command, "1", *arguments],
            cwd=self.root,
            env=os.environ | {"PYTHONPATH": str(self.root / "code")},
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, interrupt),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def wait_for(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.log()
            time.sleep(0.02)

    def table(self):
        with (self.runs / "table.csv").open(newline="") as file:
            return list(csv.DictReader(file))


@pytest.fixture
def slow(checkout) -> Slow:
    return Slow(checkout)


def seeds(n):
    return sorted(str(seed) for seed in range(n))


# --- the grid ---


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"seed": "0..3"}, [{"seed": s} for s in (0, 1, 2, 3)]),
        ({"seed": "0..9..4,1"}, [{"seed": s} for s in (0, 4, 8, 1)]),
        ({"gain": "1,2.5,1.0"}, [{"gain": 1.0}, {"gain": 2.5}]),
        ({"seed": [3, 4]}, [{"seed": 3}, {"seed": 4}]),
        (
            {"wave": "sine,cosine", "seed": "7"},
            [{"wave": w, "seed": 7} for w in ("sine", "cosine")],
        ),
        ({}, [{}]),
    ],
)
def test_grid(slow, given, expected):
    assert sweep.grid(Chapter(slow.checkout.notebook), given) == expected


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"seed": "0..101"}, "seed = 101: must be 0 .. 100"),
        ({"seed": "9..0"}, "seed = '9..0': must be of type int"),
        ({"seed": "1,,2"}, "seed = '': must be of type int"),
        ({"seed": "0..4..0"}, "seed = '0..4..0': must be of type int"),
        ({"gain": "0..1"}, "gain = '0..1': must be of type float"),
        ({"wave": "sine;rm -rf ~"}, "must be sine | cosine"),
        ({"seed": []}, "seed: must have at least one value"),
        ({"seed": [{"a": 1}]}, "must be of type int"),
        ({"noise": "1"}, "'noise' is not one of its parameters"),
    ],
)
def test_bad_grids_are_refused(slow, given, named):
    with pytest.raises(ParameterError) as caught:
        sweep.grid(Chapter(slow.checkout.notebook), given)
    assert named in str(caught.value)


# --- a sweep and its table ---


def test_table_has_every_result_and_every_failure(slow):
    slow.set("killed", "2")
    result = slow.sweep("-p", "seed=0,1,2,13", "-p", "gain=2", "--json")
    assert result.returncode == 1, result.stderr
    report = json.loads(result.stdout)
    assert report["runs"] == 4 and report["kept"] == 0
    assert report["failed"]["gain=2.0-seed=2"] == "Died: exit code -9"
    assert "ZeroDivisionError: float division by zero" in report["failed"]["gain=2.0-seed=13"]
    rows = slow.table()
    observed = {(row["seed"], row["quantity"]): row["value"] for row in rows if row["quantity"]}
    assert observed == {
        ("0", "claim gain"): "2",
        ("0", "claim seed"): "0",
        ("1", "claim gain"): "4",
        ("1", "claim seed"): "1",
    }
    assert {row["seed"]: row["error"] for row in rows if row["error"]}.keys() == {"2", "13"}
    holds = {row["seed"]: row["holds"] for row in rows if row["quantity"] == "claim gain"}
    assert holds == {"0": "true", "1": "false"}
    parquet = pyarrow.parquet.read_table(slow.runs / "table.parquet")
    assert parquet.num_rows == len(rows) == 6
    assert parquet.column("gain").to_pylist() == [2.0] * 6

    # again: the error of a cell stands, a killed run has another chance, the rest is kept
    slow.set("killed", "")
    result = slow.sweep("-p", "seed=0,1,2,13", "-p", "gain=2")
    assert result.returncode == 1
    assert "3 of 4 runs done, 2 of them earlier" in result.stdout
    assert slow.log().count("begun 13") == 1 and slow.log().count("begun 2") == 2
    assert slow.sweep("-p", "seed=13", "-p", "gain=2", "--retry").returncode == 1
    assert slow.log().count("begun 13") == 2
    slow.checkout.edit("code/tripartite/attention.py", '"""Softmax', '"""Scaled softmax')
    assert "0 of them earlier" in slow.sweep("-p", "seed=0", "-p", "gain=2").stdout
    assert {row["seed"] for row in slow.table()} == {"0"}  # the rest is of other sources


def test_figures_are_summarised(accepted):
    result = accepted.tripartite("sweep", "1", "-p", "size=1.0,2.0", "--json")
    folder = accepted.root / "runs/01-tiny"
    assert result.returncode == 0, result.stderr
    with (folder / "table.csv").open(newline="") as file:
        found = {(r["size"], r["quantity"]): r["value"] for r in csv.DictReader(file)}
    assert float(found["1", "figure tiny-wave/x/max"]) == 6
    assert 2.99 < float(found["1", "figure tiny-wave/y/max"]) < 3
    assert 3.99 < float(found["2", "figure tiny-wave/y/max"]) < 4

    # a run in the warm process shows what a Jupyter kernel shows, output by output
    kernel = accepted.root / "kernel"
    assert accepted.tripartite("run", "1", "-p", "size=2.0", "-o", str(kernel)).returncode == 0
    cells = [nbformat.read(f / "chapter.ipynb", 4).cells for f in (folder / "size=2.0", kernel)]
    for ours, theirs in zip(*cells, strict=True):
        assert ours.source == theirs.source
        assert ours.get("outputs") == theirs.get("outputs")
        assert ours.get("execution_count") == theirs.get("execution_count")


STREAMS = """\
import sys
from IPython.display import Markdown, display
print("one"); print("err", file=sys.stderr); print("two")
display(Markdown("shown"))
print("three")
1 + 1"""


def test_streams_and_displays_keep_their_order(slow):
    slow.write(PARAMETERS, STREAMS, "None", "%time x = 1\nx;")
    folders = [slow.root / name for name in ("warm", "cold")]
    server = warm.Server(slow.checkout.notebook)
    job = {"chapter": str(slow.checkout.notebook), "values": {}, "state": "any"}
    assert server(job | {"folder": str(folders[0])}) is None
    assert slow.checkout.tripartite("run", "1", "-o", str(folders[1])).returncode == 0
    ours, theirs = (nbformat.read(f / "chapter.ipynb", 4).cells for f in folders)
    assert ours[1].outputs[0].text == "one\n"
    texts = [[o.get("text") or o.data["text/plain"] for o in c[1].outputs] for c in (ours, theirs)]
    assert texts[0] == ["one\n", "err\n", "two\n", texts[0][3], "three\n", "2"]
    # a kernel gathers what it prints; only the order within a stream is its promise
    assert sorted("".join(texts[0])) == sorted("".join(texts[1]))
    assert ours[2].outputs == [] and ours[3].outputs[0].name == "stdout"


LEAKS = """\
import os, sys
import companion, numpy as np, numpy.random
from companion import claim
import matplotlib.pyplot as plt
places = [companion.__dict__, os.environ, globals(), sys.modules, np.__dict__]
leaks = sum("dirty" in place for place in places) + (plt.rcParams["lines.linewidth"] == 99)
for place in places:
    place["dirty"] = "yes"
plt.rcParams["lines.linewidth"] = 99
os.chdir("/")
claim("C1", "leaks", "Leaks", leaks, "< 0.5", kind="result")"""


def test_no_state_leaks_from_run_to_run(slow):
    draw = 'claim("C2", "drawn", "Drawn without a seed", np.random.rand(), "> -1", kind="result")'
    slow.write(PARAMETERS, LEAKS, draw)
    result = slow.sweep("-p", "seed=0..3", "-j", "1")
    assert result.returncode == 0, result.stderr + result.stdout
    rows = slow.table()
    assert [row["value"] for row in rows if row["quantity"] == "claim leaks"] == ["0"] * 4
    drawn = {row["value"] for row in rows if row["quantity"] == "claim drawn"}
    assert len(drawn) == 4  # a fork does not repeat its siblings' random numbers


def test_sources_that_change_meanwhile_are_never_taken_for_the_old_ones(slow):
    edit = """\
import pathlib
from companion import claim
from tripartite import attention
path = pathlib.Path("../code/tripartite/attention.py")
if str(seed) in open("../killed.txt").read():
    path.write_text(path.read_text() + "# edited")"""
    slow.write(PARAMETERS, edit, END.replace("note", "print"))
    slow.set("killed", "1")
    assert slow.sweep("-p", "seed=0..1", "-j", "1").returncode == 0
    slow.set("killed", "")
    slow.checkout.edit("code/tripartite/attention.py", "# edited", "")
    assert "2 of 2 runs done, 1 of them earlier" in slow.sweep("-p", "seed=0..1").stdout


def test_a_text_that_changes_meanwhile_is_never_taken_for_the_old_one(slow):
    own = slow.root / "own.txt"
    own.write_text("old")
    edit = "import pathlib\nif edits:\n    pathlib.Path(text).write_text('new')"
    parameters = (
        'text: str = "x"  # a text; none; x | FILE\n'
        "edits: bool = False  # whether it is edited; none; False | True"
    )
    slow.write(
        parameters,
        edit,
        'from companion import claim\nclaim("C5", "a", "A", 1.0, "< 2", kind="fact")',
    )
    given = ("-p", f"text={own}", "-p", "edits=True,False", "-j", "1")
    assert slow.sweep(*given).returncode == 0  # the first edits what the second reads
    own.write_text("old")
    assert "2 of 2 runs done, 0 of them earlier" in slow.sweep(*given).stdout
    own.write_text("old")
    given = ("-p", f"text={own}", "-p", "edits=False")
    assert slow.sweep(*given).returncode == 0
    assert "1 of 1 runs done, 1 of them earlier" in slow.sweep(*given).stdout


# --- the book's own chapters ---

# forked from one process, so that seventeen servers share the imports that all of them need
SERVED = """
import json, os, sys
from pathlib import Path
import matplotlib.pyplot, papermill, scipy.stats
from companion import chapters, warm
import tripartite.pretrained
cut, answers = Path(sys.argv[1]), {}
for chapter in chapters.chapters():
    job = {"chapter": str(cut / chapter.path.name), "values": {}, "state": "any"}
    read, write = os.pipe()
    if os.fork() == 0:
        os.dup2(write, 1)
        sys.stdin = [json.dumps(job | {"folder": str(cut / chapter.slug)})]
        warm.serve(chapter.path)
        os._exit(0)
    os.close(write)
    answers[chapter.slug] = open(read).read()
    os.wait()
print(json.dumps(answers))
"""


def imports_of(source):
    """The import statements of a cell as they stand there, wrapped ones whole."""
    lines = ["pass" if line.startswith(("%", "!")) else line for line in source.splitlines()]
    kept = [node for node in ast.parse("\n".join(lines)).body if "Import" in type(node).__name__]
    return "\n".join("\n".join(lines[n.lineno - 1 : n.end_lineno]) for n in kept)


def test_every_chapter_has_a_server_that_runs_its_imports(tmp_path):
    for chapter in chapters():
        notebook = chapter.read()
        for cell in notebook.cells:
            if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", []):
                cell.source, cell.outputs = imports_of(cell.source), []
        nbformat.write(notebook, tmp_path / chapter.path.name)
    command = [sys.executable, "-c", SERVED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {c.slug: "null\n" for c in chapters()}, done.stderr


IMPORTS = """\
%matplotlib inline
from email import (
    message,
    policy,  # wrapped
)
text = '''
from here on, prose
import nothing of the kind
'''
print("shown");
%time import wave"""


def test_what_a_chapter_imports_is_read_from_whole_cells(slow):
    slow.write(PARAMETERS, IMPORTS, "from a lighter topic (", "import email.charset as charset")
    found = warm.imported(Chapter(slow.checkout.notebook))
    assert found == ["email", "email.message", "email.policy", "email.charset"]


# --- interruptions ---


@pytest.mark.parametrize("kill", ["the sweep", "everything", "ctrl-c"])
def test_killed_sweep_goes_on_where_it_stopped(slow, kill):
    slow.set("pause", "0.3")
    process = slow.start("-p", "seed=0..5", "-j", "2")
    slow.wait_for(lambda: len(slow.kept()) >= 2)
    kept = slow.kept()
    if kill == "the sweep":
        os.kill(process.pid, signal.SIGKILL)
    else:
        os.killpg(process.pid, signal.SIGKILL if kill == "everything" else signal.SIGINT)
    code = process.wait(30)
    assert code == (130 if kill == "ctrl-c" else -9)
    slow.set("pause", "0")
    result = slow.sweep("-p", "seed=0..5")
    assert result.returncode == 0, result.stderr
    assert set(slow.ended()) == set(seeds(6))
    for seed in kept:
        assert slow.ended().count(seed) == 1
    if kill == "the sweep":  # what its servers had in hand was finished, and not done twice
        assert slow.ended() == seeds(6)
    assert not [path for path in slow.runs.iterdir() if "~" in path.name]
    assert len(slow.table()) == 12


def test_sweep_in_the_background_of_a_script_ignores_ctrl_c(slow):
    """A shell without job control starts it with the signal ignored; its runs ignore it too."""
    slow.set("pause", "0.3")
    process = slow.start("-p", "seed=0..3", "-j", "2", interrupt=signal.SIG_IGN)
    slow.wait_for(lambda: slow.log())
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 0
    assert slow.ended() == seeds(4)


SWALLOWED = """\
import time
open("../log.txt", "a").write(f"begun {seed}\\n")
try:
    time.sleep(60)
except BaseException:
    raise ValueError("no such thing") from None"""


def test_interrupted_run_is_no_failed_one_whatever_a_cell_makes_of_it(slow):
    slow.write(PARAMETERS, SWALLOWED)
    process = slow.start("-p", "seed=0..1", "-j", "2")
    slow.wait_for(lambda: len(slow.log()) == 2)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 130
    assert not [path.name for path in slow.runs.iterdir() if path.name != ".locks"]


@pytest.fixture
def interruptible():
    """Servers that can be interrupted, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


DROPPED = """\
import os, signal, time
class Dropped:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
Dropped()
time.sleep(60)
open("went-on", "w")"""


def test_an_interrupt_that_a_destructor_drops_comes_again(slow, interruptible):
    slow.write(PARAMETERS, DROPPED.replace("went-on", str(slow.root / "went-on")))
    server = warm.Server(slow.checkout.notebook)
    job = {"chapter": str(slow.checkout.notebook), "values": {}, "state": "any"}
    assert server(job | {"folder": str(slow.runs / "a")}) == "Died: exit code 1"
    assert not (slow.root / "went-on").exists() and not list(slow.runs.glob("[!.]*"))


def test_ctrl_c_while_a_server_starts_ends_its_next_run_only(slow, interruptible):
    server = warm.Server(slow.checkout.notebook)
    os.kill(server.process.pid, signal.SIGINT)
    job = {"chapter": str(slow.checkout.notebook), "values": {}, "state": "any"}
    assert server(job | {"folder": str(slow.runs / "a")}) == "Died: exit code 1"
    assert server.alive()


def test_two_sweeps_in_one_folder_share_the_work(slow):
    slow.set("pause", "0.1")
    processes = [slow.start("-p", span, "-j", "2") for span in ("seed=0..5", "seed=3..8")]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert slow.ended() == seeds(9)
    assert slow.sweep("-p", "seed=0..8").returncode == 0
    assert slow.ended() == seeds(9) and len(slow.table()) == 18


def test_worker_of_a_dask_cluster_is_killed_and_nothing_is_lost_or_doubled(slow, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setenv("PYTHONPATH", str(slow.root / "code"))
    slow.set("pause", "0.4")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        process = slow.start("-p", "seed=0..7", "--scheduler", cluster.scheduler_address)
        slow.wait_for(lambda: len(slow.ended()) >= 2)
        os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)
        assert process.wait(120) == 0
    assert slow.ended() == seeds(8)
    assert len({(row["seed"], row["quantity"]) for row in slow.table()}) == len(slow.table()) == 16


def test_no_scheduler_is_one_line(slow, monkeypatch):
    monkeypatch.setattr(sweep, "SCHEDULER_S", 0.3)
    with pytest.raises(OSError, match="^--scheduler tcp://127.0.0.1:9: no Dask scheduler ans") as e:
        sweep.sweep(Chapter(slow.checkout.notebook), [{}], slow.runs, scheduler="tcp://127.0.0.1:9")
    assert "\n" not in str(e.value) and not slow.runs.exists()
