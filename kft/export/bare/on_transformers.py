"""A program of its own: what transformers answers with a Hugging Face folder.

    python on_transformers.py FOLDER REQUEST.json ANSWERS.json

REQUEST is {"texts": one list for each text of an example, "benchmark": the same, of texts to time};
ANSWERS {"logits": [N, C], "benchmark"}.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch  # noqa: E402
import transformers  # noqa: E402
from timing import benchmark  # noqa: E402


def main(folder: str, request_path: str, answers_path: str) -> None:
    request = json.loads(Path(request_path).read_text("utf-8"))
    started = time.perf_counter()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    (architecture,) = json.loads(Path(folder, "config.json").read_text("utf-8"))["architectures"]
    model = getattr(transformers, architecture).from_pretrained(folder, dtype=torch.float32).eval()
    loading = time.perf_counter() - started

    def answer(columns: list[list[str]]) -> list[list[float]]:
        inputs = tokenizer(*columns, truncation=True, padding=True, return_tensors="pt")
        return model(**inputs).logits.tolist()

    logits = []
    with torch.inference_mode():
        for begin in range(0, len(request["texts"][0]), 16):
            logits += answer([column[begin : begin + 16] for column in request["texts"]])
        answers = {"logits": logits, "benchmark": benchmark(answer, request["benchmark"], loading)}
    Path(answers_path).write_text(json.dumps(answers), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
