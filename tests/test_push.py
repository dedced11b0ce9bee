"""`kft export --push`: the hubs' own clients push what was proven, and only that."""

import json
import re
from dataclasses import replace

import huggingface_hub
import kagglehub
import pytest
import stand_in_hubs
from click.testing import CliRunner
from huggingface_hub import constants
from kagglesdk import kaggle_env

from kft import export
from kft.cli import main
from kft.errors import KftError
from kft.export import hubs as addresses

COMPARED = {"comparison": {"examples": 3, "max_difference": 1e-7, "tolerance": 1e-4}}


@pytest.fixture
def hubs(monkeypatch, tmp_path):
    """Both hubs on this machine, and somebody who is signed in."""
    with stand_in_hubs.serving() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # its storage speaks a protocol of its own
        monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, server.url)
        monkeypatch.setenv("HF_TOKEN", stand_in_hubs.TOKEN)
        monkeypatch.setenv("KAGGLE_API_TOKEN", stand_in_hubs.TOKEN)
        monkeypatch.setenv("HOME", str(tmp_path))
        yield server


@pytest.fixture
def quick(monkeypatch):
    """Proofs are believed: other tests are about them."""
    for name in ("hf", "keras"):
        exporter = replace(export.EXPORTERS[name], prove=lambda source, folder: COMPARED)
        monkeypatch.setitem(export.EXPORTERS, name, exporter)


