"""The texts that an export is tried on, the run's answers, and whether the export's are alike."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from kft import backend, evaluate
from kft.errors import KftError
from kft.export.source import Source
from kft.export.texts import own_texts, sample_texts
from kft.tasks.record import Items, Reads
from kft.text import Tokens

TOLERANCE = 1e-4
FAULT_HINT = "this is a fault of kft or of an installed package: `pip install --upgrade kft`, or report it"


@dataclass(frozen=True)
class Reference:
    """What the run answers to N examples.

    Attributes:
        frame: columns text and text_pair.
        tokens, reads: their tokens, and which of them are answered.
        logits: float64 [M, C] of these, of a regression its values.
        predictions: of the run's task.
    """

    frame: pl.DataFrame
    tokens: Tokens
    reads: Reads
    logits: np.ndarray
    predictions: np.ndarray

    def texts_with(self, marks: np.ndarray) -> int:
        """Examples with a mark among their answers, bool [N], or of every token [M]."""
        if self.reads.items is None:
            return int(marks.sum())
        return len(np.unique(np.repeat(np.arange(len(self.frame)), self.reads.counts)[marks]))

    def flat(self, logits: Any) -> np.ndarray:
        """An artefact's answers as `logits`: of padded rows [N, T, C] those of the tokens."""
        if self.reads.items is None:
            return np.asarray(logits, np.float64)
        rows = zip(logits, self.reads.counts, strict=True)
        return np.concatenate([np.asarray(row, np.float64)[:count] for row, count in rows])


def reference(source: Source, windows: bool = False) -> Reference:
    """The run's own answers to texts of many lengths and alphabets.

    Args:
        source: the run.
        windows: whether it reads long texts in windows, as its own do; else they are cut.
    """
    frame, whole = sample_texts(source), source.loaded
    if not windows:
        whole = replace(whole, inputs=replace(whole.inputs, stride=None))
    elif source.paired:
        frame = frame.filter(_roomy(source, frame["text"].to_list()))
    tokens, task, learned = evaluate.encode(whole, frame), whole.task, whole.learned
    reads = _every_token(tokens) if task.export.every_token else task.places(frame, tokens)
    with full_precision():
        logits = evaluate.predict_logits(whole.model, tokens, reads=reads).astype(np.float64)
    predictions = (task.export.tried or task.predictions)(logits, learned, reads)
    return Reference(frame, tokens, reads, logits * learned.scale + learned.mean, predictions)


def _roomy(source: Source, firsts: list[str]) -> list[bool]:
    """Whether each first text leaves windows room for more of the second than they share."""
    parts = source.tokenizer.frame(source.architecture.kind.template, True)
    most = source.max_length - parts.special - source.loaded.inputs.stride
    return [len(ids) < most for ids in source.tokenizer.encode(firsts)]


def _every_token(tokens: Tokens) -> Reads:
    """Reads of all tokens of each example, each answered by itself."""
    total = np.arange(len(tokens.ids))
    places = total - np.repeat(tokens.offsets[:-1], np.diff(tokens.offsets))
    return Reads(tokens.offsets, places.astype(np.int32), items=Items(tokens.offsets, total))


def tolerance(source: Source) -> float:
    """The largest difference allowed: 1e-4 in probabilities, or in standard deviations of scores.

    A value far from zero also carries the rounding of a float32 of its size.
    """
    learned = source.loaded.learned
    return TOLERANCE * learned.scale + 2.0**-21 * abs(learned.mean)


def compare(source: Source, expected: Reference, numbers: Any, decided: Any = None) -> dict[str, Any]:
    """How far an export's predictions are from the run's.

    Args:
        source: the run.
        expected: its answers.
        numbers: what the task compares of an export's predictions: probabilities [N, C] or values
            [N].
        decided: what the export decided, [N] or [N, C]; None where it does not say.

    Returns:
        {"examples", "max_difference", "tolerance", "labels_that_differ", "near_ties"}: decisions
        differ where no near tie (within twice the tolerance) explains it.

    Raises:
        KftError: the answers have another shape.
    """
    task, learned = source.loaded.task.export, source.loaded.learned
    numbers, wanted = np.asarray(numbers, np.float64), task.compared(expected.predictions)
    if numbers.shape != wanted.shape:
        raise KftError(
            f"the export answers with shape {numbers.shape}, the run with {wanted.shape}", FAULT_HINT
        )
    allowed = tolerance(source)
    comparison: dict[str, Any] = {
        "examples": len(expected.frame),
        "max_difference": float(np.abs(numbers - wanted).max(initial=0)),
        "tolerance": allowed,
    }
    if decided is not None:
        tie = task.ties(expected.predictions, learned, allowed)
        differs = np.asarray(decided) != task.decisions(expected.predictions, learned)
        differs = differs.reshape(len(differs), -1).any(axis=1) if len(differs) else tie
        comparison["labels_that_differ"] = expected.texts_with(differs & ~tie)
        comparison["near_ties"] = expected.texts_with(differs & tie)
    return comparison


