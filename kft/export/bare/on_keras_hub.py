"""A program of its own: what KerasHub answers with a preset folder, to token ids and to raw texts.

    python on_keras_hub.py FOLDER REQUEST.json ANSWERS.json

REQUEST is {"classifier": its class, "inputs": token_ids, padding_mask and, where it has them,
segment_ids, "texts": one list for each text of an example, "benchmark": the same, of texts to
time}; ANSWERS {"of_tokens": [N, C], "of_texts": [N, C], "benchmark"}.
"""

import json
import sys
import time
from pathlib import Path

import keras_hub
import numpy as np
from timing import benchmark


def main(folder: str, request_path: str, answers_path: str) -> None:
    request = json.loads(Path(request_path).read_text("utf-8"))
    started = time.perf_counter()
    classifier = getattr(keras_hub.models, request["classifier"]).from_preset(folder)
    loading = time.perf_counter() - started

    def answer_batch(columns: list[list[str]]) -> np.ndarray:
        # Not `predict`, which traces the tokenizer anew in every call: seconds.
        return classifier.predict_on_batch(as_inputs(columns))

    answers = {
        "of_texts": classifier.predict(as_inputs(request["texts"]), batch_size=32, verbose=0).tolist(),
        "benchmark": benchmark(answer_batch, request["benchmark"], loading),
    }
    classifier.preprocessor = None
    inputs = {name: np.array(value, np.int32) for name, value in request["inputs"].items()}
    answers["of_tokens"] = classifier.predict(inputs, batch_size=32, verbose=0).tolist()
    Path(answers_path).write_text(json.dumps(answers), "utf-8")


def as_inputs(columns: list[list[str]]) -> list[str] | tuple[list[str], ...]:
    return columns[0] if len(columns) == 1 else tuple(columns)


if __name__ == "__main__":
    main(*sys.argv[1:])
