"""A run → an ONNX graph and its int8 variant, the tokenizer beside them."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from kft import evaluate
from kft.export import huggingface, onnx_graph, proof, tokenizer_files
from kft.export.source import Source
from kft.progress import note
from kft.tasks import scoring
from kft.text import Tokens

FLOAT, INT8 = "model.onnx", "model.int8.onnx"
_BATCH_TOKENS = 4096


def write(source: Source, folder: Path) -> dict[str, Any]:
    """Writes both graphs, config.json and the tokenizer's files."""
    from onnxruntime.quantization import QuantType, quantize_dynamic  # optional, like onnx

    onnx_graph.save(source.architecture, source.weights, folder / FLOAT)
    logging.disable(logging.WARNING)  # it advises a preprocessing that is for convolutions
    try:
        quantize_dynamic(folder / FLOAT, folder / INT8, weight_type=QuantType.QInt8, per_channel=True)
    finally:
        logging.disable(logging.NOTSET)
    (folder / "config.json").write_text(json.dumps(huggingface.config(source), indent=2) + "\n", "utf-8")
    tokenizer_files.write(source, folder)
    return {
        "inputs_of_graph": dict.fromkeys(onnx_graph.inputs(source.architecture.kind), "int64 [N, T]"),
        "bytes": {name: (folder / name).stat().st_size for name in (FLOAT, INT8)},
    }


def prove(source: Source, folder: Path) -> dict[str, Any]:
    """Proves the graph in a fresh process, and measures what int8 costs on the validation split.

    Raises:
        KftError: the float32 graph answers otherwise than the run.
    """
    expected = proof.reference(source)
    tokenizer_files.check(source, expected, folder)
    request = {"graphs": [FLOAT, INT8], **proof.texts_of(source, expected)}
    answers = proof.in_fresh_process("on_onnxruntime.py", folder, request)
    exact, coarse = (expected.flat(answers[graph]["logits"]) for graph in (FLOAT, INT8))
    comparison = proof.check(proof.compare_logits(source, expected, exact), "the ONNX graph")
    comparison["max_logit_difference"] = proof.logit_difference(source, expected, exact)
    quantised = proof.compare_logits(source, expected, coarse)
    quantised.pop("tolerance")
    quantised |= _on_validation(source, folder) | {"benchmark": answers[INT8]["benchmark"]}
    return {
        "comparison": comparison,
        "benchmark": answers[FLOAT]["benchmark"],
        "int8": quantised,
        "notes": [_words(source, quantised)],
    }


def run_graph(file: Path, tokens: Tokens) -> np.ndarray:
    """Logits of a graph for tokens, computed by like length: [N, C], or of every token [T, C]."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    ids, segments, mask = proof.padded(tokens)
    lengths = mask.sum(axis=1)
    order = np.argsort(lengths, kind="stable")
    shape = session.get_outputs()[0].shape
    logits = np.zeros((len(ids) if len(shape) == 2 else len(tokens.ids), shape[-1]), np.float32)
    begin = 0
    while begin < len(order):
        size = max(_BATCH_TOKENS // max(lengths[order[min(begin + 31, len(order) - 1)]], 1), 1)
        indices = order[begin : begin + min(size, 32)]
        longest = lengths[indices].max()
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments}
        feeds = {name: given[name][indices, :longest].astype(np.int64) for name in names}
        answers = session.run(None, feeds)[0]
        if len(shape) == 2:
            logits[indices] = answers
        else:
            for i, answer in zip(indices, answers, strict=True):
                logits[tokens.offsets[i] : tokens.offsets[i + 1]] = answer[: lengths[i]]
        begin += len(indices)
    return logits


def _on_validation(source: Source, folder: Path) -> dict[str, Any]:
    """Scores of both graphs on the run's validation split; nothing where a copied run lacks it."""
    file = source.loaded.run.split("validation")
    if not file.exists():
        return {}
    frame = pl.read_parquet(file)
    if not len(frame):
        return {}
    note(f"measuring int8 on {len(frame):,} validation examples …")
    tokens, task = evaluate.encode(source.loaded, frame), source.loaded.task
    reads = task.places(frame, tokens)
    learned = replace(source.loaded.learned, mean=0.0, scale=1.0)  # the graph gives values
    scores = {}
    for name, graph in (("float32", FLOAT), ("int8", INT8)):
        logits = run_graph(folder / graph, tokens)
        if task.export.every_token:
            logits = logits[np.repeat(tokens.offsets[:-1], reads.counts) + reads.places]
        scored = evaluate.score(frame, logits, source.architecture.task, learned, reads, detailed=False)
        scores[name] = scored.metrics
    return {"validation_examples": len(frame), "validation_metrics": scores}


def _words(source: Source, quantised: dict[str, Any]) -> str:
    if "validation_metrics" not in quantised:
        return "int8        not scored: the run has no validation split"
    scores = quantised["validation_metrics"]
    name = scoring.main_metric(source.architecture.task)
    before, after = scores["float32"][name], scores["int8"][name]
    return f"int8        {name} {after:.4f} on the validation split, float32 {before:.4f} ({after - before:+.4f})"
