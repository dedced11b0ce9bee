"""A program of its own: the logits of transformers for a Hugging Face folder.

    python -P bare_transformers.py FOLDER REQUEST.json ANSWERS.json

REQUEST is {"texts": [first texts, second texts if there are any]}; ANSWERS the logits [N, C].
"""

import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch  # noqa: E402
from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: E402


def main(folder: str, request_path: str, answers_path: str) -> None:
    texts = json.loads(Path(request_path).read_text("utf-8"))["texts"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    logits = []
    with torch.inference_mode():
        for begin in range(0, len(texts[0]), 16):
            part = (column[begin : begin + 16] for column in texts)
            inputs = tokenizer(*part, truncation=True, padding=True, return_tensors="pt")
            logits += model(**inputs).logits.tolist()
    Path(answers_path).write_text(json.dumps(logits), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
