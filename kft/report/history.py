"""Reads history.jsonl into the curves of a run, and draws them as curves.png."""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from kft import runs
from kft.errors import KftError
from kft.later import Later
from kft.metrics.words import metric_name
from kft.runs import RunDir
from kft.tasks import DEFAULT, scoring

figure, ticker = Later("matplotlib.figure"), Later("matplotlib.ticker")
POINTS = 800  # of a drawn line
COLORS = {
    "train": "#2563eb",
    "validation": "#d97706",
    "rate": "#0f766e",
    "other": "#9333ea",
    "best": "#dc2626",
}


@dataclass(frozen=True)
class History:
    """The lines of history.jsonl by kind, in the order of their steps."""

    train: list[dict[str, Any]]
    evaluation: list[dict[str, Any]]


@dataclass(frozen=True)
class Series:
    """Points (x, y) that belong together.

    Attributes:
        name: for the legend.
        style: a key of `COLORS`.
        points: in the order of x.
        dots: mark each point, instead of the line alone.
        faint: drawn behind and not in the legend.
    """

    name: str
    style: str
    points: list[tuple[float, float]]
    dots: bool = False
    faint: bool = False


@dataclass(frozen=True)
class Curves:
    """One chart over the epochs."""

    title: str
    series: list[Series]


def curves(run: RunDir) -> Path:
    """Writes curves.png: losses, the validation metric and the learning rate over the epochs.

    Raises:
        KftError: a file of the run is damaged, or the disk is full.
    """
    charts = run_curves(read_history(run), read_settings(run), _positive(run))
    drawing = figure.Figure(figsize=(5 * len(charts), 3.6), dpi=120, layout="constrained")
    for axes, chart in zip(drawing.subplots(1, len(charts)), charts, strict=True):
        _draw(axes, chart)
    runs.write_whole(run.curves, drawing.savefig)
    return run.curves


def read_history(run: RunDir) -> History:
    """A step that is recorded twice counts once; a last line that was cut off does not count.

    Raises:
        KftError: another line is damaged.
    """
    lines = run.history.read_text("utf-8", "replace").splitlines() if run.history.exists() else []
    events: dict[tuple[str, int], dict[str, Any]] = {}
    for i, line in enumerate(lines):
        try:
            event = json.loads(line)
            events[event["event"], event["step"]] = event | {"epoch": event["epoch"]}
        except (json.JSONDecodeError, TypeError, KeyError) as error:
            if i < len(lines) - 1:
                raise KftError(
                    f"{run.history}, line {i + 1}: is damaged: {error}", "copy the run folder again"
                ) from None
    ordered = [events[key] for key in sorted(events)]
    return History(*([e for e in ordered if e["event"] == kind] for kind in ("train", "evaluation")))


def read_settings(run: RunDir) -> dict[str, Any]:
    """The content of the run's config.toml.

    Raises:
        KftError: it is damaged.
    """
    try:
        return tomllib.loads(run.config.read_text("utf-8")) if run.config.exists() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise KftError(f"{run.config}: is damaged: {error}", "copy the run folder again") from None


def followed_metrics(settings: dict[str, Any]) -> list[str]:
    """The task's main metric, and the one that picks the best epoch where that is another."""
    main = scoring.main_metric(settings.get("task", DEFAULT))
    return list(dict.fromkeys([main, settings.get("train", {}).get("best_metric", main)]))


def _positive(run: RunDir) -> str | None:
    if not run.labels.exists() or not run.model.exists():
        return None
    learned = runs.read_learned(run)
    return scoring.positive_label(learned.labels, learned.positive)


def run_curves(history: History, settings: dict[str, Any], positive: str | None = None) -> list[Curves]:
    """The losses, metrics and learning rate; a chart without a value has no series.

    Args:
        history: of a run.
        settings: of the run.
        positive: of two classes the one that some metrics are of.
    """
    names = followed_metrics(settings)
    rate = Series("learning rate", "rate", _thinned(_points(history.train, "learning_rate")))
    charts = [
        Curves(
            "Loss",
            [
                *_train_loss(history),
                Series("validation", "validation", _points(history.evaluation, "loss"), dots=True),
            ],
        ),
        Curves(
            "Validation " + " and ".join(metric_name(name, positive) for name in names),
            _score_series(history.evaluation, names, positive),
        ),
        Curves("Learning rate", [rate]),
    ]
    return [Curves(chart.title, [series for series in chart.series if series.points]) for chart in charts]


def _train_loss(history: History) -> list[Series]:
    losses = _points(history.train, "loss") or _points(history.evaluation, "train_loss")
    if len(losses) < 20:
        return [Series("train", "train", losses, dots=True)]
    return [
        Series("train, as recorded", "train", _thinned(losses), faint=True),
        Series("train", "train", _thinned(_smooth(losses))),
    ]


def _score_series(epochs: list[dict[str, Any]], names: list[str], positive: str | None) -> list[Series]:
    scores = [{"epoch": e["epoch"], "best": e.get("best")} | e.get("metrics", {}) for e in epochs]
    lines = [
        Series(metric_name(name, positive), style, _points(scores, name), dots=True)
        for name, style in zip(names, ("validation", "other"), strict=False)
    ]
    best = _points([s for s in scores if s["best"]][-1:], names[-1])
    return [*lines, Series("best epoch", "best", best, dots=True)]


def _points(events: list[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    values = ((event["epoch"], event.get(key)) for event in events)
    return [(x, y) for x, y in values if y is not None and np.isfinite(y)]


def _smooth(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    window = max(5, len(points) // 20)
    smoothed = pl.Series([y for _, y in points]).rolling_mean(window, min_samples=1, center=True)
    return [(x, y) for (x, _), y in zip(points, smoothed, strict=True)]


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return points[:: len(points) // POINTS + 1]


def _draw(axes, chart: Curves) -> None:
    for series in chart.series:
        x, y = zip(*series.points, strict=True)
        look = {"color": COLORS[series.style], "alpha": 0.3 if series.faint else 1}
        if series.style == "best":
            axes.plot(x, y, "o", markersize=10, fillstyle="none", label=series.name, **look)
        else:
            marker = "o" if series.dots else None
            axes.plot(x, y, marker=marker, markersize=4, label=None if series.faint else series.name, **look)
    if not chart.series:
        axes.text(0.5, 0.5, "nothing recorded", ha="center", color="gray", transform=axes.transAxes)
    axes.set_title(chart.title, loc="left")
    if len(chart.series) > 1:
        axes.legend(frameon=False)
    axes.set_xlabel("epoch")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter("{x:.4g}")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
