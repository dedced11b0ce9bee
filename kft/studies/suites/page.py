"""suite.html: the table of a suite and a chart of its scores."""

import io
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from kft import report
from kft.report.history import COLORS
from kft.studies.suites import summary

TEMPLATES = (Path(__file__).parent, Path(report.__file__).parent)


def html(content: dict[str, Any]) -> str:
    """One page that needs nothing else."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("suite.html.j2").render(
        content=content,
        head=summary.HEAD,
        rows=summary.rows(content),
        notes=summary.notes(content),
        chart=chart(content),
    )


def chart(content: dict[str, Any]) -> str:
    """An SVG with a dot for each seed, a bar for the mean, diamonds for published scores."""
    scored = [
        (task["title"], name, m)
        for task in content["tasks"]
        for name, m in task["metrics"].items()
        if m["mean"] is not None
    ]
    if not scored:
        return ""
    figure = Figure(figsize=(9, 0.6 + 0.34 * len(scored)), layout="constrained")
    axes = figure.subplots()
    for y, (_, _, metric) in enumerate(scored):
        axes.barh(y, metric["mean"] * 100, height=0.6, color=COLORS["train"], alpha=0.25)
        values = [value * 100 for value in metric["values"].values() if value is not None]
        axes.plot(values, [y] * len(values), "o", color=COLORS["train"], markersize=4)
        published = [p["score"] * 100 for p in metric["published"]]
        axes.plot(published, [y] * len(published), "D", color=COLORS["validation"], markersize=5)
    axes.set_yticks(range(len(scored)), [f"{title} {name.replace('_', ' ')}" for title, name, _ in scored])
    axes.set_xlabel("score, %")
    axes.invert_yaxis()
    axes.set_xlim(min(0, *(m["mean"] * 100 - 5 for _, _, m in scored)), 100)
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()[drawn.getvalue().index("<svg") :]