def test_a_run_goes_to_the_hugging_face_hub_with_its_card(hubs, quick, tiny_run):
    command = ["export", str(tiny_run), "--push", "hf://ann/films", "--json"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, (result.output, result.exception)
    content = json.loads(result.stdout)
    assert content["pushed"] == f"{hubs.url}/ann/films" and content["output"] is None
    repo = hubs.repos["ann/films"]
    assert repo["private"]
    assert set(repo["main"]) >= {"README.md", "config.json", "model.safetensors", "export.json"}
    assert hubs.calls.index("POST /api/repos/create") < hubs.calls.index(
        "POST /api/models/ann/films/commit/main"
    )
    card = huggingface_hub.ModelCard(repo["main"]["README.md"].decode())
    scores = json.loads((tiny_run / "metrics.json").read_text())["test"]
    data = card.data.to_dict()
    assert (data["library_name"], data["pipeline_tag"]) == ("transformers", "text-classification")
    content = {m["type"]: m["value"] for m in data["model-index"][0]["results"][0]["metrics"]}
    assert content == {name: value for name, value in scores.items() if value is not None}
    assert f"| **accuracy** | {scores['accuracy']:.4f} (" in card.text
    account = json.loads((tiny_run / "data.json").read_text())["splits"]["train"]
    assert f"| train | {account['read']:,} | " in card.text
    assert 'huggingface_hub.snapshot_download("ann/films")' in card.text
    assert str(tiny_run.parent) not in card.text  # a path is of a machine of somebody


def test_a_branch_is_made_and_the_main_one_left_alone(hubs, quick, tiny_run, tmp_path):
    report = export.push(tiny_run, None, "hf://ann/films@short", tmp_path / "kept", public=True)
    assert report["pushed"] == f"{hubs.url}/ann/films/tree/short"
    assert not hubs.repos["ann/films"]["private"]
    assert not hubs.repos["ann/films"]["main"]
    pushed = hubs.repos["ann/films"]["short"]
    kept = {file.name: file.read_bytes() for file in (tmp_path / "kept").iterdir()}
    assert pushed == kept
    assert 'revision="short"' in kept["README.md"].decode()


def test_a_run_goes_to_kaggle_and_then_a_second_version(hubs, quick, tiny_run, capfd):
    for _ in range(2):
        report = export.push(tiny_run, None, "kaggle://ann/films/keras/tiny")
    assert report["to"] == "keras" and report["pushed"].endswith("/models/ann/films/keras/tiny")
    model = hubs.models["ann/films"]
    assert model["private"] and [name for name, _ in model["versions"]] == ["tiny", "tiny"]
    files = model["versions"][1][1]
    assert {"README.md", "config.json", "assets/tokenizer/vocabulary.txt"} <= set(files)
    assert b'kagglehub.model_download("ann/films/keras/tiny")' in files["README.md"]
    assert capfd.readouterr().out == ""


def test_nothing_is_pushed_that_answers_otherwise(hubs, tiny_run, monkeypatch):
    def differs(source, folder):
        raise KftError("differs from the run; nothing was kept")

    monkeypatch.setitem(export.EXPORTERS, "hf", replace(export.EXPORTERS["hf"], prove=differs))
    with pytest.raises(KftError, match="differs from the run"):
        export.push(tiny_run, None, "hf://ann/films")
    assert not hubs.repos and not hubs.blobs
    assert not [call for call in hubs.calls if not call.startswith("GET")]


def no_export(*_, **__):
    raise AssertionError("what is wrong at once is reported before the export")


@pytest.mark.parametrize(
    "address, changes, message, hint",
    [
        ("hf://ann/films", {"HF_TOKEN": None}, "nobody is signed in", "hf auth login"),
        ("hf://ann/films", {"HF_TOKEN": "old"}, "the token is not valid", "hf auth login"),
        ("hf://ann/films", {"role": "read"}, "the token can only read", "hf auth login"),
        ("hf://ann/open", {}, "is a public model", "--public"),
        ("kaggle://ann/films/keras/tiny", {"KAGGLE_API_TOKEN": None}, "nobody is signed in", "KAGGLE_API_TOKEN"),
        ("kaggle://ann/films/keras/tiny", {"KAGGLE_API_TOKEN": "old"}, "the token is not valid", "KAGGLE_API_TOKEN"),
        ("kaggle://ann/films/kers/tiny", {}, "did you mean `keras`?", "tensorflow2"),
        ("kaggle://ann/films/keras", {}, "is not the address of a model", "kaggle://OWNER/MODEL/"),
        ("hf://films", {}, "is not the address of a model", "hf://ORG/NAME"),
        ("hf://ann/films@", {}, "is not the address of a model", "hf://ORG/NAME"),
        ("hg://ann/films", {}, "did you mean `hf://`?", "hf://ORG/NAME"),
        ("https://huggingface.co/ann/films", {}, "is no place that kft pushes to", "hf://ORG/NAME"),
        ("kaggle://ann/films/keras/tiny@2", {}, "Kaggle has no branches", "new version"),
    ],
)  # fmt: skip
def test_what_is_plain_at_once(address, changes, message, hint, hubs, tiny_run, monkeypatch):
    monkeypatch.setattr(export, "export", no_export)
    hubs.repos["ann/open"] = {"private": False, "main": {}}
    for name, value in changes.items():
        if name == "role":
            hubs.role = value
        elif value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(KftError) as raised:
        export.push(tiny_run, None, address)
    assert message in raised.value.message and hint in raised.value.hint


def test_a_place_of_strangers(hubs, quick, tiny_run):
    for address in ("hf://strangers/films", "kaggle://strangers/films/keras/tiny"):
        with pytest.raises(KftError, match=f"{address}: was not pushed: the token may not write there"):
            export.push(tiny_run, None, address)


@pytest.mark.parametrize("address", ["hf://ann/films", "kaggle://ann/films/keras/tiny"])
def test_no_network(address, hubs, tiny_run, monkeypatch):
    monkeypatch.setattr(export, "export", no_export)
    nobody = "http://127.0.0.1:9"  # the discard port, where nothing listens
    monkeypatch.setattr(constants, "ENDPOINT", nobody)
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, nobody)
    with pytest.raises(KftError, match="the network cannot be reached"):
        export.push(tiny_run, None, address)


def test_a_format_that_is_of_another_framework(hubs, tiny_run):
    with pytest.raises(KftError, match="holds keras, not onnx"):
        export.push(tiny_run, "onnx", "kaggle://ann/films/keras/tiny")
    with pytest.raises(KftError, match="makes models private"):
        export.push(tiny_run, None, "kaggle://ann/films/keras/tiny", public=True)


def test_kaggle_knows_the_frameworks():
    for name in addresses.FRAMEWORKS:
        assert kagglehub.handle.parse_model_handle(f"ann/films/{name}/tiny").framework_enum().value


@pytest.mark.parametrize(
    "options, message",
    [
        (["--to", "hf"], "Missing option '--output'"),
        (["--output", "x"], "Missing option '--to'"),
        (["--to", "hf", "--output", "x", "--public"], "--public goes with --push"),
        (["--push", "hf://ann/films", "--no-verify"], "only what is proven is pushed"),
    ],
)
def test_options_that_do_not_go_together(options, message, tiny_run):
    result = CliRunner().invoke(main, ["export", str(tiny_run), *options])
    assert result.exit_code == 2 and message in re.sub(r"\s+", " ", result.output)
