"""`kft serve` answers as TensorFlow Serving and `kft predict` do, whatever comes."""

import asyncio
import base64
import contextlib
import http.client
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_not_imported, sentences
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient
from test_cli import kft, mistake

from kft import evaluate, export
from kft.errors import KftError
from kft.serve import model as models
from kft.serve import rest, versions
from kft.serve.app import PAGES, build
from kft.serve.batching import Batcher
from kft.serve.model import BadInput, Model, Signature, Tensor
from kft.serve.refusal import Refused
from kft.serve.settings import Settings
from kft.serve.versions import Versions

AT = "/v1/models/films"
TEXTS = ["a good film", "", "dull plot", "the " * 40, "wörter 电影"]
TEXT, VALUE = Tensor("string", (None,)), Tensor("float32", (None,))
SECRET = "xyzzyplugh"  # a text that no log may show


@pytest.fixture(scope="module")
def exported(tiny_run, tmp_path_factory) -> Path:
    """A folder with one version of the tiny run."""
    folder = tmp_path_factory.mktemp("models") / "films"
    export.export(tiny_run, "savedmodel", folder, verify=False)
    return folder


@pytest.fixture(scope="module")
def loaded(exported) -> Model:
    return models.load(exported / "1")


def fake(version: int = 1, call=None, inputs: tuple[str, ...] = ("text",)) -> Model:
    """A model without TensorFlow: value = length of the texts of a row, which may take its time."""

    class Fake(Model):
        def call(self, signature, columns):
            if call:
                call(columns)
            lengths = sum(np.array([len(t) for t in columns[name]], np.float32) for name in inputs)
            return {"value": lengths}

    signature = Signature(models.PREDICT, dict.fromkeys(inputs, TEXT), {"value": VALUE}, None)
    return Fake(version, {"serving_default": signature}, {}, None)


@contextlib.contextmanager
def client(model: Model | None, **settings):
    """A client of a server in this process, and the server's service."""
    served = Versions(Path("nowhere"), "films")
    served.current = model
    served._states = {model.version: versions.State("AVAILABLE")} if model else {}
    app, service = build(Settings(**settings), served)
    with TestClient(app, raise_server_exceptions=False) as http:
        http.service = service
        yield http


@pytest.fixture(scope="module")
def films(loaded):
    with client(loaded) as http:
        yield http


@pytest.fixture
def log(caplog, monkeypatch):
    """What the server logs; a server started in this process has kept it from other handlers."""
    monkeypatch.setattr(logging.getLogger("kft.serve"), "propagate", True)
    caplog.set_level(logging.INFO)
    return caplog


