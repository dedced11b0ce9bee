"""Trains a finished suite's tasks again with a plain transformers loop, and compares scores.

The loop is the one that people write by hand: transformers' `BertModel` and tokenizer, dynamic
padding, a dense head, `torch.optim.AdamW` with linear warm-up and decay, clipping; the settings,
rows and seeds are those of the suite's runs, and so is the rule that the best epoch counts. Choices
share a softmax; marked words are means of their tokens beside the pooled first token. What a seed
draws (head, order, dropout) differs, so scores agree in distribution only: the table shows mean ±
standard deviation of both, their difference, and the p-value of Welch's t-test that the means are
equal.

    kft suite glue --tasks sst2,mrpc --seeds 1,2,3 --data-dir DIR --run SUITE
    python tools/suite_parity.py SUITE [--tasks sst2] [--seeds 1,2,3] [--raw-scores] [--table]

Loops that are done are kept in SUITE/loop and not trained again. Needs the extras `torch` and
`test`.
"""

import argparse
import json
import math
import statistics
import time
from pathlib import Path

import numpy as np
import polars as pl
import torch
from scipy.special import softmax
from scipy.stats import ttest_ind
from transformers import BertModel, BertTokenizerFast, get_scheduler

from kft import metrics, runs
from kft.config import Config
from kft.data import sources, splits
from kft.models import presets
from kft.runs import RunDir
from kft.studies.suites.records import SUITES, Task
from kft.tasks import scoring
from kft.text import rules_of

PREDICTION_ROWS = 64


def main() -> None:
    arguments = read_arguments()
    folder = Path(arguments.suite)
    if not (folder / "suite.json").exists():
        raise SystemExit(
            f"{folder}: no finished suite here (suite.json is missing)\nhint: kft suite SUITE --run {folder}"
        )
    content = json.loads((folder / "suite.json").read_text())
    named = {task.name: task for task in SUITES[content["suite"]]}
    wanted = arguments.tasks.split(",") if arguments.tasks else [task["task"] for task in content["tasks"]]
    seeds = [int(seed) for seed in arguments.seeds.split(",")] if arguments.seeds else content["seeds"]
    for seed in [] if arguments.table else seeds:
        for name in wanted:
            answered = [named[name], *(named[other] for other in wanted if named[other].by == name)]
            files = [folder / "loop" / f"{task.name}-seed{seed}.json" for task in answered]
            run = RunDir(folder / "runs" / f"{name}-seed{seed}")
            if all(file.exists() for file in files) or named[name].by or not run.done.exists():
                continue
            started = time.monotonic()
            scores, epochs = train_loop(runs.read_config(run), answered, arguments.raw_scores)
            seconds = time.monotonic() - started
            files[0].parent.mkdir(exist_ok=True)
            for task, file in zip(answered, files, strict=True):
                of_task = scores[task.name]
                print(
                    f"{task.name}, seed {seed}: {of_task} after {seconds:.0f} s; epochs {epochs}", flush=True
                )
                runs.write_json(file, {"metrics": of_task, "epochs": epochs, "train_seconds": seconds})
    print_table(folder, [named[name] for name in wanted])


class Net(torch.nn.Module):
    """BERT and a dense head on its pooled first token, and on the mean of each marked span."""

    def __init__(self, path: Path, outputs: int, spans: int):
        super().__init__()
        self.bert = BertModel.from_pretrained(path)
        self.dropout = torch.nn.Dropout(self.bert.config.hidden_dropout_prob)
        self.head = torch.nn.Linear((1 + spans) * self.bert.config.hidden_size, outputs)
        torch.nn.init.trunc_normal_(self.head.weight, std=0.02, a=-0.04, b=0.04)
        torch.nn.init.zeros_(self.head.bias)

    def forward(self, batch: dict[str, torch.Tensor], marks: torch.Tensor | None) -> torch.Tensor:
        """Logits [N, C]; `marks` [N, P, T] is 1 on the tokens of each span."""
        out = self.bert(**batch)
        seen = [out.pooler_output]
        if marks is not None:
            means = marks @ out.last_hidden_state / marks.sum(-1, keepdim=True)  # [N, P, H]
            seen.append(means.flatten(1))
        return self.head(self.dropout(torch.cat(seen, dim=1)))


