"""Times kft against what people run today, in one command and one table.

Texts, checkpoint, batch size and machine are the same for all.

    python tools/bench.py [--data FILE --text COLUMN --label COLUMN …] [--only NAME …] [--output
    bench.json]
    python tools/bench.py --task token_classification --data train.conll
    python tools/bench.py --task question_answering --data train.json --max-length 384 --stride 128

Words and answers race against the loops of transformers' example scripts, see bench_loops.py.

Each contestant is a process of its own, with all cores, that lives through the whole bench and
works only when asked: a block of steps each, in turn, again and again, so that a machine that slows
down slows all of them. What is counted:

- Real examples and real tokens in the wall seconds of a block, input pipeline included. Starting,
  compiling and a warm-up block are not in the rates; starting and compiling are in the time to the
  first step.
- A block is a fair sample of the data: steps (of transformers) or texts (of prediction) at evenly
  spaced ranks of length. The steps of kft all have one shape and come in its own order.
- While kft and KerasHub wait to train, `tf.data` reads a few steps ahead, outside the clock: short
  blocks (`--steps`) flatter their input pipelines. Prediction reads nothing ahead.
- Training on transformers is the plain loop of its `Trainer` (fused AdamW, linear schedule,
  clipping at norm 1, dropout as in the checkpoint) without the Trainer's own overhead, on texts
  that were tokenized before, as kft's are. KerasHub's `fit` tokenizes as it goes, at its preset's
  sequence length, with the optimizer that it brings.
- Prediction starts from strings.
- The share of the matmul peak is what the model has to compute for real tokens (see
  `example_flops`), as a share of what plain float32 matmuls of the model's shapes reach on this
  machine in the same minutes.
- Ratios pair the blocks of one round. kft starts with empty caches; "again" is a second start, as
  on a second run.

Needs the extras `demo`, `torch` and `test`.
"""

import argparse
import functools
import importlib.metadata
import itertools
import json
import multiprocessing
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import polars as pl
from bench_loops import (
    EPOCHS,
    LEARNING_RATE,
    evenly,
    predict_ner,
    predict_qa,
    train_ner,
    train_qa,
    train_rows,
)

SETTLE_SECONDS = 0.5  # between two blocks, for what a worker reads ahead
LOG_EVERY_STEPS = 10  # how often `kft train` reads the loss
MATMUL_SECONDS = 1.5  # of a block, on torch and on JAX each
PACKAGES = ("kft", "keras", "keras-hub", "jax", "torch", "transformers", "tensorflow", "tokenizers", "numpy")


@dataclass(frozen=True)
class Job:
    """What a worker has to know.

    `examples` is a Parquet file with columns text, text_pair (of pairs), label, target (class id or
    score) and tokens (number before truncation, special tokens included). `folder` is the preset's,
    `flops_shape` the (rows, hidden, intermediate) of the model's matmuls, `log` takes what the
    worker prints.
    """

    part: str
    name: str
    examples: str
    folder: str
    outputs: int
    regression: bool
    max_length: int
    batch_size: int
    seed: int
    flops_shape: tuple[int, int, int]
    log: str
    task: str = "classification"
    stride: int | None = None


@dataclass(frozen=True)
class Contestant:
    """One way to do it: title, what runs, Keras's backend, its blocks as a share of the others'.

    `caches` says that a second start is another matter than the first.
    """

    title: str
    run: Callable[[Job, "Gate"], None]
    backend: str = "jax"
    share: float = 1.0
    caches: bool = False


class Finished(Exception):  # noqa: N818 (it is not an error)
    """The parent asks for no more blocks."""


class Died(Exception):  # noqa: N818 (reported in the table)
    """A worker ended before it was asked to."""


# The parent: starts workers, asks them for blocks in turn, and makes tables of their answers.


def main() -> int:
    arguments = read_arguments()
    from kft.errors import KftError

    try:
        result = bench(arguments)
    except KftError as error:
        print(f"Error: {error.message}\n\nhint: {error.hint}", file=sys.stderr)
        return 1
    Path(arguments.output).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(markdown(result))
    return int(any("error" in row for part in PARTS for row in result[part].values()))


