"""The folder of an export → a model on a hub, by the hubs' own clients."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kft.errors import KftError, did_you_mean

ADDRESS_HINT = "an address is hf://ORG/NAME, hf://ORG/NAME@BRANCH or kaggle://OWNER/MODEL/FRAMEWORK/VARIATION"
# Kaggle's names of frameworks, without case → formats of kft, the usual one first.
FRAMEWORKS = {
    "keras": ("keras",),
    "tensorflow2": ("savedmodel",),
    "transformers": ("hf", "peft"),
    "pytorch": ("hf", "peft"),
    "onnx": ("onnx",),
    "other": ("hf", "peft", "savedmodel", "keras", "onnx"),
}
# Names of the classes that requests, httpx and the clients raise without a network.
_OFFLINE = ("ConnectionError", "Timeout", "TransportError", "OfflineModeIsEnabled")


@dataclass(frozen=True)
class Address:
    """Where an export is pushed to.

    Attributes:
        hub: a key of HUBS.
        name: the model on it: ORG/NAME, or OWNER/MODEL/FRAMEWORK/VARIATION.
        branch: of the Hugging Face Hub; None is its main one.
    """

    hub: str
    name: str
    branch: str | None = None

    def __str__(self) -> str:
        return f"{self.hub}://{self.name}" + (f"@{self.branch}" if self.branch else "")


@dataclass(frozen=True)
class Hub:
    """A place for models.

    Attributes:
        pattern: of an address without its scheme, whole.
        formats: address → formats that go there, the usual one first; raises KftError.
        check: (address, whether everybody may read it) → raises KftError where it is plain at once
            that nothing can be pushed; changes nothing.
        push: (address, folder, whether everybody may read it) → URL of the model's page.
        sign_in: a hint.
    """

    pattern: str
    formats: Callable[[Address], tuple[str, ...]]
    check: Callable[[Address, bool], None]
    push: Callable[[Address, Path, bool], str]
    sign_in: str


def parse(text: str) -> Address:
    """`hf://ORG/NAME@BRANCH` or `kaggle://OWNER/MODEL/FRAMEWORK/VARIATION` as a record.

    Raises:
        KftError: it is neither.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in HUBS:
        known = did_you_mean(f"{scheme}://", [f"{name}://" for name in HUBS]) if separator else ""
        raise KftError(f"{text}: is no place that kft pushes to{known}", ADDRESS_HINT)
    name, _, branch = rest.partition("@")
    if not re.fullmatch(HUBS[scheme].pattern, name) or (("@" in rest) and not branch):
        raise KftError(f"{text}: is not the address of a model", ADDRESS_HINT)
    if branch and scheme != "hf":
        raise KftError(f"{text}: Kaggle has no branches", "each push makes a new version of the variation")
    return Address(scheme, name, branch or None)


def format_for(address: Address, to: str | None) -> str:
    """The format to export to: the one asked for, else the hub's usual one.

    Raises:
        KftError: that goes to another framework of the hub.
    """
    able = HUBS[address.hub].formats(address)
    if to is not None and to not in able:
        raise KftError(
            f"{address}: holds {' or '.join(able)}, not {to}",
            f"--to {able[0]}, or another address; {ADDRESS_HINT}",
        )
    return to or able[0]


def check(address: Address, public: bool) -> None:
    """Raises KftError: nobody is signed in, the token cannot write, or the hub is out of reach.

    Or the model is public, and `public` does not say so.
    """
    with _mistakes(address, "cannot be pushed to"):
        HUBS[address.hub].check(address, public)


def push(address: Address, folder: Path, public: bool) -> str:
    """Pushes a folder; returns the URL of the model's page.

    Raises:
        KftError: the hub refuses it, or cannot be reached.
    """
    with _mistakes(address, "was not pushed"):
        return HUBS[address.hub].push(address, folder, public)


