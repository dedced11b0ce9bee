"""Whether the data and the tokenizer of a run that goes on are those that it had."""

from typing import Any

from kft import runs
from kft.errors import KftError
from kft.runs import RunDir
from kft.train.preparing import Data


def check_same_tokens(run: RunDir, data: Data) -> None:
    """Raises KftError: the preset reads texts otherwise than when the checkpoint was written."""
    if not runs.checkpoint_files(run) or not run.tokenizer.exists():
        return
    if run.tokenizer.read_text("utf-8").strip() != data.preset.tokenizer.content.strip():
        raise KftError(
            f"{run.path}: the tokenizer of {data.preset.name} is not what this run was started with",
            "put the old preset back, or train a new run",
        )


def check_same_data(run: RunDir, account: dict[str, Any], what: str, other: str) -> None:
    """Raises KftError: the splits are not those that a run was `what`; `other` is a way out."""
    if not run.data.exists():
        return
    before = runs.read_json(run.data, "splits")["splits"]
    before = before if isinstance(before, dict) else {}
    for name in dict.fromkeys([*account["splits"], *before]):
        parts = [splits.get(name) for splits in (before, account["splits"])]
        digests = [part.get("sha256") if isinstance(part, dict) else None for part in parts]
        if digests[0] != digests[1] or None in digests:
            raise KftError(
                f"{run.path}: the {name} data is not what this run was {what}",
                f"put the old data back, {other}",
            )
