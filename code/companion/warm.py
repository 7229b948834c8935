"""Execute a chapter many times: a warm server imports once, then forks a child for every run.

A new kernel spends seconds on imports. A child of the server has them already, and its changes
die with it, so no run sees another. It is an IPython shell that papermill drives as its engine.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from .chapters import Chapter
from .execute import KERNEL

INTERRUPT = {signal.SIGINT}
AGAIN_S = 1  # until the next KeyboardInterrupt, where a cell goes on after the first
_interrupted = False  # this process, whatever became of the KeyboardInterrupt


class Server:
    """A warm process for one chapter; a call runs one job in it and returns its error, or None."""

    def __init__(self, chapter: Path):
        if not hasattr(os, "fork"):
            raise OSError("sweeps fork processes: run them on Linux, macOS or WSL")
        command = [sys.executable, "-P", "-m", "companion.warm", str(chapter)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPT)  # a process starts with this
        try:
            self.process = subprocess.Popen(command, env=os.environ | KERNEL, **pipes)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def __call__(self, job: dict) -> str | None:
        try:
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())
        except (OSError, ValueError):  # closed, or half a line
            self.process.kill()
            return f"Died: its server ended with exit code {self.process.wait()}"

    def alive(self) -> bool:
        return self.process.poll() is None

    def __del__(self):
        if hasattr(self, "process"):
            self.process.stdin.close()  # it ends after the run in hand
            self.process.stdout.close()
            self.process.poll()


def serve(chapter: Path) -> None:
    """Answer every job on standard input, a line of JSON, with a line: its error, or null.

    Ctrl-C reaches all processes of a sweep. It ends the run in hand, not the server, which ends
    with its input.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPT)
    _preload(Chapter(chapter))
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            _child(json.loads(line))
        if INTERRUPT & signal.sigpending():  # it came when there was no child that it could reach
            os.kill(child, signal.SIGINT)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status):
            _answer(f"Died: exit code {os.waitstatus_to_exitcode(status)}")


def _child(job: dict) -> None:
    """Run a job, answer, and end without what a parent's exit would do twice."""
    code = 1
    try:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored
            signal.signal(signal.SIGINT, _interrupt)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPT)
        answers = os.dup(1)
        with open(os.devnull, "r+") as null:  # else a chapter's print would be an answer
            os.dup2(null.fileno(), 0)
            os.dup2(null.fileno(), 1)
        error = _run(job)
        signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPT)  # one answer, not two
        os.dup2(answers, 1)
        _answer(error)
        code = 0
    finally:
        os._exit(code)


def _interrupt(*_) -> None:
    """Interrupt, and again until the cell ends: Python drops an error raised in a destructor."""
    global _interrupted
    _interrupted = True
    signal.signal(signal.SIGALRM, _interrupt)
    signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
    raise KeyboardInterrupt


def _run(job: dict) -> str | None:
    import numpy as np

    from . import run

    np.random.seed()  # a fork copies the state that a new kernel draws
    chapter, folder = Chapter(Path(job["chapter"])), Path(job["folder"])
    try:
        run.run(chapter, job["values"], folder, keep=job["state"], engine="warm")
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def _answer(error: str | None) -> None:
    with contextlib.suppress(BrokenPipeError):  # who asked is gone; the run is kept all the same
        os.write(1, (json.dumps(error) + "\n").encode())


def _preload(chapter: Chapter) -> None:
    """Import what the chapter imports, and what runs it."""
    for name in ["papermill", "IPython.core.interactiveshell", "companion.run", *imported(chapter)]:
        with contextlib.suppress(Exception):  # no module, but a name in one; or the run will say
            importlib.import_module(name)


def imported(chapter: Chapter) -> list[str]:
    """What the statements of its cells import: modules, and names that may be modules."""
    from IPython.core.inputtransformer2 import TransformerManager

    names = []
    for cell in chapter.code_cells():
        try:
            statements = ast.parse(TransformerManager().transform_cell(cell.source)).body
        except SyntaxError:  # the run will say
            continue
        for node in statements:
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def engine():
    """The papermill engine that runs cells in this very process."""
    from papermill.engines import Engine

    class Warm(Engine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **kwargs):
            shell = _shell()
            for index, cell in enumerate(nb_man.nb.cells):
                if cell.cell_type != "code":
                    continue
                nb_man.cell_start(cell, index)
                ok = _execute(shell, cell)
                if not ok:
                    nb_man.cell_exception(cell, index)
                nb_man.cell_complete(cell, index)
                if not ok:
                    break

    return Warm


def _execute(shell, cell) -> bool:
    shell.outputs = cell.outputs
    streams = (_Stream(shell, "stdout"), _Stream(shell, "stderr"))
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        result = shell.run_cell(cell.source, store_history=True)
    signal.setitimer(signal.ITIMER_REAL, 0)
    for shown in [cell, *(o for o in cell.outputs if o.output_type == "execute_result")]:
        shown.execution_count = result.execution_count
    if _interrupted:  # else what a cell or a library made of it would be the run's error
        raise KeyboardInterrupt
    return result.success


class _Stream:
    """A standard stream whose text goes among the outputs of the cell at hand."""

    encoding = "utf-8"

    def __init__(self, shell, name: str):
        self.shell, self.name = shell, name

    def write(self, text: str) -> int:
        outputs = self.shell.outputs
        if not (outputs and outputs[-1].get("name") == self.name):
            outputs.append(_output("stream", name=self.name, text=""))
        outputs[-1].text += text
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False


def _output(kind: str, **content):
    from nbformat.v4 import new_output

    return new_output(kind, **content)


def _shell():
    """An IPython shell whose displays and errors are appended to shell.outputs."""
    from IPython.core.displayhook import DisplayHook
    from IPython.core.displaypub import DisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets import Type
    from traitlets.config import Config

    class Hook(DisplayHook):
        def write_output_prompt(self):
            pass

        def write_format_data(self, format_dict, md_dict=None):
            found = _output("execute_result", data=format_dict, metadata=md_dict or {})
            self.shell.outputs.append(found)

        def finish_displayhook(self):
            pass

    class Publisher(DisplayPublisher):
        def publish(self, data, metadata=None, **kwargs):
            found = _output("display_data", data=data, metadata=metadata or {})
            self.shell.outputs.append(found)

    class Shell(InteractiveShell):
        displayhook_class = Type(Hook)
        display_pub_class = Type(Publisher)

        def _showtraceback(self, etype, evalue, stb):
            content = {"ename": etype.__name__, "evalue": str(evalue), "traceback": stb}
            self.outputs.append(_output("error", **content))

    return Shell.instance(config=Config({"HistoryManager": {"enabled": False}}))


if __name__ == "__main__":
    from companion import warm  # the module that papermill's engine comes from, not a second one

    warm.serve(Path(sys.argv[1]))
