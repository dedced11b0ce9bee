"""Questions of choices with marked words: loss and gradients by kft, and by torch alone.

Run as a program it writes kft's on the backend of KERAS_BACKEND: joint.py PRESET OUTPUT.npz
"""

import sys

import numpy as np
import polars as pl

SPANS = [["text", "s1", "e1"], ["text_pair", "s2", "e2"], ["text", "s3", "e3"]]
SIZES = (2, 3, 2, 4, 2)  # choices of each question


def questions(seed: int = 0) -> pl.DataFrame:
    """Rows in random order; spans of one word, of one or two, and of the whole first text."""
    from conftest import BAD, GOOD, OTHER

    rng = np.random.default_rng(seed)
    rows = []
    for q, size in enumerate(SIZES):
        right = rng.integers(size)
        for choice in range(size):
            first, second = (
                [str(w) for w in rng.choice([*GOOD, *BAD, *OTHER], rng.integers(2, 7))] for _ in "ab"
            )
            begin, to = int(rng.integers(len(first))), int(rng.integers(1, 3))
            text, pair = " ".join(first), " ".join(second)
            start = len(" ".join([*first[:begin], ""]))
            rows.append(
                {"text": text, "text_pair": pair, "label": str(int(choice == right)), "group": f"q{q}"}
                | {"s1": start, "e1": start + len(first[begin]), "s2": 0, "e2": len(" ".join(second[:to]))}
                | {"s3": 0, "e3": len(text), "origin": "made"}
            )
    frame = pl.DataFrame(rows).with_row_index("id").with_columns(pl.col("id").cast(pl.Int64))
    return frame.sample(fraction=1, shuffle=True, seed=seed)


def by_kft(folder: str, spans: list | None, packed: bool) -> tuple[float, dict[str, np.ndarray]]:
    """The loss of a step of all questions, and its gradients by `named_weights`' names."""
    import keras
    from conftest import build_model

    from kft import batches
    from kft.models import losses, presets
    from kft.tasks import TASKS
    from kft.tasks.record import Inputs, Learned
    from kft.text import BERT, encode_frame

    preset = presets.locate(folder)
    frame, task = questions(), TASKS["choice"]
    model = build_model(preset, "choice", [], 1, spans=len(spans or []))
    model.head.set_weights(head_of(spans))
    tokenizer = preset.tokenizer
    tokens = encode_frame(tokenizer, BERT, frame, Inputs(True, tuple(spans or ()), True, 32))
    reads = task.reads(frame, tokens, Learned())
    plan = batches.plan(np.diff(tokens.offsets), len(SIZES), 1, 0, packed=packed, reads=reads)
    inputs, target, weight = next(batches.dataset(plan, tokens, reads, 0))
    assert (plan.reads > 1) == packed
    assert ("spans" in inputs) == bool(spans)
    loss = losses.LOSSES[task.loss(None, reads, Learned()).name]()
    variables = model.trainable_variables
    if keras.backend.backend() == "jax":
        import jax

        fixed = [v.value for v in model.non_trainable_variables]

        def value(values):
            return loss(target, model.stateless_call(values, fixed, inputs)[0], weight)

        result, gradients = jax.jit(jax.value_and_grad(value))([v.value for v in variables])
    else:
        tensors = {name: keras.ops.convert_to_tensor(array) for name, array in inputs.items()}
        result = loss(target, model(tensors), weight)
        result.backward()
        gradients = [v.value.grad for v in variables]
    arrays = [np.zeros(v.shape) if g is None else np.asarray(keras.ops.convert_to_numpy(g)) for v, g in
              zip(variables, gradients, strict=True)]  # fmt: skip
    return float(keras.ops.convert_to_numpy(result)), dict(enumerate(arrays))


def head_of(spans: list | None, width: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of a head."""
    rng = np.random.default_rng(7)
    kernel = rng.normal(0, 0.3, (width * (1 + len(spans or [])), 1))
    return kernel.astype(np.float32), rng.normal(0, 0.3, 1).astype(np.float32)


def by_torch(folder: str, spans: list | None) -> tuple[float, dict[str, np.ndarray]]:
    """The same with transformers' model and tokenizer and a small head, an example a row."""
    import torch
    from transformers import BertModel, BertTokenizerFast

    frame = questions()
    kernel, bias = (torch.tensor(w, requires_grad=True) for w in head_of(spans))
    model = BertModel.from_pretrained(folder).eval()
    batch = BertTokenizerFast.from_pretrained(folder)(
        frame["text"].to_list(), frame["text_pair"].to_list(), padding=True, return_tensors="pt"
    )
    output = model(**batch)
    features = []
    for i, row in enumerate(frame.iter_rows(named=True)):
        parts = [output.pooler_output[i]]
        for name, start, end in spans or []:
            second = int(name == "text_pair")
            first = batch.char_to_token(i, row[start], second)
            last = batch.char_to_token(i, row[end] - 1, second)
            parts.append(output.last_hidden_state[i, first : last + 1].mean(0))
        features.append(torch.cat(parts))
    score = (torch.stack(features) @ kernel + bias)[:, 0]
    losses = []
    for group in frame["group"].unique():
        rows = (frame["group"] == group).arg_true().to_list()
        right = next(j for j, i in enumerate(rows) if frame["label"][i] == "1")
        losses.append(torch.nn.functional.cross_entropy(score[rows], torch.tensor(right)))
    loss = torch.stack(losses).mean()
    loss.backward()
    words = model.embeddings.word_embeddings.weight.grad.numpy()
    return loss.item(), {"head": kernel.grad.numpy(), "words": words}


if __name__ == "__main__":
    folder, output = sys.argv[1:]
    arrays = {}
    for name, spans in (("plain", None), ("spans", SPANS)):
        for packed in (True, False):
            loss, gradients = by_kft(folder, spans, packed)
            arrays |= {f"{name}/{packed}/{i}": g for i, g in gradients.items()} | {
                f"{name}/{packed}/loss": loss
            }
    np.savez(output, **arrays)