class Batches:
    """Rows of a frame → tensors, padded to the longest of a batch."""

    def __init__(self, tokenizer: BertTokenizerFast, frame: pl.DataFrame, config: Config):
        pairs = frame["text_pair"].fill_null("").to_list() if config.data.text_pair is not None else None
        self.tokenizer, self.spans = tokenizer, config.data.spans
        self.encodings = tokenizer(
            frame["text"].to_list(), pairs, truncation=True, max_length=config.model.max_length
        )
        self.marks = (
            [self._marks(i, row) for i, row in enumerate(frame.iter_rows(named=True))] if self.spans else None
        )
        self.lengths = np.array([len(ids) for ids in self.encodings["input_ids"]])

    def _marks(self, i: int, row: dict) -> np.ndarray:
        """[P, T]: the tokens that share a character with a span; the first if none are left."""
        encoding = self.encodings.encodings[i]
        marks = np.zeros((len(self.spans), len(encoding.ids)), np.float32)
        for p, (text, start, end) in enumerate(self.spans):
            for t, ((a, b), sequence) in enumerate(zip(encoding.offsets, encoding.sequence_ids, strict=True)):
                if sequence == (text == "text_pair") and a < b and b > row[start] and a < row[end]:
                    marks[p, t] = 1
            if not marks[p].any():
                marks[p, 0] = 1
        return marks

    def take(self, indices: list[int]) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
        fields = {key: [self.encodings[key][i] for i in indices] for key in self.encodings}
        batch = dict(self.tokenizer.pad(fields, return_tensors="pt"))
        if self.marks is None:
            return batch, None
        marks = torch.zeros(len(indices), len(self.spans), batch["input_ids"].shape[1])
        for row, i in enumerate(indices):
            marks[row, :, : self.marks[i].shape[1]] = torch.from_numpy(self.marks[i])
        return batch, marks


def train_loop(
    config: Config, tasks: list[Task], raw_scores: bool
) -> tuple[dict[str, dict[str, float]], list[float]]:
    """The benchmark's scores of the best epoch, and the metric that chose it after each epoch.

    The first of `tasks` is the one that is trained; the others are answered by its model, as the
    diagnostic sets are.
    """
    t = config.train
    torch.manual_seed(t.seed)
    prepared = splits.prepare(
        sources.read(config.data, config.split), config.split, config.clean, config.task, config.data.spans
    )
    preset = presets.locate(config.model.preset)
    tokenizer = BertTokenizerFast.from_pretrained(
        preset.path, do_lower_case=rules_of(preset.tokenizer).lowercase
    )
    train, labels = prepared.train, sorted(prepared.train["label"].unique())
    outputs = len(labels) if config.task == "classification" else 1
    net = Net(preset.path, outputs, len(config.data.spans or []))
    batches = Batches(tokenizer, train, config)
    units = _units(train, config.task)  # what a batch counts: examples, or the rows of a question
    mean, scale = 0.0, 1.0
    if config.task == "regression" and not raw_scores:  # as kft does: in units of the train scores' deviation
        scores = train["label"].cast(pl.Float64)
        mean, scale = scores.mean(), scores.std(ddof=0)

    spared, decay = ("bias", "LayerNorm.weight"), 0.01 if t.weight_decay is None else t.weight_decay
    groups = [
        {"params": [p for n, p in net.named_parameters() if not n.endswith(spared)], "weight_decay": decay},
        {"params": [p for n, p in net.named_parameters() if n.endswith(spared)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=t.learning_rate, betas=(t.beta_1, t.beta_2), eps=t.epsilon)
    steps = math.ceil(len(units) / t.batch_size) * t.epochs
    schedule = get_scheduler(t.schedule, optimizer, math.ceil(steps * t.warmup_fraction), steps)
    metric, chosen, best = t.best_metric or scoring.main_metric(config.task), [], {}
    for _ in range(t.epochs):
        net.train()
        order = torch.randperm(len(units)).tolist()
        for begin in range(0, len(order), t.batch_size):
            chosen_units = [units[i] for i in order[begin : begin + t.batch_size]]
            indices = [i for unit in chosen_units for i in unit]
            logits = net(*batches.take(indices))
            loss = _loss(config.task, logits, train[indices], chosen_units, labels, mean, scale)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), t.gradient_clip_norm)
            optimizer.step()
            schedule.step()
        value = _choosing_metric(config, net, tokenizer, prepared.validation, labels, metric, mean, scale)
        if not any(metrics.better(metric, before, value) or before == value for before in chosen):
            best = {
                task.name: _benchmark_scores(config, task, net, tokenizer, labels, mean, scale)
                for task in tasks
            }
        chosen.append(value)
    return best, chosen


def _units(frame: pl.DataFrame, kind: str) -> list[list[int]]:
    if kind != "choice":
        return [[i] for i in range(len(frame))]
    numbered = frame.with_row_index("row").group_by("group", maintain_order=True).agg("row")
    return numbered["row"].to_list()