def compare_logits(source: Source, expected: Reference, logits: Any) -> dict[str, Any]:
    """`compare` for an export that gives logits, of a regression values."""
    task, learned = source.loaded.task, source.loaded.learned
    # The export's weights hold the scale and the mean already.
    plain = replace(learned, mean=0.0, scale=1.0)
    predict = task.export.tried or task.predictions
    predictions = predict(np.asarray(logits, np.float64), plain, expected.reads)
    decided = task.export.decisions(predictions, learned) if task.export.decisions else None
    return compare(source, expected, task.export.compared(predictions), decided)


def check(comparison: dict[str, Any], what: str) -> dict[str, Any]:
    """A result of `compare` again, if it is within the tolerance.

    Raises:
        KftError: it is not.
    """
    # Not `>`: a NaN must fail.
    if not comparison["max_difference"] <= comparison["tolerance"] or comparison.get("labels_that_differ"):
        words = f"differs from the run by up to {comparison['max_difference']:.2g} (allowed: {comparison['tolerance']:.2g})"
        if comparison.get("labels_that_differ"):
            words += f" and answers {comparison['labels_that_differ']} of {comparison['examples']} texts with another label"
        raise KftError(f"{what} {words}; nothing was kept", FAULT_HINT)
    return comparison


def in_fresh_process(program: str, folder: Path, request: dict[str, Any]) -> Any:
    """The answers of one of the programs in `bare`, in a process of its own, on the CPU.

    It is given the folder, a JSON file with the request, and the path of a JSON file for its
    answers; kft is not on its path unless it is installed.

    Raises:
        KftError: it fails; quotes the last lines of its output.
    """
    environment = os.environ | {
        "CUDA_VISIBLE_DEVICES": "-1",
        "KERAS_BACKEND": "tensorflow",  # tensorflow-text imports Keras, which would import JAX
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    with tempfile.TemporaryDirectory() as scratch:
        request_file, answers_file = Path(scratch, "request.json"), Path(scratch, "answers.json")
        request_file.write_text(json.dumps(request), "utf-8")
        command = [
            sys.executable,
            Path(__file__).parent / "bare" / program,
            folder,
            request_file,
            answers_file,
        ]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
        if done.returncode:
            output = "\n".join(done.stderr.strip().splitlines()[-5:])
            raise KftError(
                f"the export fails in a fresh process (status {done.returncode}):\n{output}", FAULT_HINT
            )
        return json.loads(answers_file.read_text("utf-8"))


def logit_difference(source: Source, expected: Reference, logits: np.ndarray) -> float:
    """The largest difference of logits from the run's, over the largest logit where above 1.

    Raises:
        KftError: it is above the tolerance.
    """
    difference = float(np.abs(logits - expected.logits).max(initial=0))
    allowed = tolerance(source) * max(1.0, float(np.abs(expected.logits).max(initial=0)))
    if not difference <= allowed:
        raise KftError(
            f"the logits differ from the run's by up to {difference:.2g} (allowed: {allowed:.2g})", FAULT_HINT
        )
    return difference


def texts_of(source: Source, expected: Reference) -> dict[str, list[list[str]]]:
    """The texts for the programs in `bare`, a list for each text of an example; those to time."""
    frame, own = expected.frame, own_texts(source)
    timed = own if len(own) else frame
    return {
        "texts": [frame[name].to_list() for name in frame.columns],
        "benchmark": [timed[name].to_list() for name in frame.columns],
    }


def padded(tokens: Tokens) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Token ids, segment ids and mask, int32 [N, T]."""
    lengths = np.diff(tokens.offsets)
    places = np.arange(lengths.max(initial=1))
    mask = (places < lengths[:, None]).astype(np.int32)
    ids = np.zeros(mask.shape, np.int32)
    ids[mask == 1] = tokens.ids
    return ids, ((places >= tokens.second_starts[:, None]) & (mask == 1)).astype(np.int32), mask


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """JAX multiplies float32 with fewer bits on GPUs and TPUs by default."""
    if backend.select() != "jax":
        yield
        return
    import jax

    with jax.default_matmul_precision("highest"):
        yield
