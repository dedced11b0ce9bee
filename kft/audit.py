"""Describes data before training: counts, drops, labels, leaks, lengths, label errors."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from kft import backend, runs
from kft.config import Config
from kft.data import sources, splits
from kft.data.splits import notices
from kft.data.splits.alike import plainly
from kft.errors import KftError, clipped
from kft.models import presets
from kft.tasks import TASKS
from kft.tasks.labels import positive_of
from kft.tasks.record import Inputs
from kft.text import Tokens, begin_with_space, encode_cached, encode_frame, length_account

SHOWN_ORIGINS = 5
SHOWN_LABELS = 30
SHOWN_ERRORS = 20


def audit(config: Config, run_path: str | Path | None = None) -> dict[str, Any]:
    """The account of a config's data, as in a run's data.json.

    Args:
        config: its data, split, clean and model sections are read.
        run_path: a finished run on this data; adds "label_errors", see `label_errors`.

    Raises:
        KftError: a mistake in the data, or the run is not finished.
    """
    prepared = splits.prepare(
        sources.read(config.data, config.split), config.split, config.clean, config.task, config.data.spans
    )
    labels = list(prepared.account["splits"]["train"].get("labels", {}))
    positive_of(labels, config.data.positive, config.data.label_names)
    preset = preset_of(config, prepared)
    add_token_lengths(prepared, preset, inputs_of(config))
    if run_path is None:
        return prepared.account
    return prepared.account | {"label_errors": label_errors(run_path)}


def preset_of(config: Config, prepared: splits.Splits) -> presets.Preset:
    """The preset of a config, with the tokenizer that its data needs.

    Raises:
        KftError: see `presets.locate`.
    """
    preset = presets.locate(config.model.preset, config.model.from_run, config.model.adapter_base)
    if "words" not in prepared.train.columns:
        return preset
    return replace(preset, tokenizer=begin_with_space(preset.tokenizer))


def inputs_of(config: Config) -> Inputs:
    """What a run of a config reads of a row."""
    data = config.data
    spans = tuple(map(tuple, data.spans or []))
    grouped = TASKS[config.task].grouped
    return Inputs(
        data.paired,
        spans,
        grouped,
        config.model.max_length,
        TASKS[config.task].located,
        config.model.stride,
        config.model.windows,
    )


def add_token_lengths(prepared: splits.Splits, preset: presets.Preset, inputs: Inputs) -> dict[str, Tokens]:
    """Tokenises every split, adds "tokens" to its account, and returns the tokens."""
    tokens = {}
    for name in ("train", "validation", "test"):
        frame = getattr(prepared, name)
        if len(frame):
            tokens[name] = encode_frame(
                preset.tokenizer, preset.family.template, frame, inputs, encode_cached
            )
            prepared.account["splits"][name]["tokens"] = length_account(tokens[name], inputs.max_length)
    prepared.account["leaks"]["same_tokens"] = _same_tokens(tokens)
    return tokens


def _same_tokens(tokens: dict[str, Tokens]) -> dict[str, int]:
    """Validation and test → train rows that the model cannot tell from one of them."""
    keys = {name: _token_keys(part) for name, part in tokens.items()}
    known = {name: set(part) for name, part in keys.items() if name != "train"}
    return {name: sum(key in part for key in keys["train"]) for name, part in known.items()}


def _token_keys(tokens: Tokens) -> list[bytes]:
    """Of each example its tokens, and which of them are marked."""
    ends = tokens.offsets[tokens.bounds].tolist()
    spans = [b""] * (len(ends) - 1) if tokens.spans is None else [span.tobytes() for span in tokens.spans]
    return [
        tokens.ids[start:end].tobytes() + span
        for start, end, span in zip(ends[:-1], ends[1:], spans, strict=True)
    ]


def label_errors(run_path: str | Path) -> list[dict[str, Any]]:
    """Rows of a run's validation and test splits with a label that is probably wrong, in order.

    The run has not seen these rows in training, so its probabilities are held out, as confident
    learning needs (Northcutt et al. 2021; cleanlab computes it).

    Returns:
        [{"split", "origin", "id", "text", "label", "suggested", "probability"}], the probability
        being that of the given label, of several labels that of the one which is doubted most;
        id + 1 is the row in the file `origin`. Of a word its own text and tag, and "word", "start"
        and "end", which tell where it stands in the row; of a question where the suggested answer
        stands in its context.

    Raises:
        KftError: the run is not finished, or predicts scores; or cleanlab is not installed.
    """
    backend.need("cleanlab", "audit", "finding label errors")

    run = runs.open_run(run_path)
    task = TASKS[runs.read_model(run)["task"]]
    learned = runs.read_learned(run)
    if task.issues is None:
        raise KftError(
            f"{run_path}: predicts no classes; label errors are found among them only", "leave out --run"
        )
    frames = []
    for name in ("validation", "test"):
        if runs.had_split(run, name):
            if not run.predictions(name).exists():
                raise KftError(f"{run.predictions(name)}: is missing", runs.COPY_HINT)
            frame = pl.read_parquet(run.predictions(name)).with_columns(split=pl.lit(name))
            if run.split(name).exists():
                frame = frame.with_columns(pl.read_parquet(run.split(name))["origin"])
            else:
                frame = frame.with_columns(origin=pl.lit(name))
            frames.append(frame)
    rows = pl.concat(frames)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of classes without rows, which small splits have
        issues = task.issues(rows, learned)
    given = rows.select("split", "origin", "id", "text", pl.col("target").alias("label"))
    return [
        given.row(doubt.row, named=True)
        | {"suggested": doubt.suggested, "probability": doubt.probability, **doubt.more}
        for doubt in issues
    ]


def text(account: dict[str, Any], task: str) -> str:
    """The account of a task's data as the lines that `kft data` prints."""
    lines = [f"warning: {line}" for line in [notices.look_alike(account)] if line]
    for name, part in account["splits"].items():
        lines += _split_lines(name, part, task)
    lines += [f"classes: {line}" for line in notices.unscored(account)]
    lines.append(f"leaks: {_leaks(account)}")
    if "label_errors" in account:
        lines += _error_lines(account["label_errors"])
    return "\n".join(lines)


