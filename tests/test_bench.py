"""Tests of tools/bench.py in the tiny world: counts, contestants, the whole command."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import BAD, GOOD, VOCABULARY, sentences, write_csv

torch = pytest.importorskip("torch", reason="the contestants need torch")
transformers = pytest.importorskip("transformers", reason="the contestants are transformers models")

TOOLS = Path(__file__).parents[1] / "tools"
sys.path.insert(0, str(TOOLS))
import bench  # noqa: E402
import bench_loops  # noqa: E402

BATCH = 8


class Asked:
    """Stands for the parent's end of the pipe: asks for these blocks, keeps the reports."""

    def __init__(self, *counts: int):
        self.counts, self.reports = [*counts, None], []

    def recv(self):
        return self.counts.pop(0)

    def send(self, report):
        self.reports.append(report)


def settings(preset: Path, data: Path, *more: str):
    given = ["--preset", preset, "--data", data, "--max-length", 16, "--batch-size", BATCH, *more]
    return bench.read_arguments([str(word) for word in given])


@pytest.fixture(scope="module")
def films(tiny_preset, tiny_csv, tmp_path_factory):
    """The job of single texts with classes."""
    return bench.prepare(settings(tiny_preset, tiny_csv), tmp_path_factory.mktemp("films"))[0]


@pytest.fixture(scope="module")
def pairs(tiny_preset, tmp_path_factory):
    """The job of pairs of texts with scores."""
    folder = tmp_path_factory.mktemp("pairs")
    texts = [text for text, _ in sentences(120)]
    rows = [(a, b, i % 5 + 0.5) for i, (a, b) in enumerate(zip(texts[::2], texts[1::2], strict=True))]
    file = write_csv(folder / "pairs.csv", rows, ("first", "second", "score"))
    columns = ["--text", "first", "--text-pair", "second", "--label", "score", "--regression"]
    return bench.prepare(settings(tiny_preset, file, *columns), folder)[0]


# kft on torch needs a process of its own; what is left out on pairs differs from its neighbour in
# padding or order only.
ON_TEXTS = [
    ("films", part, name) for part, rows in bench.PARTS.items() for name in rows if name != "kft-torch"
]
ON_PAIRS = [("pairs", "training", "grouped"), ("pairs", "training", "kft-jax")]
ON_PAIRS += [("pairs", "prediction", name) for name in ("pipeline", "loop", "kerashub", "kft-jax")]


@pytest.mark.parametrize("data, part, name", ON_TEXTS + ON_PAIRS)
def test_contestant_does_the_blocks_it_is_asked_for(data, part, name, request):
    pipe = Asked(1, 2) if part == "training" else Asked(BATCH, 3 * BATCH)
    job = request.getfixturevalue(data)
    with pytest.raises(bench.Finished):
        bench.PARTS[part][name].run(job, bench.Gate(pipe, job.max_length))
    expected = [BATCH, 2 * BATCH] if part == "training" else [BATCH, 3 * BATCH]
    counts = [block["examples"] for block in pipe.reports]
    assert (
        counts[0] == expected[0] and 0 <= expected[1] - counts[1] < BATCH
    )  # an epoch's last batch may be short
    assert all(block["seconds"] > 0 and block["peak_bytes"] > 50e6 for block in pipe.reports)


@pytest.fixture(scope="module")
def words(tiny_preset, tmp_path_factory):
    """The job of tagged words."""
    folder = tmp_path_factory.mktemp("words")
    kinds = dict.fromkeys((*GOOD, *BAD), "B-X")
    lines = ["".join(f"{w}\t{kinds.get(w, 'O')}\n" for w in text.split()) for text, _ in sentences(60)]
    (folder / "films.conll").write_text("\n".join(lines))
    given = settings(tiny_preset, folder / "films.conll", "--task", "token_classification")
    return bench.prepare(given, folder)[0]