class TestAnswers:
    def test_rows_are_what_kft_predict_says(self, films, tiny_run):
        response = films.post(f"{AT}:predict", json={"instances": TEXTS})
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        reply = response.json()
        assert set(reply) == {"predictions"}
        for got, wanted in zip(reply["predictions"], evaluate.predict(tiny_run, TEXTS), strict=True):
            assert set(got) == {"label", "score", "probabilities", "labels"}
            assert got["label"] == wanted["label"]
            named = dict(zip(got["labels"], got["probabilities"], strict=True))
            assert named == pytest.approx(wanted["probabilities"], abs=1e-5)
            assert got["score"] == max(got["probabilities"])

    @pytest.mark.parametrize(
        "body",
        [
            {"inputs": TEXTS},
            {"inputs": {"text": TEXTS}},
            {"inputs": {"text": [{"b64": base64.b64encode(t.encode()).decode()} for t in TEXTS]}},
            {"inputs": TEXTS, "signature_name": "serving_default"},
            {"instances": [{"text": text} for text in TEXTS]},
            {"instances": [{"b64": base64.b64encode(t.encode()).decode()} for t in TEXTS]},
        ],
    )
    def test_every_form_of_a_request_has_the_same_answer(self, films, body):
        rows = films.post(f"{AT}:predict", json={"instances": TEXTS}).json()["predictions"]
        reply = films.post(f"{AT}/versions/1:predict", json=body).json()
        columns = reply["outputs"] if "inputs" in body else None
        if columns:
            reply = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        else:
            reply = reply["predictions"]
        assert [answer["label"] for answer in reply] == [answer["label"] for answer in rows]
        np.testing.assert_allclose(
            [a["probabilities"] for a in reply], [a["probabilities"] for a in rows], atol=1e-6
        )

    def test_tokens_give_logits_without_a_name(self, films):
        ids, mask = [[2, 5, 7, 3], [2, 8, 3, 0]], [[1, 1, 1, 1], [1, 1, 1, 0]]
        columns = {"token_ids": ids, "padding_mask": mask}
        outputs = films.post(f"{AT}:predict", json={"signature_name": "tokens", "inputs": columns}).json()[
            "outputs"
        ]
        rows = [{"token_ids": i, "padding_mask": m} for i, m in zip(ids, mask, strict=True)]
        reply = films.post(f"{AT}:predict", json={"signature_name": "tokens", "instances": rows}).json()
        np.testing.assert_allclose(reply["predictions"], outputs, atol=1e-6)
        assert np.shape(outputs) == (2, 2)

    def test_classify(self, films):
        wanted = films.post(f"{AT}:predict", json={"instances": ["a good film"]}).json()["predictions"][0]
        for examples, context in (([{"text": "a good film"}], {}), ([{}], {"text": ["a good film"]})):
            reply = films.post(f"{AT}:classify", json={"examples": examples, "context": context}).json()
            key = (
                "results" if context else "result"
            )  # what the server writes, and what its documentation says
            assert [label for label, _ in reply[key][0]] == wanted["labels"]
            assert [score for _, score in reply[key][0]] == pytest.approx(wanted["probabilities"])

    def test_pairs_and_values(self):
        with client(fake(inputs=("text", "text_pair"))) as http:
            rows = [{"text": "ab", "text_pair": "c"}, {"text": "", "text_pair": "é"}]
            assert http.post(f"{AT}:predict", json={"instances": rows}).json() == {"predictions": [3.0, 2.0]}
            columns = {"text": ["ab", ""], "text_pair": ["c", "é"]}
            assert http.post(f"{AT}:predict", json={"inputs": columns}).json() == {"outputs": [3.0, 2.0]}
            for wrong in (["ab"], [{"text": "ab"}], [{"text": "a", "text_pair": "b", "third": "c"}]):
                reply = http.post(f"{AT}:predict", json={"instances": wrong})
                assert reply.status_code == 400
                assert "'text', 'text_pair'" in reply.json()["error"]
            columns["text"].append("more")
            assert http.post(f"{AT}:predict", json={"inputs": columns}).status_code == 400

    def test_regress(self):
        examples = Signature(models.REGRESS, {"inputs": TEXT}, {"outputs": VALUE}, None)
        model = Model(1, {"regress": examples}, {}, None)
        call = rest.regress({"examples": [{"text": "a", "n": [3, True], "x": [0.5, 1]}]}, model)
        from tensorflow.core.example import example_pb2

        features = example_pb2.Example.FromString(call.columns["inputs"][0]).features.feature
        assert features["text"].bytes_list.value == [b"a"]
        assert features["n"].int64_list.value == [3, 1]
        assert features["x"].float_list.value == [0.5, 1]
        assert call.answer({"outputs": np.array([1.5], np.float32)}) == {"results": [1.5], "result": [1.5]}

    def test_status_and_metadata(self, films):
        wanted = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        for path in (AT, f"{AT}/versions/1"):
            assert films.get(path).json() == {"model_version_status": [wanted]}
        reply = films.get(f"{AT}/metadata").json()
        assert reply["model_spec"] == {"name": "films", "signature_name": "", "version": "1"}
        signature = reply["metadata"]["signature_def"]["signature_def"]["serving_default"]
        assert signature["method_name"] == "tensorflow/serving/predict"
        text = signature["inputs"]["text"]
        assert text["dtype"] == "DT_STRING"
        assert text["tensor_shape"] == {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}

    def test_output_names_that_end_with_bytes_are_base64(self):
        outputs = {"made_bytes": np.array([b"\xff"], object), "text": np.array([b"a"], object)}
        assert rest._rows_answer(outputs, bare=False) == {
            "predictions": [{"made_bytes": {"b64": "/w=="}, "text": "a"}]
        }


