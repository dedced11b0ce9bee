"""README.md of a pushed model: what it does, how good it is, its data, how to load it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tomli_w

from kft import __version__, runs
from kft.export.hubs import Address
from kft.metrics.words import interval, metric_name, number
from kft.runs import RunDir
from kft.tasks import TASKS, scoring

LABELS = 50  # named in the card
_LIBRARIES = {
    "hf": "transformers",
    "peft": "peft",
    "keras": "keras-hub",
    "savedmodel": "tf-keras",
    "onnx": "onnx",
}


def write(run: RunDir, folder: Path, address: Address) -> None:
    """Writes README.md into the folder of an export.

    Args:
        run: what was exported.
        folder: has the export's own files, export.json among them.
        address: where it will be.
    """
    runs.write_text(folder / "README.md", _text(run, folder, address))


def _text(run: RunDir, folder: Path, address: Address) -> str:
    exported = runs.read_json(folder / "export.json")
    scores, details = runs.read_json(run.metrics), runs.read_json(run.details)
    parts = [
        _metadata(run, exported, scores, address.name),
        *_purpose(run, exported, address.name),
        *_scores(exported["task"], scores, details),
        *_data(run),
        *_loading(exported, folder, address),
        *_proof(exported),
        *_settings(run),
    ]
    return "\n".join(parts) + "\n"


def _metadata(run: RunDir, exported: dict[str, Any], scores: dict[str, Any], name: str) -> str:
    """What hubs read, between lines of dashes."""
    from huggingface_hub import EvalResult, ModelCardData  # only pushing needs it

    task = exported["task"]
    tag = TASKS[task].export.pipeline
    base = _base(run)
    results = [
        EvalResult(
            task_type=tag or "other",
            dataset_type=_source(run),
            dataset_name=_source(run),
            dataset_split=split,
            metric_type=metric,
            metric_value=value,
        )
        for split, values in scores.items()
        for metric, value in values.items()
        if value is not None and split == _best_split(scores)
    ]
    data = ModelCardData(
        library_name=_LIBRARIES[exported["to"]],
        pipeline_tag=tag,
        base_model=base.removeprefix("hf://") if base.startswith("hf://") else None,
        tags=["kft", task.replace("_", "-")],
        model_name=name,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _purpose(run: RunDir, exported: dict[str, Any], name: str) -> Iterator[str]:
    labels = exported["labels"]
    yield f"# {name.split('/')[1]}\n"
    what = f"`{Path(_base(run)).name}`, fine-tuned on `{_source(run)}` by kft {__version__}"
    yield f"{what}. Task: {exported['task'].replace('_', ' ')}.\n"
    inputs = " and ".join(f"`{name}`" for name in exported["inputs"])
    windows = exported.get("windows")
    how = "cut to" if windows is None else f"in windows that share {windows['stride']} tokens, of"
    yield f"It reads {inputs}, {how} {exported['max_length']} tokens.\n"
    if labels:
        listing = ", ".join(f"`{' '.join(label.split())}`" for label in labels[:LABELS])
        more = f" and {len(labels) - LABELS:,} more" if len(labels) > LABELS else ""
        yield f"{len(labels):,} labels: {listing}{more}.\n"


def _scores(task: str, scores: dict[str, Any], details: dict[str, Any]) -> Iterator[str]:
    yield "## Scores\n"
    splits = list(reversed(scores))  # the test split first
    counts = {name: details.get(name, {}).get("examples") for name in splits}
    yield _row("", *(f"{name} ({counts[name]:,})" if counts[name] else name for name in splits))
    yield _row("---", *("---:" for _ in splits))
    for metric in dict.fromkeys(metric for name in splits for metric in scores[name]):
        words = metric_name(metric, next((d.get("positive") for d in details.values()), None))
        main = metric == scoring.main_metric(task)
        cells = [_score(scores[name].get(metric), details.get(name, {}), metric) for name in splits]
        yield _row(f"**{words}**" if main else words, *cells)
    yield "\nIn brackets: 95 % bootstrap intervals. The epoch was chosen on the validation split.\n"


def _score(value: float | None, details: dict[str, Any], metric: str) -> str:
    within = interval(details.get("intervals", {}).get(metric))
    return f"{number(value)} ({within})" if within else number(value)


def _data(run: RunDir) -> Iterator[str]:
    yield "## Data\n"
    yield _row("split", "rows read", "dropped", "examples", "median tokens", "cut short")
    yield _row("---", *["---:"] * 5)
    account = runs.read_json(run.data)
    for name, split in account.get("splits", {}).items():
        tokens = split.get("tokens", {})
        yield _row(
            name,
            f"{split.get('read', 0):,}",
            f"{sum(split.get('dropped', {}).values()):,}",
            f"{split.get('examples', 0):,}",
            str(tokens.get("p50", "-")),
            f"{tokens['truncated_fraction']:.1%}" if "truncated_fraction" in tokens else "-",
        )
    cut = account.get("cut")
    if cut:
        yield f"\nWhat has no file of its own was cut off train ({cut['method']}, seed {cut['seed']})."
    leaks = {name: n for name, n in account.get("leaks", {}).items() if isinstance(n, int) and n}
    if leaks:
        yield "\nLeaks: " + ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in leaks.items()) + "."
    yield ""


def _loading(exported: dict[str, Any], folder: Path, address: Address) -> Iterator[str]:
    revision = f', revision="{address.branch}"' if address.branch else ""
    fetch = (
        f'import huggingface_hub\n\nfolder = huggingface_hub.snapshot_download("{address.name}"{revision})\n\n'
        if address.hub == "hf"
        else f'import kagglehub\n\nfolder = kagglehub.model_download("{address.name}")\n\n'
    )
    yield "## How to load it\n"
    yield f"```python\n{fetch}{_LOADING[exported['to']](exported, folder)}\n```\n"


def _proof(exported: dict[str, Any]) -> Iterator[str]:
    comparison = exported["comparison"]
    yield "## Proof\n"
    yield (
        f"Before it was pushed, a fresh process loaded these files and answered {comparison['examples']} texts of many "
        f"alphabets and lengths: its answers differ from the trained model's by at most {comparison['max_difference']:.1e}. "
        "`export.json` tells the rest, with a hash of each file.\n"
    )


def _settings(run: RunDir) -> Iterator[str]:
    """What was set otherwise than by default; no paths, which are of a machine of somebody."""
    changed = runs.read_config(run).model_dump(exclude_defaults=True)
    settings = {name: changed[name] for name in ("split", "clean", "train") if changed.get(name)}
    yield "## Settings that differ from kft's own\n"
    yield f"```toml\n{tomli_w.dumps(settings).strip() or '# none'}\n```"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _best_split(scores: dict[str, Any]) -> str:
    return "test" if "test" in scores else next(iter(scores))


def _source(run: RunDir) -> str:
    """A data set's name, or that of its file or folder without the way to it."""
    data = runs.read_config(run).data
    files = data.train if isinstance(data.train, str) else (data.train or [""])[0]
    return data.source or Path(files).name or "own data"


