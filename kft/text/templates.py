"""How one or two texts become an example's tokens: what stands around them, what is cut."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kft.errors import KftError

A, B = "$A", "$B"  # the places of the texts in an example, written as Hugging Face's tokenizers write them


@dataclass(frozen=True)
class Template:
    """What a family puts around texts.

    Attributes:
        single: an example of one text: tokens, and A in its place.
        pair: an example of two texts: tokens, and A and B in their places, in this order.
        segments: whether the model distinguishes which tokens belong to the second text.
        first_position: the position of an example's first token.
        reads: "first" or "last", the token that stands for the example.
    """

    single: tuple[str, ...]
    pair: tuple[str, ...]
    segments: bool = False
    first_position: int = 0
    reads: str = "first"


BERT = Template(("[CLS]", A, "[SEP]"), ("[CLS]", A, "[SEP]", B, "[SEP]"), segments=True)
ROBERTA = Template(("<s>", A, "</s>"), ("<s>", A, "</s>", "</s>", B, "</s>"), first_position=2)


@dataclass(frozen=True)
class Frame:
    """The special tokens of an example as ids: before the first text, between texts, at the end."""

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def special(self) -> int:
        """Special tokens of an example."""
        return len(self.before) + len(self.between) + len(self.after)


def frame_of(sequence: tuple[str, ...], ids: Mapping[str, int]) -> Frame:
    """The special tokens of an example as ids.

    Args:
        row: `Template.single` or `Template.pair`.
        ids: token → id.

    Raises:
        KftError: a token has no id.
    """
    missing = [token for token in sequence if token not in (A, B) and token not in ids]
    if missing:
        raise KftError(
            f"the tokenizer has no token {missing[0]}", "is it the tokenizer of this model, copied whole?"
        )
    first = sequence.index(A)
    second = sequence.index(B) if B in sequence else first
    parts = (sequence[:first], sequence[first + 1 : second], sequence[second + 1 :])
    return Frame(*(tuple(ids[token] for token in part) for part in parts))


def kept(first: int, second: int, limit: int) -> tuple[int, int]:
    """Tokens kept of each text of a pair, where both together may have `limit`.

    As `truncate_encodings` of Hugging Face's tokenizers, "longest_first": the longer text gives way
    until both are as long; of an odd limit the second text gets one more where the texts are as
    long or it is the longer one.
    """
    if first + second <= limit:
        return first, second
    short = min(first, second, limit // 2)
    return (limit - short, short) if first > second else (short, limit - short)


# --- The same in tokenizer.json


def post_processor(template: Template, ids: Mapping[str, int]) -> dict[str, Any]:
    """The part of a tokenizer.json that puts texts into a template."""
    tokens = sorted({*template.single, *template.pair} - {A, B})

    def pieces(sequence: tuple[str, ...]) -> list[dict[str, Any]]:
        segment, result = 0, []
        for token in sequence:
            segment = 1 if template.segments and token == B else segment
            kind, name = ("Sequence", token[1:]) if token in (A, B) else ("SpecialToken", token)
            result.append({kind: {"id": name, "type_id": segment}})
        return result

    return {
        "type": "TemplateProcessing",
        "single": pieces(template.single),
        "pair": pieces(template.pair),
        "special_tokens": {token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in tokens},
    }


def sequences_of(processor: Mapping[str, Any] | None) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """(single, pair) as a tokenizer.json's `post_processor` makes them; None where it does not."""
    kind = (processor or {}).get("type")
    if kind == "Sequence":
        return next(filter(None, map(sequences_of, processor["processors"])), None)
    if kind == "TemplateProcessing":
        sequences = tuple(tuple(map(_token_of, processor[name])) for name in ("single", "pair"))
        return (
            sequences
            if sequences[0].count(A) == 1 and sequences[1].index(B) > sequences[1].index(A)
            else None
        )
    if kind in ("BertProcessing", "RobertaProcessing"):
        cls, sep = processor["cls"][0], processor["sep"][0]
        between = (sep,) if kind == "BertProcessing" else (sep, sep)
        return (cls, A, sep), (cls, A, *between, B, sep)
    return None


def _token_of(piece: Mapping[str, Any]) -> str:
    return f"${piece['Sequence']['id']}" if "Sequence" in piece else piece["SpecialToken"]["id"]
