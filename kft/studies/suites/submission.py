"""Files for the servers of GLUE and SuperGLUE, and the check that a file is one."""

import json
import math
import operator
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from kft import runs
from kft.errors import KftError, did_you_mean
from kft.studies.suites import scoring
from kft.studies.suites.records import SUITES, Submission, Task

HEADER = "index\tprediction"
SHOWN_PROBLEMS = 8
Labels = tuple[str, ...]


@dataclass(frozen=True)
class Form:
    """How a file is written and checked.

    `lines` is (table with `answer`, label names) → lines; `problems` is (lines, label names,
    rows) → what is wrong.

    A row is (table with `answer`, label names) → lines, and (lines, label names, rows) → what
    is wrong.
    """

    lines: Callable[[pl.DataFrame, Labels], list[str]]
    problems: Callable[[list[str], Labels, int], list[str]]


def write(path: Path, tables: list[tuple[Submission, Labels, pl.DataFrame]]) -> Path:
    """Writes a zip of the answers; the tables have the column `answer`."""

    def zipped(aside: Path) -> None:
        with zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as archive:
            for submission, labels, table in tables:
                lines = FORMS[submission.form].lines(table, labels)
                archive.writestr(submission.file, "\n".join(lines) + "\n")

    runs.write_whole(path, zipped)
    return path


def check(suite: str, path: str | Path) -> list[str]:
    """Checks a zip of all files or one file alone; returns the names of the files in it.

    Raises:
        KftError: a file has a wrong name, is missing, or has wrong rows or labels; all mistakes at
        once.
    """
    contents = _contents(Path(path))
    problems = file_problems(suite, contents)
    if Path(path).suffix == ".zip":
        wanted = [s.file for task in SUITES[suite] for s in task.submissions]
        problems += [f"{name}: is missing" for name in wanted if name not in contents]
    if problems:
        raise KftError(
            f"{path}: the server of {suite} would refuse it\n"
            + "\n".join(f"  {p}" for p in _first(problems)),
            f"`kft suite {suite}` writes files that are right, for the tasks whose test splits it has",
        )
    return list(contents)


def file_problems(suite: str, contents: dict[str, bytes]) -> list[str]:
    """What is wrong with the names and contents of files, a line each."""
    known = {s.file: (task, s) for task in SUITES[suite] for s in task.submissions}
    problems = [
        f"{name}: the server takes no file of that name{did_you_mean(name, list(known))}"
        for name in contents
        if name not in known
    ]
    for name, content in contents.items():
        if name in known:
            problems += [f"{name}: {problem}" for problem in _content_problems(content, *known[name])]
    return problems


def refused(suite: str, path: Path) -> list[str]:
    """What the server would find wrong first with the files of a zip, however many are missing."""
    return _first(file_problems(suite, _contents(path)))


def _first(problems: list[str]) -> list[str]:
    rest = len(problems) - SHOWN_PROBLEMS
    return problems[:SHOWN_PROBLEMS] + ([f"and {rest} more"] if rest > 0 else [])


def _contents(path: Path) -> dict[str, bytes]:
    try:
        if path.suffix != ".zip":
            return {path.name: path.read_bytes()}
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    except zipfile.BadZipFile as error:
        raise KftError(f"{path}: is no zip file: {error}", "zip the files again") from None
    except OSError as error:
        raise KftError(
            f"{path}: cannot be read: {runs.reason(error)}", "give a zip, or one of its files"
        ) from None


def _content_problems(content: bytes, task: Task, submission: Submission) -> list[str]:
    try:
        lines = content.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        return ["is not UTF-8 text"]
    return FORMS[submission.form].problems(lines, task.labels, submission.rows)


# TSV: a header, then index and prediction.


def _tsv(spell: Callable[[Any, Labels], str]) -> Callable[[pl.DataFrame, Labels], list[str]]:
    def lines(table: pl.DataFrame, labels: Labels) -> list[str]:
        return [HEADER, *(f"{i}\t{spell(answer, labels)}" for i, answer in enumerate(table["answer"]))]

    return lines


def _tsv_problems(
    allowed: Callable[[str, Labels], str | None],
) -> Callable[[list[str], Labels, int], list[str]]:
    def problems(lines: list[str], labels: Labels, rows: int) -> list[str]:
        mistakes = (
            [] if lines[0] == HEADER else [f"line 1: must be index, tab, prediction, got: {lines[0]!r}"]
        )
        mistakes += _count_problem(len(lines) - 1, rows)
        for number, line in enumerate(lines[1:]):
            index, tab, prediction = line.partition("\t")
            if index != str(number) or not tab:
                mistakes.append(f"line {number + 2}: must be {number}, tab, prediction, got: {line[:60]!r}")
            elif (wanted := allowed(prediction, labels)) is not None:
                mistakes.append(f"line {number + 2}: must be {wanted}, got: {prediction[:60]!r}")
        return mistakes

    return problems


def _count_problem(got: int, rows: int, what: str = "rows") -> list[str]:
    return [] if got == rows else [f"must have {rows:,} {what}, got {got:,}"]


def _no_label(prediction: str, labels: Labels) -> str | None:
    return None if prediction in labels else f"one of {', '.join(labels)}"


