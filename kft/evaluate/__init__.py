"""Predicts examples with a run or an ensemble, and scores splits and files."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from kft import models, runs
from kft.errors import KftError
from kft.evaluate import inputs, tables
from kft.evaluate.loaded import LoadedRun, load_run
from kft.evaluate.scoring import (
    Expected,
    Scored,
    choose_shape,
    expected,
    predict_logits,
    score,
    score_predictions,
    scores,
)
from kft.tasks import answers
from kft.tasks.answers import Answers
from kft.tasks.record import Written
from kft.text import Tokens, encode_frame, read_tokenizer

__all__ = [
    "Expected",
    "LoadedRun",
    "Scored",
    "answer_file",
    "choose_shape",
    "encode",
    "evaluate",
    "expected",
    "load_run",
    "predict",
    "predict_file",
    "predict_logits",
    "read_tokenizer",
    "score",
    "score_predictions",
    "scores",
]


def evaluate(
    run: str | Path | LoadedRun,
    split: str | None = None,
    data: str | Path | None = None,
    settings: Sequence[str] = (),
    skip_unlabelled: bool = False,
) -> dict[str, Any]:
    """Scores of a run on one of its splits, or on any file with its columns.

    Args:
        run: a run's folder, or what `load_run` gave.
        split: "test", "validation" or "train"; None takes test where the run has one, else
            validation. Train is read again from where the config says.
        data: a file instead; nothing in it is cleaned or dropped.
        settings: how that file is read, where it is not read as the run's own are:
            `"data.delimiter=;"` and so on.
        skip_unlabelled: whether its rows without a label are left out instead of refused.

    Returns:
        {"run", "split", "examples", "metrics": {name: float}, "details"}; the split of a file is
        "data".

    Raises:
        KftError: the run has no such split, or a row of the file cannot be scored.
    """
    loaded = run if isinstance(run, LoadedRun) else load_run(run)
    if data is None:
        name = split or ("test" if runs.had_split(loaded.run, "test") else "validation")
        inputs.check_unseen(loaded, name)
        frame = inputs.rows_of_split(loaded, name)
    else:
        name, frame = "data", inputs.rows_of_file(loaded, data, settings, skip_unlabelled)
    if not len(frame):
        raise KftError(f"{name}: holds no examples to score", "give a file with --data")
    loaded.task.check(frame, loaded.learned)  # before the model takes its time
    scored = score_predictions(frame, _predictions(loaded, frame), loaded.config.task, loaded.learned)
    return {
        "run": str(loaded.path),
        "split": name,
        "examples": len(frame),
        "metrics": runs.finite(scored.metrics),
        "details": scored.details,
    }


def answer_file(
    run: str | Path | LoadedRun,
    data: str | Path,
    settings: Sequence[str] = (),
    skip_unlabelled: bool = False,
) -> Answers:
    """What a run or an ensemble predicts for the rows of a labelled file; raises as `evaluate`."""
    loaded = run if isinstance(run, LoadedRun) else load_run(run)
    frame, kind = inputs.rows_of_file(loaded, data, settings, skip_unlabelled), loaded.config.task
    loaded.task.check(frame, loaded.learned)
    scored = score_predictions(frame, _predictions(loaded, frame), kind, loaded.learned, detailed=False)
    return answers.of_table(kind, loaded.learned, scored.predictions)


def predict(
    run: str | Path | LoadedRun, texts: Iterable[str] | Iterable[tuple[str, str]] | pl.DataFrame
) -> Iterator[dict[str, Any]]:
    """One answer for each text, in input order, computed a chunk at a time.

    Args:
        run: a run's folder, or what `load_run` gave.
        texts: strings, pairs of strings for a run on pairs, or a frame with columns text (and
            text_pair, group and those of the marked words, as the run has them). A null in a frame
            is answered as an empty text, as one in a file is.

    Yields:
        {"id", "text", "text_pair"?, "group"?, "label", "probabilities": {label: float}}; {"id",
        "text", "value"} for scores; {…, "group", "score", "probability", "chosen"} for choices, the
        probability being that among the choices of the question, of which one is chosen.

    Raises:
        KftError: the run reads pairs and the texts are single, or the other way round; or it reads
            groups or marked words, and the texts come without them.
    """
    loaded = run if isinstance(run, LoadedRun) else load_run(run)
    yield from _answers(loaded, inputs.chunks(loaded, texts))


def _answers(loaded: LoadedRun, frames: Iterable[pl.DataFrame]) -> Iterator[dict[str, Any]]:
    """What `predict` yields, for one frame after the other."""
    columns = ["text", *(["text_pair"] if loaded.inputs.paired else [])]
    offset = 0
    for frame in frames:
        table = frame.with_columns(loaded.task.columns(_predictions(loaded, frame), loaded.learned))
        columns += ["group"] if "group" in frame.columns and "group" not in columns else []
        for i, row in enumerate(table.iter_rows(named=True)):
            key = row.get("key")
            given = {"id": offset + i if key is None else key}
            given |= {loaded.task.texts.get(column, column): row[column] for column in columns}
            yield given | loaded.task.answer(row, loaded.learned)
        offset += len(frame)


def predict_file(
    run: str | Path | LoadedRun,
    file: str = "-",
    output: str | Path | None = None,
    settings: Sequence[str] = (),
    format: str | None = None,
) -> int:
    """Answers every text of a file as JSONL; returns their number.

    Files of any size are answered in constant memory, but for JSON documents and the runs that read
    questions or marked words.

    Args:
        run: a run's folder, or what `load_run` gave.
        file: "-" for standard input, a file with the run's columns in a format that `sources`
            reads, or any other file as one text a line (for a run on pairs: text, tab, second
            text).
        output: file to write whole or not at all; None writes to standard output.
        settings: how the file is read, as for `evaluate`.
        format: "jsonl", or "csv", "tsv" or "parquet" for a table with the file's own columns, or
            one of those that the task writes; None takes what the ending of the output says.

    Raises:
        KftError: the file cannot be read, a line is not UTF-8, or the output would replace what is
        read.
    """
    if output is not None:
        runs.check_output(output, file)
    loaded = run if isinstance(run, LoadedRun) else load_run(run)
    if output is not None:
        runs.check_output(output, *loaded.config.data.files)
    format = format or tables.format_of(output, loaded.task.written)
    if format not in tables.FORMATS and format not in loaded.task.written:
        raise KftError(
            f"--format {format}: {loaded.path} predicts nothing that such a file holds",
            f"it writes {', '.join((*tables.FORMATS, *loaded.task.written))}",
        )
    frames = inputs.read_frames(loaded, file, settings, keep=format in (*tables.SEPARATORS, "parquet"))
    if output is None:
        return _write(loaded, frames, sys.stdout, format)
    count = 0

    def write(path: Path) -> None:
        nonlocal count
        if format == "parquet":
            count = tables.write_parquet(_answered(loaded, frames), path)
            return
        with path.open("w", encoding="utf-8", newline="") as stream:
            count = _write(loaded, frames, stream, format)

    runs.write_whole(Path(output), write)
    return count


def _write(loaded: LoadedRun, frames: Iterable[pl.DataFrame], stream, format: str) -> int:
    if format == "jsonl":
        return _write_lines(_answers(loaded, frames), stream)
    if format in loaded.task.written:
        return _write_own(loaded, frames, stream, loaded.task.written[format])
    return tables.write_text(_answered(loaded, frames), stream, format)


def _write_own(loaded: LoadedRun, frames: Iterable[pl.DataFrame], stream, format: Written) -> int:
    count, known = 0, set()
    stream.write(format.begin)
    for frame in frames:
        table = frame.with_columns(loaded.task.columns(_predictions(loaded, frame), loaded.learned))
        for row in table.iter_rows(named=True):
            if format.key is not None:
                _check_new(format.key(row), known)
            stream.write((format.between if count else "") + format.row(row, loaded.learned))
            count += 1
    stream.write(format.end)
    stream.flush()
    return count


def _check_new(key: str, known: set[str]) -> None:
    """Raises KftError: a row before had the same id, of which the file holds one."""
    if key in known:
        raise KftError(
            f"two rows have the id {key}, and the file has one answer for each id",
            "give each row an id of its own; `data.key` names their column",
        )
    known.add(key)


def _answered(loaded: LoadedRun, frames: Iterable[pl.DataFrame]) -> Iterator[tables.Answered]:
    """Rows, and the answers to them."""
    for frame in frames:
        table = frame.with_columns(loaded.task.columns(_predictions(loaded, frame), loaded.learned))
        yield frame, [loaded.task.answer(row, loaded.learned) for row in table.iter_rows(named=True)]


def _write_lines(answers: Iterator[dict[str, Any]], stream) -> int:
    count = 0
    for answer in answers:
        stream.write(runs.json_line(answer))
        count += 1
    stream.flush()
    return count


def encode(loaded: LoadedRun, frame: pl.DataFrame) -> Tokens:
    """The tokens of a frame, truncated as in training."""
    return encode_frame(loaded.tokenizer, loaded.model.architecture.kind.template, frame, loaded.inputs)


def _predictions(loaded: LoadedRun, frame: pl.DataFrame) -> np.ndarray:
    """The task's predictions for a frame; of an ensemble the mean, labels matched by name."""
    tokens = encode(loaded, frame)
    reads = loaded.task.places(frame, tokens)
    if not loaded.members:
        logits = predict_logits(loaded.model, tokens, reads=reads)
        return loaded.task.predictions(logits, loaded.learned, reads)
    parts = []
    # One model takes all weights in turn: memory and compilation are those of one run.
    for run in loaded.members:
        models.load_weights(loaded.model, run.weights)
        learned = runs.read_learned(run)
        predictions = loaded.task.predictions(
            predict_logits(loaded.model, tokens, reads=reads), learned, reads
        )
        parts.append(answers.ordered(predictions, learned.labels, loaded.labels))
    return loaded.task.mean(parts, loaded.learned, reads.questions)
