"""GLUE and SuperGLUE by their TFDS names: the files of the official archives, labels by name."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from kft.config import DataConfig
from kft.config.reading import display_path
from kft.data.sources.benchmark_rows import NESTED, ROWS, Raw
from kft.data.sources.columns import as_string, finish, pick
from kft.data.sources.texts import read_text
from kft.errors import KftError, did_you_mean

Files = dict[
    str, tuple[tuple[str, ...], ...]
]  # split → alternatives, each one file or several, one after the other

GLUE_FILES: Files = {
    "train": (("train.tsv",), ("train.csv",)),
    "validation": (("dev.tsv",), ("dev.csv",)),
    "test": (("test.tsv",), ("test.csv",)),
}
SUPERGLUE_FILES: Files = {
    "train": (("train.jsonl",), ("train.tsv",)),
    "validation": (("val.jsonl",), ("dev32.jsonl",), ("dev.tsv",)),  # dev32: FewGLUE's sample
    "test": (("test.jsonl",), ("test.tsv",)),
}


@dataclass(frozen=True)
class Benchmark:
    """Where one task's examples stand, and what its labels are called.

    Attributes:
        folder: its name in the archive; TFDS's short name (`sst2`) will do as well.
        labels: names in TFDS's order, in which files write them as numbers; none for scores.
        columns: TFDS's names → what the archive's files call them.
        files: split → the files of it.
        headless: columns of a file without a header.
        short_rows: whether rows with too few cells are left out, as TFDS does (QQP's train file has
            some).
    """

    folder: str
    labels: tuple[str, ...]
    columns: dict[str, tuple[str, ...]]
    files: Files = field(default_factory=lambda: GLUE_FILES)
    headless: tuple[str, ...] = ()
    short_rows: bool = False


def is_official(data: DataConfig) -> bool:
    """Whether `data.data_dir` holds the files of the archive of `data.source`."""
    return bool(official_splits(data))


def official_splits(data: DataConfig) -> list[str]:
    """The splits of `data.source` whose files `data.data_dir` holds."""
    known = BENCHMARKS[data.source].files if data.source in BENCHMARKS else ()
    return [split for split in known if _files(data, split)]


def first_file(source: str) -> str:
    """The archive's first file of a task, such as RTE/train.tsv."""
    benchmark = BENCHMARKS[source]
    return f"{benchmark.folder}/{next(iter(benchmark.files.values()))[0][0]}"