def bench(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything measured, as plain JSON: machine, data, settings, matmul rates, and each part."""
    names = chosen(arguments.only, parts_of(arguments.task))
    result: dict[str, Any] = {"machine": machine(), "settings": settings_of(arguments)}
    with tempfile.TemporaryDirectory() as scratch:
        job, facts = prepare(arguments, Path(scratch))
        result["data"] = facts
        with Worker(job, MATMUL) as matmul:
            matmul.ask(1)
            for part in PARTS:
                selected = names[part] if part in arguments.part else []
                result[part] = measure(replace(job, part=part), selected, arguments, matmul, Path(scratch))
    result["machine"]["load_average_after"] = os.getloadavg()
    return result


def prepare(arguments: argparse.Namespace, scratch: Path) -> tuple[Job, dict[str, Any]]:
    """Writes the examples that every worker reads; returns the job and what the data is.

    Raises:
        KftError: the data or the preset cannot be read.
    """
    from kft.errors import KftError
    from kft.models import presets

    frame = read_frame(arguments) if arguments.task is None else read_located(arguments)
    preset = presets.locate(arguments.preset)
    if preset.kind != "huggingface":
        raise KftError(
            f"{preset.name}: transformers cannot read it", "give the folder of a Hugging Face model"
        )
    if arguments.task is None:
        frame, outputs = with_targets(frame, arguments.regression)
    else:
        outputs = 0  # the worker counts the tags
    frame = frame.with_columns(tokens=pl.Series(count_tokens(frame, preset, arguments.max_length)))
    frame.write_parquet(scratch / "examples.parquet")
    kept = np.minimum(frame["tokens"].to_numpy(), arguments.max_length)
    mean = float(kept.mean())
    rows = max(round(arguments.batch_size * mean), 256)
    job = Job(
        part="matmul",
        name="matmul",
        examples=str(scratch / "examples.parquet"),
        folder=str(preset.path),
        outputs=outputs,
        regression=arguments.regression,
        max_length=arguments.max_length,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
        flops_shape=(rows, preset.sizes.hidden_size, preset.sizes.intermediate_size),
        log=str(scratch / "matmul.log"),
        task=arguments.task or ("regression" if arguments.regression else "classification"),
        stride=arguments.stride,
    )
    return job, {
        "name": arguments.data or "BBC News",
        "examples": len(frame),
        "outputs": outputs,
        "mean_tokens": mean,
        "longest_tokens": int(kept.max()),
        "preset": preset.name,
    }


def read_frame(arguments: argparse.Namespace) -> pl.DataFrame:
    """The examples with a text and a label: columns text, text_pair (of pairs) and label."""
    from kft.config import DataConfig
    from kft.data import sources
    from kft.errors import KftError

    where = {"train": str(Path(arguments.data).resolve())} if arguments.data else {"source": "bbc_news"}
    columns = {
        key: as_column(getattr(arguments, key), arguments.header) for key in ("text", "text_pair", "label")
    }
    config = DataConfig(
        **where,
        **columns,
        format=arguments.format,
        header=arguments.header,
        max_examples=arguments.max_examples,
    )
    frame = sources.read(config)["train"]
    kept = [name for name in ("text", "text_pair", "label") if name in frame.columns]
    frame = frame.select(kept).drop_nulls().filter(pl.col("text").str.strip_chars() != "")
    if len(frame) < arguments.batch_size:
        raise KftError(
            f"{len(frame)} examples do not fill a batch of {arguments.batch_size}", "give more data"
        )
    return frame


def read_located(arguments: argparse.Namespace) -> pl.DataFrame:
    """The rows of a task of words or answers as kft reads them.

    Of words also "split" and "tags", lists; of answers the characters of the first one.
    """
    from kft import config
    from kft.data import sources
    from kft.tasks import golds, words

    data = {"train": str(Path(arguments.data).resolve()), "max_examples": arguments.max_examples}
    settings = config.parse({"task": arguments.task, "data": data})
    frame = sources.read(settings.data, settings.split)["train"]
    if "text_pair" in frame.columns:
        located = [golds.located(golds.golds_in(label)) for label in frame["label"]]
        frame = frame.filter(pl.Series([bool(own) for own in located]))
        first = [own[0] for own in located if own]
        return frame.with_columns(
            answer_start=pl.Series([gold.start for gold in first]),
            answer_end=pl.Series([gold.end for gold in first]),
        )
    spans = [words.spans_of(text, given) for text, given in frame.select("text", "words").iter_rows()]
    split = [[text[a:b] for a, b in own] for text, own in zip(frame["text"], spans, strict=True)]
    tags = [[tag or words.OUTSIDE for tag in words.tags_in(label)] for label in frame["label"]]
    return frame.with_columns(split=pl.Series(split), tags=pl.Series(tags))


def with_targets(frame: pl.DataFrame, regression: bool) -> tuple[pl.DataFrame, int]:
    """Adds the column target, scores or class ids; returns the outputs of their model too."""
    if regression:
        return frame.with_columns(target=pl.col("label").cast(pl.Float32)), 1
    labels = sorted(frame["label"].unique())
    ids = pl.col("label").replace_strict(labels, list(range(len(labels))), return_dtype=pl.Int32)
    return frame.with_columns(target=ids), len(labels)


def count_tokens(frame: pl.DataFrame, preset, max_length: int) -> np.ndarray:
    """Tokens of each example before truncation, special tokens included."""
    from kft.text import encode

    pairs = frame["text_pair"].to_list() if "text_pair" in frame.columns else None
    return encode(
        preset.tokenizer, preset.family.template, frame["text"].to_list(), pairs, max_length
    ).full_lengths


def measure(
    job: Job, names: list[str], arguments: argparse.Namespace, matmul: "Worker", scratch: Path
) -> dict[str, dict[str, Any]]:
    """{contestant: its figures, or {"title", "error"}} of one part."""
    workers: dict[str, Worker] = {}
    contestants = parts_of(job.task)[job.part]
    figures: dict[str, dict[str, Any]] = {name: {"title": contestants[name].title} for name in names}
    rounds: list[dict[str, dict]] = []

    def attempt(name: str, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except Died as died:
            note(f"{job.part}: {name} failed: {died}")
            figures[name]["error"] = str(died)
            if name in workers:
                workers.pop(name).stop()
            return None

    first = job.batch_size if job.part == "prediction" else 1
    whole = arguments.texts if job.part == "prediction" else arguments.steps
    try:
        for name in names:
            own = replace(job, name=name, log=str(scratch / f"{job.part}-{name}.log"))
            attempt(name, partial(_start, workers, own, contestants[name], scratch, first, figures[name]))
        for name in list(workers):
            attempt(name, partial(workers[name].ask, block_size(contestants[name], whole / 4)))
        for _ in range(arguments.repetitions if workers else 0):
            blocks = {"matmul": matmul.ask(1)}
            for name in list(workers):
                time.sleep(SETTLE_SECONDS)
                blocks[name] = attempt(name, partial(workers[name].ask, block_size(contestants[name], whole)))
            rounds.append(blocks)
            note(", ".join(f"{name} {rate(blocks[name]):.3g}" for name in workers) + " examples/s")
    finally:
        for worker in workers.values():
            worker.stop()
    for name in workers:
        figures[name] |= summary(job, name, rounds)
    return figures


def _start(workers: dict, job: Job, contestant: Contestant, scratch: Path, first: int, figures: dict) -> None:
    """Starts a worker and times its first step; twice for one that keeps things on disk."""
    cache = scratch / f"cache-{job.part}-{job.name}"
    for key in ("first_step_seconds", "first_step_again_seconds")[: 1 + contestant.caches]:
        if job.name in workers:
            workers.pop(job.name).stop()
        began = time.perf_counter()
        workers[job.name] = Worker(job, contestant, cache)
        workers[job.name].ask(first)
        figures[key] = time.perf_counter() - began
        note(f"{job.part}: {job.name} made its first step after {figures[key]:.1f} s")


def summary(job: Job, name: str, rounds: list[dict[str, dict]]) -> dict[str, Any]:
    """Medians and spread of a contestant's rates, and its ratios to kft on JAX by round."""
    own = [blocks[name] for blocks in rounds]
    frame = pl.read_parquet(job.examples)
    lengths = np.minimum(frame["tokens"].to_numpy(), own[0]["max_length"])
    whole = job.task in LOCATED
    flops = float(example_flops(read_shape(job.folder), lengths, whole).mean())
    flops *= 3 if job.part == "training" else 1  # the backward pass is two matmuls for each of the forward's
    rates = [rate(block) for block in own]
    peaks = [max(blocks["matmul"]["gflops"].values()) for blocks in rounds]
    figures = {
        "examples_per_second": spread(rates),
        "tokens_per_second": spread([r * float(lengths.mean()) for r in rates]),
        "matmul_peak_share": spread([r * flops / peak / 1e9 for r, peak in zip(rates, peaks, strict=True)]),
        "peak_memory_bytes": own[-1]["peak_bytes"],
        "max_length": own[0]["max_length"],
        "block_examples": own[0]["examples"],
        "matmul_gflops": spread(peaks),
    }
    if all(blocks.get("kft-jax") for blocks in rounds):
        figures["kft_jax_times_faster"] = spread([rate(t["kft-jax"]) / rate(t[name]) for t in rounds])
    return figures


def rate(block: dict[str, Any]) -> float:
    """Examples per second."""
    return block["examples"] / block["seconds"]


def spread(values: list[float]) -> dict[str, Any]:
    return {"median": median(values), "min": min(values), "max": max(values), "samples": values}


def block_size(contestant: Contestant, whole: float) -> int:
    return max(round(whole * contestant.share), 1)


def read_shape(folder: str) -> dict[str, int]:
    """The config.json of a BERT in Hugging Face's format."""
    return json.loads((Path(folder) / "config.json").read_text("utf-8"))


def example_flops(shape: dict[str, int], lengths: np.ndarray, whole_last_layer: bool = False) -> np.ndarray:
    """Floating-point operations of the matmuls that a forward pass of such lengths needs.

    Attention is counted within the example, padding is not, nor is the embedding look-up. Of the
    last layer the classifier reads the first token only, so that only its share counts, unless
    `whole_last_layer`. The head's few operations are left out.
    """
    layers, n = shape["num_hidden_layers"], np.asarray(lengths, np.float64)
    last = n if whole_last_layer else 1.0
    pooler = 2 * shape["hidden_size"] ** 2
    return (layers - 1) * _layer_flops(shape, n, n) + _layer_flops(shape, last, n) + pooler


def _layer_flops(shape: dict[str, int], queries, length):
    hidden, inner = shape["hidden_size"], shape["intermediate_size"]
    projections = 2 * (2 * queries + 2 * length) * hidden**2  # query and output; key and value
    attention = 2 * 2 * queries * length * hidden  # scores, and the sum they weigh
    return projections + attention + 2 * 2 * queries * hidden * inner


def layer_matmul_flops(rows: int, hidden: int, inner: int) -> int:
    """Of one round of the matmul worker: a layer's dense parts."""
    return 2 * rows * (4 * hidden**2 + 2 * hidden * inner)


def as_column(name: str | None, header: bool) -> str | int | None:
    return int(name) if name is not None and not header and name.isdigit() else name


def chosen(only: list[str] | None, parts: dict[str, dict]) -> dict[str, list[str]]:
    """{part: names of the contestants}, in the order of the tables."""
    return {part: [name for name in rows if not only or name in only] for part, rows in parts.items()}


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    keys = ("task", "stride", "batch_size", "max_length", "repetitions", "steps", "texts", "seed")
    return {key: getattr(arguments, key) for key in keys}


def machine() -> dict[str, Any]:
    return {
        "processor": processor(),
        "cores": cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "load_average_before": os.getloadavg(),
    }


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def markdown(result: dict[str, Any]) -> str:
    """The tables that people read."""
    data, settings, host = result["data"], result["settings"], result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in host["versions"].items())
    busy = " (busy with other work: do not trust the times)" if host["load_average_before"][0] > 0.5 else ""
    load = " → ".join(f"{host[f'load_average_{when}'][0]:.1f}" for when in ("before", "after"))
    lines = [
        f"{data['name']}: {data['examples']:,} examples, {data['mean_tokens']:.1f} tokens on average at most "
        f"{settings['max_length']}; {data['preset']}, float32, batch {settings['batch_size']}. "
        f"Medians (least–most) of {settings['repetitions']} interleaved blocks.",
        "",
    ]
    for part in PARTS:
        if result[part]:
            lines += [*_table(part, result[part]), ""]
    return "\n".join(
        [
            *lines,
            f"{host['processor']}, {host['cores']} cores, {host['memory_bytes'] / 2**30:.0f} GiB, load average {load}{busy}; "
            f"Python {host['python']}, {versions}.",
        ]
    )


