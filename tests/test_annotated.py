"""Exports of doccano and Label Studio, written by hand as they are documented."""

import json
import tomllib

import pytest

from kft import config as configs
from kft import guess
from kft.config import DataConfig
from kft.data import sources, splits
from kft.errors import KftError
from kft.tasks import TASKS
from kft.tasks.problems import ONE_CLASS, SEVERAL_CLASSES

ONE, SEVERAL = TASKS.of_problem(ONE_CLASS), TASKS.of_problem(SEVERAL_CLASSES)


def annotation(*choices, control="sentiment", by=1, cancelled=False):
    """An annotation of Label Studio; the last control first, as clicked."""
    value = {"choices": list(choices)}
    result = {
        "id": "Dx_aB91ISN",
        "from_name": control,
        "to_name": "text",
        "type": "choices",
        "origin": "manual",
        "value": value,
    }
    return {
        "id": 1000 + by,
        "completed_by": by,
        "result": [result] if choices else [],
        "was_cancelled": cancelled,
        "ground_truth": False,
        "created_at": "2021-03-09T22:16:08.728353Z",
        "lead_time": 4.288,
    }


def task(number, text, *annotations):
    return {
        "id": number,
        "data": {"text": text, "source": "web"},
        "annotations": list(annotations),
        "drafts": [],
        "predictions": [],
        "meta": {},
        "created_at": "2021-03-09T21:52:49.513742Z",
        "total_annotations": len(annotations),
        "cancelled_annotations": 0,
        "project": 83,
    }


@pytest.fixture
def tasks(tmp_path):
    tasks = [
        task(1, "a good film", annotation("Positive")),
        task(2, "a bad film", annotation("Positive", cancelled=True), annotation("Negative", by=2)),
        task(3, "the plot", annotation("Positive"), annotation("Negative", by=2)),
        task(4, "nobody's", annotation(cancelled=True)),
        task(5, "nothing chosen", annotation()),
    ]
    file = tmp_path / "project-1-at-2021.json"
    file.write_text(json.dumps(tasks))
    return file


def test_tasks_of_label_studio(tasks):
    """A row for each annotation that was not cancelled; controls by name, in any order."""
    frame = sources.read_file(tasks, DataConfig(label="sentiment"))
    assert frame.select("text", "label").rows() == [
        ("a good film", '["Positive"]'),
        ("a bad film", '["Negative"]'),
        ("the plot", '["Positive"]'),
        ("the plot", '["Negative"]'),
        ("nobody's", None),
        ("nothing chosen", None),
    ]
    paths = DataConfig(text="data.text", label="annotations.0.result.0.value.choices.0")
    assert sources.read_file(tasks, paths)["label"].to_list() == [
        "Positive",
        "Negative",
        "Positive",
        "Negative",
        None,
        None,
    ]
    config = configs.parse({"data": {"train": str(tasks), "label": "sentiment"}})
    frames = dict.fromkeys(("train", "validation"), frame)
    prepared = splits.prepare(frames, config.split, config.clean, ONE)
    assert prepared.account["splits"]["train"]["labels"] == {"Negative": 2, "Positive": 2}
    assert prepared.account["splits"]["train"]["dropped"] == {"missing_label": 2}
    assert prepared.account["splits"]["train"]["duplicates"]["conflicting_labels"] == 2


def test_two_controls_and_ratings(tmp_path):
    both = annotation("Film", control="topic")
    both["result"] += annotation("Positive", "Calm")["result"]
    stars = {"from_name": "stars", "to_name": "text", "type": "rating", "value": {"rating": 4}}
    both["result"].insert(0, stars)
    (tmp_path / "a.jsonl").write_text(json.dumps(task(1, "a good film", both)) + "\n")

    def label(name):
        return sources.read_file(tmp_path / "a.jsonl", DataConfig(label=name))["label"].item()

    assert [label(name) for name in ("topic", "sentiment", "stars")] == [
        '["Film"]',
        '["Calm", "Positive"]',
        "4",
    ]


