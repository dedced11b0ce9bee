"""A comparison as plain text tables."""

from collections.abc import Iterator
from typing import Any

from kft.metrics.words import interval, metric_name, number
from kft.report.table import aligned
from kft.tasks import TASKS

TEXT_LENGTH = 160  # characters shown of a row


def text(told: dict[str, Any]) -> str:
    """The scores side by side, the tests of each pair, and the rows on which the runs disagree
    most.
    """
    blocks = [_scores(told), _tests(told), _rows(told)]
    return "\n\n".join("\n".join(lines) for lines in blocks)


def _scores(told: dict[str, Any]) -> Iterator[str]:
    yield f"{told['split']}: {_counted(told)}"
    names, scores = [run["name"] for run in told["runs"]], [run["metrics"] for run in told["runs"]]
    rows = [(metric_name(m, told["positive"]), *(number(s[m]) for s in scores)) for m in scores[0]]
    yield from aligned([("metric", *names), *rows])


def _counted(told: dict[str, Any]) -> str:
    there = f"{told['examples']:,} example{'' if told['examples'] == 1 else 's'}"
    if told["questions"] is not None:
        there = f"{told['questions']:,} questions"
    others = [
        f"{run['name']} {run['examples']:,}" for run in told["runs"] if run["examples"] > told["examples"]
    ]
    return f"{there} in common (of {', '.join(others)})" if others else there


def _tests(told: dict[str, Any]) -> Iterator[str]:
    several = len(told["pairs"]) > 1
    corrected = f" (p corrected for {len(told['pairs'])} pairs by Holm)" if several else ""
    name, drawn = metric_name(told["metric"], told["positive"]), ""
    if told["groups"] is not None:
        drawn = f" over {told['groups']:,} groups"
    yield f"difference in {name}, 95 % interval and p by the paired bootstrap{drawn}{corrected}"
    key = "p_value_holm" if several else "p_value"
    rows = [("second less first", "difference", "95 % interval", "p")]
    for pair in told["pairs"]:
        name = f"{pair['second']} less {pair['first']}"
        rows.append((name, number(pair["difference"]), interval(pair["interval"]), number(pair[key])))
    yield from aligned(rows)
    if told["pairs"][0]["mcnemar"] is None:
        return
    yield ""
    yield f"accuracy by McNemar's test: examples that one of the two alone has right{corrected}"
    rows = [("first and second", "first", "second", "test", "p")]
    for pair in told["pairs"]:
        test = pair["mcnemar"]
        kind = "exact" if test["statistic"] is None else f"chi-square {test['statistic']:.2f}"
        name = f"{pair['first']} and {pair['second']}"
        rows.append((name, f"{test['first_only']:,}", f"{test['second_only']:,}", kind, number(test[key])))
    yield from aligned(rows)


def _rows(told: dict[str, Any]) -> Iterator[str]:
    shown, count = told["disagreements"]["examples"], told["disagreements"]["count"]
    if count == 0:
        yield "the runs agree on every example"
        return
    task = TASKS[told["task"]]
    unit, order = task.counted, task.order
    if count is None:
        yield f"the {len(shown)} examples on which the runs are farthest apart (--output FILE writes all)"
    else:
        more = "" if count == len(shown) else f"; the {len(shown)} {order} (--output FILE writes all)"
        yield f"the runs disagree on {count:,} of {told['examples']:,} {unit}s{more}"
    for row in shown:
        texts = " | ".join(" ".join(row[key].split()) for key in ("text", "text_pair") if key in row)
        texts = texts if len(texts) <= TEXT_LENGTH else texts[: TEXT_LENGTH - 1] + "…"
        group = f", question {row['group']}" if "group" in row else ""
        said = "; ".join(f"{name} {task.words(answer)}" for name, answer in row["answers"].items())
        target = row["target"] if isinstance(row["target"], str) else number(row["target"])
        yield f"  row {row['id'] + 1}{group}, target {target}: {said}"
        yield f"    {texts}"