def _loss(
    kind: str,
    logits: torch.Tensor,
    rows: pl.DataFrame,
    units: list,
    labels: list[str],
    mean: float,
    scale: float,
):
    if kind == "classification":
        return torch.nn.functional.cross_entropy(
            logits, torch.tensor([labels.index(x) for x in rows["label"]])
        )
    if kind == "regression":
        targets = (torch.tensor(rows["label"].cast(pl.Float64).to_list()) - mean) / scale
        return torch.nn.functional.mse_loss(logits[:, 0], targets.float())
    right = [label == "1" for label in rows["label"]]
    losses, begin = [], 0
    for unit in units:
        one = logits[begin : begin + len(unit), 0][None]
        place = right[begin : begin + len(unit)].index(True)
        losses.append(torch.nn.functional.cross_entropy(one, torch.tensor([place])))
        begin += len(unit)
    return torch.stack(losses).mean()


def _predict(config: Config, net: Net, tokenizer: BertTokenizerFast, frame: pl.DataFrame) -> np.ndarray:
    batches = Batches(tokenizer, frame, config)
    order = np.argsort(batches.lengths, kind="stable")
    logits = np.empty((len(frame), net.head.out_features))
    net.eval()
    with torch.no_grad():
        for begin in range(0, len(order), PREDICTION_ROWS):
            indices = order[begin : begin + PREDICTION_ROWS].tolist()
            logits[indices] = net(*batches.take(indices)).numpy()
    return logits


def _choosing_metric(config, net, tokenizer, frame, labels, metric, mean, scale) -> float:
    logits = _predict(config, net, tokenizer, frame)
    if config.task == "classification":
        targets = np.array([labels.index(x) for x in frame["label"]])
        return scoring.scores(config.task, targets, softmax(logits, axis=1), labels)[metric]
    if config.task == "regression":
        targets = frame["label"].cast(pl.Float64).to_numpy()
        return scoring.scores(config.task, targets, logits[:, 0] * scale + mean)[metric]
    best = (
        frame.with_columns(score=logits[:, 0])
        .group_by("group")
        .agg(pl.col("label").get(pl.col("score").arg_max()))
    )
    return float((best["label"] == "1").mean())


def _benchmark_scores(config, task: Task, net, tokenizer, labels, mean, scale) -> dict[str, float]:
    config = config.model_copy(update={"data": task.data(config.data)})
    scores, available = {}, sources.benchmark_splits(config.data)
    for split in [split for split in task.splits if split in available]:
        frame, table = sources.read_benchmark(config.data, split)
        logits = _predict(config, net, tokenizer, frame)
        if config.task == "classification":
            answers = [labels[i] for i in logits.argmax(axis=1)]
        else:
            answers = logits[:, 0] * scale + mean
        table = table.with_columns(frame["label"].alias("target"), pl.Series("answer", answers))
        scores |= task.scored(table, split)
    return scores


def print_table(folder: Path, tasks: list[Task]) -> None:
    print("| task | metric | kft | loop | difference | p |\n|---|---|--:|--:|--:|--:|")
    for task in tasks:
        kft, loop = _read(folder / "scores", task.name), _read(folder / "loop", task.name)
        for name in next(iter(loop.values()), {}):
            a, b = (
                [scores[name] * 100 for scores in them.values() if name in scores] for them in (kft, loop)
            )
            gap = statistics.mean(a) - statistics.mean(b)
            print(f"| {task.title} | {name} | {_spread(a)} | {_spread(b)} | {gap:+.1f} | {_p_value(a, b)} |")


def _p_value(a: list[float], b: list[float]) -> str:
    if min(len(a), len(b)) < 2 or len({*a}) == 1 or len({*b}) == 1:  # too few, or without any spread
        return "-"
    return f"{ttest_ind(a, b, equal_var=False).pvalue:.2f}"


def _read(folder: Path, name: str) -> dict[str, dict[str, float]]:
    files = sorted(folder.glob(f"{name}-seed*.json"))
    return {file.stem: json.loads(file.read_text())["metrics"] for file in files}


def _spread(values: list[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation} ({len(values)})"


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("suite", help="folder of a finished `kft suite`")
    parser.add_argument("--tasks", help="names with commas between; else all of the suite")
    parser.add_argument("--seeds", help="with commas between; else those of the suite")
    parser.add_argument(
        "--raw-scores", action="store_true", help="a regression learns the scores as they stand"
    )
    parser.add_argument("--table", action="store_true", help="train nothing, print what is finished")
    return parser.parse_args()


if __name__ == "__main__":
    main()
