"""Trains a plain transformers loop on the rows of question answering runs, and compares scores.

The loop is that of transformers' `run_qa`: `AutoModelForQuestionAnswering`, dynamic padding,
windows of the context alone, a window without the whole answer answered at its first token,
`torch.optim.AdamW` with warm-up and decay, clipping, the 20 best starts and ends of a window. Rows,
settings, seeds and the rule that the best epoch counts are those of the runs; where some questions
have no answer, the threshold of none is tuned on validation. What a seed draws (head, order,
dropout) differs, so scores agree in distribution only.
"""

import json
import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from bench_loops import of_questions, pairs, windows_of
from scipy.stats import ttest_ind
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, get_scheduler

from kft import runs
from kft.config import Config
from kft.data import sources, splits
from kft.metrics import answers
from kft.models import presets
from kft.runs import RunDir
from kft.tasks.golds import Gold, golds_in, located

PREDICTION_ROWS = 32
METRICS = ("f1", "exact_match")


@dataclass(frozen=True)
class Windows:
    """How questions are cut: tokens of a window, those that it shares with the one before."""

    max_length: int
    stride: int


@dataclass(frozen=True)
class Likeliest:
    """Of N questions the best answer that is no empty one, and the log-ratio of none to it."""

    texts: list[str]
    doubts: list[float]

    def answers(self, threshold: float) -> list[str]:
        return [
            text if doubt <= threshold else "" for text, doubt in zip(self.texts, self.doubts, strict=True)
        ]


def compare(folder: Path) -> dict[str, Any]:
    """{split: {metric: {"kft": [float], "loop": [float]}}} over the runs of a folder.

    Args:
        folder: of `kft train --seeds`. Loops that are done are kept in folder/loop and not trained
            again.

    Raises:
        KftError: the folder holds no such runs, or one is not finished.
    """
    own, loop = [], []
    for member in runs.finished_members(runs.open_ensemble(folder)):
        file = folder / "loop" / f"{member.run.path.name}.json"
        if not file.exists():
            started = time.monotonic()
            content = train_loop(member.run)
            file.parent.mkdir(exist_ok=True)
            runs.write_json(file, content | {"train_seconds": time.monotonic() - started})
        loop.append(runs.read_json(file)["metrics"])
        own.append(json.loads((member.run.path / "metrics.json").read_text("utf-8")))
    return {
        split: {
            metric: {"kft": [one[split][metric] for one in own], "loop": [one[split][metric] for one in loop]}
            for metric in METRICS
        }
        for split in loop[0]
    }


def train_loop(run: RunDir) -> dict[str, Any]:
    """{"metrics": {split: {metric: score}} of the best epoch, "epochs": F1 after each}."""
    config = runs.read_config(run)
    t, windows = config.train, Windows(config.model.max_length, config.model.stride)
    frames = frames_of(config)
    learned = runs.read_learned(run)
    torch.manual_seed(t.seed)
    path = presets.locate(config.model.preset).path
    model = AutoModelForQuestionAnswering.from_pretrained(path)
    tokenizer = AutoTokenizer.from_pretrained(path)
    rows = training_rows(tokenizer, frames["train"], windows)
    optimizer, schedule = updates(model, t, math.ceil(len(rows) / t.batch_size))
    epochs, best = [], {}
    for _ in range(t.epochs):
        model.train()
        order = torch.randperm(len(rows)).tolist()
        for begin in range(0, len(order), t.batch_size):
            batch = [rows[i] for i in order[begin : begin + t.batch_size]]
            model(**tokenizer.pad(batch, return_tensors="pt")).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), t.gradient_clip_norm or math.inf)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        likeliest = predict(model, tokenizer, frames["validation"], windows, learned.longest)
        threshold = math.inf if learned.none_above is None else tuned(likeliest, frames["validation"])
        scores = {"validation": scored(likeliest, frames["validation"], threshold)}
        if not epochs or scores["validation"]["f1"] > max(epochs):
            if "test" in frames:
                likeliest = predict(model, tokenizer, frames["test"], windows, learned.longest)
                scores["test"] = scored(likeliest, frames["test"], threshold)
            best = scores
        epochs.append(scores["validation"]["f1"])
    return {"metrics": best, "epochs": epochs}


def frames_of(config: Config) -> dict[str, pl.DataFrame]:
    """The rows of each split of a run, as it cut them."""
    read = sources.read(config.data, config.split)
    prepared = splits.prepare(read, config.split, config.clean, config.task, config.data.spans)
    parts = {name: getattr(prepared, name) for name in ("train", "validation", "test")}
    return {name: frame for name, frame in parts.items() if frame is not None and len(frame)}


