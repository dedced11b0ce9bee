"""Where ticks, lines, dots and bars of a chart are in an SVG; the page's template draws it.

TOP    ┌──────────────┐
       │  plot        │   x and y below are pixels of the SVG, from its upper left corner
BOTTOM └──────────────┘
      LEFT          RIGHT
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from kft.later import Later
from kft.metrics.words import number
from kft.report.history import Curves

ticker = Later("matplotlib.ticker")
WIDTH, HEIGHT = 400, 260
LEFT, RIGHT, TOP, BOTTOM = 52, WIDTH - 14, 12, HEIGHT - 42
SCATTER_POINTS = 1500


@dataclass(frozen=True)
class Axis:
    """A range of values and where its round numbers stand: ticks (pixel, text)."""

    title: str
    place: Callable[[float], float]
    ticks: list[tuple[float, str]]


@dataclass(frozen=True)
class Chart:
    """A chart: lines (style, faint, points), dots (style, x, y, radius, tip) and bars.

    A bar is (style, x, y, width, height, tip).
    """

    title: str
    x: Axis
    y: Axis
    lines: list[tuple[str, bool, str]] = field(default_factory=list)
    dots: list[tuple[str, float, float, float, str]] = field(default_factory=list)
    bars: list[tuple[str, float, float, float, float, str]] = field(default_factory=list)
    legend: list[tuple[str, str]] = field(default_factory=list)


def over_epochs(curves: Curves) -> Chart:
    """The chart of one kind of curves, with at least one series."""
    xs, ys = zip(*(point for series in curves.series for point in series.points), strict=True)
    x, y = (
        _axis("epoch", LEFT, RIGHT, min(*xs, 0), max(xs)),
        _axis("", BOTTOM, TOP, min(ys), max(ys), room=0.06),
    )
    lines, dots = [], []
    for series in curves.series:
        places = [(x.place(a), y.place(b)) for a, b in series.points]
        if len(places) > 1:
            lines.append((series.style, series.faint, _polyline(places)))
        if series.dots:
            radius = 7 if series.style == "best" else 3.5
            tips = (f"{series.name}, epoch {a:g}: {number(b)}" for a, b in series.points)
            dots += [(series.style, a, b, radius, tip) for (a, b), tip in zip(places, tips, strict=True)]
    named = [series for series in curves.series if not series.faint]
    # One line alone is what the title says it is.
    alone = sum(series.style != "best" for series in named) == 1
    legend = [(series.style, series.name) for series in named if not alone or series.style == "best"]
    return Chart(curves.title, x, y, lines, dots, legend=legend)


def reliability(bins: list[dict[str, Any]]) -> Chart:
    """How often predictions of each confidence are right (Guo et al. 2017, figure 1).

    The diagonal is perfect.
    """
    x, y = _axis("confidence", LEFT, RIGHT, 0, 1), _axis("accuracy", BOTTOM, TOP, 0, 1)
    bars, dots = [], []
    for b in (b for b in bins if b["count"]):
        tip = f"{b['count']:,} predictions, confidence {b['confidence']:.3f}, accuracy {b['accuracy']:.3f}"
        bars.append(_bar(x, y, b, b["accuracy"], tip))
        dots.append(("validation", x.place(b["confidence"]), y.place(b["accuracy"]), 3.5, tip))
    diagonal = ("reference", False, _polyline([(x.place(0), y.place(0)), (x.place(1), y.place(1))]))
    return Chart("Reliability", x, y, [diagonal], dots, bars)


def confidences(bins: list[dict[str, Any]]) -> Chart:
    """How many predictions have each confidence."""
    x = _axis("confidence", LEFT, RIGHT, 0, 1)
    y = _axis("predictions", BOTTOM, TOP, 0, max(b["count"] for b in bins))
    bars = [_bar(x, y, b, b["count"], f"{b['count']:,} predictions") for b in bins if b["count"]]
    return Chart("Confidence of the predictions", x, y, bars=bars)


def scatter(frame: pl.DataFrame) -> Chart:
    """Predicted values against targets, for a sample of many examples."""
    total = len(frame)
    frame = frame.sample(min(total, SCATTER_POINTS), seed=0)
    low = min(frame["target"].min(), frame["value"].min())
    high = max(frame["target"].max(), frame["value"].max())
    x, y = _axis("target", LEFT, RIGHT, low, high), _axis("prediction", BOTTOM, TOP, low, high)
    dots = [
        (
            "cloud",
            x.place(target),
            y.place(value),
            2.5,
            f"row {i}: target {number(target)}, prediction {number(value)}",
        )
        for i, target, value in frame.select("id", "target", "value").iter_rows()
    ]
    diagonal = ("reference", False, _polyline([(x.place(low), y.place(low)), (x.place(high), y.place(high))]))
    sampled = f" ({len(frame):,} of {total:,} examples)" if len(frame) < total else ""
    return Chart(f"Predictions against targets{sampled}", x, y, [diagonal], dots)


def errors(frame: pl.DataFrame) -> Chart:
    """How many predictions are how far above or below their target."""
    counts, edges = np.histogram(frame["value"] - frame["target"], bins=21)
    x = _axis("prediction less target", LEFT, RIGHT, edges[0], edges[-1])
    y = _axis("predictions", BOTTOM, TOP, 0, counts.max())
    parts = [{"low": edges[i], "high": edges[i + 1]} for i in range(len(counts))]
    bars = [
        _bar(x, y, b, n, f"{n:,} from {b['low']:.3g} to {b['high']:.3g}")
        for b, n in zip(parts, counts, strict=True)
        if n
    ]
    return Chart("Errors", x, y, bars=bars)


def _axis(title: str, start: float, end: float, low: float, high: float, room: float = 0.0) -> Axis:
    """The values from low to high, with room at both ends, on pixels from start to end."""
    if low == high:
        low, high = low - (abs(low) * 0.1 or 1), high + (abs(high) * 0.1 or 1)
    margin = (high - low) * room
    low, high = low - margin, high + margin
    ticks = ticker.MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    ticks = np.where(np.abs(ticks) < (high - low) * 1e-9, 0, ticks)
    nearly = (high - low) * 1e-9
    visible = [t for t in ticks.tolist() if low - nearly <= t <= high + nearly]

    def place(value: float) -> float:
        return round(start + (value - low) / (high - low) * (end - start), 1)

    small = max(map(abs, visible), default=1) < 0.001
    return Axis(title, place, [(place(t), _tick(t, small)) for t in visible])


def _tick(value: float, small: bool) -> str:
    """A round number; small ones all with an exponent, which takes less room: 1.5e-4."""
    if small and value:
        digits, exponent = f"{value:.5e}".split("e")
        return f"{float(digits):g}e{int(exponent)}"
    return f"{value:,.6g}"


def _bar(
    x: Axis, y: Axis, b: dict[str, Any], value: float, tip: str
) -> tuple[str, float, float, float, float, str]:
    left, right, top, foot = x.place(b["low"]), x.place(b["high"]), y.place(value), y.place(0)
    return ("train", left + 1, top, round(right - left - 2, 1), round(foot - top, 1), tip)


def _polyline(points: list[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


# name → chart of a table of predictions, as a task's `Mistakes` asks for it.
OF_PREDICTIONS = {"scatter": scatter, "errors": errors}