def _table(part: str, rows: dict[str, dict[str, Any]]) -> list[str]:
    first = "first step, s" if part == "training" else "first answers, s"
    head = [part, "examples/s", "real tokens/s", "of matmul peak", first, "memory, GB", "kft (JAX) is faster"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for row in rows.values():
        cells = [f"failed: {row['error']}"] if "error" in row else _cells(row)
        lines.append("| " + " | ".join([row["title"], *cells]) + " |")
    peaks = [row["matmul_gflops"]["median"] for row in rows.values() if "error" not in row]
    return [*lines, "", f"Matmul peak {peaks[0]:.0f} GFLOP/s."] if peaks else lines


def _cells(row: dict[str, Any]) -> list[str]:
    rates, ratio = row["examples_per_second"], row.get("kft_jax_times_faster")
    again = row.get("first_step_again_seconds")
    return [
        f"{_three(rates['median'])} ({_three(rates['min'])}–{_three(rates['max'])})",
        _three(row["tokens_per_second"]["median"]),
        f"{row['matmul_peak_share']['median']:.0%}",
        f"{row['first_step_seconds']:.1f}" + (f", again {again:.1f}" if again else ""),
        f"{row['peak_memory_bytes'] / 1e9:.1f}",
        f"{_three(ratio['median'])} × ({_three(ratio['min'])}–{_three(ratio['max'])})" if ratio else "–",
    ]


def _three(value: float) -> str:
    """At least three digits: 0.123, 1.23, 12.3, 1,234."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:#.3g}"


class Worker:
    """A contestant's process, as the parent sees it."""

    def __init__(self, job: Job, contestant: Contestant, cache: Path | None = None):
        self.log = Path(job.log)
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, job, contestant.run), daemon=True)
        with _environment(contestant.backend, cache):
            self.process.start()
        theirs.close()  # else its end would not be seen

    def ask(self, count: int) -> dict[str, Any]:
        """What the worker reports of a block of `count` steps, or texts.

        Raises:
            Died: it ended instead.
        """
        try:
            self.connection.send(count)
            return self.connection.recv()
        except (EOFError, OSError):
            said = self.log.read_text("utf-8", "replace").strip() if self.log.exists() else ""
            raise Died(said.splitlines()[-1] if said else "ended without a word") from None

    def stop(self) -> None:
        with suppress(OSError):  # it may have ended by itself
            self.connection.send(None)
        self.connection.close()
        self.process.join(10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_) -> None:
        self.stop()


