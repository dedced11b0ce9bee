"""Trains a plain PyTorch loop and kft on JAX and torch alike, and compares.

They have the same weights and batches.

The loop is the one that people write by hand: transformers' `BertModel`, `nn.Linear` on its pooled
output, `nn.CrossEntropyLoss`, `torch.optim.Adam(lr=2e-5)`, `zero_grad`, `backward`, `step`. Dropout
is 0, so that the losses can agree. Prints the loss of every step, the largest difference and the
accuracy at the end.

    python tools/parity.py [--preset FOLDER] [--steps 50] [--batch-size 8] [--max-length 64]
    [--json]

With `--runs` it compares scores instead, of question answering runs over seeds and of the loop of
`run_qa`, see `parity_answers`:

    kft train squad.toml --seeds 1,2,3 --run RUNS
    python tools/parity.py --runs RUNS [--json]

Needs the extras `demo`, `torch` and `test`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import parity_answers
import polars as pl
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizerFast

from kft import batches
from kft.config import DataConfig
from kft.data import sources
from kft.errors import KftError
from kft.models import presets
from kft.text import rules_of, vocabulary_lines

BACKENDS = ("jax", "torch")
LEARNING_RATE = 2e-5


def main() -> None:
    arguments = read_arguments()
    if arguments.runs:
        compare_runs(Path(arguments.runs), arguments.as_json)
        return
    with tempfile.TemporaryDirectory() as folder:
        result = compare(Path(folder), **vars(arguments))
    if arguments.as_json:
        print(json.dumps(result))
    else:
        print_table(result)


def compare_runs(folder: Path, as_json: bool) -> None:
    """Prints the scores of runs and of the loop."""
    try:
        result = parity_answers.compare(folder)
    except KftError as error:
        raise SystemExit(f"{error.message}\nhint: {error.hint}") from None
    if as_json:
        print(json.dumps(result))
    else:
        parity_answers.print_table(result)


def compare(
    folder: Path,
    preset: str,
    data: str | None,
    steps: int,
    batch_size: int,
    max_length: int,
    seed: int,
    **others,
) -> dict:
    """{"losses": {name: [float]}, "largest_difference": {backend: float}, "accuracy": {…}}."""
    train, validation = examples(data, steps * batch_size, seed)
    labels = sorted(train["label"].unique())
    start = starting_point(folder / "start", presets.locate(preset), labels, seed)
    train.write_parquet(folder / "train.parquet")
    validation.write_parquet(folder / "validation.parquet")
    trained = {"loop": plain_loop(start, train, validation, labels, batch_size, max_length, seed)}
    for backend in BACKENDS:
        trained[backend] = kft_train(folder, start, backend, batch_size, max_length, seed)
    losses = {name: loss for name, (loss, _) in trained.items()}
    return {
        "losses": losses,
        "largest_difference": {
            b: float(np.abs(np.subtract(losses[b], losses["loop"])).max()) for b in BACKENDS
        },
        "accuracy": {name: accuracy for name, (_, accuracy) in trained.items()},
    }


def examples(data: str | None, count: int, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`count` rows to train on, up to 200 more, of a file (text, label) or of BBC News."""
    config = DataConfig(train=data) if data else DataConfig(source="bbc_news")
    rows = sources.read(config)["train"].select("text", "label").sample(fraction=1.0, shuffle=True, seed=seed)
    if len(rows) < count + 50:
        raise SystemExit(f"{len(rows)} rows are too few for {count} to train on and 50 to validate")
    return rows[:count], rows[count : count + 200]