def _base(run: RunDir) -> str:
    """The preset that the run began with, as the config says it."""
    return runs.read_config(run).model.preset


# How each format is loaded, once its files are in `folder`.


def _by_transformers(exported: dict[str, Any], folder: Path) -> str:
    kind = json.loads((folder / "config.json").read_text("utf-8"))["architectures"][0]
    return (
        f"from transformers import AutoTokenizer, {kind}\n\n"
        "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
        f"model = {kind}.from_pretrained(folder)"
    )


def _by_peft(exported: dict[str, Any], folder: Path) -> str:
    return (
        "from peft import AutoPeftModelForSequenceClassification\n\n"
        "model = AutoPeftModelForSequenceClassification.from_pretrained("
        f"folder, num_labels={max(1, len(exported['labels']))})"
    )


def _by_keras_hub(exported: dict[str, Any], folder: Path) -> str:
    return "import keras_hub\n\nmodel = keras_hub.models.TextClassifier.from_preset(folder)"


def _by_tensorflow(exported: dict[str, Any], folder: Path) -> str:
    texts = ", ".join(f'{name}=tf.constant(["…"])' for name in exported["inputs"])
    ways = {"serving_default": f"({texts})", "answers_of_tokens": "", "tokens": ""}
    name = next(name for name in ways if name in exported["signatures"])
    call = f'signatures["{name}"]{ways[name]}'
    return (
        "import tensorflow as tf\nimport tensorflow_text  # its operations are in the graph\n\n"
        f"model = tf.saved_model.load(folder)\nmodel.{call}"
    )


def _by_onnxruntime(exported: dict[str, Any], folder: Path) -> str:
    return (
        "import onnxruntime\nimport tokenizers\n\n"
        'tokenizer = tokenizers.Tokenizer.from_file(f"{folder}/tokenizer.json")\n'
        'model = onnxruntime.InferenceSession(f"{folder}/model.onnx")  # or model.int8.onnx'
    )


_LOADING: dict[str, Callable[[dict[str, Any], Path], str]] = {
    "hf": _by_transformers,
    "peft": _by_peft,
    "keras": _by_keras_hub,
    "savedmodel": _by_tensorflow,
    "onnx": _by_onnxruntime,
}