@contextmanager
def _environment(backend: str, cache: Path | None) -> Iterator[None]:
    """The environment that a process starts with: the same threads for all, its own caches."""
    before = dict(os.environ)
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
    os.environ |= {
        "KERAS_BACKEND": backend,
        "OMP_NUM_THREADS": str(cores()),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "HF_HUB_OFFLINE": "1",
    }
    if cache is not None:
        os.environ["KFT_CACHE_DIR"] = str(cache)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


# The worker: runs one contestant, a block at a time.


class Gate:
    """Stands before every block of a contestant: waits for the parent, and times the block."""

    def __init__(self, connection, max_length: int):
        self.connection, self.max_length = connection, max_length

    def wait(self) -> int:
        """The steps, or texts, of the next block.

        Raises:
            Finished: there is none.
        """
        count = self.connection.recv()
        if count is None:
            raise Finished
        return count

    def start(self) -> None:
        self.began = time.perf_counter()

    def end(self, examples: int, **more: Any) -> None:
        seconds = time.perf_counter() - self.began
        report = {
            "examples": examples,
            "seconds": seconds,
            "max_length": self.max_length,
            "peak_bytes": peak_bytes(),
        }
        self.connection.send(report | more)


@dataclass(frozen=True)
class Examples:
    """What others are given: texts, second texts or None, targets [N], tokens of each [N]."""

    texts: list[str]
    pairs: list[str] | None
    targets: np.ndarray
    lengths: np.ndarray

    def take(self, which: np.ndarray) -> "Examples":
        pairs = [self.pairs[i] for i in which] if self.pairs else None
        return Examples([self.texts[i] for i in which], pairs, self.targets[which], self.lengths[which])