def _no_id(prediction: str, labels: Labels) -> str | None:
    return None if prediction in ("0", "1") else "0 or 1"


def _no_score(prediction: str, labels: Labels) -> str | None:
    try:
        value = float(prediction)
    except ValueError:
        value = math.nan
    return None if 0 <= value <= 5 else "a number from 0 to 5"


# JSONL: an object with idx and label.


def _json(spell: Callable[[Any], Any]) -> Callable[[pl.DataFrame, Labels], list[str]]:
    def lines(table: pl.DataFrame, labels: Labels) -> list[str]:
        return [
            json.dumps({"idx": i, "label": spell(a)}) for i, a in table.select("idx", "answer").iter_rows()
        ]

    return lines


def _json_problems(
    allowed: Callable[[Any, Labels], bool], wanted: Callable[[Labels], str]
) -> Callable[[list[str], Labels, int], list[str]]:
    def problems(lines: list[str], labels: Labels, rows: int) -> list[str]:
        mistakes = _count_problem(len(lines), rows)
        for number, line in enumerate(lines):
            row = _object(line)
            if (
                row is None
                or set(row) != {"idx", "label"}
                or type(row["idx"]) is not int
                or row["idx"] != number
            ):
                mistakes.append(
                    f'line {number + 1}: must be {{"idx": {number}, "label": …}}, got: {line[:60]!r}'
                )
            elif not allowed(row["label"], labels):
                mistakes.append(f"line {number + 1}: label must be {wanted(labels)}, got: {row['label']!r}")
        return mistakes

    return problems


def _object(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _choice_lines(table: pl.DataFrame, labels: Labels) -> list[str]:
    best = scoring.chosen(table, ["idx"])
    return [json.dumps({"idx": i, "label": c}) for i, c in best.select("idx", "option").iter_rows()]


def _entity_lines(table: pl.DataFrame, labels: Labels) -> list[str]:
    best = scoring.chosen(table, ["passage_idx", "query_idx"]).sort("query_idx")
    return [json.dumps({"idx": i, "label": e}) for i, e in best.select("query_idx", "entity").iter_rows()]


def _multirc_lines(table: pl.DataFrame, labels: Labels) -> list[str]:
    passages: dict[int, dict[int, list[dict[str, int]]]] = {}
    columns = ("paragraph_idx", "question_idx", "answer_idx", "answer")
    for passage, question, answer, label in table.select(columns).iter_rows():
        answers = passages.setdefault(passage, {}).setdefault(question, [])
        answers.append({"idx": answer, "label": labels.index(label)})
    return [
        json.dumps(
            {"idx": p, "passage": {"questions": [{"idx": q, "answers": a} for q, a in questions.items()]}}
        )
        for p, questions in passages.items()
    ]


def _multirc_problems(lines: list[str], labels: Labels, rows: int) -> list[str]:
    mistakes, answers, passages, questions = [], 0, set(), set()
    for number, line in enumerate(lines, 1):
        row = _object(line)
        try:
            twice = [f"passage {row['idx']}"] if row["idx"] in passages else []
            passages.add(row["idx"])
            for question in row["passage"]["questions"]:
                key = (row["idx"], question["idx"])
                twice += [f"question {question['idx']}"] if key in questions else []
                questions.add(key)
                labels_of = [(operator.index(a["idx"]), a["label"]) for a in question["answers"]]
                answers += len(labels_of)
                twice += ["an answer"] if len(dict(labels_of)) < len(labels_of) else []
                mistakes += [
                    f"line {number}: label must be 0 or 1, got: {label!r}"
                    for _, label in labels_of
                    if type(label) is not int or label not in (0, 1)
                ]
        except (KeyError, TypeError):
            mistakes.append(
                f"line {number}: must hold idx and passage.questions[] with idx and answers[] with idx and label, "
                f"got: {line[:60]!r}"
            )
            continue
        mistakes += [f"line {number}: {what} occurs twice" for what in twice]
    return _count_problem(answers, rows, "answers") + mistakes


def _labels(labels: Labels) -> str:
    return f"one of {', '.join(labels)}"


FORMS: dict[str, Form] = {
    "tsv_labels": Form(_tsv(lambda answer, labels: answer), _tsv_problems(_no_label)),
    "tsv_ids": Form(_tsv(lambda answer, labels: str(labels.index(answer))), _tsv_problems(_no_id)),
    "tsv_scores": Form(_tsv(lambda answer, _: f"{min(max(answer, 0.0), 5.0):.3f}"), _tsv_problems(_no_score)),
    "json_labels": Form(_json(str), _json_problems(lambda label, labels: label in labels, _labels)),
    "json_lower": Form(
        _json(str.lower),
        _json_problems(lambda label, _: label in ("true", "false"), lambda _: '"true" or "false"'),
    ),
    "json_choices": Form(
        _choice_lines,
        _json_problems(lambda label, _: type(label) is int and label in (0, 1), lambda _: "0 or 1"),
    ),
    "json_entities": Form(
        _entity_lines,
        _json_problems(lambda label, _: isinstance(label, str) and label != "", lambda _: "an entity"),
    ),
    "json_multirc": Form(_multirc_lines, _multirc_problems),
}