BAD = [
    (b"", "JSON Parse error"),
    (b"{", "JSON Parse error"),
    (b'{"instances": ["\xff"]}', "not UTF-8"),
    (b"[" * 100_000, "too deep"),
    (b'{"instances": [' + b"9" * 5000 + b"]}", "too long"),
    (b'["a"]', "JSON object"),
    (b"{}", "Missing 'inputs' or 'instances' key"),
    (b'{"instances": ["a"], "inputs": ["a"]}', "Both"),
    (b'{"instances": []}', "empty"),
    (b'{"instances": "a"}', "must be a list"),
    (b'{"instances": [1]}', "must hold strings, got: a number"),
    (b'{"instances": [null]}', "must hold strings, got: null"),
    (b'{"instances": [["a"]]}', "must hold strings, got: a list"),
    (b'{"instances": [{"txt": "a"}]}', "must be an object of 'text'"),
    (b'{"instances": ["a", {"text": "b"}]}', "instance 0 must be an object"),
    (b'{"instances": [{"b64": "!"}]}', "not Base64"),
    (b'{"instances": ["\\ud800"]}', "surrogate"),
    (b'{"inputs": "a"}', "must have 1 dimensions"),
    (b'{"inputs": {"txt": ["a"]}}', "must be an object of 'text'"),
    (b'{"instances": ["a"], "signature_name": "nope"}', 'Serving signature name: "nope" not found'),
    (b'{"instances": ["a"], "signature_name": 3}', "must be a string"),
    (b'{"signature_name": "tokens", "inputs": [[1]]}', "several inputs"),
    (
        b'{"signature_name": "tokens", "inputs": {"token_ids": [[1], [1, 2]], "padding_mask": [[1]]}}',
        "rectangular",
    ),
    (b'{"signature_name": "tokens", "inputs": {"token_ids": [1], "padding_mask": [[1]]}}', "2 dimensions"),
    (
        b'{"signature_name": "tokens", "inputs": {"token_ids": [[1.5]], "padding_mask": [[1]]}}',
        "whole numbers",
    ),
    (
        b'{"signature_name": "tokens", "inputs": {"token_ids": [[true]], "padding_mask": [[1]]}}',
        "whole numbers",
    ),
    (
        b'{"signature_name": "tokens", "inputs": {"token_ids": [[9999999999]], "padding_mask": [[1]]}}',
        "int32",
    ),
    (
        b'{"signature_name": "tokens", "inputs": {"token_ids": [[999]], "padding_mask": [[1]]}}',
        "is not in [0, 16)",
    ),
    (b'{"signature_name": "classify", "instances": [{"b64": "AAAA"}]}', "parse"),
]


class TestRefusals:
    @pytest.mark.parametrize(("body", "message"), BAD, ids=range(len(BAD)))
    def test_malformed_bodies(self, films, body, message):
        response = films.post(f"{AT}:predict", content=body)
        assert response.status_code == 400
        assert set(response.json()) == {"error"}
        assert message in response.json()["error"]
        assert films.get("/healthz").status_code == 200

    @pytest.mark.parametrize(
        ("verb", "path", "status", "message"),
        [
            ("POST", "/v1/models/other:predict", 404, "Servable not found for request: Latest(other)"),
            ("POST", f"{AT}/versions/7:predict", 404, "Servable not found for request: Specific(films, 7)"),
            ("GET", f"{AT}/versions/7", 404, "Could not find version 7 of model films"),
            ("GET", f"{AT}/versions/7/metadata", 404, "Specific(films, 7)"),
            ("GET", "/v1/models/other", 404, "Could not find any versions of model other"),
            ("POST", f"{AT}:train", 400, f"Malformed request: POST {AT}:train"),
            ("GET", f"{AT}/versions/x", 400, "Malformed request"),
            ("GET", f"{AT}/labels/stable", 400, "Unrecognized servable version label: stable"),
            ("POST", f"{AT}/labels/stable:predict", 400, "Unrecognized servable version label: stable"),
            ("GET", f"{AT}:predict", 405, "use POST"),
            ("POST", AT, 405, "use GET"),
            ("POST", f"{AT}:regress", 400, "no signature for :regress"),
            ("GET", "/v2", 404, "Not found"),
            ("DELETE", "/", 405, "DELETE"),
        ],
    )
    def test_wrong_paths(self, films, verb, path, status, message):
        response = films.request(verb, path, content=b"{}" if verb == "POST" else None)
        assert response.status_code == status
        assert message in response.json()["error"]

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ({}, "'examples' must be a list"),
            ({"examples": ["a"]}, "object of features"),
            ({"examples": [{"text": "a"}], "context": {"text": "b"}}, "both in 'context' and"),
            ({"examples": [{"text": ["a", 1]}]}, "strings alone or numbers alone"),
            ({"examples": [{"text": 2**64}]}, "int64"),
            ({"examples": [{"\ud800": "a"}]}, "surrogate"),
            ({"examples": [{"text": "a"}], "context": {"\ud800": "a"}}, "surrogate"),
            ({"examples": [{"other": "a"}]}, "Feature: text (data type: string) is required"),
            (
                {"examples": [{"text": "a"}], "signature_name": "serving_default"},
                "Expected classify signature",
            ),
        ],
    )
    def test_malformed_examples(self, films, body, message):
        response = films.post(f"{AT}:classify", content=json.dumps(body))
        assert response.status_code == 400
        assert message in response.json()["error"]

    def test_long_bodies_and_many_texts(self):
        with client(fake(), max_body_bytes=100, max_texts=3) as http:
            assert http.post(f"{AT}:predict", json={"instances": ["a"] * 3}).status_code == 200
            assert http.post(f"{AT}:predict", json={"instances": ["a"] * 4}).status_code == 413
            assert http.post(f"{AT}:predict", content=b"x" * 101).status_code == 413
            chunks = (b"x" * 60 for _ in range(2))  # no length is declared
            assert http.post(f"{AT}:predict", content=chunks).status_code == 413
            assert (
                http.post(f"{AT}:predict", content=b"x", headers={"Content-Encoding": "gzip"}).status_code
                == 415
            )

    def test_a_late_answer_is_504(self):
        late = threading.Event()
        with client(fake(call=lambda columns: late.wait(10)), timeout_seconds=0.1) as http:
            response = http.post(f"{AT}:predict", json={"instances": ["a"]})
            late.set()
            assert response.status_code == 504
            assert http.post(f"{AT}:predict", json={"instances": ["a"]}).json() == {"predictions": [1.0]}

    def test_an_error_inside_is_500_and_keeps_the_text_out_of_the_log(self, log):
        def fail(columns):
            if SECRET.encode() in columns["text"]:
                raise RuntimeError(f"cannot compute {columns}")

        with client(fake(call=fail)) as http:
            response = http.post(f"{AT}:predict", json={"instances": [SECRET]})
            assert http.post(f"{AT}:predict", json={"instances": ["a"]}).status_code == 200
        assert (response.status_code, response.json()) == (500, {"error": "internal error"})
        assert "RuntimeError" in log.text
        assert SECRET not in log.text

    def test_no_version_and_draining_are_503(self):
        with client(None) as http:
            assert http.get("/healthz").status_code == 503
            assert http.post(f"{AT}:predict", json={"instances": ["a"]}).headers["Retry-After"] == "1"
        with client(fake()) as http:
            http.service.draining = time.monotonic()
            response = http.post(f"{AT}:predict", json={"instances": ["a"]})
            assert (response.status_code, http.get("/healthz").status_code) == (503, 503)
            assert (response.headers["Retry-After"], response.headers["Connection"]) == ("1", "close")

    def test_token(self):
        with client(fake(), token="s3cret") as http:
            for wrong in (None, "Bearer", "Bearer s3cre", "Basic s3cret", "s3cret", "Bearer é"):
                headers = {"Authorization": wrong.encode()} if wrong else {}
                for path in (AT, "/metrics"):
                    response = http.get(path, headers=headers)
                    assert response.status_code == 401
                    assert response.headers["WWW-Authenticate"] == "Bearer"
            assert http.get("/healthz").status_code == 200
            right = {"Authorization": "Bearer s3cret"}
            assert http.post(f"{AT}:predict", json={"instances": ["a"]}, headers=right).status_code == 200


