"""suite.json: scores over seeds and the benchmark's average, also as text and Markdown."""

import math
import statistics
from typing import Any

from kft.progress import duration
from kft.studies.suites.published import figures
from kft.studies.suites.records import SUITES, Task

FIELDS = {
    "suite": "glue or superglue",
    "preset": "what the tasks started from",
    "from_mnli": "whether RTE, MRPC and STS-B started from the MNLI runs",
    "seeds[]": "seeds that were asked for",
    "tasks[].task": "name",
    "tasks[].title": "as the benchmark writes it",
    "tasks[].metrics.*.mean": "over the seeds that are done",
    "tasks[].metrics.*.sd": "sample standard deviation; null for one seed",
    "tasks[].metrics.*.values.*": "seed: score",
    "tasks[].metrics.*.published[].score": "what others report for this checkpoint",
    "tasks[].metrics.*.published[].source": "where",
    "tasks[].train_seconds": "mean wall time of a training; of the last part where it was interrupted",
    "average.score": "mean over the tasks that count of the mean of their metrics, as the benchmark computes it",
    "average.tasks[]": "those that are in it",
    "average.missing[]": "those of the chosen tasks and of the benchmark that are not",
    "failed[].task": "a task that failed, and with which seed and error",
    "failed[].seed": "see task",
    "failed[].error": "see task",
    "submission.file": "zip for the server, with the answers of each task's best seed on its validation split",
    "submission.seeds.*": "file in it: seed",
    "submission.missing[]": "files that the server wants and that are not in it",
    "submission.refused[]": "what the server would find wrong, such as too few rows where the test split is a sample",
}


def summarize(
    suite: str,
    preset: str,
    seeds: tuple[int, ...],
    tasks: tuple[Task, ...],
    done: dict[str, dict[int, dict[str, Any]]],
    failed: list[dict[str, Any]],
    from_mnli: bool,
) -> dict[str, Any]:
    """The content of suite.json but for the submission."""
    known = figures(suite, preset)
    rows = []
    for task in tasks:
        scores = done[task.name]
        names = dict.fromkeys(name for result in scores.values() for name in result["metrics"])
        times = [result["train_seconds"] for result in scores.values()]
        rows.append(
            {
                "task": task.name,
                "title": task.title,
                "metrics": {
                    name: _over_seeds({s: result["metrics"].get(name) for s, result in scores.items()})
                    | {
                        "published": [
                            {"score": p.scores[task.name][name], "source": p.source}
                            for p in known
                            if name in p.scores.get(task.name, {})
                        ]
                    }
                    for name in names
                },
                "train_seconds": statistics.mean(times) if times and task.by is None else None,
            }
        )
    counted = {
        r["task"]: r for r in rows if next(t for t in tasks if t.name == r["task"]).counts and r["metrics"]
    }
    means = [task_score({name: m["mean"] for name, m in row["metrics"].items()}) for row in counted.values()]
    average = {
        "score": statistics.mean(means) if means else None,
        "tasks": list(counted),
        "missing": [t.name for t in SUITES[suite] if t.counts and t.name not in counted],
    }
    return {
        "suite": suite,
        "preset": preset,
        "from_mnli": from_mnli,
        "seeds": list(seeds),
        "tasks": rows,
        "average": average,
        "failed": failed,
    }


def _over_seeds(values: dict[int, float | None]) -> dict[str, Any]:
    defined = [value for value in values.values() if value is not None and math.isfinite(value)]
    return {
        "mean": statistics.mean(defined) if defined else None,
        "sd": statistics.stdev(defined) if len(defined) > 1 else None,
        "values": {str(seed): value for seed, value in values.items()},
    }


def task_score(metrics: dict[str, float | None]) -> float:
    """A task's score in the average: the mean of its metrics, an undefined one as 0."""
    return statistics.mean([value or 0.0 for value in metrics.values()]) if metrics else 0.0


def rows(content: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """(task, metric, mean ± deviation, training time, published), scores as percentages."""
    table = []
    for task in content["tasks"]:
        for i, (name, metric) in enumerate(task["metrics"].items()):
            published = "; ".join(f"{p['score'] * 100:.1f}" for p in metric["published"])
            time = duration(task["train_seconds"]) if i == 0 and task["train_seconds"] is not None else ""
            table.append((task["title"] if i == 0 else "", name, _mean_text(metric), time, published))
        if not task["metrics"]:
            table.append((task["title"], "", "-", "", ""))
    average = content["average"]
    if average["score"] is not None:
        count = len(average["tasks"])
        note = f"of {count} task{'s' * (count > 1)}" if average["missing"] else ""
        table.append(("average", note, f"{average['score'] * 100:.2f}", "", ""))
    return table


def _mean_text(metric: dict[str, Any]) -> str:
    if metric["mean"] is None:
        return "-"
    deviation = "" if metric["sd"] is None else f" ± {metric['sd'] * 100:.2f}"
    return f"{metric['mean'] * 100:.2f}{deviation}"


HEAD = ("task", "metric", "score, %", "training", "published")


def text(content: dict[str, Any]) -> str:
    """The table for a terminal."""
    table = [HEAD, *rows(content)]
    keep = [i for i in range(len(HEAD)) if any(row[i] for row in table[1:])]
    widths = [max(len(row[i]) for row in table) for i in keep]
    lines = [
        "  ".join(
            row[i].ljust(w) if i < 2 else row[i].rjust(w) for i, w in zip(keep, widths, strict=True)
        ).rstrip()
        for row in table
    ]
    return "\n".join([*lines, *notes(content)])


def notes(content: dict[str, Any]) -> list[str]:
    """What the table leaves out."""
    sources = dict.fromkeys(
        p["source"] for task in content["tasks"] for m in task["metrics"].values() for p in m["published"]
    )
    lines = [f"published: {source}" for source in sources]
    if not sources:
        lines.append(f"no published scores of {content['preset']} are known")
    failed: dict[tuple[str, str], list[str]] = {}
    for failure in content["failed"]:
        failed.setdefault((failure["task"], failure["error"]), []).append(str(failure["seed"]))
    for (task, error), seeds in failed.items():
        lines.append(f"failed: {task}, seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}: {error}")
    return lines


def markdown(content: dict[str, Any]) -> str:
    """The table in Markdown."""
    title = f"{content['suite']}, {content['preset']}, seeds {', '.join(map(str, content['seeds']))}"
    lines = [f"# {title}", "", "| " + " | ".join(HEAD) + " |", "|---|---|--:|--:|--:|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows(content)]
    return "\n".join([*lines, "", *("- " + " ".join(note.split()) for note in notes(content))]) + "\n"
