"""The texts that a run predicts: of a frame, of a file in pieces, of its own splits."""

import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from kft import config, runs
from kft.config import DataConfig
from kft.data import sources, splits
from kft.errors import KftError
from kft.evaluate.loaded import LoadedRun
from kft.evaluate.texts import check_columns, frames
from kft.progress import note
from kft.tasks.questions import GROUP

CHUNK_EXAMPLES = 16_384  # texts in memory at a time


def read_frames(
    loaded: LoadedRun, file: str, settings: Sequence[str] = (), keep: bool = False
) -> Iterator[pl.DataFrame]:
    """The rows of a file, or of standard input ("-"), as frames of at most CHUNK_EXAMPLES.

    Raises as `predict_file` does.
    """
    data = _data_of_files(loaded)
    changes = config.of_file(data, settings)
    if keep:
        data = sources.Wanted(**data.model_dump(), keep=True)
    with _with_settings_hint():
        yield from _frames(loaded, file, data, changes)


def _frames(
    loaded: LoadedRun, file: str, data: DataConfig, changes: dict[str, Any]
) -> Iterator[pl.DataFrame]:
    if file == "-" and "format" in changes:
        return _read_spooled(loaded, data, changes)
    named = sources.is_address(file) or sources.format_of(file) is not None
    if file != "-" and (named or "format" in changes):
        pieces = sources.read_pieces(file, data, CHUNK_EXAMPLES, changes)
        return chain.from_iterable(chunks(loaded, _named(piece, data, changes)) for piece in pieces)
    if without := [key for key in changes if key != "encoding"]:
        raise KftError(
            f"`data.{without[0]}` is set, and {'standard input' if file == '-' else file} holds one text a line",
            "--set data.format=csv, tsv, jsonl or parquet reads it as a table",
        )
    _check_columns(loaded, [], "standard input" if file == "-" else file)
    encoding = changes.get("encoding", "utf-8")
    sources.check_encoding(encoding)
    return chunks(loaded, _lines(file, loaded.inputs.paired, encoding))


