"""study.html: the ranked table; charts of a study's course, and of what its settings do."""

import io
import json
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import optuna
from matplotlib import colormaps
from matplotlib.figure import Figure

from kft import metrics, report
from kft.metrics.words import metric_name
from kft.report.history import COLORS

TEMPLATES = (Path(__file__).parent, Path(report.__file__).parent)


def html(content: dict[str, Any], table: list[tuple[str, ...]], importances: dict[str, float]) -> str:
    """One page that needs nothing else."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    complete = sorted((t for t in content["trials"] if t["state"] == "complete"), key=lambda t: t["number"])
    charts = [] if not complete else [
        ("Course of the search", _course(complete, content["metric"], content["positive"])),
        *([("Importance of the settings", _bars(importances))] if importances else []),
        ("Settings of the trials", _parallel(complete, content["metric"], content["positive"])),
    ]  # fmt: skip
    return environment.get_template("study.html.j2").render(
        content=content, head=table[0], rows=table[1:], charts=charts, metric_name=metric_name
    )


def fanova(study: optuna.Study, names: list[str]) -> dict[str, float]:
    """Setting → share of the metric's spread over the complete trials that it explains."""
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(study, evaluator=evaluator, params=names)


def _course(complete: list[dict[str, Any]], metric: str, positive: str | None) -> str:
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots()
    numbers, values = [t["number"] for t in complete], [t["value"] for t in complete]
    best = np.maximum if metrics.METRICS[metric].greater_is_better else np.minimum
    axes.plot(numbers, values, "o", color=COLORS["train"], label="trial")
    axes.step(numbers, best.accumulate(values), where="post", color=COLORS["validation"], label="best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel(metric_name(metric, positive))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False)
    return _svg(figure)


def _bars(importances: dict[str, float]) -> str:
    figure = Figure(figsize=(9, 0.9 + 0.34 * len(importances)), layout="constrained")
    axes = figure.subplots()
    axes.barh(list(importances), list(importances.values()), color=COLORS["train"], height=0.6)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the spread that the setting explains")
    return _svg(figure)


def _parallel(complete: list[dict[str, Any]], metric: str, positive: str | None) -> str:
    """A line for each trial through an axis for each setting and the score, dark where good."""
    names = list(complete[0]["params"])
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    places = []
    for column, name in enumerate(names):
        positions, ticks = _places([t["params"][name] for t in complete])
        places.append(positions)
        for y, label in ticks:
            axes.text(column - 0.03, y, label, ha="right", va="center", fontsize=8)
    values = np.array([t["value"] for t in complete])
    positions, ticks = _places(values.tolist())
    places.append(positions)
    for y, label in ticks:
        axes.text(len(names) + 0.03, y, label, ha="left", va="center", fontsize=8)
    order = values if metrics.METRICS[metric].greater_is_better else -values
    ranks = np.unique(order, return_inverse=True)[1]
    ranks = ranks / max(ranks.max(), 1)
    for i, line in enumerate(zip(*places, strict=True)):
        axes.plot(line, color=colormaps["Blues"](0.25 + 0.75 * ranks[i]), linewidth=1.5)
    axes.vlines(range(len(names) + 1), 0, 1, color="black", linewidth=0.8)
    axes.set_xlim(-0.5, len(names) + 0.5)
    axes.set_xticks(range(len(names) + 1), [*names, metric_name(metric, positive)])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return _svg(figure)


def _places(values: list[Any]) -> tuple[list[float], list[tuple[float, str]]]:
    """Where values stand between 0 and 1, and the texts beside the axis."""
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if numbers and max(values) > min(values):
        low, high = min(values), max(values)
        logarithmic = low > 0 and high / low >= 10
        scale = np.log if logarithmic else np.asarray
        positions = (scale(values) - scale(low)) / (scale(high) - scale(low))
        return positions.tolist(), [(0.0, f"{low:.4g}"), (1.0, f"{high:.4g}")]
    texts = [f"{v:.4g}" if numbers else v if isinstance(v, str) else json.dumps(v) for v in values]
    known = sorted(set(texts))
    positions = {text: i / max(len(known) - 1, 1) if len(known) > 1 else 0.5 for i, text in enumerate(known)}
    return [positions[text] for text in texts], [(y, text) for text, y in positions.items()]


def _svg(figure: Figure) -> str:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()[drawn.getvalue().index("<svg") :]
