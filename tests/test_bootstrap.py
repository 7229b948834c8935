"""Setting up: what is missing is said in words, before anything is half done."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from companion import bootstrap


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No environment yet, and none of the commands may run."""
    monkeypatch.setattr(bootstrap, "VENV", str(tmp_path / ".venv"))
    monkeypatch.setattr(bootstrap, "PYTHON", str(tmp_path / ".venv/bin/python"))
    monkeypatch.setattr(bootstrap, "STAMP", str(tmp_path / ".venv/.installed"))
    commands = []
    monkeypatch.setattr(subprocess, "call", lambda command: commands.append(command) or 1)
    return commands


def test_an_old_python_can_read_it_and_reach_its_message():
    source = Path(bootstrap.__file__).read_text()
    tree = ast.parse(source, feature_version=(3, 6))
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.JoinedStr | ast.NamedExpr)]
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert imported <= sys.stdlib_module_names


def test_an_old_python_is_refused(nowhere, monkeypatch):
    monkeypatch.setattr(bootstrap.sys, "version_info", (3, 9, 1))
    with pytest.raises(SystemExit, match=r"Python 3.9 is too old: the book needs Python 3.11"):
        bootstrap.main()
    assert not nowhere


def test_a_full_disk_is_refused(nowhere, monkeypatch):
    monkeypatch.setattr(bootstrap, "NEEDED_GB", 1e9)
    with pytest.raises(SystemExit, match=r"Disk too full: .* GB free .* GB needed"):
        bootstrap.main()
    assert not nowhere


def test_a_missing_venv_module_is_named(nowhere):
    with pytest.raises(SystemExit, match="python3-venv"):
        bootstrap.main()
    assert len(nowhere) == 1


def test_a_failed_download_asks_for_the_network_and_leaves_no_stamp(nowhere, monkeypatch):
    Path(bootstrap.PYTHON).parent.mkdir(parents=True)
    Path(bootstrap.PYTHON).touch()
    with pytest.raises(SystemExit, match="Is the network up"):
        bootstrap.main()
    assert not Path(bootstrap.STAMP).exists()
    assert "--require-hashes" in nowhere[-1]


def test_an_environment_of_this_lock_is_left_alone(nowhere):
    Path(bootstrap.STAMP).parent.mkdir(parents=True)
    Path(bootstrap.STAMP).write_text(bootstrap.wanted())
    bootstrap.main()
    assert not nowhere
    Path(bootstrap.STAMP).write_text("another lock")
    with pytest.raises(SystemExit):
        bootstrap.main()


def test_an_environment_that_was_moved_is_made_anew(nowhere, monkeypatch, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    venv = tmp_path / "elsewhere/.venv"
    (tmp_path / ".venv").mkdir()
    Path(bootstrap.STAMP).write_text(bootstrap.wanted())
    (tmp_path / ".venv").rename(venv)
    monkeypatch.setattr(bootstrap, "VENV", str(venv))
    monkeypatch.setattr(bootstrap, "PYTHON", str(venv / "bin/python"))
    monkeypatch.setattr(bootstrap, "STAMP", str(venv / ".installed"))
    with pytest.raises(SystemExit):  # none of the commands may run
        bootstrap.main()
    assert not venv.exists() and nowhere[0][1:3] == ["-m", "venv"]


def test_an_environment_that_is_shared_by_a_link_is_left_alone(nowhere, monkeypatch, tmp_path):
    (tmp_path / ".venv").mkdir()
    Path(bootstrap.STAMP).write_text(bootstrap.wanted())
    (tmp_path / "link").symlink_to(tmp_path / ".venv")
    monkeypatch.setattr(bootstrap, "VENV", str(tmp_path / "link"))
    bootstrap.main()
    assert not nowhere and (tmp_path / ".venv").exists()