def work(connection, job: Job, run: Callable[[Job, Gate], None]) -> None:
    log = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    with suppress(Finished):
        run(job, Gate(connection, job.max_length))


def read_examples(job: Job) -> Examples:
    frame = pl.read_parquet(job.examples)
    pairs = frame["text_pair"].to_list() if "text_pair" in frame.columns else None
    lengths = np.minimum(frame["tokens"].to_numpy(), job.max_length)
    return Examples(frame["text"].to_list(), pairs, frame["target"].to_numpy(), lengths)


def peak_bytes() -> int:
    """The most resident memory that this process has had."""
    try:  # getrusage would report the parent's where that is more
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def multiply(job: Job, gate: Gate) -> None:
    """The dense matmuls of a layer, on torch and on JAX: GFLOP/s of both."""
    import jax
    import torch

    rows, hidden, inner = job.flops_shape
    shapes = [(hidden, hidden)] * 4 + [(hidden, inner), (inner, hidden)]
    rng = np.random.default_rng(job.seed)
    pairs = [(rng.normal(size=(rows, i)), rng.normal(size=(i, o))) for i, o in shapes]
    pairs = [(x.astype(np.float32), w.astype(np.float32)) for x, w in pairs]
    in_torch = [(torch.tensor(x), torch.tensor(w), torch.empty(rows, w.shape[1])) for x, w in pairs]
    in_jax = [(jax.device_put(x), jax.device_put(w)) for x, w in pairs]
    product = jax.jit(jax.numpy.matmul)

    def by_torch():
        for x, w, out in in_torch:
            torch.mm(x, w, out=out)

    def by_jax():
        jax.block_until_ready([product(x, w) for x, w in in_jax])

    while True:
        count = gate.wait()
        gate.start()
        gflops = {
            name: _flops_per_second(job, once) / 1e9 for name, once in (("torch", by_torch), ("jax", by_jax))
        }
        gate.end(count, gflops=gflops)


def _flops_per_second(job: Job, once: Callable[[], None]) -> float:
    once()
    began, rounds = time.perf_counter(), 0
    while (seconds := time.perf_counter() - began) < MATMUL_SECONDS:
        once()
        rounds += 1
    return rounds * layer_matmul_flops(*job.flops_shape) / seconds


