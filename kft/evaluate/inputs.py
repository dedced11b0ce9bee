"""The texts that a run is asked about: of a frame, of a file in pieces, of its own splits."""

import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import polars as pl

from kft import runs
from kft.config import DataConfig
from kft.data import sources, splits
from kft.errors import KftError
from kft.evaluate.loaded import LoadedRun
from kft.evaluate.texts import frames

CHUNK_EXAMPLES = 16_384  # texts that prediction holds in memory at a time


def read_frames(loaded: LoadedRun, file: str) -> Iterator[pl.DataFrame]:
    """The rows of a file, "-" for standard input, as frames of at most CHUNK_EXAMPLES; raises as `predict_file` does."""
    if file != "-" and sources.format_of(file) is not None:
        pieces = sources.read_pieces(file, _data_of_files(loaded), CHUNK_EXAMPLES)
        return chain.from_iterable(chunks(loaded, piece) for piece in pieces)
    _check_columns(loaded, [], "standard input" if file == "-" else file)
    return chunks(loaded, _lines(file, paired=loaded.inputs.paired))


def chunks(loaded: LoadedRun, texts) -> Iterator[pl.DataFrame]:
    """Frames of at most CHUNK_EXAMPLES rows from what `predict` takes; raises as it does."""
    paired = loaded.inputs.paired
    if isinstance(texts, pl.DataFrame):
        _check_columns(loaded, texts.columns, "the frame")
        lacking = [name for name in ("text", "text_pair")[: 1 + paired] if name not in texts.columns]
        if lacking:
            raise KftError(
                f"the frame has no column `{lacking[0]}`, its columns are {', '.join(texts.columns)}",
                "rename its columns: text, of pairs also text_pair",
            )
        # A question is never cut.
        yield from [texts] if loaded.task.grouped else texts.iter_slices(CHUNK_EXAMPLES)
        return
    _check_columns(loaded, [], "the texts")
    yield from frames(texts, paired, CHUNK_EXAMPLES)


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
        for number, line in enumerate(_readable(stream, name), 1):
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


def _readable(stream: Iterable[bytes], name: str) -> Iterator[bytes]:
    try:
        yield from stream
    except OSError as error:
        raise KftError(f"{name}: cannot be read: {error.strerror}", "give a file with texts") from None


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


def rows_of_file(loaded: LoadedRun, data: str | Path) -> pl.DataFrame:
    """All rows of a labelled file; KftError: it holds none."""
    frame = sources.read_file(data, _data_of_files(loaded))
    if not len(frame):
        raise KftError(f"{data}: holds no examples to score", "give a file with at least one row")
    return frame


def _data_of_files(loaded: LoadedRun) -> DataConfig:
    """How a file other than the run's own is read: whole, however few examples the run was trained on."""
    return loaded.config.data.model_copy(update={"max_examples": None})


def rows_of_split(loaded: LoadedRun, split: str) -> pl.DataFrame:
    """The rows of a split as the run was trained with or scored on; KftError: it has none, or the file is damaged."""
    if split == "train":
        config = loaded.config
        files = sources.read(config.data, config.split)
        return splits.prepare(files, config.split, config.clean, config.task, config.data.spans).train
    file = loaded.run.split(split)
    if not file.exists():
        if runs.had_split(loaded.run, split):
            raise KftError(
                f"{file}: is missing", "copy the whole run folder again, or give a file with --data"
            )
        have = [name for name in ("validation", "test") if runs.had_split(loaded.run, name)]
        raise KftError(
            f"{loaded.run.path}: the run has no {split} split",
            f"it has {', '.join(have)}; or give a file with --data",
        )
    try:
        return pl.read_parquet(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise KftError(f"{file}: is damaged: {error}", "copy the run folder again") from None


def check_unseen(loaded: LoadedRun, split: str) -> None:
    """Raises KftError: the runs of an ensemble have other rows in a split, so that some trained on those of others."""
    there = split == "train" or runs.had_split(loaded.run, split)
    if loaded.members and there and not runs.share_rows(loaded.members, split):
        pooled = ""
        if runs.read_plan(runs.open_ensemble(loaded.path)).folds:
            pooled = (
                "ensemble.json holds the out-of-fold scores, in which no run predicts what it trained on; "
            )
        raise KftError(
            f"{loaded.path}: the runs have other {split} rows each, and some were trained on those of others",
            f"{pooled}here give {'--split test or ' * runs.had_split(loaded.run, 'test')}--data FILE",
        )