def together(model: Model, requests: list[list[str]], **settings) -> list:
    """What a batcher answers to requests that come at once; exceptions are answers."""

    async def ask() -> list:
        batcher = Batcher(**{"max_batch_size": 4, "max_delay_seconds": 0.05, "queue_size": 100} | settings)
        running = asyncio.create_task(batcher.run())
        result = [
            batcher.call(
                model, "serving_default", {"text": np.array([t.encode() for t in texts], object)}, len(texts)
            )
            for texts in requests
        ]
        answers = await asyncio.gather(*result, return_exceptions=True)
        running.cancel()
        return answers

    return asyncio.run(ask())


class TestBatching:
    def test_callers_share_calls_and_get_their_own_answers(self):
        sizes = []
        model = fake(call=lambda columns: sizes.append(len(columns["text"])))
        requests = [["a" * i, "b" * (i + 1)][: 1 + i % 2] for i in range(9)]
        answers = together(model, requests)
        for request, answer in zip(requests, answers, strict=True):
            assert answer["value"].tolist() == [len(text) for text in request]
        assert sum(sizes) == sum(map(len, requests)) == 13
        assert max(sizes) == 4 and len(sizes) <= 5

    def test_a_large_request_is_computed_in_parts(self):
        sizes = []
        model = fake(call=lambda columns: sizes.append(len(columns["text"])))
        (answer,) = together(model, [["a" * i for i in range(10)]])
        assert answer["value"].tolist() == list(range(10))
        assert sizes == [4, 4, 2]

    def test_one_bad_caller_does_not_spoil_the_others(self):
        def refuse(columns):
            if b"bad" in columns["text"]:
                raise BadInput("this one")

        first, second, third = together(fake(call=refuse), [["a"], ["bad"], ["ccc"]])
        assert (first["value"].tolist(), third["value"].tolist()) == ([1], [3])
        assert isinstance(second, Refused)
        assert (second.status, second.message) == (400, "this one")

    def test_a_full_queue_is_503(self):
        answers = together(fake(), [["a"] * 3, ["b"] * 3, ["c"] * 2], queue_size=5)
        assert [type(answer) for answer in answers] == [dict, Refused, dict]
        assert (answers[1].status, answers[1].headers) == (503, {"Retry-After": "1"})

    def test_what_nobody_waits_for_is_not_computed(self):
        seen, gate = [], threading.Event()

        def call(columns):
            seen.extend(columns["text"])
            gate.wait(10)

        async def ask():
            batcher = Batcher(1, 0, 100)
            running = asyncio.create_task(batcher.run())
            model = fake(call=call)
            calls = [
                asyncio.create_task(
                    batcher.call(model, "serving_default", {"text": np.array([t], object)}, 1)
                )
                for t in (b"first", b"second", b"third")
            ]
            while not seen:
                await asyncio.sleep(0.001)
            calls[1].cancel()
            await asyncio.sleep(0)
            gate.set()
            await asyncio.gather(*calls, return_exceptions=True)
            running.cancel()

        asyncio.run(ask())
        assert seen == [b"first", b"third"]

    def test_versions_do_not_share_a_call(self):
        old, new, seen = fake(1), fake(2), []
        for model in (old, new):
            model.__class__.call = lambda self, signature, columns: (
                seen.append(self.version)
                or {"value": np.full(len(columns["text"]), self.version, np.float32)}
            )

        async def ask():
            batcher = Batcher(8, 0.05, 100)
            running = asyncio.create_task(batcher.run())
            text = {"text": np.array([b"a"], object)}
            result = [batcher.call(m, "serving_default", text, 1) for m in (old, new, old)]
            answers = await asyncio.gather(*result)
            running.cancel()
            return [answer["value"].tolist() for answer in answers]

        assert asyncio.run(ask()) == [[1], [2], [1]]
        assert sorted(seen) == [1, 2]