def train_transformers(padding: str, job: Job, gate: Gate) -> None:
    """`padding`: "full" (max_length), "dynamic" (longest of a batch), "grouped" (like lengths)."""
    import torch
    from transformers import DataCollatorWithPadding, default_data_collator
    from transformers.trainer_pt_utils import LengthGroupedSampler

    examples = read_examples(job)
    model, tokenizer = _transformers_model(job)
    count = len(examples.texts)
    full = padding == "full"
    encoded = tokenizer(
        examples.texts,
        examples.pairs,
        truncation=True,
        max_length=job.max_length,
        padding="max_length" if full else False,
    )
    rows = [{key: column[i] for key, column in encoded.items()} for i in range(count)]
    rows = [row | {"label": target} for row, target in zip(rows, examples.targets.tolist(), strict=True)]
    lengths = [len(row["input_ids"]) for row in rows]
    collate = default_data_collator if full else DataCollatorWithPadding(tokenizer)
    shuffle = torch.utils.data.RandomSampler(rows)
    sampler = LengthGroupedSampler(job.batch_size, lengths=lengths) if padding == "grouped" else shuffle
    train_rows(model, rows, collate, sampler, job, gate)


def _transformers_model(job: Job):
    """A classifier with a new head, and its tokenizer."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(job.seed)
    model = AutoModelForSequenceClassification.from_pretrained(job.folder, num_labels=job.outputs)
    return model, AutoTokenizer.from_pretrained(job.folder)


def train_kerashub(job: Job, gate: Gate) -> None:
    import keras

    keras.utils.set_random_seed(job.seed)
    examples = read_examples(job)
    classifier = _kerashub_model(job, gate)
    if job.regression:
        classifier.compile(
            optimizer=keras.optimizers.Adam(LEARNING_RATE), loss=keras.losses.MeanSquaredError()
        )
    count = len(examples.texts) // job.batch_size * job.batch_size  # a shorter last step would compile again
    examples = examples.take(np.random.default_rng(job.seed).permutation(len(examples.texts))[:count])
    x = (examples.texts, examples.pairs) if examples.pairs else examples.texts
    pause = _pauses(gate, count, job.batch_size)
    classifier.fit(
        x, examples.targets, batch_size=job.batch_size, epochs=1_000_000, callbacks=[pause], verbose=0
    )


def _kerashub_model(job: Job, gate: Gate):
    import keras_hub

    classifier = keras_hub.models.BertTextClassifier.from_preset(job.folder, num_classes=job.outputs)
    # KerasHub's own default, but for models that cannot read as much.
    length = min(classifier.preprocessor.sequence_length, classifier.backbone.max_sequence_length)
    gate.max_length = classifier.preprocessor.sequence_length = length
    return classifier


def _pauses(gate: Gate, count: int, batch_size: int):
    """A callback that stops `fit` between blocks and reads the loss as often as `kft train`.

    `count` is the number of examples of an epoch.
    """
    import keras

    class Pauses(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.pause()

        def pause(self):
            self.left, self.done = gate.wait(), 0
            gate.start()

        def on_train_batch_end(self, batch, logs=None):
            self.left -= 1
            self.done += min(batch_size, count - batch * batch_size)
            if self.left % LOG_EVERY_STEPS == 0:  # so that a block ends when its last step has been computed
                float(logs["loss"])
            if self.left == 0:
                gate.end(self.done)
                self.pause()

    return Pauses()


def train_kft(job: Job, gate: Gate) -> None:
    """As `kft.train` does, epoch by epoch, without the scores and files at their ends."""
    from kft import backend, batches
    from kft.config import TrainConfig
    from kft.models import losses
    from kft.train import optim
    from kft.train.schedule import schedule_of_run

    devices = backend.distribute()
    frame, tokens, task, learned = _kft_examples(job, cached=True)
    reads = task.reads(frame, tokens, learned)
    loss = task.loss(TrainConfig(), reads, learned)
    plan = batches.plan(
        np.diff(tokens.offsets), job.batch_size, EPOCHS, job.seed, devices=devices, reads=reads
    )
    model = _kft_model(job, task, learned)
    schedule = schedule_of_run(plan.steps * EPOCHS, LEARNING_RATE, "linear", warmup_fraction=0.06)
    optimizer = optim.build(optim.Rule("adamw"), schedule, clip_norm=1.0)
    model.compile(optimizer=optimizer, loss=losses.LOSSES[loss.name](**loss.options))
    pause = _pauses(gate, len(plan.lengths), job.batch_size)
    for epoch in itertools.count():
        steps = batches.dataset(plan, tokens, reads, epoch % EPOCHS)
        model.fit(
            steps,
            steps_per_epoch=plan.steps,
            initial_epoch=epoch,
            epochs=epoch + 1,
            callbacks=[pause],
            verbose=0,
            shuffle=False,
        )


def _kft_examples(job: Job, cached: bool):
    """The frame as kft reads it, its tokens, its task and what that takes from it."""
    from kft import tasks
    from kft.config import DataConfig
    from kft.data import sources
    from kft.text import encode, encode_cached

    paired = "text_pair" in pl.read_parquet_schema(job.examples)
    if job.task in LOCATED:
        frame = pl.read_parquet(job.examples)
    else:
        given = DataConfig(train=job.examples, text_pair="text_pair" if paired else None)
        frame = sources.read(given)["train"]
    task = tasks.TASKS[job.task]
    return frame, _kft_tokens(job, frame, encode_cached if cached else encode), task, task.learn(frame)


def _kft_tokens(job: Job, frame: pl.DataFrame, encode: Callable):
    from kft import tasks
    from kft.tasks.record import Inputs
    from kft.text import encode_frame

    located = tasks.TASKS[job.task].located
    paired = "text_pair" in frame.columns
    inputs = Inputs(paired, (), False, job.max_length, located, job.stride)
    preset = _kft_preset(job)
    return encode_frame(preset.tokenizer, preset.family.template, frame, inputs, encode)


@functools.cache
def _kft_preset(job: Job):
    from kft.models import presets

    return presets.locate(job.folder)


def _kft_model(job: Job, task: Any, learned: Any):
    from kft import models
    from kft.models import presets

    goal = models.Goal(job.task, task.outputs(learned), learned.labels)
    return models.build(presets.locate(job.folder), goal, seed=job.seed)


def predict_pipeline(batched: bool, job: Job, gate: Gate) -> None:
    """`batched` sorts the texts by characters and passes batches, else one at a time."""
    from transformers import pipeline

    examples = read_examples(job)
    model, tokenizer = _transformers_model(job)
    pipe = pipeline("text-classification", model=model, tokenizer=tokenizer)
    options = {"truncation": True, "max_length": job.max_length}
    rng = np.random.default_rng(job.seed)
    while True:
        sample = examples.take(evenly(examples.lengths, gate.wait(), rng))
        items: list = sample.texts
        if sample.pairs:
            items = [{"text": a, "text_pair": b} for a, b in zip(sample.texts, sample.pairs, strict=True)]
        gate.start()
        if batched:
            size = [
                len(a) + len(b) for a, b in zip(sample.texts, sample.pairs or [""] * len(items), strict=True)
            ]
            order = sorted(range(len(items)), key=size.__getitem__)
            answers = dict(
                zip(order, pipe([items[i] for i in order], batch_size=job.batch_size, **options), strict=True)
            )
        else:
            answers = {i: pipe(item, **options) for i, item in enumerate(items)}
        gate.end(len(answers))


def predict_loop(job: Job, gate: Gate, padding: str = "longest") -> None:
    """What a careful person writes: tokenize all, batches of like length, no gradients.

    `padding` is "longest" (of the batch) or "max_length".
    """
    import torch

    examples = read_examples(job)
    model, tokenizer = _transformers_model(job)
    model.eval()
    rng = np.random.default_rng(job.seed)
    while True:
        sample = examples.take(evenly(examples.lengths, gate.wait(), rng))
        gate.start()
        encoded = tokenizer(sample.texts, sample.pairs, truncation=True, max_length=job.max_length)
        order = sorted(range(len(sample.texts)), key=lambda i, ids=encoded["input_ids"]: -len(ids[i]))
        logits = torch.empty(len(order), job.outputs)
        with torch.inference_mode():
            for i in range(0, len(order), job.batch_size):
                rows = order[i : i + job.batch_size]
                columns = {key: [column[row] for row in rows] for key, column in encoded.items()}
                batch = tokenizer.pad(columns, padding, job.max_length, return_tensors="pt")
                logits[rows] = model(**batch).logits
        gate.end(len(logits))


def predict_kerashub(job: Job, gate: Gate) -> None:
    examples = read_examples(job)
    classifier = _kerashub_model(job, gate)
    rng = np.random.default_rng(job.seed)
    while True:
        count = (
            max(gate.wait() // job.batch_size, 1) * job.batch_size
        )  # a shorter last step would compile again
        sample = examples.take(evenly(examples.lengths, count, rng))
        gate.start()
        x = (sample.texts, sample.pairs) if sample.pairs else sample.texts
        gate.end(len(classifier.predict(x, batch_size=job.batch_size, verbose=0)))


def predict_kft(job: Job, gate: Gate) -> None:
    """From strings to the task's predictions."""
    from kft import evaluate
    from kft.text import encode

    frame, tokens, task, learned = _kft_examples(job, cached=False)
    lengths = np.minimum(pl.read_parquet(job.examples)["tokens"].to_numpy(), job.max_length)
    model = _kft_model(job, task, learned)
    shape = evaluate.choose_shape(model, tokens, counts=task.places(frame, tokens).counts)
    rng = np.random.default_rng(job.seed)
    while True:
        sample = frame[evenly(lengths, gate.wait(), rng)]
        gate.start()
        tokens = _kft_tokens(job, sample, encode)
        reads = task.places(sample, tokens)
        logits = evaluate.predict_logits(model, tokens, shape, reads)
        gate.end(len(task.predictions(logits, learned, reads)))


