"""ensemble.html: the scores over the runs, a chart of them, and a link to each run's own page."""

import io
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from kft import report
from kft.metrics.words import metric_name, number
from kft.report.history import COLORS

TEMPLATES = (Path(__file__).parent, Path(report.__file__).parent)
STYLES = {"validation": "validation", "test": "train"}  # split → key of COLORS


def html(
    name: str,
    content: dict[str, Any],
    tables: dict[str, list[tuple[str, ...]]],
    members: list[tuple[str, ...]],
    settings: str,
) -> str:
    """One page that needs nothing else but, behind its links, the pages of the runs.

    Args:
        name: of the ensemble's folder.
        content: of ensemble.json.
        tables: {split: head and rows}.
        members: head and rows.
        settings: the content of ensemble.toml.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"number": number, "metric": metric_name}
    return environment.get_template("ensemble.html.j2").render(
        name=name, content=content, tables=tables, members=members, settings=settings, chart=chart(content)
    )


def chart(content: dict[str, Any]) -> str:
    """An SVG with a dot for each run and split in the main metric, over mean and deviation."""
    metric = content["metric"]
    splits = [split for split, means in content["metrics"].items() if means.get(metric) is not None]
    if not splits:
        return ""
    members = content["members"]
    figure = Figure(figsize=(9, 0.9 + 0.3 * len(members)), layout="constrained")
    axes = figure.subplots()
    for split in splits:
        color, mean, sd = (
            COLORS[STYLES[split]],
            content["metrics"][split][metric],
            content["sd"][split][metric],
        )
        axes.axvspan(mean - (sd or 0), mean + (sd or 0), color=color, alpha=0.12, linewidth=0)
        axes.axvline(mean, color=color, linewidth=1)
        values = [member["metrics"][split][metric] for member in members]
        axes.plot(values, range(len(members)), "o", color=color, label=split)
    axes.set_yticks(range(len(members)), [member["run"] for member in members])
    axes.set_ylim(len(members) - 0.5, -0.5)
    axes.set_xlabel(metric_name(metric, content["positive"]))
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if len(splits) > 1:
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()[drawn.getvalue().index("<svg") :]