def starting_point(folder: Path, preset: presets.Preset, labels: list[str], seed: int) -> Path:
    """A Hugging Face classifier folder: the preset's backbone and a head drawn from `seed`."""
    torch.manual_seed(seed)
    config = BertConfig.from_pretrained(
        preset.path, id2label=dict(enumerate(labels)), label2id={n: i for i, n in enumerate(labels)}
    )
    BertForSequenceClassification.from_pretrained(preset.path, config=config).save_pretrained(folder)
    rules = rules_of(preset.tokenizer)
    (folder / "vocab.txt").write_bytes(vocabulary_lines(rules.vocabulary))
    settings = {"do_lower_case": rules.lowercase, "tokenizer_class": "BertTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def plain_loop(
    start: Path,
    train: pl.DataFrame,
    validation: pl.DataFrame,
    labels: list[str],
    batch_size: int,
    max_length: int,
    seed: int,
) -> tuple[list[float], float]:
    """Losses of the steps, and accuracy on the validation rows, of the loop written by hand."""
    tokenizer = BertTokenizerFast.from_pretrained(start)
    whole = BertForSequenceClassification.from_pretrained(start)
    bert = BertModel.from_pretrained(start, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    head = torch.nn.Linear(bert.config.hidden_size, len(labels))
    head.load_state_dict(whole.classifier.state_dict())
    criterion = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam([*bert.parameters(), *head.parameters()], lr=LEARNING_RATE)
    targets = torch.tensor([labels.index(label) for label in train["label"]])

    def logits(texts: list[str]) -> torch.Tensor:
        batch = tokenizer(texts, truncation=True, max_length=max_length, padding=True, return_tensors="pt")
        return head(bert(**batch).pooler_output)

    losses = []
    for order in step_order(tokenizer, train, batch_size, max_length, seed):
        loss = criterion(logits(train["text"][order].to_list()), targets[order])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        parts = [logits(part["text"].to_list()).argmax(1) for part in validation.iter_slices(32)]
    predicted = [labels[i] for i in torch.cat(parts)]
    return losses, float(np.mean([p == t for p, t in zip(predicted, validation["label"], strict=True)]))


def step_order(
    tokenizer, train: pl.DataFrame, batch_size: int, max_length: int, seed: int
) -> list[list[int]]:
    """The examples of each step in kft's order, a function of their lengths and the seed."""
    encoded = tokenizer(train["text"].to_list(), truncation=True, max_length=max_length)["input_ids"]
    plan = batches.plan(np.array([len(ids) for ids in encoded]), batch_size, 1, seed)
    return [step[step >= 0].tolist() for step in batches.placement(plan, 0).examples]


def kft_train(
    folder: Path, start: Path, backend: str, batch_size: int, max_length: int, seed: int
) -> tuple[list[float], float]:
    """Losses of the steps, and accuracy on the validation rows, of `kft train`."""
    run = folder / f"run-{backend}"
    settings = {
        "data.train": folder / "train.parquet",
        "data.validation": folder / "validation.parquet",
        "model.preset": start,
        "model.max_length": max_length,
        "model.dropout": 0.0,
        "train.epochs": 1,
        "train.batch_size": batch_size,
        "train.optimizer": "adam",
        "train.learning_rate": LEARNING_RATE,
        "train.schedule": "constant",
        "train.warmup_fraction": 0.0,
        "train.gradient_clip_norm": 0.0,
        "train.seed": seed,
        "train.log_every_steps": 1,
    }
    (folder / "empty.toml").write_text("")
    command = [sys.executable, "-m", "kft.cli", "train", str(folder / "empty.toml"), "--backend", backend]
    command += ["--run", str(run), "--json"]
    for key, value in settings.items():
        command += ["--set", f"{key}={json.dumps(value, default=str)}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["event"] == "train"]
    return losses, json.loads(done.stdout)["metrics"]["validation"]["accuracy"]


def print_table(result: dict) -> None:
    names = ["loop", *BACKENDS]
    print("step  " + "".join(f"{name:>12}" for name in names) + f"{'difference':>12}")
    for i, row in enumerate(zip(*(result["losses"][name] for name in names), strict=True)):
        print(f"{i + 1:4}  " + "".join(f"{loss:12.6f}" for loss in row) + f"{max(row) - min(row):12.1e}")
    for backend, difference in result["largest_difference"].items():
        print(f"largest difference of {backend} from the loop: {difference:.1e}")
    print("accuracy: " + ", ".join(f"{name} {value:.4f}" for name, value in result["accuracy"].items()))


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--preset", default="all_minilm_l6_v2_en", help="a preset that `kft` reads from a folder"
    )
    parser.add_argument("--data", help="file with columns text and label; BBC News where not given")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", help="folder of question answering runs over seeds, to compare scores with")
    parser.add_argument("--json", dest="as_json", action="store_true", help="print one JSON object")
    return parser.parse_args()


if __name__ == "__main__":
    main()
