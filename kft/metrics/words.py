"""How scores and their names are written for people."""

OF_ONE_CLASS = ("precision", "recall", "f1")  # of two: the positive one
LABEL_LENGTH = 24  # characters of a class beside a metric
ABBREVIATIONS = {"f1": "F1", "roc": "ROC", "auc": "AUC", "r2": "R²"}


def number(value: float | None) -> str:
    """A score with four decimals, fewer where it is large; a dash where it is not defined."""
    if value is None or value != value:
        return "-"
    if value and abs(value) < 0.001:
        return f"{value:.1e}"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.1f}"


def interval(pair: list[float | None] | None, between: str = " to ") -> str:
    """The two ends of an interval, or nothing where there is none."""
    return between.join(map(number, pair)) if pair and None not in pair else ""


def metric_name(name: str, positive: str | None = None) -> str:
    """`f1_macro` → "F1 macro"; where it is a score of one class, with its name: "F1 of fraud"."""
    return of_class(" ".join(ABBREVIATIONS.get(word, word) for word in name.split("_")), name, positive)


def of_class(words: str, name: str, positive: str | None) -> str:
    """Words for a metric, and the class that it is of where it is of one."""
    if positive is None or name not in OF_ONE_CLASS:
        return words
    label = " ".join(positive.split())
    return f"{words} of {label if len(label) <= LABEL_LENGTH else label[: LABEL_LENGTH - 1] + '…'}"
