"""A program of its own: what peft answers with a folder of adapters on their base.

    python on_peft.py FOLDER REQUEST.json ANSWERS.json

REQUEST is that of on_transformers.py and {"base": folder of the checkpoint, "outputs": units of the
head}; ANSWERS are the same.
"""

import sys

import torch
from on_transformers import main
from peft import PeftModel
from transformers import AutoModelForSequenceClassification


def adapted(folder: str, request: dict) -> torch.nn.Module:
    base = AutoModelForSequenceClassification.from_pretrained(
        request["base"], num_labels=request["outputs"], ignore_mismatched_sizes=True, dtype=torch.float32
    )
    return PeftModel.from_pretrained(base, folder)


if __name__ == "__main__":
    main(adapted, *sys.argv[1:])
