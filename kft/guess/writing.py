"""The config: guessed, tried on the data, written with its reasons as comments."""

import os
import re
import textwrap
from pathlib import Path
from typing import Any

import tomli_w

from kft import config as configs
from kft.data import sources, splits
from kft.errors import KftError
from kft.guess.guessing import Decision, Guess, guess
from kft.guess.places import Place, look
from kft.runs import write_text

WIDTH = 100
PIECES_A_WORD = 1.35  # tokens of a word of English text, punctuation counted in
CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")  # a character here is about a token
LENGTHS = (128, 256, 512)
# Rows of train up to which so many epochs are a start for a small encoder.
EPOCHS = ((1_000, 10), (5_000, 5), (20_000, 3), (None, 2))


def init(
    data: str, task: str | None = None, output: str | None = None, data_dir: str | None = None
) -> dict[str, Any]:
    """Writes a config for some data.

    Args:
        data: a file, a folder, or a name of TFDS.
        task: what is to be predicted, where that is known.
        output: the file to write; else the name of the data with .toml in the current folder.
        data_dir: where TFDS finds its prepared data sets.

    Returns:
        {"config": path, "settings": [{"setting", "value", "reason", "others": [{"setting", "value",
        "meaning"}]}], "warnings": [...]}.

    Raises:
        KftError: the data cannot be read or nothing in them can be trained on, or the file exists
        already.
    """
    place = look(data, data_dir)
    path = Path(output or f"{place.name}.toml")
    if path.exists():
        raise KftError(f"{path}: exists, and is not overwritten", "another name: --output FILE")
    _check_task(task)
    guessed = guess(place.table, task)
    decisions = _all_decisions(place, guessed)
    decisions, warnings = _tried(decisions)
    write_text(path, _toml(data, decisions, warnings + guessed.warnings, path))
    return {
        "config": str(path),
        "settings": [
            {
                "setting": d.setting,
                "value": d.value,
                "reason": d.reason,
                "others": [
                    dict(zip(("setting", "value", "meaning"), other, strict=True)) for other in d.others
                ],
            }
            for d in decisions
        ],
        "warnings": warnings + guessed.warnings,
    }


def _check_task(task: str | None) -> None:
    if task is not None and configs.refusals(configs.load(), "task", task):
        raise KftError(
            *configs.refusals(configs.load(), "task", task)[:1], "`kft config --schema` lists the tasks"
        )


def text(result: dict[str, Any]) -> str:
    """What a person wants to know of it."""
    width = max(len(d["setting"]) for d in result["settings"])
    lines = []
    for d in result["settings"]:
        value = "-" if d["value"] is None else _value(d["value"])
        reason = f"  ({d['reason']})" if d["reason"] else ""
        lines.append(f"{d['setting']:{width}}  {value}{reason}")
        lines += [
            f"{'':{width}}  or {other['setting']} = {_value(other['value'])}: {other['meaning']}"
            for other in d["others"]
            if other["value"] is not None
        ]
    lines += [f"note: {warning}" for warning in result["warnings"]]
    unsure = sum(bool(d["others"]) for d in result["settings"])
    if unsure:
        lines.append(
            f"{unsure} of these could be meant otherwise: the config has the alternatives as comments"
        )
    return "\n".join([*lines, "", f"kft data {result['config']}", f"kft train {result['config']}"])


def _all_decisions(place: Place, guessed: Guess) -> list[Decision]:
    """The settings in the order of the file."""
    table = place.table
    task, *columns = guessed.decisions
    files = [Decision(f"data.{key}", value, place.reasons.get(key, "")) for key, value in place.files.items()]
    reading = [Decision(f"data.{key}", value, table.reasons[key]) for key, value in table.settings.items()]
    if place.classes:
        columns = []
        files[0] = Decision("data.train", place.files["train"], "a folder with one sub-folder for each class")
    decisions = [task, *files, *reading, *columns]
    if "source" not in place.files and not {"validation", "test"} & set(place.files):
        reason = "no other files stand beside it, so shares of it become validation and test"
        decisions.append(Decision("split.validation_fraction", 0.1, reason))
        decisions.append(Decision("split.test_fraction", 0.1, ""))
    return [*decisions, *_training(place, guessed)]