def training_rows(tokenizer: Any, frame: pl.DataFrame, windows: Windows) -> list[dict[str, Any]]:
    """The windows of all questions, with the places of the answer's first and last token."""
    encoded = of_questions(tokenizer, frame["text"].to_list(), frame["text_pair"].to_list(), windows)
    firsts = [next(iter(located(own)), None) for own in golds_of(frame)]
    return windows_of(tokenizer, encoded, [gold and (gold.start, gold.end) for gold in firsts])


def updates(model: Any, t: Any, steps: int) -> tuple[Any, Any]:
    """The optimizer and the schedule of a run's section `train`, with so many steps an epoch."""
    spared, decay = ("bias", "LayerNorm.weight"), 0.01 if t.weight_decay is None else t.weight_decay
    named = list(model.named_parameters())
    groups = [
        {"params": [p for name, p in named if not name.endswith(spared)], "weight_decay": decay},
        {"params": [p for name, p in named if name.endswith(spared)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=t.learning_rate, betas=(t.beta_1, t.beta_2), eps=t.epsilon)
    total = steps * t.epochs
    return optimizer, get_scheduler(t.schedule, optimizer, math.ceil(total * t.warmup_fraction), total)


def predict(model: Any, tokenizer: Any, frame: pl.DataFrame, windows: Windows, longest: int) -> Likeliest:
    """The best answers of the questions of a frame, of at most `longest` tokens."""
    contexts = frame["text_pair"].to_list()
    encoded = of_questions(tokenizer, frame["text"].to_list(), contexts, windows)
    best, nulls = [(-math.inf, 0, 0)] * len(contexts), [math.inf] * len(contexts)
    model.eval()
    for begin in range(0, len(encoded["input_ids"]), PREDICTION_ROWS):
        numbers = range(begin, min(begin + PREDICTION_ROWS, len(encoded["input_ids"])))
        rows = {key: [encoded[key][i] for i in numbers] for key in tokenizer.model_input_names}
        with torch.no_grad():
            outputs = model(**tokenizer.pad(rows, return_tensors="pt"))
        for i, start, end in zip(
            numbers, outputs.start_logits.numpy(), outputs.end_logits.numpy(), strict=True
        ):
            n, offsets = encoded["overflow_to_sample_mapping"][i], encoded["offset_mapping"][i]
            nulls[n] = min(nulls[n], float(start[0] + end[0]))
            sequences = encoded.sequence_ids(i)
            real = slice(len(sequences))
            for score, first, last in pairs(start[real], end[real], sequences, longest):
                best[n] = max(best[n], (score, offsets[first][0], offsets[last][1]), key=lambda one: one[0])
    texts = [context[first:last] for context, (_, first, last) in zip(contexts, best, strict=True)]
    return Likeliest(texts, [null - score for null, (score, *_) in zip(nulls, best, strict=True)])


def golds_of(frame: pl.DataFrame) -> list[list[Gold]]:
    return [golds_in(label) or [] for label in frame["label"]]


def tuned(likeliest: Likeliest, frame: pl.DataFrame) -> float:
    """The threshold of no answer with the best F1."""
    golds = [[gold.text for gold in own] for own in golds_of(frame)]
    own = [answers.f1(text, gold) for text, gold in zip(likeliest.texts, golds, strict=True)]
    return answers.best_threshold(own, golds, likeliest.doubts)[0]


def scored(likeliest: Likeliest, frame: pl.DataFrame, threshold: float) -> dict[str, float]:
    golds = [[gold.text for gold in own] for own in golds_of(frame)]
    scores = answers.scores(answers.answered(likeliest.answers(threshold), golds))
    return {metric: float(scores[metric][0]) for metric in METRICS}


def print_table(result: dict[str, Any]) -> None:
    print("| split | metric | kft | loop | difference | p |\n|---|---|--:|--:|--:|--:|")
    for split, metrics in result.items():
        for name, of in metrics.items():
            gap = 100 * (statistics.mean(of["kft"]) - statistics.mean(of["loop"]))
            print(
                f"| {split} | {name} | {spread(of['kft'])} | {spread(of['loop'])} | {gap:+.1f} | {p_value(**of)} |"
            )


def p_value(kft: list[float], loop: list[float]) -> str:
    """Of Welch's t-test that the means are equal."""
    if len(kft) < 2 or len({*kft}) == 1 or len({*loop}) == 1:  # too few, or without any spread
        return "-"
    return f"{ttest_ind(kft, loop, equal_var=False).pvalue:.2f}"


def spread(values: list[float]) -> str:
    """In percent: mean ± standard deviation (how many)."""
    deviation = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{deviation} ({len(values)})"