def _split_lines(name: str, part: dict[str, Any], task: str) -> list[str]:
    dropped = sum(part["dropped"].values())
    more = len(part["origins"]) - SHOWN_ORIGINS
    origins = ", ".join(part["origins"][:SHOWN_ORIGINS]) + (f" and {more} more" if more > 0 else "")
    lines = [f"{name}: {part['examples']:,} example{'' if part['examples'] == 1 else 's'} from {origins}"]
    if dropped:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in part["dropped"].items() if count)
        lines.append(f"  dropped     {dropped:,} of {part['read']:,}: {reasons}")
    if part.get("labels"):
        total = max(part["examples"], 1)
        labels = list(part["labels"].items())
        cells = [
            f"{_clipped(plainly(label))} {count:,} ({count / total:.1%})"
            for label, count in labels[:SHOWN_LABELS]
        ]
        more = f", and {len(labels) - SHOWN_LABELS} more" if len(labels) > SHOWN_LABELS else ""
        lines.append(f"  labels      {', '.join(cells)}{more}")
    lines += [f"  {title:<11} {words}" for title, words in TASKS[task].labels.lines(part)]
    twice = part["duplicates"]
    lines.append(
        f"  duplicates  {twice['exact']:,} exact, {twice['normalized']:,} but for case, spaces and Unicode form, "
        f"{twice['conflicting_labels']:,} with conflicting labels"
    )
    if "tokens" in part:
        n = part["tokens"]
        lines.append(
            f"  tokens      mean {n['mean']:.1f}, median {n['p50']:.0f}, 90 % {n['p90']:.0f}, 99 % {n['p99']:.0f}, "
            f"longest {n['max']:.0f}; {n['truncated_fraction']:.1%} truncated"
            + (f", read in {n['windows']:,} windows" if "windows" in n else "")
        )
        if "span_lost_fraction" in n:
            lines.append(
                f"  spans       {n['span_lost_fraction']:.1%} of the examples lost one to truncation; its place takes the "
                "first token"
            )
    return lines


def _leaks(account: dict[str, Any]) -> str:
    lines = [line for line in (notices.leaked(account), notices.parted(account)) if line]
    if not any((account.get("leaks") or {}).get(name) for name in notices.HELD_OUT):
        lines.insert(0, "no row of train stands in another split")
    return "; ".join(lines)


def _error_lines(errors: list[dict[str, Any]]) -> list[str]:
    if not errors:
        return ["label errors: none found"]
    lines = [f"label errors: {len(errors)} likely"]
    for row in errors[:SHOWN_ERRORS]:
        word = f", word {row['word'] + 1}" if "word" in row else ""
        lines.append(
            f"  {row['origin']}, row {row['id'] + 1}{word}: label {_clipped(row['label'])} ({row['probability']:.1%}), "
            f"rather {_clipped(row['suggested'])}: {_clipped(row['text'], 70)}"
        )
    if len(errors) > SHOWN_ERRORS:
        lines.append(f"  and {len(errors) - SHOWN_ERRORS} more; --json lists them all")
    return lines


def _clipped(text: str, width: int = 40) -> str:
    """A text on one line, long ones cut."""
    return clipped(" ".join(text.split()), width)
