"""Predicts examples with a run's model, or with those of an ensemble, and scores splits and files."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from kft import answers, backend, batches, metrics, models, rundir, sources, splits, tokens
from kft import config as configs
from kft.answers import Answers
from kft.config import Config, DataConfig
from kft.errors import KftError
from kft.rundir import RunDir
from kft.tasks import TASKS, Task, question_numbers

CHUNK_EXAMPLES = 16_384  # texts that prediction holds in memory at a time
STEP_TOKENS = {"cpu": 4096, "accelerator": 32_768}  # tokens in a prediction step


@dataclass(frozen=True)
class LoadedRun:
    """A finished run, or an ensemble of them, ready to predict.

    Attributes:
        run: of an ensemble the first one; its settings, labels and tokenizer are those of all.
        model: has the weights of `run`, those of an ensemble's runs in turn.
        members: the runs of an ensemble, else none.
        path: the folder that was opened.
    """

    run: RunDir
    config: Config
    task: Task
    labels: list[str]
    tokenizer: tokens.Tokenizer
    model: models.Classifier
    path: Path
    members: tuple[RunDir, ...] = ()


@dataclass(frozen=True)
class Scored:
    """Scores of one split: {metric: float}, their details, the predictions as a frame, and the mean loss."""

    metrics: dict[str, float]
    details: dict[str, Any]
    predictions: pl.DataFrame
    loss: float


def load_run(path: str | Path, backend_name: str | None = None) -> LoadedRun:
    """The finished run in a folder, or the ensemble, its model on the backend that Keras runs on.

    Args:
        path: the folder of a run, or of runs over seeds or folds; it may have been copied or renamed.
        backend_name: "jax", "torch" or "tensorflow", needed before anything has imported Keras; None keeps the
            current one.

    Raises:
        KftError: the folder holds no whole, finished run, or the runs of an ensemble do not go together.
    """
    backend.select(backend_name)
    if not rundir.is_ensemble(path):
        return _load(rundir.open_run(path))
    folder = rundir.open_ensemble(path)
    runs = [rundir.open_run(member.run.path) for member in rundir.finished_members(folder)]
    loaded = _load(runs[0])
    for run in runs[1:]:
        _check_goes_with(loaded, run)
    return replace(loaded, path=folder.path, members=tuple(runs))


def _load(run: RunDir) -> LoadedRun:
    config = rundir.read_config(run)
    labels = rundir.read_labels(run)
    model = models.load(run, config.train.precision)
    if model.architecture.outputs != TASKS[config.task].outputs(labels):
        raise KftError(
            f"{run.labels}: names {len(labels)} labels, the model has {model.architecture.outputs} outputs",
            "copy the run folder again",
        )
    tokenizer = read_tokenizer(run)
    return LoadedRun(run, config, TASKS[config.task], labels, tokenizer, model, run.path)


def _check_goes_with(loaded: LoadedRun, run: RunDir) -> None:
    """Raises KftError: a run of an ensemble reads other texts than the first one, or has other labels."""
    config, first = rundir.read_config(run), loaded.run
    read = ("task", "data.text", "data.text_pair", "data.group", "data.spans", "model.max_length")
    differ = [name for name in configs.differences(loaded.config, config) if name in read]
    if run.vocabulary.read_bytes() != first.vocabulary.read_bytes():
        differ.append("vocabulary")
    if sorted(rundir.read_labels(run)) != sorted(loaded.labels):
        differ.append("labels")
    if differ:
        raise KftError(
            f"{run.path}: cannot answer together with {first.path}: they differ in {', '.join(differ)}",
            "the runs of one ensemble come from one `kft train`: copy the whole folder again",
        )


def read_tokenizer(run: RunDir) -> tokens.Tokenizer:
    """The tokenizer of a run, from its vocabulary and model.json."""
    settings = rundir.read_json(run.model, "tokenizer")["tokenizer"]
    return tokens.load_tokenizer(tokens.read_vocabulary(run.vocabulary), **settings)


def evaluate(
    run: str | Path | LoadedRun, split: str | None = None, data: str | Path | None = None
) -> dict[str, Any]:
    """Scores of a run on one of its splits, or on any file with its columns.

    Args:
        run: a run's folder, or what `load_run` gave.
        split: "test", "validation" or "train"; None takes test where the run has one, else validation. Train is read
            again from where the config says.
        data: a file instead; nothing in it is cleaned or dropped.

    Returns:
        {"run", "split", "examples", "metrics": {name: float}, "details"}; the split of a file is "data".

    Raises:
        KftError: the run has no such split, or a row of the file cannot be scored.
    """
    loaded = run if isinstance(run, LoadedRun) else load_run(run)
    if data is None:
        name = split or ("test" if rundir.had_split(loaded.run, "test") else "validation")
        _check_unseen(loaded, name)
        frame = _rows_of(loaded, name)
    else:
        name, frame = "data", _rows_of_file(loaded, data)
    if not len(frame):
        raise KftError(f"{name}: holds no examples to score", "give a file with --data")
    scored = score_predictions(frame, _predictions(loaded, frame), loaded.config.task, loaded.labels)
    return {
        "run": str(loaded.path),
        "split": name,
        "examples": len(frame),
        "metrics": rundir.finite(scored.metrics),
        "details": scored.details,
    }


def answer_file(run: str | Path | LoadedRun, data: str | Path) -> Answers:
    """What a run, or an ensemble, predicts for the rows of a labelled file with its columns; raises as `evaluate` does."""
    loaded = run if isinstance(run, LoadedRun) else load_run(run)
    frame, kind = _rows_of_file(loaded, data), loaded.config.task
    scored = score_predictions(frame, _predictions(loaded, frame), kind, loaded.labels, detailed=False)
    return answers.of_table(kind, loaded.labels, scored.predictions)


def predict(
    run: str | Path | LoadedRun, texts: Iterable[str] | Iterable[tuple[str, str]] | pl.DataFrame
) -> Iterator[dict[str, Any]]:
    """One answer for each text, in input order, computed a chunk at a time.

    Args:
        run: a run's folder, or what `load_run` gave.
        texts: strings, pairs of strings for a run on pairs, or a frame with columns text (and text_pair, group and those
            of the marked words, as the run has them).

    Yields:
        {"id", "text", "text_pair"?, "group"?, "label", "probabilities": {label: float}}; {"id", "text", "value"} for
        scores; {…, "group", "score", "probability", "chosen"} for choices, the probability being that among the choices
        of the question, of which one is chosen.

    Raises:
        KftError: the run reads pairs and the texts are single, or the other way round; or it reads groups or marked
            words, and the texts come without them.
    """
    loaded = run if isinstance(run, LoadedRun) else load_run(run)
    yield from _answers(loaded, _chunks(loaded, texts))


def _answers(loaded: LoadedRun, frames: Iterable[pl.DataFrame]) -> Iterator[dict[str, Any]]:
    """What `predict` yields, for one frame after the other."""
    shown = ["text", *(["text_pair"] if loaded.config.data.text_pair is not None else [])]
    offset = 0
    for frame in frames:
        told = frame.with_columns(loaded.task.columns(_predictions(loaded, frame), loaded.labels))
        shown += ["group"] if "group" in frame.columns and "group" not in shown else []
        for i, row in enumerate(told.iter_rows(named=True)):
            asked = {"id": offset + i} | {column: row[column] for column in shown}
            yield asked | loaded.task.answer(row, loaded.labels)
        offset += len(frame)


def predict_file(run: str | Path | LoadedRun, file: str = "-", output: str | Path | None = None) -> int:
    """Answers every text of a file as JSONL; returns their number.

    Files of any size are answered in constant memory, but for JSON documents and the runs that read questions or marked words.

    Args:
        run: a run's folder, or what `load_run` gave.
        file: "-" for standard input, a file with the run's columns in a format that `sources` reads, or any other file
            as one text a line (for a run on pairs: text, tab, second text).
        output: file to write whole or not at all; None writes to standard output.

    Raises:
        KftError: the file cannot be read, or a line is not UTF-8.
    """
    loaded = run if isinstance(run, LoadedRun) else load_run(run)
    made = _answers(loaded, _read_frames(loaded, file))
    if output is None:
        return _write_lines(made, sys.stdout)
    count = 0

    def write(path: Path) -> None:
        nonlocal count
        with path.open("w", encoding="utf-8") as stream:
            count = _write_lines(made, stream)

    rundir.write_whole(Path(output), write)
    return count


def encode(loaded: LoadedRun, frame: pl.DataFrame) -> tokens.Tokens:
    """The token rows of a frame, truncated as in training."""
    data, max_length = loaded.config.data, loaded.config.model.max_length
    return tokens.encode_frame(loaded.tokenizer, frame, data.text_pair is not None, data.spans, max_length)


def predict_logits(
    model: models.Classifier, rows: tokens.Tokens, shape: batches.PredictionShape | None = None
) -> np.ndarray:
    """Logits float32 [N, C] of N examples, in their order."""
    count = len(rows.offsets) - 1
    if not count:
        return np.zeros((0, model.architecture.outputs), np.float32)
    shape = shape or choose_shape(model, rows)
    where, steps = batches.prediction_steps(rows, shape)
    made = model.predict(
        batches.prediction_batches(rows, shape, where, steps), steps=int(steps.max()) + 1, verbose=0
    )  # [S * R, K, C]
    logits = np.empty((count, model.architecture.outputs), np.float32)
    logits[where.examples[0]] = made[steps * shape.rows + where.rows[0], where.slots[0]]
    return logits


def choose_shape(model: models.Classifier, *rows: tokens.Tokens) -> batches.PredictionShape:
    """The prediction batches that hold all of `rows`, as large as the device likes them."""
    lengths = np.concatenate([np.diff(r.offsets) for r in rows])
    devices = backend.device_count()
    step_tokens = STEP_TOKENS["accelerator" if backend.on_accelerator() else "cpu"]
    longest = model.architecture.backbone["max_sequence_length"]
    return batches.prediction_shape(lengths, longest, step_tokens, devices)


def score(
    frame: pl.DataFrame,
    logits: np.ndarray,
    architecture: models.Architecture,
    task: Task,
    labels: list[str],
    detailed: bool = True,
) -> Scored:
    """Scores logits [N, C] against the labels of a frame; the details (intervals and so on) cost a second or two.

    Raises:
        KftError: a label is missing, unknown or no finite number; names the row.
    """
    predictions = decode(logits, architecture, task, question_numbers(frame, task))
    return score_predictions(frame, predictions, architecture.task, labels, detailed)


def score_predictions(
    frame: pl.DataFrame, predictions: np.ndarray, kind: metrics.Kind, labels: list[str], detailed: bool = True
) -> Scored:
    """Scores what `decode` told of the rows of a frame; raises as `score` does."""
    task = TASKS[kind]
    targets = task.targets(frame, labels)
    scored = task.scored(targets, predictions)
    values = metrics.scores(kind, *scored, labels)
    told = task.shown_targets(frame, targets)
    columns = [c for c in ("id", "text", "text_pair", "group") if c in frame.columns]
    table = frame.select(columns).with_columns(told.alias("target"), *task.columns(predictions, labels))
    details = metrics.details(kind, *scored, labels) if detailed else {}
    return Scored(values, details, table, values[task.loss_metric])


def decode(
    logits: np.ndarray, architecture: models.Architecture, task: Task, questions: np.ndarray | None = None
) -> np.ndarray:
    """Logits [N, C] → what `Task.predictions` tells, values in the scores' own unit; choices need `question_numbers`."""
    predictions = task.predictions(logits, questions)
    if architecture.task == "regression":
        predictions = predictions * architecture.score_scale + architecture.score_mean
    return predictions


