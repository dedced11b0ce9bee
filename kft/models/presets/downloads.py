"""Presets on Kaggle and on the Hugging Face Hub: handle → local folder."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from kft import backend
from kft.errors import KftError
from kft.models.families import FAMILIES

# KerasHub's BERT always computes the tanh approximation of GELU, but its presets under these names
# were converted from Hugging Face checkpoints that were trained with the exact one.
_EXACT_GELU = ("sentence-transformers", "bge", "mxbai-embed")
_FILES = [
    "config.json",
    "tokenizer*.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "*.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "task.json",
    "*.weights.h5",
    "model.weights.json",
    "assets/tokenizer/*",
    "adapter_config.json",
    "adapter_model.safetensors",
]
_FAILURES = {  # HTTP status → (what it means, hint)
    401: (
        "no such preset, or it is private",
        "check the handle; sign in with kagglehub or `hf auth login` if it is private",
    ),
    403: (
        "its terms must be accepted before it can be downloaded",
        "accept them on the model's page, then sign in",
    ),
    404: ("no such preset", "check the handle on the model's page"),
}
# Names of the classes that requests, httpx and huggingface_hub raise without a network.
_OFFLINE = ("ConnectionError", "Timeout", "TransportError", "OfflineModeIsEnabled")


def from_kaggle(name: str, handle: str) -> tuple[Path, str | None]:
    """(folder, activation of a KerasHub preset that is not KerasHub's own), downloaded once.

    Raises:
        KftError: the handle is malformed or cannot be downloaded.
    """
    import kagglehub  # only downloads need it

    parts = handle.split("/")
    if len(parts) not in (4, 5) or (len(parts) == 5 and not parts[4].isdecimal()):
        raise KftError(
            f"{name}: is not a Kaggle handle",
            "one looks like kaggle://keras/bert/keras/bert_base_en, or …/bert_base_en/3",
        )
    folder = Path(_fetch(name, lambda: kagglehub.model_download(handle)))
    return folder, "gelu_exact" if parts[1] in _EXACT_GELU else None


def kept_from_huggingface(name: str, handle: str) -> Path | None:
    """The folder of an earlier download, perhaps with only some of the files, or None.

    Raises:
        KftError: the handle is malformed.
    """
    import huggingface_hub  # only downloads need it
    from huggingface_hub.errors import HFValidationError

    try:
        with suppress(OSError):
            return Path(huggingface_hub.snapshot_download(handle, local_files_only=True))
    except HFValidationError:
        raise KftError(
            f"{name}: is not a Hugging Face handle", "one looks like hf://google-bert/bert-base-uncased"
        ) from None
    return None


def from_huggingface(name: str, handle: str) -> Path:
    """The folder that a handle was downloaded to.

    Raises:
        KftError: it cannot be downloaded.
    """
    import huggingface_hub

    # Asks once before downloading: the download itself would try again and again where there is no
    # network.
    _fetch(name, lambda: huggingface_hub.HfApi().model_info(handle, timeout=10))
    return Path(_fetch(name, lambda: huggingface_hub.snapshot_download(handle, allow_patterns=_FILES)))


def keras_hub_presets() -> dict[str, str]:
    """KerasHub's presets of the families that kft has: name → kaggle:// handle."""
    models = backend.keras_hub().models  # the import takes seconds
    return {
        name: entry["kaggle_handle"]
        for family in FAMILIES.values()
        if family.hub
        for name, entry in getattr(models, family.hub.backbone).presets.items()
    }


def _fetch(name: str, download: Callable[[], Any]) -> Any:
    try:
        return download()
    except Exception as error:  # each hub has its own errors for the same few reasons
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in _FAILURES:
            reason, hint = _FAILURES[status]
            raise KftError(f"{name}: {reason}", hint) from error
        offline = any(kind.__name__ in _OFFLINE for kind in type(error).__mro__)
        reason = (
            "the network cannot be reached"
            if offline
            else (str(error) or type(error).__name__).splitlines()[0]
        )
        raise KftError(
            f"{name}: cannot be downloaded: {reason}",
            "try again later; a preset in a folder needs no network: --set model.preset=FOLDER",
        ) from error
