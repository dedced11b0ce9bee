"""The tokenizer of a run, in its folder."""

from kft import runs
from kft.errors import KftError
from kft.runs import RunDir
from kft.text.tokenizers import Tokenizer, load_tokenizer
from kft.text.tokenizers.wordpiece import bert_tokenizer
from kft.text.vocabulary import read_vocabulary


def save_tokenizer(tokenizer: Tokenizer, run: RunDir) -> None:
    """Writes tokenizer.json; model.json keeps what `tokenizer_entry` gives."""
    runs.write_text(run.tokenizer, tokenizer.content + "\n")
    run.vocabulary.unlink(missing_ok=True)  # of a run that began in format 1 and goes on


def tokenizer_entry(tokenizer: Tokenizer) -> dict:
    """What model.json says of the tokenizer."""
    return {"kind": tokenizer.kind, "special_tokens": dict(tokenizer.special_tokens)}


def read_tokenizer(run: RunDir) -> Tokenizer:
    """The tokenizer of a run, of any format.

    Raises:
        KftError: its files are missing or damaged.
    """
    entry = runs.read_model(run)["tokenizer"]
    try:
        if "vocabulary" in entry:  # of format 1
            return bert_tokenizer(read_vocabulary(run.vocabulary), **entry["vocabulary"])
        return load_tokenizer(run.tokenizer.read_text("utf-8"), entry["special_tokens"])
    except (OSError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise KftError(f"{run.path}: its tokenizer is damaged: {error}", runs.COPY_HINT) from None