def _predictions(loaded: LoadedRun, frame: pl.DataFrame) -> np.ndarray:
    """What `decode` tells of the rows of a frame; of an ensemble the mean over its runs, labels matched by name."""
    rows, questions = encode(loaded, frame), question_numbers(frame, loaded.task)
    if not loaded.members:
        logits = predict_logits(loaded.model, rows)
        return decode(logits, loaded.model.architecture, loaded.task, questions)
    made = []
    # One model takes all weights in turn: memory and compilation are those of one run.
    for run in loaded.members:
        models.load_weights(loaded.model, run.weights)
        predictions = decode(
            predict_logits(loaded.model, rows), models.read_architecture(run), loaded.task, questions
        )
        made.append(answers.ordered(predictions, rundir.read_labels(run), loaded.labels))
    return answers.mean(loaded.config.task, made, questions)


def _read_frames(loaded: LoadedRun, file: str) -> Iterator[pl.DataFrame]:
    if file != "-" and sources.format_of(file) is not None:
        pieces = sources.read_pieces(file, _data_of_files(loaded), CHUNK_EXAMPLES)
        return chain.from_iterable(_chunks(loaded, piece) for piece in pieces)
    _check_columns(loaded, [], "standard input" if file == "-" else file)
    return _chunks(loaded, _lines(file, paired=loaded.config.data.text_pair is not None))


