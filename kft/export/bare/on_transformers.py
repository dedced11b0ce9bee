"""A program of its own: what transformers answers with a Hugging Face folder.

    python on_transformers.py FOLDER REQUEST.json ANSWERS.json

REQUEST is {"texts": one list for each text of an example, "benchmark": the same, of texts to time};
ANSWERS {"logits": [N, C], of every token [N, T, C], "benchmark"}.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch  # noqa: E402
import transformers  # noqa: E402
from asking import ask  # noqa: E402


def main(load: Callable, folder: str, request_path: str, answers_path: str) -> None:
    """Asks the model that `load` makes of the folder and the request."""
    request = json.loads(Path(request_path).read_text("utf-8"))
    started = time.perf_counter()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = load(folder, request).eval()
    loading = time.perf_counter() - started

    def answer(columns: list[list[str]]) -> list[list[float]]:
        inputs = tokenizer(*columns, truncation=True, padding=True, return_tensors="pt")
        given = model(**inputs)
        if "start_logits" in given:  # of answers in a context
            return torch.stack([given.start_logits, given.end_logits], dim=-1).tolist()
        return given.logits.tolist()

    with torch.inference_mode():
        answers = ask(answer, request, loading)
    Path(answers_path).write_text(json.dumps(answers), "utf-8")


def classifier(folder: str, request: dict) -> torch.nn.Module:
    (architecture,) = json.loads(Path(folder, "config.json").read_text("utf-8"))["architectures"]
    return getattr(transformers, architecture).from_pretrained(folder, dtype=torch.float32)


if __name__ == "__main__":
    main(classifier, *sys.argv[1:])