class TestVersions:
    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        self.add(tmp_path, 1)
        return tmp_path

    @staticmethod
    def add(folder: Path, version: int, content: str = "fine") -> None:
        (folder / str(version)).mkdir(exist_ok=True)
        (folder / str(version) / "saved_model.pb").write_text(content)

    @staticmethod
    def load(path: Path) -> Model:
        if (path / "saved_model.pb").read_text() != "fine":
            raise ValueError("broken file")
        return fake(int(path.name))

    def states(self, versions: Versions) -> dict[str, str]:
        return {state["version"]: state["state"] for state in versions.status(None)["model_version_status"]}

    def test_the_newest_is_served_and_swapped(self, folder):
        for other in ("notes", "02", "9"):  # no version, or not yet one
            (folder / other).mkdir()
        versions = Versions(folder, "films", self.load)
        versions.refresh()
        old = versions.get(None)
        self.add(folder, 10)
        versions.refresh()
        assert (old.version, versions.get(None).version, versions.get(10).version) == (1, 10, 10)
        assert self.states(versions) == {"1": "END", "10": "AVAILABLE"}
        with pytest.raises(Refused) as refused:
            versions.get(1)
        assert refused.value.status == 404
        assert old.call("serving_default", {"text": [b"ab"]})["value"] == [2]  # what it had accepted

    def test_a_broken_version_is_logged_and_the_old_one_stays_until_it_is_mended(self, folder, log):
        versions = Versions(folder, "films", self.load)
        self.add(folder, 2, "half a fi")
        for _ in range(3):
            versions.refresh()
        assert versions.get(None).version == 1
        assert log.text.count("films version 2 does not load: ValueError: broken file") == 1
        broken = versions.status(2)["model_version_status"][0]
        assert (broken["state"], broken["status"]["error_code"]) == ("END", "UNKNOWN")
        self.add(folder, 2)
        versions.refresh()
        assert versions.get(None).version == 2

    def test_a_removed_version_gives_way_to_the_newest_left(self, folder):
        self.add(folder, 2)
        versions = Versions(folder, "films", self.load)
        versions.refresh()
        shutil.rmtree(folder / "2")
        versions.refresh()
        assert versions.get(None).version == 1
        shutil.rmtree(folder / "1")
        versions.refresh()
        assert versions.get(None).version == 1