@pytest.mark.parametrize("ending", ["json", "csv"])
def test_several_choices_in_json_min_and_csv(tmp_path, ending):
    """Label Studio writes one choice as a string, and several as {"choices": [...]}."""
    rows = [("a good film", "Positive"), ("both", {"choices": ["Positive", "Negative"]}), ("none", None)]
    file = tmp_path / f"project.{ending}"
    if ending == "json":
        common = {"annotator": 1, "annotation_id": 7, "lead_time": 1.5}
        file.write_text(json.dumps([{"text": t, "id": 1, "sentiment": v, **common} for t, v in rows]))
    else:
        cells = [json.dumps(v).replace('"', '""') if isinstance(v, dict) else v or "" for _, v in rows]
        lines = [f'{i},1,7,1.5,"{cell}",{rows[i][0]}' for i, cell in enumerate(cells)]
        file.write_text("\n".join(["id,annotator,annotation_id,lead_time,sentiment,text", *lines]) + "\n")
    frame = sources.read_file(file, DataConfig(label="sentiment"))
    assert frame["label"].to_list() == ["Positive", '["Negative", "Positive"]', None]
    with pytest.raises(KftError, match="got the list"):
        config = configs.parse({"data": {"train": str(file)}})
        splits.prepare({"train": frame, "validation": frame}, config.split, config.clean, ONE)
    own = config_of(file)
    prepared = splits.prepare({"train": frame, "validation": frame}, own.split, own.clean, SEVERAL)
    assert prepared.account["splits"]["train"]["labels"] == {"Negative": 1, "Positive": 2}


def config_of(file):
    return configs.parse({"data": {"train": str(file)}})


def doccano(labels):
    return [
        {"id": i, "text": f"film {i} is fine", "label": label, "Comments": []}
        for i, label in enumerate(labels)
    ]


def written(file, **options):
    """What `kft init` writes."""
    result = guess.init(str(file), output=str(file.with_suffix(".toml")), **options)
    return tomllib.loads(file.with_suffix(".toml").read_text()), result


def test_init_knows_doccano(tmp_path):
    one = [["pos"], ["neg"], ["pos"], ["neg"], []] * 8
    lines = (json.dumps(row) + "\n" for row in doccano(one))
    (tmp_path / "one.jsonl").write_text("".join(lines))
    config, result = written(tmp_path / "one.jsonl")
    assert (config["task"], config["data"]["label"]) == (ONE, "label")
    assert not any("does not train" in line for line in result["warnings"])
    several = [["pos", "old"], ["neg"], ["pos"], ["old"]] * 8
    (tmp_path / "several.json").write_text(json.dumps(doccano(several)))
    assert written(tmp_path / "several.json")[0]["task"] == SEVERAL
    rows = "".join(f"{i},film {i} is fine,{'#'.join(label)},\n" for i, label in enumerate(several))
    (tmp_path / "joined.csv").write_text(f"id,text,label,Comments\n{rows}")
    config, _ = written(tmp_path / "joined.csv")
    assert (config["task"], config["data"]["label_separator"]) == (SEVERAL, "#")


def test_init_knows_label_studio(tmp_path):
    tasks = [
        task(
            i, f"film {i} is fine", annotation("Positive" if i % 3 else "Negative", control="mood", by=i % 2)
        )
        for i in range(60)
    ]
    (tmp_path / "full.json").write_text(json.dumps(tasks))
    config, _ = written(tmp_path / "full.json")
    assert config["task"] == ONE
    assert (config["data"].get("text", "text"), config["data"]["label"]) == ("text", "mood")
    small = [
        {
            "text": t["data"]["text"],
            "id": t["id"],
            "annotator": t["id"] % 2,
            "annotation_id": 7,
            "mood": t["annotations"][0]["result"][0]["value"]["choices"][0],
            "created_at": t["created_at"],
        }
        for t in tasks
    ]
    (tmp_path / "min.json").write_text(json.dumps(small))
    config, _ = written(tmp_path / "min.json")
    assert (config["task"], config["data"]["label"]) == (ONE, "mood")
    for row in small[::4]:
        row["mood"] = {"choices": ["Positive", "Negative"]}
    (tmp_path / "several.json").write_text(json.dumps(small))
    header = ",".join(small[0])
    cells = ([json.dumps(v) if isinstance(v, dict) else str(v) for v in row.values()] for row in small)
    quoted = (",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in cells)
    (tmp_path / "cells.csv").write_text("\n".join([header, *quoted]) + "\n")
    for name in ("several.json", "cells.csv"):
        config, result = written(tmp_path / name)
        assert (config["task"], config["data"]["label"]) == (SEVERAL, "mood")
        assert not result["warnings"]
