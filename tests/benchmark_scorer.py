"""The scores of GLUE and SuperGLUE by hand, as a server computes them from submissions.

Nothing of kft, NumPy or scikit-learn takes part. Sources: Wang et al. 2018 and 2019 (which metrics,
in which classes' order), Warstadt et al. 2019 (Matthews), Khashabi et al. 2018 (MultiRC), Zhang et
al. 2018 and the script of SQuAD (ReCoRD).
"""

import json
import math
import re

POSITIVE = {"mrpc": "1", "qqp": "1"}
NLI = ("entailment", "neutral", "contradiction")


def score(task: str, lines: list[str], gold: list) -> dict[str, float]:
    """The task's metrics.

    Args:
        task: its name in kft.
        lines: of its file.
        gold: the right answers in the order of the file, spelt as there; of MultiRC {(passage,
            question, answer): 0 or 1}, of ReCoRD the lists of right spellings.
    """
    if task == "multirc":
        return _multirc(lines, gold)
    if lines[0] == "index\tprediction":
        given = [line.split("\t")[1] for line in lines[1:]]
    else:
        given = [json.loads(line)["label"] for line in lines]
    pairs = list(zip(gold, given, strict=True))
    if task == "record":
        best = [max(_token_f1(g, r) for r in right) for right, g in pairs]
        exact = [float(any(_words(g) == _words(r) for r in right)) for right, g in pairs]
        return {"f1": sum(best) / len(best), "exact_match": sum(exact) / len(exact)}
    accuracy = sum(g == p for g, p in pairs) / len(pairs)
    if task in POSITIVE:
        return {"f1": _f1(pairs, POSITIVE[task]), "accuracy": accuracy}
    if task in ("cola", "ax", "axb"):
        return {"matthews_correlation": _matthews(pairs)}
    if task == "cb":
        return {"f1_macro": sum(_f1(pairs, label) for label in NLI) / 3, "accuracy": accuracy}
    if task == "axg":
        same = sum(given[i] == given[i + 1] for i in range(0, len(given), 2))
        return {"accuracy": accuracy, "gender_parity": same / (len(given) / 2)}
    if task == "stsb":
        x, y = [float(g) for g, _ in pairs], [float(p) for _, p in pairs]
        return {"pearson": _pearson(x, y), "spearman": _pearson(_ranks(x), _ranks(y))}
    return {"accuracy": accuracy}


def average(scores: dict[str, list[float]]) -> float:
    """Metrics average within a task (MNLI's two sets are one), then tasks; no diagnostics."""
    counted = [values for task, values in scores.items() if task not in ("ax", "axb", "axg")]
    return sum(sum(values) / len(values) for values in counted) / len(counted)


def _f1(pairs: list[tuple[str, str]], positive: str) -> float:
    hit = sum(g == p == positive for g, p in pairs)
    missed, wrong = (
        sum(g == positive != p for g, p in pairs),
        sum(p == positive != g for g, p in pairs),
    )
    return 2 * hit / (2 * hit + missed + wrong) if hit else 0.0


def _matthews(pairs: list[tuple[str, str]]) -> float:
    """Gorodkin 2004's form for any number of classes, which is Matthews' own for two."""
    classes = {label for pair in pairs for label in pair}
    n, right = len(pairs), sum(g == p for g, p in pairs)
    golden = {c: sum(g == c for g, _ in pairs) for c in classes}
    counts = {c: sum(p == c for _, p in pairs) for c in classes}
    above = right * n - sum(golden[c] * counts[c] for c in classes)
    below = (n * n - sum(v * v for v in counts.values())) * (n * n - sum(v * v for v in golden.values()))
    return above / math.sqrt(below) if below else 0.0


def _pearson(x: list[float], y: list[float]) -> float:
    a, b = sum(x) / len(x), sum(y) / len(y)
    shared = sum((u - a) * (v - b) for u, v in zip(x, y, strict=True))
    return shared / math.sqrt(sum((u - a) ** 2 for u in x) * sum((v - b) ** 2 for v in y))


def _ranks(x: list[float]) -> list[float]:
    """The mean rank of equal values."""
    return [sum(v < u for v in x) + (sum(v == u for v in x) + 1) / 2 for u in x]


def _multirc(lines: list[str], gold: dict[tuple[int, int, int], int]) -> dict[str, float]:
    given = {}
    for line in map(json.loads, lines):
        for question in line["passage"]["questions"]:
            for answer in question["answers"]:
                given[line["idx"], question["idx"], answer["idx"]] = answer["label"]
    assert given.keys() == gold.keys()
    questions = {key[:2] for key in gold}
    whole = sum(all(given[key] == gold[key] for key in gold if key[:2] == q) for q in questions)
    return {
        "f1a": _f1([(str(gold[key]), str(given[key])) for key in gold], "1"),
        "exact_match": whole / len(questions),
    }


def _words(text: str) -> list[str]:
    kept = "".join(c for c in text.lower() if c not in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
    return [word for word in re.split(r"\s+", kept) if word not in ("a", "an", "the", "")]


def _token_f1(given: str, right: str) -> float:
    a, b = _words(given), _words(right)
    rest, shared = list(b), 0
    for word in a:
        if word in rest:
            rest.remove(word)
            shared += 1
    if not shared:
        return 0.0
    precision, recall = shared / len(a), shared / len(b)
    return 2 * precision * recall / (precision + recall)