def as_frame(data: DataConfig, split: str, raws: Iterable[Raw]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The frame of a split as `sources` makes them, and the table it comes from, row by row alike.

    The table has all columns, those of the submission (`idx` and so on) too.

    Raises:
        KftError: there is no example, or a column that the config names.
    """
    name = f"{data.source} {split}"
    rows = [row for raw in raws for row in ROWS.get(data.source, _same)(raw)]
    if not rows:
        raise KftError(f"{name}: holds no examples", "copy the archive's files again")
    table = pl.DataFrame(rows, infer_schema_length=None).with_columns(pl.col("label").cast(pl.String))
    positions = pick(table.columns, name, data, "expected" if split.startswith("test") else "needed")
    picked = {role: table[table.columns[position]].cast(pl.String) for role, position in positions.items()}
    frame = finish(pl.DataFrame(picked), name, data)
    return frame, table.head(frame.height)


def _same(raw: Raw) -> Iterator[Raw]:
    yield raw


def _files(data: DataConfig, split: str) -> list[Path]:
    """The files of a split, if they exist."""
    benchmark = BENCHMARKS[data.source]
    root = Path(data.data_dir) if data.data_dir else None
    for folder in (benchmark.folder, data.source.split("/")[1].split(".")[0]) if root else ():
        for names in benchmark.files.get(split, ()):
            files = [root / folder / name for name in names]
            if all(file.is_file() for file in files):
                return files
    return []


def official_examples(data: DataConfig, split: str) -> Iterator[Raw]:
    """The examples of a split in the archive's files, in their order, labels by name.

    Raises:
        KftError: a file is missing or malformed, or holds a label that the task does not have.
    """
    benchmark, files = BENCHMARKS[data.source], _files(data, split)
    if not files:
        names = " or ".join(" and ".join(option) for option in benchmark.files.get(split, ()))
        raise KftError(
            f"{data.source}: {data.data_dir} has no {split} split",
            f"its files are {benchmark.folder}/{names}"
            if names
            else f"its splits are {', '.join(official_splits(data))}",
        )
    number = 0
    for file in files:
        for line, raw in _lines(file, data, benchmark):
            where = f"{display_path(file)}, line {line}"
            for example in NESTED.get(data.source, _same)(raw):
                yield with_label(example, benchmark, where) | {"idx": example.get("idx", number)}
                number += 1


def _lines(file: Path, data: DataConfig, benchmark: Benchmark) -> Iterator[tuple[int, Raw]]:
    """(line number, raw example) of a file, columns under TFDS's names."""
    plain = DataConfig(source=data.source)  # the archives are UTF-8, whatever `data.encoding` says
    text = read_text(file, file.name, plain)
    if file.suffix == ".jsonl":
        lines = _json_lines(text, file)
    else:
        lines = _table_lines(text, file, benchmark)
    for line, raw in lines:
        if not benchmark.columns:
            yield line, raw
            continue
        values = {
            to: next((raw[name] for name in (to, *names) if name in raw), None)
            for to, names in benchmark.columns.items()
        }
        lacking = [to for to, value in values.items() if value is None and to != "label"]
        if lacking:
            raise KftError(
                f"{display_path(file)}, line {line}: no column `{lacking[0]}`",
                f"the file has {', '.join(map(str, raw))}; is it {benchmark.folder}'s?",
            )
        yield line, values | ({"idx": int(raw["idx"])} if "idx" in raw else {})


def _json_lines(text: str, file: Path) -> Iterator[tuple[int, Raw]]:
    for line, content in enumerate(text.split("\n"), 1):
        if content.strip():
            try:
                yield line, json.loads(content)
            except ValueError as error:
                raise KftError(
                    f"{display_path(file)}, line {line}: not valid JSON: {error}",
                    "copy the archive's file again",
                ) from None


def _table_lines(text: str, file: Path, benchmark: Benchmark) -> Iterator[tuple[int, Raw]]:
    header: list[str] | None = None
    for line, cells in _cells(text, file):
        if header is None:
            names = {name for to, names in benchmark.columns.items() for name in (to, *names)}
            if names & set(cells) or not benchmark.headless:
                header = cells
                continue
            header = list(benchmark.headless)
        if len(cells) != len(header):
            if benchmark.short_rows and len(cells) < len(header):
                continue
            raise KftError(
                f"{display_path(file)}, line {line}: expected {len(header)} columns, got {len(cells)}",
                "copy the archive's file again",
            )
        yield line, dict(zip(header, cells, strict=True))


def _cells(text: str, file: Path) -> Iterator[tuple[int, list[str]]]:
    if file.suffix == ".csv":
        reader = csv.reader(io.StringIO(text, newline=""))
        yield from ((reader.line_num, cells) for cells in reader if cells)
        return
    for line, content in enumerate(text.removesuffix("\n").split("\n"), 1):
        content = content.removesuffix("\r")
        if content:
            yield line, content.split("\t")


def with_label(raw: Raw, benchmark: Benchmark, where: str) -> Raw:
    """The example with its label's name; None for a secret one (missing, empty, - or -1)."""
    value = raw.get("label")
    if value is None or value in ("", "-", "-1", -1):
        return raw | {"label": None}
    if not benchmark.labels:
        return raw | {"label": as_string(value).strip()}
    name = str(value).strip()
    by_name = {label.lower(): label for label in benchmark.labels}
    if name.lower() in by_name:
        return raw | {"label": by_name[name.lower()]}
    if name.isdigit() and int(name) < len(benchmark.labels):
        return raw | {"label": benchmark.labels[int(name)]}
    raise KftError(
        f"{where}: label must be one of {', '.join(benchmark.labels)}, got: {value}{did_you_mean(name, benchmark.labels)}",
        "copy the archive's file again",
    )


def _pair(first: str, second: str, label: str = "label", **more: Any) -> dict[str, tuple[str, ...]]:
    return {first: (), second: (), "label": (label,)} | more


ENTAILMENT, YES = ("entailment", "not_entailment"), ("False", "True")
_PREMISE = {"premise": ("sentence1", "Premise"), "hypothesis": ("sentence2", "Hypothesis")}

BENCHMARKS: dict[str, Benchmark] = {
    "glue/cola": Benchmark(
        "CoLA",
        ("unacceptable", "acceptable"),
        {"sentence": (), "label": ()},
        # The archive's dev file is the corpus's two dev files, one after the other.
        GLUE_FILES | {"validation": (("dev.tsv", "dev_out_of_domain.tsv"), ("dev.tsv",))},
        headless=("source", "label", "mark", "sentence"),
    ),
    "glue/sst2": Benchmark(
        "SST-2", ("negative", "positive"), {"sentence": (), "label": ()}, headless=("sentence", "label")
    ),
    "glue/mrpc": Benchmark(
        "MRPC",
        ("not_equivalent", "equivalent"),
        {"sentence1": ("#1 String",), "sentence2": ("#2 String",), "label": ("Quality",)},
    ),
    "glue/qqp": Benchmark(
        "QQP",
        ("not_duplicate", "duplicate"),
        _pair("question1", "question2", "is_duplicate"),
        short_rows=True,
    ),
    "glue/stsb": Benchmark(
        "STS-B",
        (),
        _pair("sentence1", "sentence2", "score"),
        headless=("sentence1", "sentence2", "score"),
    ),
    "glue/mnli": Benchmark(
        "MNLI",
        ("entailment", "neutral", "contradiction"),
        _PREMISE | {"label": ("gold_label",)},
        {
            "train": (("train.tsv",),),
            "validation_matched": (("dev_matched.tsv",), ("dev.tsv",)),
            "validation_mismatched": (("dev_mismatched.tsv",),),
            "test_matched": (("test_matched.tsv",),),
            "test_mismatched": (("test_mismatched.tsv",),),
        },
    ),
    "glue/ax": Benchmark(
        "diagnostic",
        ("entailment", "neutral", "contradiction"),
        _PREMISE | {"label": ("Label",)},
        {"test": (("diagnostic.tsv",), ("diagnostic-full.tsv",), ("test.tsv",))},
    ),
    "glue/qnli": Benchmark("QNLI", ENTAILMENT, _pair("question", "sentence")),
    "glue/rte": Benchmark("RTE", ENTAILMENT, _pair("sentence1", "sentence2")),
    "glue/wnli": Benchmark("WNLI", ("not_entailment", "entailment"), _pair("sentence1", "sentence2")),
    "super_glue/boolq": Benchmark("BoolQ", YES, _pair("passage", "question"), SUPERGLUE_FILES),
    "super_glue/cb": Benchmark(
        "CB", ("entailment", "contradiction", "neutral"), _pair("premise", "hypothesis"), SUPERGLUE_FILES
    ),
    "super_glue/copa": Benchmark("COPA", ("choice1", "choice2"), {}, SUPERGLUE_FILES),
    "super_glue/multirc": Benchmark("MultiRC", YES, {}, SUPERGLUE_FILES),
    "super_glue/record": Benchmark("ReCoRD", (), {}, SUPERGLUE_FILES),
    "super_glue/rte": Benchmark("RTE", ENTAILMENT, _PREMISE | {"label": ()}, SUPERGLUE_FILES),
    "super_glue/wic": Benchmark("WiC", YES, {}, SUPERGLUE_FILES),
    "super_glue/wsc.fixed": Benchmark("WSC", YES, {}, SUPERGLUE_FILES),
    "super_glue/axb": Benchmark(
        "AX-b", ENTAILMENT, _pair("sentence1", "sentence2"), {"test": (("AX-b.jsonl",),)}
    ),
    "super_glue/axg": Benchmark(
        "AX-g", ENTAILMENT, _pair("premise", "hypothesis"), {"test": (("AX-g.jsonl",),)}
    ),
}