@contextmanager
def _mistakes(address: Address, what: str) -> Iterator[None]:
    """Each hub has its own errors for the same few reasons."""
    try:
        yield
    except KftError:
        raise
    except Exception as error:
        response = getattr(error, "response", None)
        status = getattr(response, "status_code", None) or getattr(error, "error_code", None)
        names = {kind.__name__ for cause in (error, error.__cause__) for kind in type(cause).__mro__}
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        if names & set(_OFFLINE):
            reason, hint = "the network cannot be reached", "try again later; --output keeps the export"
        elif status == 401 or "UnauthenticatedError" in names:
            reason, hint = "the token is not valid (any more)", HUBS[address.hub].sign_in
        elif status in (403, 404):
            reason = "the token may not write there, or there is no such owner"
            hint = "check the owner's name, and that the token may write to it"
        else:
            reason, hint = first, "try again later; --output keeps the export"
        raise KftError(f"{address}: {what}: {reason}", hint) from error


# The Hugging Face Hub.


def _check_huggingface(address: Address, public: bool) -> None:
    import huggingface_hub  # only pushing needs it
    from huggingface_hub.errors import RepositoryNotFoundError

    if huggingface_hub.get_token() is None:
        raise KftError(f"{address}: nobody is signed in to the Hugging Face Hub", HUBS["hf"].sign_in)
    client = huggingface_hub.HfApi()
    role = client.whoami().get("auth", {}).get("accessToken", {}).get("role")
    if role == "read":
        raise KftError(f"{address}: the token can only read", HUBS["hf"].sign_in)
    try:
        private = client.model_info(address.name, timeout=30).private
    except RepositoryNotFoundError:  # the push makes it
        return
    if not private and not public:
        raise KftError(
            f"{address}: is a public model, everybody can read what is pushed to it",
            "say so with --public, or push to another address",
        )


def _push_huggingface(address: Address, folder: Path, public: bool) -> str:
    import huggingface_hub

    client = huggingface_hub.HfApi()
    page = client.create_repo(address.name, private=not public, exist_ok=True)
    if address.branch:
        client.create_branch(address.name, branch=address.branch, exist_ok=True)
    client.upload_folder(
        repo_id=address.name,
        folder_path=folder,
        revision=address.branch,
        commit_message="Fine-tuned and exported by kft",
    )
    return f"{page}/tree/{address.branch}" if address.branch else str(page)


# Kaggle.


def _formats_kaggle(address: Address) -> tuple[str, ...]:
    framework = address.name.split("/")[2]
    formats = FRAMEWORKS.get(framework.lower().replace("_", ""))
    if formats is None:
        raise KftError(
            f"{address}: no export of kft is for the framework {framework!r}{did_you_mean(framework, FRAMEWORKS)}",
            f"frameworks: {', '.join(FRAMEWORKS)}",
        )
    return formats


def _check_kaggle(address: Address, public: bool) -> None:
    import kagglehub

    if public:
        raise KftError(
            f"{address}: Kaggle's client makes models private",
            "push without --public, then publish it on its page",
        )
    if kagglehub.config.get_kaggle_credentials() is None:
        raise KftError(f"{address}: nobody is signed in to Kaggle", HUBS["kaggle"].sign_in)
    kagglehub.whoami(verbose=False)


def _push_kaggle(address: Address, folder: Path, public: bool) -> str:
    import kagglehub

    kagglehub.model_upload(address.name, str(folder), version_notes="Fine-tuned and exported by kft")
    return f"https://www.kaggle.com/models/{address.name}"


_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
HUBS: dict[str, Hub] = {
    "hf": Hub(
        pattern=f"{_NAME}/{_NAME}",
        formats=lambda address: ("hf", "peft", "keras", "savedmodel", "onnx"),
        check=_check_huggingface,
        push=_push_huggingface,
        sign_in="make a token that may write on the Hub's settings page, then `hf auth login` or HF_TOKEN=…",
    ),
    "kaggle": Hub(
        pattern="/".join([_NAME] * 4),
        formats=_formats_kaggle,
        check=_check_kaggle,
        push=_push_kaggle,
        sign_in="make a token on Kaggle's settings page, then `kagglehub.login()` or KAGGLE_API_TOKEN=…",
    ),
}
