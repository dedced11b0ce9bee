"""A program: what onnxruntime answers with each graph of a folder, its tokenizer.json beside.

    python on_onnxruntime.py FOLDER REQUEST.json ANSWERS.json

REQUEST is {"graphs": names of files, "texts": one list for each text of an example, "benchmark":
the same, of texts to time}; ANSWERS {graph: {"logits": [N, C], "benchmark"}}.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import tokenizers
from asking import ask


def main(folder: str, request_path: str, answers_path: str) -> None:
    request = json.loads(Path(request_path).read_text("utf-8"))
    answers = {graph: answers_of(Path(folder), graph, request) for graph in request["graphs"]}
    Path(answers_path).write_text(json.dumps(answers), "utf-8")


def answers_of(folder: Path, graph: str, request: dict) -> dict:
    started = time.perf_counter()
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    session = onnxruntime.InferenceSession(folder / graph, providers=["CPUExecutionProvider"])
    loading = time.perf_counter() - started
    tokenizer.enable_padding()

    def answer(columns: list[list[str]]) -> list[list[float]]:
        rows = tokenizer.encode_batch(columns[0] if len(columns) == 1 else list(zip(*columns, strict=True)))
        inputs = {
            "input_ids": [row.ids for row in rows],
            "attention_mask": [row.attention_mask for row in rows],
            "token_type_ids": [row.type_ids for row in rows],
        }
        feeds = {entry.name: np.array(inputs[entry.name], np.int64) for entry in session.get_inputs()}
        return session.run(None, feeds)[0].tolist()

    return ask(answer, request, loading)


if __name__ == "__main__":
    main(*sys.argv[1:])