class TestPages:
    @pytest.mark.parametrize("path", ["/", "/docs"])
    def test_they_need_nothing_from_elsewhere(self, films, path):
        response = films.get(path)
        assert response.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert not re.findall(r"https?://|//cdn|@import|innerHTML", response.text)

    def test_openapi_lists_the_paths_and_the_models_inputs(self, films):
        reply = films.get("/openapi.json").json()
        assert reply["openapi"].startswith("3.1")
        assert set(reply["paths"]) == {
            f"{AT}:predict",
            AT,
            f"{AT}/metadata",
            f"{AT}:classify",
            "/healthz",
            "/metrics",
        }
        schema = reply["paths"][f"{AT}:predict"]["post"]["requestBody"]["content"]["application/json"][
            "schema"
        ]
        assert schema["properties"]["inputs"]["properties"] == {
            "text": {"type": "array", "items": {"type": "string"}}
        }
        example = films.post(f"{AT}:predict", json=schema["example"])
        answer = reply["paths"][f"{AT}:predict"]["post"]["responses"]["200"]["content"]["application/json"][
            "schema"
        ]
        assert set(example.json()["predictions"][0]) == set(
            answer["properties"]["predictions"]["items"]["properties"]
        )

    def test_metrics(self, films):
        films.post(f"{AT}:predict", json={"instances": ["a"]})
        films.post(f"{AT}:predict", content=b"{")
        text = films.get("/metrics").text
        assert len(list(text_string_to_metric_families(text))) > 5
        for line in (
            'kft_requests_total{method="predict",status="200"}',
            'kft_requests_total{method="predict",status="400"}',
            "kft_model_version 1.0",
            "kft_queue_rows 0.0",
            "kft_batch_rows_bucket",
        ):
            assert line in text

    @pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium")
    def test_a_browser_shows_the_answer(self, server, tmp_path):
        address = f"http://127.0.0.1:{server.port}/#text=a%20good%20film"
        page = subprocess.run(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000",
             f"--user-data-dir={tmp_path}", "--dump-dom", address],
            capture_output=True, text=True, timeout=60,
        ).stdout  # fmt: skip
        answer = ask(server.port, "a good film")
        assert f'<p id="label">{answer["label"]}</p>' in page
        assert f"{100 * answer['score']:.1f} %" in page


class Server:
    """`kft serve` in a process of its own."""

    def __init__(self, folder: Path, log: Path, *options: str):
        self.log = log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kft.cli", "serve", str(folder), "--port", "0", *options],
                stderr=file,
                stdout=subprocess.PIPE,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        self.port = int(self.wait_for(r"films at http://127\.0\.0\.1:(\d+)"))

    def wait_for(self, pattern: str) -> str:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            match = re.search(pattern, self.log.read_text())
            if match:
                return match[match.lastindex or 0]
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise TimeoutError(self.log.read_text())


def ask(port: int, text: str, connection: http.client.HTTPConnection | None = None) -> dict:
    connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", f"{AT}:predict", json.dumps({"instances": [text]}))
    response = connection.getresponse()
    reply = json.loads(response.read())
    return reply["predictions"][0] if response.status == 200 else reply | {"status": response.status}