def _data_of_files(loaded: LoadedRun) -> DataConfig:
    """How a file other than the run's own is read: whole, however few examples the run was trained on."""
    return loaded.config.data.model_copy(update={"max_examples": None})


def _lines(file: str, paired: bool) -> Iterator[str] | Iterator[tuple[str, ...]]:
    name = "standard input" if file == "-" else file
    try:
        stream = sys.stdin.buffer if file == "-" else Path(file).open("rb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise KftError(
            f"{file}: cannot be read: {error.strerror}",
            "check the path and its permissions; - reads standard input",
        ) from None
    with stream:
        for number, line in enumerate(stream, 1):
            try:
                text = (
                    line.decode("utf-8-sig" if number == 1 else "utf-8").removesuffix("\n").removesuffix("\r")
                )
            except UnicodeDecodeError as error:
                raise KftError(
                    f"{name}, line {number}: not UTF-8 text (byte {error.start + 1})",
                    "convert it: iconv -t utf-8",
                ) from None
            if not paired:
                yield text
                continue
            pair = tuple(text.split("\t"))
            if len(pair) != 2:
                raise KftError(
                    f"{name}, line {number}: must be two texts with a tab between, got {len(pair) - 1} tabs",
                    "the run was trained on pairs; a CSV with the run's columns works too",
                )
            yield pair