MATMUL = Contestant("plain matmuls", multiply)
PARTS = {
    "training": {
        "padded": Contestant(
            "transformers, padded to max_length", partial(train_transformers, "full"), share=0.25
        ),
        "dynamic": Contestant("transformers, dynamic padding", partial(train_transformers, "dynamic")),
        "grouped": Contestant(
            "transformers, dynamic padding, grouped by length", partial(train_transformers, "grouped")
        ),
        "kerashub": Contestant("KerasHub `fit` on strings (JAX)", train_kerashub, share=0.05),
        "kft-torch": Contestant("kft (torch)", train_kft, "torch"),
        "kft-jax": Contestant("kft (JAX)", train_kft, caches=True),
    },
    "prediction": {
        "padded": Contestant(
            "torch loop by hand, padded to max_length",
            partial(predict_loop, padding="max_length"),
            share=0.25,
        ),
        "one-by-one": Contestant(
            "transformers `pipeline`, one text at a time", partial(predict_pipeline, False), share=0.125
        ),
        "pipeline": Contestant(
            "transformers `pipeline`, batched and sorted", partial(predict_pipeline, True)
        ),
        "loop": Contestant("torch loop by hand, sorted, `inference_mode`", predict_loop),
        "kerashub": Contestant("KerasHub `predict` on strings (JAX)", predict_kerashub, share=0.03),
        "kft-torch": Contestant("kft (torch)", predict_kft, "torch"),
        "kft-jax": Contestant("kft (JAX)", predict_kft, caches=True),
    },
}


