"""A reader's own texts, pictures and models: what is taken, what is refused, and in which words."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from companion import fetch, inputs
from companion.chapters import find
from companion.parameters import ParameterError, parse_parameters
from companion.paths import ROOT
from companion.run import name_of
from tripartite import pretrained

TEXTS = {"attention": ROOT / "data/texts/attention.txt"}
TINY = ROOT / "tests/checkpoints/albert"


@pytest.fixture(scope="module")
def model():
    return pretrained.load(TINY)


def one(line: str):
    (parameter,) = parse_parameters(line).values()
    return parameter


# --- parameters ---


@pytest.fixture
def text():
    return one('text: str = "attention"  # what is read; none; attention | gettysburg | FILE')


def test_a_path_is_made_absolute_where_the_command_is_typed(text, tmp_path, monkeypatch):
    (tmp_path / "my text.txt").write_text("Hello")
    monkeypatch.chdir(tmp_path)
    assert text.parse("my text.txt") == str(tmp_path / "my text.txt")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert text.parse("~/my text.txt") == str(tmp_path / "my text.txt")


def test_a_name_stays_a_name(text, tmp_path, monkeypatch):
    (tmp_path / "gettysburg").write_text("Hello")
    monkeypatch.chdir(tmp_path)
    assert text.parse("gettysburg") == "gettysburg"
    assert text.parse("./gettysburg") == str(tmp_path / "gettysburg")


@pytest.mark.parametrize("given", ["gettisburg", "", "FILE", "folder", "attention | gettysburg"])
def test_what_is_neither_name_nor_file_is_refused(text, given, tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError) as error:
        text.parse(given)
    said = str(error.value)
    assert said.startswith(f"text = {given!r}: must be attention | gettysburg | FILE; ")
    assert f"no such file as {(tmp_path / given).absolute()}" in said


@pytest.mark.parametrize("given", ["~no-such-user/a.txt", "My experience is mine. " * 50, "a\0b"])
def test_what_can_be_no_path_is_refused_as_well(text, given):
    with pytest.raises(ParameterError, match="there is no such file as"):
        text.check(given)


def test_a_folder_is_not_a_file_and_a_file_no_folder(tmp_path):
    (tmp_path / "a").write_text("")
    model = one('model: str = "a"  # which; none; a | FOLDER')
    assert model.parse(str(tmp_path)) == str(tmp_path)
    with pytest.raises(ParameterError, match="no such folder"):
        model.parse(str(tmp_path / "a"))


def test_a_run_with_an_edited_text_is_another_run(tmp_path):
    path = tmp_path / "notes.txt"
    chapter = find("04")
    path.write_text("one")
    first = name_of(chapter, {"text": str(path)})
    assert first.startswith("text=notes.txt-")
    path.write_text("two")
    assert name_of(chapter, {"text": str(path)}) != first
    path.write_text("one")
    assert name_of(chapter, {"text": str(path)}) == first
    assert name_of(chapter, {"text": "gettysburg"}) == "text=gettysburg"


def test_a_run_with_an_edited_model_is_another_run(tmp_path):
    shutil.copytree(TINY, tmp_path / "m")
    chapter = find("04")
    first = name_of(chapter, {"model": str(tmp_path / "m")})
    with (tmp_path / "m/config.json").open("a") as file:
        file.write(" ")
    assert name_of(chapter, {"model": str(tmp_path / "m")}) != first


def test_a_folder_is_not_searched_to_its_depths(tmp_path):
    deep = tmp_path / "a/b/c"
    deep.mkdir(parents=True)
    chapter = find("04")
    first = name_of(chapter, {"model": str(tmp_path)})
    (deep / "file").write_text("a project in which models are kept, say")
    assert name_of(chapter, {"model": str(tmp_path)}) == first
    (tmp_path / "a/config.json").write_text("{}")  # an encoder in a folder of its own
    assert name_of(chapter, {"model": str(tmp_path)}) != first


# --- texts ---


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "marked"])
def test_a_text_is_read_as_utf_8_with_or_without_mark(tmp_path, mark):
    path = tmp_path / "Übung.txt"
    path.write_bytes(mark + "Größe,\r\nna endlich 😀".encode())
    assert inputs.passage(str(path), TEXTS) == "Größe,\r\nna endlich 😀"


def test_a_named_text_is_read_from_the_book():
    assert inputs.passage("attention", TEXTS) == TEXTS["attention"].read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "nothing but blanks"),
        (b" \n\t\xc2\xa0 ", "nothing but blanks"),
        ("Größe".encode("latin-1"), r"not UTF-8 \(byte 2 is 0xf6\)"),
        ("Größe".encode("utf-16"), "is UTF-16"),
        (b"GIF89a\x01\x00\x01", "zero bytes"),
        (b"\x89PNG\r\n\x1a\n", r"not UTF-8 \(byte 0 is 0x89\)"),
        (b"a" * 10_000_001, "has 10,000,001 bytes: must be at most 10,000,000"),
    ],
)
def test_what_is_no_text_is_refused_by_name(tmp_path, content, said):
    path = tmp_path / "file.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: .*{said}"):
        inputs.passage(str(path), TEXTS)


def test_a_name_is_the_book_s_text_though_a_file_has_it(tmp_path, monkeypatch):
    (tmp_path / "attention").write_text("Hello")
    monkeypatch.chdir(tmp_path)
    assert inputs.passage("attention", TEXTS) != "Hello"
    assert inputs.passage("./attention", TEXTS) == "Hello"


@pytest.mark.parametrize("value", ["atention", "", ".", "~no-such-user/a", "long " * 99, "a\0b"])
def test_what_is_not_there_is_refused_with_the_names(value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"text = {re.escape(repr(value))}: must be one of"):
        inputs.passage(value, TEXTS)


# --- tokens ---


def test_a_short_text_is_read_whole_and_nothing_is_said(model, capsys):
    found = inputs.tokens(model, "attention")
    np.testing.assert_array_equal(found.ids, model.tokenize("attention").ids)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("word", ["attention ", "Größe 😀, ", "x" * 90 + " ", "y" * 300 + " "])
def test_a_long_text_is_cut_as_if_it_were_tokenized_whole(model, capsys, word):
    passage = word * 2_000
    whole = model.tokenizer.encode(passage).ids
    found = inputs.tokens(model, passage)
    assert list(found.ids) == [*whole[: model.n_positions - 1], whole[-1]]
    assert re.match(
        r"The text has (at least )?[\d,]+ tokens; the model takes 64, so it is cut there",
        capsys.readouterr().out,
    )


def test_a_word_is_never_cut(model, capsys):
    # the first token of a word may hang on its end: here two letters of three that are left over
    vocabulary = [("<unk>", 0.0), ("▁", -2.0), ("a", -3.0), ("aa", -4.0), ("aaa", -4.5)]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.Unigram(vocabulary, 0, False))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    other = replace(model, tokenizer=tokenizer)
    for n in (9_000, 9_001, 9_002):
        whole = tokenizer.encode("a" * n).ids
        assert list(inputs.tokens(other, "a" * n).ids) == [*whole[:63], whole[-1]]


def test_a_limit_that_was_asked_for_is_not_mentioned(model, capsys):
    assert len(inputs.tokens(model, "attention " * 50, 8).ids) == 8
    assert capsys.readouterr().out == ""


def test_a_model_of_pictures_reads_no_text():
    with pytest.raises(ValueError, match="model is a VisionModel: must be a BERT or ALBERT"):
        inputs.tokens(pretrained.load(ROOT / "tests/checkpoints/vit"), "attention")


# --- models and pictures ---


@pytest.mark.parametrize("name", ["toy", "some/toy"])
def test_a_model_by_name(name, monkeypatch):
    monkeypatch.setattr(inputs, "MODELS", {"toy": None})
    monkeypatch.setattr(inputs, "model_directory", lambda name: Path("/cache") / name)
    assert inputs.model_folder(name) == Path("/cache/toy")


def test_a_model_by_folder(tmp_path):
    assert inputs.model_folder(str(TINY)) == TINY
    (tmp_path / "albert-base-v2").mkdir()  # a folder that is called as a model is
    assert inputs.model_folder(str(tmp_path / "albert-base-v2")) == tmp_path / "albert-base-v2"


@pytest.mark.parametrize("value", ["gpt-5", "", "no/such/folder", str(TINY / "config.json")])
def test_no_model(value):
    with pytest.raises(
        ValueError, match="must be one of .*albert-base-v2.* or the path of a folder"
    ):
        inputs.model_folder(value)
    assert "albert-base-v2" in fetch.MODELS


def test_a_picture_by_name_or_path(tmp_path):
    cat = ROOT / "data/images/cat.jpg"
    own = shutil.copy(cat, tmp_path / "cat")
    assert inputs.picture("cat", {"cat": cat}) == cat
    assert inputs.picture(str(own), {"cat": cat}) == Path(own)
    with pytest.raises(
        ValueError, match="image = 'dog': must be one of cat, or the path of a file"
    ):
        inputs.picture("dog", {"cat": cat})
