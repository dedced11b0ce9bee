"""Files by address, from a web server and a stand-in of the Hub on this machine."""

import hashlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import sentences

from kft import config as configs
from kft import evaluate, guess, runs, train
from kft.config import DataConfig
from kft.data import sources
from kft.errors import KftError

pytest.importorskip("aiohttp", reason="the extra `remote` is not installed")
ROWS = "text,label\ngood film,pos\nbad film,neg\n"


class Server(ThreadingHTTPServer):
    """Serves `files`, path → bytes, with an ETag; under /api/datasets/ as the Hub does.

    `broken` ones end half way, `closed` ones are forbidden.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.files, self.broken, self.closed, self.fetched = {}, set(), set(), []
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def stop(self):
        self.shutdown()
        self.server_close()


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def send(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        broken = self.path.split("?")[0] in self.server.broken
        self.wfile.write(body[: len(body) // 2] if broken else body)
        if broken:
            self.close_connection = True

    def do_GET(self):
        path = self.path.split("?")[0]
        if path.startswith("/api/datasets/o/n"):
            self.hub(path.removeprefix("/api/datasets/o/n"))
        elif path in self.server.closed:
            self.send(403)
        elif path not in self.server.files:
            self.send(404, X_Error_Code="RepoNotFound" if path.startswith("/api") else "EntryNotFound")
        else:
            body = self.server.files[path]
            if self.command == "GET":
                self.server.fetched.append(path)
            self.send(200, body, ETag=f'"{hashlib.sha1(body).hexdigest()}"')

    do_HEAD = do_GET  # noqa: N815 (as http.server calls it)

    def hub(self, path):
        """The routes that HfFileSystem asks: of the repository, and of a folder in it."""
        start = "/datasets/o/n/resolve/main/"
        names = [name.removeprefix(start) for name in self.server.files if name.startswith(start)]
        if path in ("", "/revision/main"):
            self.send(200, json.dumps({"_id": "1", "id": "o/n", "sha": "1" * 40, "siblings": []}).encode())
        elif path.startswith("/tree/main") and (folder := path.removeprefix("/tree/main").strip("/")) in (
            "",
            "data",
        ):
            inside = [name for name in names if name.startswith(folder)] if folder else []
            listing = [
                {
                    "type": "file",
                    "path": name,
                    "size": len(self.server.files[start + name]),
                    "oid": hashlib.sha1(self.server.files[start + name]).hexdigest(),
                }
                for name in inside
            ]
            if not folder:
                listing = [{"type": "directory", "path": "data", "size": 0, "oid": "2" * 40}]
            self.send(200, json.dumps(listing).encode())
        else:
            self.send(
                404, X_Error_Code="EntryNotFound" if path.startswith("/tree/main") else "RevisionNotFound"
            )


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("KFT_CACHE_DIR", str(tmp_path / "cache"))
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def hub(server, monkeypatch):
    """The Hub's client, asking the server on this machine."""
    from huggingface_hub import constants

    template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "ENDPOINT", server.url)  # what HF_ENDPOINT sets in a new process
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    for number in (0, 1):
        text = f"text,label\ngood {number},pos\nbad {number},neg\n"
        server.files[f"/datasets/o/n/resolve/main/data/train-{number}.csv"] = text.encode()
    return server


def texts(address, **settings) -> list[str]:
    return sources.read_file(address, DataConfig(**settings))["text"].to_list()


def message(address) -> str:
    with pytest.raises(KftError) as caught:
        sources.read_file(address, DataConfig())
    assert caught.value.message.startswith(f"{address}: ")
    assert caught.value.hint
    return caught.value.message.removeprefix(f"{address}: ")


def kept(tmp_path) -> list[str]:
    return sorted(file.name for file in (tmp_path / "cache" / "downloads").rglob("*") if file.is_file())


def test_a_file_is_fetched_once_and_again_when_it_changes(server, tmp_path, capsys):
    server.files["/a/films.csv"] = ROWS.encode()
    address = f"{server.url}/a/films.csv?version=2"
    frame = sources.read_file(address, DataConfig())
    assert frame["origin"].to_list() == [address] * 2
    assert texts(address) == ["good film", "bad film"]
    assert server.fetched == ["/a/films.csv"]
    assert kept(tmp_path) == ["films.csv", "origin.json"]
    server.files["/a/films.csv"] = ROWS.replace("bad", "BAD").encode()  # as long as before
    assert texts(address) == ["good film", "BAD film"]
    assert len(server.fetched) == 2
    assert f"fetching {address}" in capsys.readouterr().err
    server.stop()
    assert texts(address) == ["good film", "BAD film"]
    assert f"{address}: cannot be reached: the copy of last time is read" in capsys.readouterr().err