def _against(train: Callable, predict: Callable, script: str) -> dict[str, dict[str, Contestant]]:
    """kft and the loop of one of transformers' example scripts."""
    return {
        "training": {
            "padded": Contestant(f"`{script}`, padded to max_length", partial(train, "full"), share=0.25),
            "dynamic": Contestant(f"`{script}`, dynamic padding", partial(train, "dynamic")),
            "kft-torch": PARTS["training"]["kft-torch"],
            "kft-jax": PARTS["training"]["kft-jax"],
        },
        "prediction": {
            "padded": Contestant(f"`{script}`, padded to max_length", partial(predict, "full"), share=0.25),
            "dynamic": Contestant(f"`{script}`, dynamic padding", partial(predict, "dynamic")),
            "kft-torch": PARTS["prediction"]["kft-torch"],
            "kft-jax": PARTS["prediction"]["kft-jax"],
        },
    }


LOCATED = {
    "token_classification": _against(train_ner, predict_ner, "run_ner"),
    "question_answering": _against(train_qa, predict_qa, "run_qa"),
}


def parts_of(task: str | None) -> dict[str, dict[str, Contestant]]:
    return LOCATED.get(task, PARTS)


def read_arguments(given: list[str] | None = None) -> argparse.Namespace:
    from kft.config import FORMATS

    names = sorted({name for rows in PARTS.values() for name in rows})
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", help="file or class folder; BBC News where not given")
    parser.add_argument("--format", choices=FORMATS, help="else what the file's ending says")
    parser.add_argument("--text", default="text", help="column: a name, or a number from 0 with --no-header")
    parser.add_argument("--text-pair", help="column of the second text of a pair")
    parser.add_argument("--label", default="label", help="column of the label or score")
    parser.add_argument("--no-header", dest="header", action="store_false", help="the first row is data")
    parser.add_argument("--task", choices=tuple(LOCATED), help="words or answers, as kft reads the file")
    parser.add_argument("--stride", type=int, help="tokens that windows share; else texts are cut")
    parser.add_argument("--regression", action="store_true", help="labels are scores")
    parser.add_argument("--max-examples", type=int, default=20_000, help="read at most so many")
    parser.add_argument(
        "--preset", default="all_minilm_l6_v2_en", help="a Hugging Face folder, or a name that kft knows"
    )
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repetitions", type=int, default=5, help="blocks of each contestant")
    parser.add_argument(
        "--steps", type=int, default=20, help="training steps of a block; slow contestants do fewer"
    )
    parser.add_argument(
        "--texts", type=int, default=2048, help="texts of a block of prediction; slow ones do fewer"
    )
    parser.add_argument("--part", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="bench.json")
    return parser.parse_args(given)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the workers are stopped
    sys.exit(main())