@pytest.fixture(scope="module")
def questions(tiny_preset, tmp_path_factory):
    """The job of answers, whose contexts have several windows."""
    folder = tmp_path_factory.mktemp("questions")
    rows = []
    for i, (text, _) in enumerate(sentences(60)):
        context = f"{text} {text} {text}"
        rows.append({"id": str(i), "question": "the film", "context": context})
        word = next(word for word in text.split() if word in (*GOOD, *BAD))
        rows[-1]["answers"] = [{"text": word, "answer_start": context.index(word)}]
    (folder / "films.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = settings(tiny_preset, folder / "films.jsonl", "--task", "question_answering", "--stride", 4)
    return bench.prepare(given, folder)[0]


@pytest.mark.parametrize(
    "data, part, name",
    [
        ("words", "training", "dynamic"),
        ("words", "training", "kft-jax"),
        ("words", "prediction", "padded"),
        ("words", "prediction", "kft-jax"),
        ("questions", "training", "padded"),
        ("questions", "prediction", "dynamic"),
        ("questions", "prediction", "kft-jax"),
    ],
)
def test_contestants_of_words_and_answers_do_their_blocks(data, part, name, request):
    job = request.getfixturevalue(data)
    pipe = Asked(2) if part == "training" else Asked(11)
    with pytest.raises(bench.Finished):
        bench.LOCATED[job.task][part][name].run(job, bench.Gate(pipe, job.max_length))
    (block,) = pipe.reports
    least = 11 if part == "prediction" else BATCH + 1  # an epoch's last batch may be short
    assert least <= block["examples"] <= max(least, 2 * BATCH * (part == "training"))


def test_an_answer_is_found_where_the_logits_are_highest_over_the_windows(questions):
    tokenizer = transformers.AutoTokenizer.from_pretrained(questions.folder)
    contexts = ["a film the plot a actor good film the plot a plot dull film", "fine"]
    encoded = bench_loops.of_questions(tokenizer, ["the film"] * 2, contexts, questions)
    wanted = tokenizer.convert_tokens_to_ids(["good", "fine"])
    marks = [np.isin(ids, wanted).astype(np.float32) for ids in encoded["input_ids"]]
    assert len(marks) > 2
    assert bench_loops._answers(encoded, marks, marks, contexts) == ["good", "fine"]
    for ids, inside, offsets in zip(
        encoded["input_ids"],
        map(encoded.sequence_ids, range(len(marks))),
        encoded["offset_mapping"],
        strict=True,
    ):
        start = contexts[0].index("good")
        first, last = bench_loops.place(offsets, [place == 1 for place in inside], start, start + 4)
        assert first == last and (first == 0 or ids[first] == wanted[0])


def test_prepare_counts_tokens_as_transformers_does(films, tiny_preset):
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_preset)
    examples = bench.read_examples(films)
    expected = [len(ids) for ids in tokenizer(examples.texts, truncation=True, max_length=16)["input_ids"]]
    assert examples.lengths.tolist() == expected
    assert set(examples.targets.tolist()) == {0, 1}


def test_blocks_stand_for_all_lengths():
    rng = np.random.default_rng(0)
    costs = rng.permutation(1000)
    picked = bench.evenly(costs, 10, rng)
    assert sorted(costs[picked] // 100) == list(range(10))
    assert sorted(costs[picked]) != costs[picked].tolist()


def test_flops_are_those_that_torch_counts(tiny_preset):
    from torch.utils.flop_counter import FlopCounterMode

    model = transformers.AutoModel.from_pretrained(tiny_preset, attn_implementation="eager").eval()
    length = 11
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.full((1, length), len(VOCABULARY) - 1))
    shape = bench.read_shape(str(tiny_preset))
    assert bench.example_flops(shape, np.array([length]), whole_last_layer=True) == counter.get_total_flops()
    assert bench.example_flops(shape, np.array([length])) < counter.get_total_flops()


def fail(job, gate):
    gate.wait()
    raise RuntimeError("out of luck")


def test_worker_that_dies_says_why(films, tmp_path):
    import dataclasses

    job = dataclasses.replace(films, log=str(tmp_path / "log"))
    with (
        bench.Worker(job, bench.Contestant("unlucky", fail)) as worker,
        pytest.raises(bench.Died, match="out of luck"),
    ):
        worker.ask(1)


def test_command_writes_rates_of_every_contestant(tiny_preset, tiny_csv, tmp_path):
    output = tmp_path / "bench.json"
    command = [
        sys.executable,
        TOOLS / "bench.py",
        "--preset",
        tiny_preset,
        "--data",
        tiny_csv,
        "--output",
        output,
    ]
    command += ["--max-length", 16, "--batch-size", BATCH, "--repetitions", 1, "--steps", 4, "--texts", 32]
    command += ["--part", "prediction", "--only", "loop", "kft-jax"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    assert result["training"] == {} and set(result["prediction"]) == {"loop", "kft-jax"}
    for row in result["prediction"].values():
        assert row["examples_per_second"]["median"] > 0 and row["first_step_seconds"] > 0
        assert 0 < row["matmul_peak_share"]["median"] < 1
    own = result["prediction"]["kft-jax"]
    assert own["kft_jax_times_faster"]["median"] == 1 and own["first_step_again_seconds"] > 0
    table = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(table) == 3 and len({line.count("|") for line in table}) == 1


def test_failed_contestant_is_reported_in_its_row():
    rows = {"loop": {"title": "torch loop", "error": "RuntimeError: out of luck"}}
    assert bench._table("prediction", rows)[-1] == "| torch loop | failed: RuntimeError: out of luck |"


def test_missing_column_is_one_line(tiny_preset, tiny_csv, capsys, monkeypatch):
    monkeypatch.setattr(
        sys, "argv", ["bench", "--data", str(tiny_csv), "--text", "txt", "--preset", str(tiny_preset)]
    )
    assert bench.main() == 1
    assert "did you mean `text`?" in capsys.readouterr().err
