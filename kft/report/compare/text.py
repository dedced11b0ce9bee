"""A comparison as plain text tables."""

from collections.abc import Iterator
from typing import Any

from kft.metrics.words import interval, metric_name, number
from kft.report.table import aligned
from kft.tasks import TASKS

TEXT_LENGTH = 160  # characters printed of a row


def text(content: dict[str, Any]) -> str:
    """The scores side by side, the tests of each pair, and the largest disagreements."""
    blocks = [_scores(content), _tests(content), _rows(content)]
    return "\n\n".join("\n".join(lines) for lines in blocks)


def _scores(content: dict[str, Any]) -> Iterator[str]:
    yield f"{content['split']}: {_counted(content)}"
    names, scores = [run["name"] for run in content["runs"]], [run["metrics"] for run in content["runs"]]
    rows = [(metric_name(m, content["positive"]), *(number(s[m]) for s in scores)) for m in scores[0]]
    yield from aligned([("metric", *names), *rows])


def _counted(content: dict[str, Any]) -> str:
    common = f"{content['examples']:,} example{'' if content['examples'] == 1 else 's'}"
    if content["questions"] is not None:
        common = f"{content['questions']:,} questions"
    others = [
        f"{run['name']} {run['examples']:,}"
        for run in content["runs"]
        if run["examples"] > content["examples"]
    ]
    return f"{common} in common (of {', '.join(others)})" if others else common


def _tests(content: dict[str, Any]) -> Iterator[str]:
    several = len(content["pairs"]) > 1
    corrected = f" (p corrected for {len(content['pairs'])} pairs by Holm)" if several else ""
    name, drawn = metric_name(content["metric"], content["positive"]), ""
    if content["groups"] is not None:
        drawn = f" over {content['groups']:,} groups"
    yield f"difference in {name}, 95 % interval and p by the paired bootstrap{drawn}{corrected}"
    key = "p_value_holm" if several else "p_value"
    rows = [("second less first", "difference", "95 % interval", "p")]
    for pair in content["pairs"]:
        name = f"{pair['second']} less {pair['first']}"
        rows.append((name, number(pair["difference"]), interval(pair["interval"]), number(pair[key])))
    yield from aligned(rows)
    if content["pairs"][0]["mcnemar"] is None:
        return
    yield ""
    yield f"accuracy by McNemar's test: examples that one of the two alone has right{corrected}"
    rows = [("first and second", "first", "second", "test", "p")]
    for pair in content["pairs"]:
        test = pair["mcnemar"]
        kind = "exact" if test["statistic"] is None else f"chi-square {test['statistic']:.2f}"
        name = f"{pair['first']} and {pair['second']}"
        rows.append((name, f"{test['first_only']:,}", f"{test['second_only']:,}", kind, number(test[key])))
    yield from aligned(rows)


def _rows(content: dict[str, Any]) -> Iterator[str]:
    examples, count = content["disagreements"]["examples"], content["disagreements"]["count"]
    if count == 0:
        yield "the runs agree on every example"
        return
    task = TASKS[content["task"]]
    unit, order = task.counted, task.order
    if count is None:
        yield f"the {len(examples)} examples on which the runs are farthest apart (--output FILE writes all)"
    else:
        more = "" if count == len(examples) else f"; the {len(examples)} {order} (--output FILE writes all)"
        yield f"the runs disagree on {count:,} of {content['examples']:,} {unit}s{more}"
    for row in examples:
        texts = " | ".join(" ".join(row[key].split()) for key in ("text", "text_pair") if key in row)
        texts = texts if len(texts) <= TEXT_LENGTH else texts[: TEXT_LENGTH - 1] + "…"
        group = f", question {row['group']}" if "group" in row else ""
        said = "; ".join(f"{name} {task.words(answer)}" for name, answer in row["answers"].items())
        target = task.said(row["target"]) if isinstance(row["target"], str) else number(row["target"])
        yield f"  row {row['id'] + 1}{group}, target {target}: {said}"
        yield f"    {texts}"