def _training(place: Place, guessed: Guess) -> list[Decision]:
    names = [guessed.value(f"data.{key}") for key in ("text", "text_pair", "question", "context")]
    read = [name for name in names if name is not None]
    if not read:  # lists of words
        read = [guessed.value("data.tokens") or "tokens"]
    columns = [place.table.column(name) for name in read]
    lengths = sorted(sum(map(_tokens, row)) for row in zip(*columns, strict=True))
    most = lengths[int(0.95 * (len(lengths) - 1))]
    length = next((n for n in LENGTHS if n >= most), LENGTHS[-1])
    rows = len(place.table.rows) if place.table.whole else None
    epochs = next(count for limit, count in EPOCHS if limit is None or (rows is not None and rows <= limit))
    about = f"{rows:,} rows" if rows is not None else f"more than {len(place.table.rows):,} rows"
    decisions = []
    if length > LENGTHS[0]:
        windows = guessed.value("data.context") is not None
        then = "is read in windows" if windows else "is cut"
        reason = f"19 of 20 texts have at most about {most:.0f} tokens; what is longer {then}"
        decisions.append(Decision("model.max_length", length, reason))
    decisions.append(Decision("train.epochs", epochs, f"a start for {about}"))
    return [*decisions, Decision("train.learning_rate", 5e-5, "a start for the default model, all-MiniLM")]


def _tokens(text: Any) -> float:
    """About how many tokens a text, or a list of words, has."""
    text = " ".join(map(str, text)) if isinstance(text, list) else text
    characters = len(CJK.findall(str(text or "")))
    return PIECES_A_WORD * len(CJK.sub(" ", str(text or "")).split()) + characters


def _tried(decisions: list[Decision]) -> tuple[list[Decision], list[str]]:
    """The decisions with which the data are read, without a file that is not like train.

    Raises:
        KftError: train is not read with them.
    """
    warnings: list[str] = []
    data = _config(decisions).data
    for split in ("validation", "test"):
        file = getattr(data, split)
        try:
            if file is not None:
                sources.read_file(file, data, need_label=split == "validation")
        except KftError as error:
            decisions = [d for d in decisions if d.setting != f"data.{split}"]
            warnings.append(f"data.{split} is left out: {_first_line(error)}")
    config = _config(decisions)
    if config.data.source is None:
        frames = sources.read(config.data, config.split)
        try:
            splits.prepare(frames, config.split, config.clean, config.task, config.data.spans)
        except KftError as error:
            warnings.append(f"it does not train yet: {_first_line(error)}")
    return decisions, warnings


def _first_line(error: KftError) -> str:
    first, *more = error.message.splitlines()
    return f"{first} …" if more else first


def _config(decisions: list[Decision]) -> configs.Config:
    settings: dict[str, Any] = {}
    for d in decisions:
        section, _, key = d.setting.rpartition(".")
        if d.value is not None:
            (settings.setdefault(section, {}) if section else settings)[key] = d.value
    return configs.parse(settings, where="what was guessed")


def _toml(data: str, decisions: list[Decision], warnings: list[str], path: Path) -> str:
    """The decisions as TOML; each with its reason above it, alternatives as comments below."""
    lines = [
        f"# Written by `kft init {data}`: look it over, then `kft data` and `kft train` it.",
        "# Every other setting: `kft config --schema`.",
        *(part for warning in warnings for part in _comment(f"Note: {warning}")),
    ]
    section = ""
    for d in decisions:
        head, _, key = d.setting.rpartition(".")
        if head != section:
            lines += ["", f"[{head}]"]
            section = head
        lines += _comment(d.reason)
        if d.value is not None:
            lines.append(_line(key, _relative(d.setting, d.value, path)))
        for setting, value, meaning in d.others:
            if value is None:
                lines += _comment(f"or without the line {setting}: {meaning}")
            else:
                lines += [*_comment(f"or, {meaning}:"), f"# {_line(setting.rpartition('.')[2], value)}"]
    return "\n".join(lines) + "\n"


def _comment(words: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(words, WIDTH - 2, break_long_words=False)]


def _line(key: str, value: Any) -> str:
    if isinstance(value, list):
        return f"{key} = {_value(value)}"
    return tomli_w.dumps({key: value}).strip()


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return tomli_w.dumps({"value": value}).strip().removeprefix("value = ")


def _relative(setting: str, value: Any, config: Path) -> Any:
    """A path as the config's own folder sees it."""
    if setting.removeprefix("data.") not in configs.PATH_KEYS or sources.is_address(value):
        return value
    path = os.path.relpath(Path(value).expanduser().resolve(), config.resolve().parent)
    return value if path.startswith("../../..") and Path(value).is_absolute() else path