def _write_lines(made: Iterator[dict[str, Any]], stream) -> int:
    count = 0
    for answer in made:
        stream.write(rundir.json_line(answer))
        count += 1
    stream.flush()
    return count


def _check_columns(loaded: LoadedRun, columns: list[str], given: str) -> None:
    """Raises KftError: the run reads columns beside the texts that are not there."""
    data = loaded.config.data
    ends = [str(end) for _, *ends in data.spans or [] for end in ends]
    missing = [
        c for c in (*(["group"] if loaded.task.grouped else []), *dict.fromkeys(ends)) if c not in columns
    ]
    if missing:
        names = {"group": f"{data.group} (the question that a row is a choice of)"}
        raise KftError(
            f"{given}: the run also reads {', '.join(names.get(c, c) for c in missing)}",
            "give a CSV, TSV, JSONL or Parquet file with the run's columns, in Python a frame",
        )


def _check_unseen(loaded: LoadedRun, split: str) -> None:
    """Raises KftError: the runs of an ensemble have other rows in a split, so that some trained on those of others."""
    there = split == "train" or rundir.had_split(loaded.run, split)
    if loaded.members and there and not rundir.share_rows(loaded.members, split):
        pooled = ""
        if rundir.read_plan(rundir.open_ensemble(loaded.path)).folds:
            pooled = (
                "ensemble.json holds the out-of-fold scores, in which no run predicts what it trained on; "
            )
        raise KftError(
            f"{loaded.path}: the runs have other {split} rows each, and some were trained on those of others",
            f"{pooled}here give {'--split test or ' * rundir.had_split(loaded.run, 'test')}--data FILE",
        )


def _rows_of_file(loaded: LoadedRun, data: str | Path) -> pl.DataFrame:
    frame = sources.read_file(data, _data_of_files(loaded))
    if not len(frame):
        raise KftError(f"{data}: holds no examples to score", "give a file with at least one row")
    return frame


def _rows_of(loaded: LoadedRun, split: str) -> pl.DataFrame:
    if split == "train":
        config = loaded.config
        frames = sources.read(config.data)
        return splits.prepare(frames, config.split, config.clean, config.task, config.data.spans).train
    file = loaded.run.split(split)
    if not file.exists():
        if rundir.had_split(loaded.run, split):
            raise KftError(
                f"{file}: is missing", "copy the whole run folder again, or give a file with --data"
            )
        have = [name for name in ("validation", "test") if rundir.had_split(loaded.run, name)]
        raise KftError(
            f"{loaded.run.path}: the run has no {split} split",
            f"it has {', '.join(have)}; or give a file with --data",
        )
    try:
        return pl.read_parquet(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise KftError(f"{file}: is damaged: {error}", "copy the run folder again") from None


def _chunks(loaded: LoadedRun, texts) -> Iterator[pl.DataFrame]:
    paired = loaded.config.data.text_pair is not None
    if isinstance(texts, pl.DataFrame):
        _check_columns(loaded, texts.columns, "the frame")
        # A question is never cut.
        yield from [texts] if loaded.task.grouped else texts.iter_slices(CHUNK_EXAMPLES)
        return
    _check_columns(loaded, [], "the texts")
    iterator = iter(texts)
    while chunk := list(islice(iterator, CHUNK_EXAMPLES)):
        if paired:
            wrong = next((t for t in chunk if isinstance(t, str) or len(t) != 2), None)
            if wrong is not None:
                raise KftError(
                    f"the run reads pairs of texts, got: {str(wrong)[:60]!r}", "give (text, text_pair) tuples"
                )
            first, second = zip(*chunk, strict=True)
            yield pl.DataFrame(
                {"text": first, "text_pair": second}, schema={"text": pl.String, "text_pair": pl.String}
            )
        else:
            wrong = next((t for t in chunk if not isinstance(t, str)), None)
            if wrong is not None:
                raise KftError(f"the run reads single texts, got: {str(wrong)[:60]!r}", "give strings")
            yield pl.DataFrame({"text": chunk}, schema={"text": pl.String})
