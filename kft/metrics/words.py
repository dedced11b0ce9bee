"""How scores and their names are written for people."""

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


def metric_name(name: str) -> str:
    """`f1_macro` → "F1 macro"."""
    return " ".join(ABBREVIATIONS.get(word, word) for word in name.split("_"))
