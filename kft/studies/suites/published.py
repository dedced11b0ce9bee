"""Figures that others published for a checkpoint, each with its source."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """Scores of one checkpoint: task → metric → score, as a share of 1."""

    presets: tuple[str, ...]
    source: str
    scores: dict[str, dict[str, float]]


def figures(suite: str, preset: str) -> list[Published]:
    """What is published of a preset, by KerasHub name or hf:// handle; else nothing."""
    return [known for known in PUBLISHED.get(suite, ()) if preset in known.presets]


PUBLISHED = {
    "glue": (
        Published(
            ("bert_base_en_uncased", "hf://google-bert/bert-base-uncased", "hf://bert-base-uncased"),
            "Devlin et al. 2018, table 1 (test sets)",
            {
                "mnli": {"accuracy_matched": 0.846, "accuracy_mismatched": 0.834},
                "qqp": {"f1": 0.712},
                "qnli": {"accuracy": 0.905},
                "sst2": {"accuracy": 0.935},
                "cola": {"matthews_correlation": 0.521},
                "stsb": {"spearman": 0.858},
                "mrpc": {"f1": 0.889},
                "rte": {"accuracy": 0.664},
            },
        ),
        Published(
            ("bert_large_en_uncased", "hf://google-bert/bert-large-uncased", "hf://bert-large-uncased"),
            "Devlin et al. 2018, table 1 (test sets)",
            {
                "mnli": {"accuracy_matched": 0.867, "accuracy_mismatched": 0.859},
                "qqp": {"f1": 0.721},
                "qnli": {"accuracy": 0.927},
                "sst2": {"accuracy": 0.949},
                "cola": {"matthews_correlation": 0.605},
                "stsb": {"spearman": 0.865},
                "mrpc": {"f1": 0.893},
                "rte": {"accuracy": 0.701},
            },
        ),
        Published(
            ("bert_base_en", "hf://google-bert/bert-base-cased", "hf://bert-base-cased"),
            "transformers, examples/flax/text-classification/README.md (mean of 5 runs, development sets)",
            {
                "cola": {"matthews_correlation": 0.5904},
                "sst2": {"accuracy": 0.9223},
                "mrpc": {"f1": 0.8897, "accuracy": 0.8436},
                "stsb": {"pearson": 0.8894, "spearman": 0.8863},
                "qqp": {"accuracy": 0.9076, "f1": 0.8751},
                "mnli": {"accuracy_matched": 0.8380},
                "qnli": {"accuracy": 0.9082},
                "rte": {"accuracy": 0.6476},
                "wnli": {"accuracy": 0.3701},
            },
        ),
        Published(
            ("hf://microsoft/MiniLM-L12-H384-uncased",),
            "microsoft/unilm, minilm/README.md, MiniLM-L12xH384 (development sets; MRPC without the metric's name)",
            {
                "mnli": {"accuracy_matched": 0.857},
                "sst2": {"accuracy": 0.930},
                "qnli": {"accuracy": 0.915},
                "cola": {"matthews_correlation": 0.585},
                "rte": {"accuracy": 0.733},
                "qqp": {"accuracy": 0.913},
            },
        ),
        # The README names MiniLM-L6-H384 without a link; what the hub has under the name was cut
        # from the 12 layers.
        Published(
            ("hf://nreimers/MiniLM-L6-H384-uncased",),
            "microsoft/unilm, minilm/README.md, MiniLM-L6xH384 (development sets; MRPC without the metric's name), "
            "for Microsoft's own weights: these here are every second layer of MiniLM-L12-H384",
            {
                "mnli": {"accuracy_matched": 0.833},
                "sst2": {"accuracy": 0.915},
                "qnli": {"accuracy": 0.905},
                "cola": {"matthews_correlation": 0.475},
                "rte": {"accuracy": 0.688},
                "qqp": {"accuracy": 0.906},
            },
        ),
    )
}
