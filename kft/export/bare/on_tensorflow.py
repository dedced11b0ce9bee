"""A program: what a SavedModel answers where only TensorFlow and tensorflow-text are.

    python on_tensorflow.py MODEL REQUEST.json ANSWERS.json

REQUEST is {"names": text names, "texts": one list for each name, "rows": inputs of the signature
`tokens`, "benchmark": texts to time}. ANSWERS has each signature's outputs, a few texts answered
alone, and the benchmark; of a model that takes no texts, what `tokens` answers, which is then
timed.
"""

import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any

_SERVER_LACKS = {"kft", "keras", "keras_hub", "jax", "torch", "transformers"}


class _Without:
    """A finder of modules that a server lacks. (TensorFlow imports JAX where it can.)"""

    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name: str):
        return getattr(self.finder, name)

    def find_spec(self, name: str, *more):
        return None if name.partition(".")[0] in _SERVER_LACKS else self.finder.find_spec(name, *more)


sys.meta_path[:] = map(_Without, sys.meta_path)

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from timing import benchmark  # noqa: E402

_TEXT = Path(importlib.util.find_spec("tensorflow_text").origin).parent
_OPERATIONS = list(_TEXT.rglob("_fast_wordpiece_tokenizer.so"))
if _OPERATIONS:
    tf.load_op_library(str(_OPERATIONS[0]))  # what TensorFlow Serving has of tensorflow-text
else:
    _SERVER_LACKS.discard("keras")  # tensorflow-text's Python imports it
    import tensorflow_text  # noqa: F401

ALONE = 12  # texts that are also answered one by one


def main(model_path: str, request_path: str, answers_path: str) -> None:
    started = time.perf_counter()
    signatures = tf.saved_model.load(model_path).signatures
    loading = time.perf_counter() - started
    request = json.loads(Path(request_path).read_text("utf-8"))
    names, texts = request["names"], request["texts"]
    rows = {name: tf.constant(value, tf.int32) for name, value in request["rows"].items()}
    answers = {"tokens": plain(signatures["tokens"](**rows))}
    if "serving_default" in signatures:
        answers |= of_texts(signatures, names, texts, request["benchmark"], loading)
    else:
        if "answers_of_tokens" in signatures:
            answers["answers_of_tokens"] = plain(signatures["answers_of_tokens"](**rows))
        ids = list(request["rows"].values())

        def answer_ids(columns: list[list]) -> Any:
            given = zip(request["rows"], columns, strict=True)
            return plain(signatures["tokens"](**{name: tf.constant(c, tf.int32) for name, c in given}))

        answers["benchmark"] = benchmark(answer_ids, ids, loading)
    Path(answers_path).write_text(json.dumps(answers), "utf-8")


def of_texts(signatures: dict, names: list[str], texts: list[list[str]], timed: list, loading: float) -> dict:
    """What the signatures that take texts answer."""
    serve = signatures["serving_default"]

    def answer(columns: list[list]) -> dict[str, list]:
        return plain(
            serve(**{name: tf.constant(c, tf.string) for name, c in zip(names, columns, strict=True)})
        )

    answers = {
        "serving_default": answer(texts),
        "alone": [answer([column[i : i + 1] for column in texts]) for i in range(min(ALONE, len(texts[0])))],
        "empty": answer([[] for _ in names]),
        "invalid": answer(
            [[b"\xff\xfe" + text.encode() + b"\xc3" for text in column[:ALONE]] for column in texts]
        ),
    }
    examples = tf.constant([example(names, row) for row in zip(*texts, strict=True)], tf.string)
    answers |= {k: plain(signatures[k](inputs=examples)) for k in ("classify", "regress") if k in signatures}
    return answers | {"benchmark": benchmark(answer, timed, loading)}


def plain(outputs: dict) -> dict[str, list]:
    """Tensors → lists, bytes → text."""
    arrays = {name: value.numpy() for name, value in outputs.items()}
    decode = np.vectorize(lambda value: value.decode("utf-8"), otypes=[object])
    return {name: (decode(v) if v.dtype == object and v.size else v).tolist() for name, v in arrays.items()}


def example(names: list[str], row: tuple[str, ...]) -> bytes:
    features = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[text.encode()]))
        for name, text in zip(names, row, strict=True)
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


if __name__ == "__main__":
    main(*sys.argv[1:])