def test_mistakes(server, tmp_path):
    server.files["/broken.csv"] = (ROWS * 5000).encode()
    server.files["/closed.csv"] = ROWS.encode()
    server.files["/export"] = ROWS.encode()
    server.broken.add("/broken.csv")
    server.closed.add("/closed.csv")
    assert message(f"{server.url}/none.csv") == "no such file"
    assert message(f"{server.url}/broken.csv").startswith("the download broke off")
    assert message(f"{server.url}/closed.csv") == "may not be read (status 403)"
    assert message(f"{server.url}/export") == "no ending says what the file holds"
    assert texts(f"{server.url}/export", format="csv") == ["good film", "bad film"]
    assert kept(tmp_path) == ["export", "origin.json"]  # nothing of what broke off
    server.broken.clear()
    assert len(texts(f"{server.url}/broken.csv")) == 5000 * 3 - 1
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert message(f"http://127.0.0.1:{free.getsockname()[1]}/a.csv") == "cannot be reached"
    assert message("s3://bucket/a.csv") == "is an address of a kind that is not read"


def test_a_missing_package(server, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "aiohttp" else find(name))
    with pytest.raises(KftError) as caught:
        sources.read_file(f"{server.url}/a.csv", DataConfig())
    assert caught.value.hint == "pip install 'kft[remote]'"


def test_the_hub(hub, monkeypatch, capsys):
    one = "hf://datasets/o/n/data/train-0.csv"
    assert texts(one) == ["good 0", "bad 0"]
    frame = sources.read_file("hf://datasets/o/n@main/data/train-*.csv", DataConfig())
    assert frame["text"].to_list() == ["good 0", "bad 0", "good 1", "bad 1"]
    assert frame["origin"].unique().sort().to_list() == [
        f"hf://datasets/o/n@main/data/train-{number}.csv" for number in (0, 1)
    ]
    assert texts(one) == ["good 0", "bad 0"]
    assert len(hub.fetched) == 3
    assert message("hf://datasets/o/n/data/none.csv") == "no such file"
    assert message("hf://datasets/o/other/train.csv") == "no such file"
    assert message("hf://datasets/o/n/data/none-*.csv") == "no file has a name like this"
    assert message("hf://datasets/o/n/data") == "is a folder"
    assert message("hf://datasets/o/n") == "is not the address of a data file"
    assert message("hf://imdb/train.csv") == "is not the address of a data file"
    hub.files["/datasets/o/n/resolve/main/data/train-0.csv"] = b"text,label\nnew,pos\n"
    assert texts(one) == ["new"]
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    hub.broken.add("/datasets/o/n/resolve/main/data/train-1.csv")
    hub.files["/datasets/o/n/resolve/main/data/train-1.csv"] = b"text,label\n" + b"a,b\n" * 9000
    assert message("hf://datasets/o/n/data/train-1.csv").startswith("the download broke off")
    hub.stop()
    assert texts("hf://datasets/o/n@main/data/train-*.csv") == ["good 0", "bad 0", "good 1", "bad 1"]
    assert "the copy of last time is read" in capsys.readouterr().err


def test_init_train_evaluate_and_predict(server, tiny_settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = ["review,stars", *(f"{text},{label}" for text, label in sentences(60))]
    server.files["/films.csv"] = "\n".join(lines).encode()
    address = f"{server.url}/films.csv"
    result = guess.init(address)
    assert result["config"] == "films.toml"
    config = configs.load("films.toml")
    assert (config.data.train, config.data.text, config.data.label) == (address, "review", "stars")
    own = {key: value for key, value in tiny_settings.items() if key != "data"}
    train.train(configs.parse(own | {"data": {"train": address, "text": "review", "label": "stars"}}), "run")
    account = runs.read_json(Path("run/data.json"))
    assert account["splits"]["train"]["origins"] == [address]
    loaded = evaluate.load_run("run")
    assert evaluate.evaluate(loaded, data=address)["examples"] == 60
    assert evaluate.predict_file(loaded, address, "answers.csv") == 60
    assert Path("answers.csv").read_text().startswith("review,stars,predicted_label")
    assert server.fetched == ["/films.csv"]
