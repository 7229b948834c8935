"""The authors' notebooks: fetched and verified like weights, read and never executed."""

import hashlib
import json

import pytest

from companion import fetch, notebooks


def notebook(*sources: str) -> dict:
    return {"cells": [{"cell_type": "code", "source": s.splitlines(True)} for s in sources]}


def test_the_text_is_read_from_the_notebook_in_the_cache(tmp_path, monkeypatch):
    content = json.dumps(notebook("!pip install x", "n = 3\ntext = 'Glial cells'")).encode()
    name = "ALBERT_Neuron_Astrocyte.ipynb"
    known = fetch.File(hashlib.sha256(content).hexdigest(), len(content))
    monkeypatch.setattr(fetch, "NOTEBOOKS", fetch.RemoteModel({name: known}, "http://127.0.0.1:9"))
    monkeypatch.setenv("TRIPARTITE_CACHE", str(tmp_path))
    with pytest.raises(fetch.FetchError, match=f"authors-notebooks: {name} not available"):
        notebooks.abstract()
    (tmp_path / "authors-notebooks").mkdir(exist_ok=True)
    (tmp_path / "authors-notebooks" / name).write_bytes(content)
    assert notebooks.abstract() == "Glial cells"


@pytest.mark.parametrize("sources", [(), ("text = 3",), ("text = 'a'", "text = 'b'")])
def test_one_string_or_none_is_taken(sources):
    with pytest.raises(ValueError, match="must be one"):
        notebooks.assigned(notebook(*sources), "text")


def test_nothing_of_a_notebook_is_executed(tmp_path):
    out = tmp_path / "out"
    found = notebooks.assigned(notebook(f"open({str(out)!r}, 'w')\ntext = other = 'a'"), "text")
    assert found == "a" and not out.exists()
