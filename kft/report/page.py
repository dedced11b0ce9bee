"""Gathers what report.html shows of a run directory; page.html.j2 lays it out."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import polars as pl
import tomli_w
from pydantic import BaseModel

from kft import metrics, runs
from kft.config import Config, ModelConfig
from kft.errors import KftError
from kft.metrics.words import interval, metric_name, number
from kft.report import charts
from kft.report.charts import Chart
from kft.report.history import History, followed_metrics, read_history, read_settings, run_curves
from kft.report.table import classes_to_show
from kft.runs import RunDir
from kft.tasks import DEFAULT, TASKS, scoring
from kft.tasks.record import Mistakes

SPLITS = ("test", "validation", "train", "data")  # in the order that a reader cares about
MISTAKES = 20  # listed for each split
CONFUSIONS = 10
TEXT_LENGTH = 400  # characters printed of a text
NAMED_MATRIX = 25  # classes of the largest confusion matrix with names and numbers
LARGEST_MATRIX = 100  # of the largest one at all
BALANCE_LABELS = 40
BACKENDS = {"jax": "JAX", "torch": "PyTorch", "tensorflow": "TensorFlow"}


@dataclass(frozen=True)
class SplitPage:
    """What the page says of one split.

    Attributes:
        name: of the split.
        scores: {metric: score}.
        examples: their number, or None where details.json is missing.
        unit: what is counted, an example or a question.
        drawn: what the intervals resample, in words.
        intervals: {metric: [low, high]}.
        per_class: (label, its scores).
        class_count: C, which may be more than `per_class` shows.
        matrix: (label, [(count, share of the target's examples)]) for each target.
        confusions: the commonest pairs of target and prediction that differ.
        charts: reliability and confidence, or the scatter.
        mistakes: the worst ones; None where there are no predictions.
    """

    name: str
    scores: dict[str, float | None]
    examples: int | None = None
    unit: str = "example"
    drawn: str = "the examples"
    intervals: dict[str, list[float | None]] = field(default_factory=dict)
    per_class: list[tuple[str, dict[str, float]]] = field(default_factory=list)
    class_count: int = 0
    matrix: list[tuple[str, list[tuple[int, float]]]] = field(default_factory=list)
    confusions: list[dict[str, Any]] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    mistakes: Mistakes | None = None


def report(run: RunDir) -> Path:
    """Writes report.html, one page without network, from what the run's folder has so far.

    Raises:
        KftError: a file of the run is damaged, or the disk is full.
    """
    runs.write_text(run.report, _template().render(_content(run), chart=charts, named_matrix=NAMED_MATRIX))
    return run.report


@cache
def _template() -> jinja2.Template:
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "number": number,
        "interval": interval,
        "metric": metric_name,
        "shortened": _shortened,
        "percent": lambda share: f"{share:.1%}",
    }
    return templates.get_template("page.html.j2")


def _content(run: RunDir) -> dict[str, Any]:
    settings, environment, history = read_settings(run), _read(run.environment), read_history(run)
    account, scores, details = _read(run.data), _read(run.metrics), _read(run.details)
    labels = _read(run.labels).get("labels", [])
    positive = next((part["positive"] for part in details.values() if part.get("positive")), None)
    kind = settings.get("task", DEFAULT)
    backend = environment.get("backend") or settings.get("backend", "jax")
    names = sorted(scores, key=lambda name: SPLITS.index(name) if name in SPLITS else len(SPLITS))
    return {
        "kind": kind,
        "main": scoring.main_metric(kind),
        "positive": positive,
        "lower_is_better": [name for name, metric in metrics.METRICS.items() if not metric.greater_is_better],
        "preset": Path(settings.get("model", {}).get("preset", ModelConfig().preset)).name,
        "source": _source(settings),
        "backend_name": BACKENDS.get(backend, backend),
        "facts": list(_facts(history, account, labels)),
        "splits": [_split(run, kind, labels, name, scores[name], details.get(name, {})) for name in names],
        "metric_names": list(dict.fromkeys(metric for name in names for metric in scores[name])),
        "curves": [
            charts.over_epochs(curve) for curve in run_curves(history, settings, positive) if curve.series
        ],
        "epochs": history.evaluation,
        "followed": followed_metrics(settings),
        "account": _account(account),
        "changed": tomli_w.dumps(_changed(settings)),
        "settings": tomli_w.dumps(settings),
        "environment": list(_environment(environment)),
    }


def _read(path: Path) -> dict[str, Any]:
    value = runs.read_json(path) if path.exists() else {}
    if not isinstance(value, dict):
        raise KftError(f"{path}: is damaged: must be a JSON object", runs.COPY_HINT)
    return value


def _source(settings: dict[str, Any]) -> str:
    data = settings.get("data", {})
    files = data.get("train", "")
    first = Path(files if isinstance(files, str) else files[0]).name
    return data.get("source") or (first if isinstance(files, str) else f"{first} and {len(files) - 1} more")


def _facts(history: History, account: dict[str, Any], labels: list[str]) -> Iterator[tuple[str, str]]:
    """The small figures beside the main score."""
    for name, split in account.get("splits", {}).items():
        if split.get("examples"):
            yield f"{name} examples", f"{split['examples']:,}"
    if labels:
        yield "classes", f"{len(labels):,}"
    if history.evaluation:
        best = [e["epoch"] for e in history.evaluation if e.get("best")][-1:]
        yield "epochs", f"{len(history.evaluation)}" + (f", best {best[0]}" if best else "")
    rates = [e["examples_per_second"] for e in history.train if e.get("examples_per_second")]
    if rates:
        questions = any("questions" in split for split in account.get("splits", {}).values())
        rate = np.median(rates)
        yield f"training {'questions' if questions else 'examples'}/s", f"{rate:,.{0 if rate >= 10 else 1}f}"


def _changed(settings: dict[str, Any], section: type[BaseModel] = Config) -> dict[str, Any]:
    """The settings that differ from their defaults."""
    changed = {}
    for key, value in settings.items():
        default = section.model_fields[key].default if key in section.model_fields else None
        if isinstance(default, BaseModel):
            value, default = _changed(value, type(default)), {}
        if value != default:
            changed[key] = value
    return changed


# One split.


def _split(run: RunDir, kind: str, labels: list[str], name: str, scores: dict, details: dict) -> SplitPage:
    per_class, matrix = details.get("per_class", {}), np.array(details.get("confusion_matrix", []), int)
    frame = _predictions(run, name)
    drawn = _bins(details.get("calibration", []))
    mistakes = None
    try:
        if frame is not None and len(frame):
            mistakes = TASKS[kind].worst(frame, details.get("labels", labels), MISTAKES)
            drawn += [charts.OF_PREDICTIONS[name](frame) for name in mistakes.charts]
    except pl.exceptions.ColumnNotFoundError as error:
        raise KftError(
            f"{run.predictions(name)}: lacks a column: {error}", "copy the run folder again"
        ) from None
    return SplitPage(
        name=name,
        scores=scores,
        examples=details.get("questions", details.get("examples")),
        unit="question" if "questions" in details else "example",
        drawn=f"{details['groups']:,} groups" if "groups" in details else "the examples",
        intervals=details.get("intervals", {}),
        per_class=classes_to_show(per_class),
        class_count=len(per_class),
        matrix=_heat_map(details["labels"], matrix) if 0 < len(matrix) <= LARGEST_MATRIX else [],
        confusions=_confusions(details, matrix),
        charts=drawn,
        mistakes=mistakes,
    )


def _predictions(run: RunDir, split: str) -> pl.DataFrame | None:
    file = run.predictions(split)
    try:
        return pl.read_parquet(file) if file.exists() else None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise KftError(f"{file}: is damaged: {error}", "copy the run folder again, or train again") from None


def _bins(calibration: list[dict[str, Any]]) -> list[Chart]:
    if not any(b["count"] for b in calibration):
        return []
    return [charts.reliability(calibration), charts.confidences(calibration)]


def _heat_map(labels: list[str], matrix: np.ndarray) -> list[tuple[str, list[tuple[int, float]]]]:
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    return [
        (label, list(zip(counts, part, strict=True)))
        for label, counts, part in zip(labels, matrix.tolist(), shares.tolist(), strict=True)
    ]


def _confusions(details: dict[str, Any], matrix: np.ndarray) -> list[dict[str, Any]]:
    if "confusions" in details:  # of very many classes
        sizes = {label: scores["support"] for label, scores in details["per_class"].items()}
        return [c | {"share": c["count"] / sizes[c["target"]]} for c in details["confusions"][:CONFUSIONS]]
    if not len(matrix):
        return []
    labels = details["labels"]
    wrong = matrix - np.diag(np.diag(matrix))
    commonest = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]
    pairs = zip(*np.unravel_index(commonest, matrix.shape), strict=True)
    return [
        {
            "target": labels[i],
            "label": labels[j],
            "count": int(wrong[i, j]),
            "share": wrong[i, j] / matrix[i].sum(),
        }
        for i, j in pairs
        if wrong[i, j]
    ]


def _shortened(text: str | None) -> str:
    words = " ".join((text or "").split())
    return words if len(words) <= TEXT_LENGTH else words[:TEXT_LENGTH].rstrip() + " …"


# data.json and environment.json as rows.


def _account(account: dict[str, Any]) -> dict[str, Any]:
    """data.json as tables with a column for each split."""
    splits = account.get("splits", {})
    leaves = [
        dict(_leaves({key: value for key, value in s.items() if key != "labels"})) for s in splits.values()
    ]
    names = list(dict.fromkeys(name for part in leaves for name in part))
    groups = list(dict.fromkeys(name.split()[0] for name in names))
    names.sort(
        key=lambda name: groups.index(name.split()[0])
    )  # reasons that one split alone has join the others
    counts = [s.get("labels", {}) for s in splits.values()]
    labels = list(dict.fromkeys(label for part in counts for label in part))
    sums = [max(s.get("examples", 0), 1) for s in splits.values()]  # a row may have several labels
    balance = [
        (
            label,
            [
                (part.get(label, 0), part.get(label, 0) / total)
                for part, total in zip(counts, sums, strict=True)
            ],
        )
        for label in labels[:BALANCE_LABELS]
    ]
    return {
        "splits": list(splits),
        "rows": [(name, [part.get(name, "") for part in leaves]) for name in names],
        "balance": balance,
        "labels_left_out": len(labels) - len(balance),
        "largest_share": max((share for _, cells in balance for _, share in cells), default=0) or 1,
        "rest": list(
            _leaves({key: value for key, value in account.items() if key not in ("splits", "format")})
        ),
    }


def _environment(environment: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What the run began with, and what was otherwise when it went on."""
    last = {name: value for name, value in environment.items() if name != "resumed"}
    yield from _leaves(last)
    for session in environment.get("resumed", []):
        for name, (old, new) in runs.differences(last, session):
            yield f"from step {session['step']:,} on: {name}", f"{old} → {new}"
        last = session


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """(name, text) of nested dictionaries: {"tokens": {"p50": 21}} → ("tokens p50", "21")."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{name} {key}".strip().replace("_", " "))
    elif isinstance(value, list):
        more = f" … and {len(value) - 5:,} more" if len(value) > 5 else ""
        yield name, ", ".join(map(str, value[:5])) + more
    else:
        yield name.removesuffix(" fraction"), _leaf(name, value)


def _leaf(name: str, value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.1%}" if name.endswith("fraction") else f"{value:,.4g}"
    return value[:8] if name.endswith("sha256") else str(value)