@pytest.fixture(scope="module")
def server(exported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "films"
    shutil.copytree(exported, folder)
    process = Server(folder, folder.parent / "log", "--poll-seconds", "0.1", "--timeout-seconds", "1")
    process.folder = folder
    yield process
    process.process.kill()
    process.process.wait()


def talk(port: int, *parts: bytes) -> bytes:
    """The first line that comes back for bytes on a connection that stays open."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for part in parts:
            connection.sendall(part)
        return connection.makefile("rb").readline().strip()


class TestProcess:
    """In this order: the last test ends the server."""

    def test_slow_and_rude_clients(self, server):
        head = b"POST " + AT.encode() + b":predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.port)) as slow:
            slow.sendall(head % 500 + b'{"inst')
            assert "label" in ask(server.port, "a good film")  # the others go on meanwhile
        assert talk(server.port, head % 500, b'{"inst') == b"HTTP/1.1 408 Request Timeout"
        assert talk(server.port, b"GET /healthz HT") == b"HTTP/1.1 408 Request Timeout"
        assert talk(server.port, b"GET / HTTP/1.1\r\nX: " + b"x" * 600_000) == (
            b"HTTP/1.1 431 Request Header Fields Too Large"
        )
        assert talk(server.port, b"\x00\xff\r\n\r\n") == b"HTTP/1.1 400 Bad Request"
        body = json.dumps({"instances": ["x" * 10_000_000]}).encode()
        assert talk(server.port, head % len(body), body).startswith(b"HTTP/1.1 413 ")
        assert "label" in ask(server.port, SECRET)

    def test_pipelined_requests_are_answered_in_their_order(self, server):
        bodies = [json.dumps({"instances": [text]}).encode() for text in TEXTS] + [b"{"]
        head = b"POST " + AT.encode() + b":predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
        last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.sendall(b"".join(head % (len(body), body) for body in bodies) + last)
            replies = connection.makefile("rb").read()
        assert re.findall(rb"HTTP/1.1 (\d+)", replies) == [b"200"] * len(TEXTS) + [b"400", b"200"]
        answers = [json.loads(line) for line in re.findall(rb'{"predictions".*?}]}', replies)]
        for answer, text in zip(answers, TEXTS, strict=True):
            wanted = ask(server.port, text)["probabilities"]
            assert answer["predictions"][0]["probabilities"] == pytest.approx(wanted, abs=1e-5)

    @pytest.mark.parametrize(
        ("request_bytes", "status"),
        [
            (b"HEAD %s HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),
            (b"HEAD %s:predict HTTP/1.1\r\nHost: x\r\n\r\n", b"405"),
            (b"OPTIONS %s:predict HTTP/1.1\r\nHost: x\r\n\r\n", b"405"),
            (b"BREW %s HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
            (b"POST %s:predict HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", b"400"),
            (b"POST %s:predict HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n", b"400"),
            (b"POST %s:predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", b"400"),
            (b"GET %s/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
            (b"GET %s%%00%%ff HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        ],
        ids=range(9),
    )
    def test_odd_requests(self, server, request_bytes, status):
        assert talk(server.port, request_bytes % AT.encode()).split()[1] == status
        assert "label" in ask(server.port, "a good film")

    def test_deep_objects_and_long_words(self, server):
        """Within the limit of bytes, whatever they hold."""
        for body, status in (
            (b'{"instances": [' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"]}", 400),
            (b'{"instances": [NaN, Infinity]}', 400),
            (json.dumps({"instances": ["w" * 1_900_000]}).encode(), 200),
            (json.dumps({"instances": ["中" * 300_000]}).encode(), 200),
            (json.dumps({"instances": ["word " * 380_000]}).encode(), 200),
        ):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            connection.request("POST", f"{AT}:predict", body)
            assert connection.getresponse().status == status

    def test_a_new_version_is_swapped_in_under_load(self, server):
        failed, stop = [], threading.Event()

        def keep_asking():
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            while not stop.is_set():
                answer = ask(server.port, "a good film", connection)
                if "label" not in answer:
                    failed.append(answer)

        callers = [threading.Thread(target=keep_asking) for _ in range(4)]
        for caller in callers:
            caller.start()
        (server.folder / "3").mkdir()
        (server.folder / "3" / "saved_model.pb").write_bytes(b"broken")
        server.wait_for("films version 3 does not load")
        shutil.copytree(server.folder / "1", server.folder.parent / "aside")
        (server.folder.parent / "aside").rename(server.folder / "2")
        server.wait_for("films version 2 is served")
        stop.set()
        for caller in callers:
            caller.join()
        assert not failed
        assert "label" in ask(server.port, "a good film")

    def test_the_load_test_finds_every_answer_right(self, server, tmp_path):
        (tmp_path / "texts").write_text("\n".join(text for text, _ in sentences(20)))
        program = Path(__file__).parents[1] / "tools" / "load.py"
        address = f"http://127.0.0.1:{server.port}{AT}"
        options = [
            "--clients",
            "4",
            "--seconds",
            "0.3",
            "--alone-seconds",
            "0.1",
            "--json",
            "--texts",
            tmp_path / "texts",
        ]
        report = json.loads(
            subprocess.run(
                [sys.executable, program, address, *options], capture_output=True, check=True
            ).stdout
        )
        for phase in ("alone", "together"):
            assert report[phase]["requests"] >= 20
            assert (report[phase]["wrong_answers"], report[phase]["errors"]) == (0, 0)

    def test_sigterm_under_load_loses_no_accepted_request(self, server):
        texts = [text for text, _ in sentences(40, seed=5)]
        wanted = {text: ask(server.port, text) for text in texts}
        answers, lost = [], []

        def keep_asking(number: int) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            for i in range(10_000):
                text = texts[(number * 7 + i) % len(texts)]
                try:
                    answer = ask(server.port, text, connection)
                except ConnectionRefusedError:
                    return
                except (OSError, http.client.HTTPException) as error:
                    lost.append(error)
                    return
                answers.append((text, answer))
                if answer.get("status") == 503:
                    return

        callers = [threading.Thread(target=keep_asking, args=(i,)) for i in range(16)]
        for caller in callers:
            caller.start()
        while len(answers) < 100:
            time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        for caller in callers:
            caller.join()
        assert server.process.wait(30) == 0
        assert not lost
        served = [(text, answer) for text, answer in answers if "label" in answer]
        assert len(served) > 100
        for text, answer in served:
            assert answer["probabilities"] == pytest.approx(wanted[text]["probabilities"], abs=1e-5)
        assert {answer["status"] for _, answer in answers if "label" not in answer} <= {503}
        log = server.log.read_text()
        assert log.endswith("stopped\n")
        assert SECRET not in log and "good" not in log
        assert server.process.stdout.read() == b""


class TestStart:
    def test_a_server_needs_neither_keras_nor_jax(self, exported):
        code = (
            "from pathlib import Path; from kft.serve import running, model\n"
            f"made = model.load(Path({str(exported / '1')!r}))\n"
            "import numpy as np; made.call('serving_default', {'text': np.array([b'good'], object)})"
        )
        assert_not_imported(code, "keras", "tf_keras", "keras_hub", "jax", "torch", "polars", "sklearn")

    def test_mistakes(self, exported, tmp_path, monkeypatch):
        (tmp_path / "empty").mkdir()
        assert "no such folder" in mistake(kft("serve", tmp_path / "nope"))
        assert "holds no version of a SavedModel" in mistake(kft("serve", tmp_path / "empty"))
        assert f"serve the folder above it: {exported}" in mistake(kft("serve", exported / "1"))
        assert "cannot be the name of a model" in mistake(kft("serve", exported, "--name", "a/b"))
        assert "would never fit a queue of 5" in mistake(kft("serve", exported, "--queue-size", "5"))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            assert f"cannot listen on 127.0.0.1:{port}" in mistake(kft("serve", exported, "--port", port))
        (tmp_path / "bad" / "1").mkdir(parents=True)
        (tmp_path / "bad" / "1" / "saved_model.pb").write_bytes(b"\xff")
        assert "no version of it loads" in mistake(kft("serve", tmp_path / "bad", "--port", "0"))
        monkeypatch.setenv("KFT_SERVE_TOKEN", " ")
        assert "KFT_SERVE_TOKEN is empty" in mistake(kft("serve", exported))

    def test_a_missing_extra_is_named(self, exported, monkeypatch):
        monkeypatch.setattr("kft.serve.settings.PACKAGES", ("uvicorn", "nosuchpackage"))
        message = mistake(kft("serve", exported))
        assert "serving needs nosuchpackage" in message
        assert "pip install 'kft[serve]'" in message

    def test_a_token_must_be_ascii(self):
        with pytest.raises(KftError, match="not ASCII"):
            Settings(token="é")

    def test_pages_are_in_the_package(self):
        assert {page.name for page in PAGES.iterdir()} == {"index.html", "docs.html"}


class TestTokenizerBeside:
    """A tokenizer without a graph: the SavedModel takes token ids, and the server makes them."""

    @pytest.fixture(scope="class")
    def run(self, tiny_settings, tmp_path_factory) -> Path:
        pytest.importorskip("transformers")
        import tiny

        from kft import config, train

        folder = tmp_path_factory.mktemp("roberta")
        preset = tiny.make(folder / "preset", "roberta")
        model = {"preset": str(preset), "max_length": 16}
        settings = tiny_settings | {"model": model, "train": tiny_settings["train"] | {"epochs": 1}}
        train.train(config.parse(settings), folder / "run")
        return folder / "run"

    @pytest.fixture(scope="class")
    def http(self, run, tmp_path_factory):
        folder = tmp_path_factory.mktemp("served") / "films"
        content = export.export(run, "savedmodel", folder)
        assert set(content["signatures"]) == {"tokens", "answers_of_tokens"}
        assert any("no exact TensorFlow graph" in note for note in content["notes"])
        with client(models.load(folder / "1")) as http:
            yield http

    def test_it_answers_raw_texts_as_kft_predict_does(self, http, run):
        texts = [*TEXTS, "x" * 500, "<s> in </s> the <mask> text"]
        got = http.post(f"{AT}:predict", json={"instances": texts}).json()["predictions"]
        for answer, expected in zip(got, evaluate.predict(run, texts), strict=True):
            assert answer["label"] == expected["label"]
            probabilities = dict(zip(answer["labels"], answer["probabilities"], strict=True))
            assert probabilities == pytest.approx(expected["probabilities"], abs=1e-5)

    def test_columns_and_examples_answer_alike(self, http):
        rows = http.post(f"{AT}:predict", json={"instances": TEXTS}).json()["predictions"]
        columns = http.post(f"{AT}:predict", json={"inputs": {"text": TEXTS}}).json()["outputs"]
        assert columns["label"] == [row["label"] for row in rows]
        examples = [{"text": text} for text in TEXTS]
        classified = http.post(f"{AT}:classify", json={"examples": examples}).json()["results"]
        for pairs, row in zip(classified, rows, strict=True):
            assert dict(pairs) == pytest.approx(dict(zip(row["labels"], row["probabilities"], strict=True)))

    def test_bytes_that_are_not_text_count_as_replacement_characters(self, http):
        odd = {"b64": base64.b64encode(b"good\xff film").decode()}
        got = http.post(f"{AT}:predict", json={"instances": [odd, "good\ufffd film"]}).json()["predictions"]
        assert got[0] == got[1]

    def test_metadata_names_every_signature(self, http):
        described = http.get(f"{AT}/metadata").json()["metadata"]["signature_def"]["signature_def"]
        assert set(described) >= {"serving_default", "classify", "tokens", "answers_of_tokens"}
        assert described["serving_default"]["inputs"]["text"]["dtype"] == "DT_STRING"
        assert described["serving_default"]["method_name"] == models.PREDICT

    def test_an_example_without_text_is_refused(self, http):
        answer = http.post(f"{AT}:classify", json={"examples": [{"title": "good"}]})
        assert answer.status_code == 400