def _read_spooled(loaded: LoadedRun, data: DataConfig, changes: dict[str, Any]) -> Iterator[pl.DataFrame]:
    """The rows of a table on standard input, by way of a file, which can be read again."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "standard input")
        with file.open("wb") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        for piece in sources.read_pieces(file, data, CHUNK_EXAMPLES, changes):
            yield from chunks(loaded, _named(piece, data, changes))


@contextmanager
def _with_settings_hint() -> Iterator[None]:
    """Adds to hints that name a setting how to give it for one file."""
    try:
        yield
    except KftError as error:
        if "`data." not in f"{error.message}{error.hint}" or "--set" in error.hint:
            raise
        hint = "settings of this file alone go with --set, such as --set data.text=COLUMN"
        raise KftError(error.message, f"{error.hint}; {hint}") from None


def _named(frame: pl.DataFrame, data: DataConfig, changes: dict[str, Any]) -> pl.DataFrame:
    """The frame with the columns of marked words called as the run calls them."""
    theirs, own = changes.get("spans", ()), data.spans or ()
    pairs = zip(
        (end for _, *ends in theirs for end in ends), (end for _, *ends in own for end in ends), strict=False
    )
    return frame.rename({str(their): str(end) for their, end in pairs if their != end})


def chunks(loaded: LoadedRun, texts) -> Iterator[pl.DataFrame]:
    """Frames of at most CHUNK_EXAMPLES rows from what `predict` takes; raises as it does."""
    paired = loaded.inputs.paired
    if isinstance(texts, pl.DataFrame):
        own = {name: column for column, name in loaded.task.texts.items() if column not in texts.columns}
        texts = texts.rename(own, strict=False)
        _check_columns(loaded, texts.columns, "the frame")
        lacking = [name for name in ("text", "text_pair")[: 1 + paired] if name not in texts.columns]
        if lacking:
            raise KftError(
                f"the frame has no column `{lacking[0]}`, its columns are {', '.join(texts.columns)}",
                "rename its columns: text, of pairs also text_pair",
            )
        check_columns(texts, ("text", "text_pair")[: 1 + paired])
        # A question is never cut.
        yield from [texts] if loaded.task.grouped else texts.iter_slices(CHUNK_EXAMPLES)
        return
    _check_columns(loaded, [], "the texts")
    yield from frames(texts, paired, CHUNK_EXAMPLES)


def _lines(file: str, paired: bool, encoding: str) -> Iterator[str] | Iterator[tuple[str, ...]]:
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
                text = line.decode(encoding).removesuffix("\n").removesuffix("\r")
            except UnicodeDecodeError as error:
                encoding_name = "UTF-8" if encoding == "utf-8" else encoding
                raise KftError(
                    f"{name}, line {number}: not {encoding_name} text (byte {error.start + 1})",
                    "set its encoding, for example --set data.encoding=cp1252 (Western Windows), or convert it: "
                    "iconv -t utf-8",
                ) from None
            if number == 1:
                text = text.removeprefix("\ufeff")
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
    """Raises KftError: columns beside the texts, which the run reads, are missing."""
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


def rows_of_file(
    loaded: LoadedRun, file: str | Path, settings: Sequence[str] = (), skip_unlabelled: bool = False
) -> pl.DataFrame:
    """All rows of a labelled file; `settings` and `skip_unlabelled` as for `evaluate`.

    Raises:
        KftError: it holds none, or cannot be read.
    """
    data = _data_of_files(loaded)
    changes = config.of_file(data, settings)
    with _with_settings_hint():
        group = loaded.config.split.group
        also = {} if group is None else {GROUP: ("split.group", group)}
        wanted = sources.Wanted(**data.model_dump(), also=also, lenient=True)
        frame = _named(sources.read_file(file, wanted, settings=changes), data, changes)
    numbers = splits.are_numbers(pl.Series(loaded.labels, dtype=pl.String), loaded.task.labels)
    frame = splits.with_groups(splits.without_nan(frame, numbers))
    if skip_unlabelled:
        frame = _labelled(frame, str(file))
    if not len(frame):
        raise KftError(f"{file}: holds no examples to score", "give a file with at least one row")
    return frame


def _labelled(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """The rows with a label, of questions those with all labels; notes how many are left out."""
    missing = pl.col("label").is_null()
    if "group" in frame.columns:
        missing = missing.any().over("group")
    kept = frame.filter(~missing)
    if left := len(frame) - len(kept):
        note(
            f"{name}: {left:,} row{'' if left == 1 else 's'} without a label left out, {len(kept):,} are scored"
        )
    return kept


def _data_of_files(loaded: LoadedRun) -> DataConfig:
    """How a file other than the run's own is read: whole, whatever `data.max_examples` says."""
    return loaded.config.data.model_copy(update={"max_examples": None})


def rows_of_split(loaded: LoadedRun, split: str) -> pl.DataFrame:
    """The rows of a split as the run used them; KftError: it has none, or they are damaged."""
    if split == "train":
        own = loaded.config
        files = sources.read(own.data, own.split)
        prepared = splits.prepare(files, own.split, own.clean, own.task, own.data.spans)
        known = runs.read_json(loaded.run.data, "splits")["splits"].get("train", {}).get("sha256")
        if known != prepared.account["splits"]["train"]["sha256"]:
            raise KftError(
                f"{loaded.path}: the train data is not what this run was trained on",
                "put the old data back; what they are now is scored with --data FILE",
            )
        return prepared.train
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
    """Raises KftError: the runs of an ensemble differ in a split: some trained on its rows."""
    exists = split == "train" or runs.had_split(loaded.run, split)
    if loaded.members and exists and not runs.share_rows(loaded.members, split):
        pooled = ""
        if runs.read_plan(runs.open_ensemble(loaded.path)).folds:
            pooled = (
                "ensemble.json holds the out-of-fold scores, in which no run predicts what it trained on; "
            )
        raise KftError(
            f"{loaded.path}: the runs have other {split} rows each, and some were trained on those of others",
            f"{pooled}here give {'--split test or ' * runs.had_split(loaded.run, 'test')}--data FILE",
        )
