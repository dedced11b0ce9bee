"""Texts or pairs of texts → the tokens of examples, end to end in flat arrays."""

import functools
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat

import numpy as np

from kft.errors import KftError
from kft.later import Later
from kft.text.templates import Frame, Template, kept
from kft.text.tokenizers import Tokenizer, load_tokenizer

joblib = Later("joblib")
PARALLEL_TEXTS = 200_000  # fewer are done before other processes would have started
PIECE_TEXTS = 50_000  # texts that a process takes at a time
_BATCH_TEXTS = 4096


@dataclass(frozen=True)
class Tokens:
    """The tokens of N examples, end to end, each as its template says: [CLS] a [SEP] b [SEP].

    Attributes:
        ids: int32 [total tokens].
        offsets: int64 [N + 1]; example i is ids[offsets[i]:offsets[i + 1]].
        second_starts: int32 [N], the position in the example where the second text begins; its
            length if there is none.
        full_lengths: int32 [N], tokens before truncation, special tokens included.
        characters: int32 [total tokens, 2] where the texts were located: each token's first
            character in its text and the one after its last; 0, 0 for special tokens.
        spans: int32 [N, P, 2] where examples have marked words: each span's first token in the
            example and the one after its last; 0, 1 (the first token of the example) where
            truncation left no token of it.
        examples: int64 [rows], the example of each row where a long text has several, else None:
            then each row is an example. The rows of an example stand together.
    """

    ids: np.ndarray
    offsets: np.ndarray
    second_starts: np.ndarray
    full_lengths: np.ndarray
    characters: np.ndarray | None = None
    spans: np.ndarray | None = None
    examples: np.ndarray | None = None

    @property
    def bounds(self) -> np.ndarray:
        """Where the rows of each example begin, int64 [N + 1]."""
        rows = len(self.offsets) - 1
        if self.examples is None:
            return np.arange(rows + 1)
        last = int(self.examples.max(initial=-1))
        return np.append(np.searchsorted(self.examples, np.arange(last + 1)), rows)


def encode(
    tokenizer: Tokenizer,
    template: Template,
    texts: list[str],
    pairs: list[str] | None,
    max_length: int,
    *,
    located: bool = False,
) -> Tokens:
    """The tokens of N texts, or of N pairs of texts.

    An example longer than `max_length` loses tokens at its end; of a pair the longer text loses
    first, as in transformers' "longest_first".

    Args:
        tokenizer: from `load_tokenizer`.
        template: of the model.
        texts: first texts.
        pairs: second texts, or None.
        max_length: tokens of an example at most, special ones included, which are never cut.
        located: whether to say where each token stands, which takes several times as long.

    Many texts are shared among a process for each core, unless the tokenizer does so itself.

    Raises:
        KftError: the tokenizer lacks a token of the template, or `max_length` leaves no room for
            them.
    """
    parts = tokenizer.frame(template, pairs is not None)
    if parts.special > max_length:
        raise KftError(
            f"`model.max_length` is {max_length}, a row has {parts.special} special tokens",
            f"--set model.max_length={4 * parts.special}",
        )
    if tokenizer.kind == "wordpiece" and len(texts) >= PARALLEL_TEXTS and joblib.cpu_count() > 1:
        # Only the definition travels: the tokenizer itself holds all words that it has seen.
        work = joblib.delayed(_encode_piece)
        rules = (tokenizer.content, tuple(tokenizer.special_tokens.items()))
        pieces = joblib.Parallel(n_jobs=joblib.cpu_count())(
            work(rules, parts, texts[cut], pairs and pairs[cut], max_length, located)
            for cut in _cuts(len(texts))
        )
    else:
        pieces = [
            _encode(tokenizer, parts, texts[cut], pairs and pairs[cut], max_length, located)
            for cut in _cuts(len(texts))
        ]
    return _joined(pieces)


def _cuts(count: int) -> list[slice]:
    return [slice(i, i + PIECE_TEXTS) for i in range(0, max(count, 1), PIECE_TEXTS)]


def _encode_piece(rules: tuple, *rest) -> Tokens:
    return _encode(_tokenizer_of(*rules), *rest)


@functools.lru_cache(1)  # a process keeps its words
def _tokenizer_of(content: str, special_tokens: tuple) -> Tokenizer:
    return load_tokenizer(content, dict(special_tokens))


def _joined(pieces: list[Tokens]) -> Tokens:
    lengths = np.concatenate([np.diff(piece.offsets) for piece in pieces])
    ids, starts, full = (
        np.concatenate([getattr(piece, name) for piece in pieces])
        for name in ("ids", "second_starts", "full_lengths")
    )
    characters = [piece.characters for piece in pieces if piece.characters is not None]
    return Tokens(ids, offsets_of(lengths), starts, full, np.concatenate(characters) if characters else None)


def _encode(
    tokenizer: Tokenizer,
    parts: Frame,
    texts: list[str],
    pairs: list[str] | None,
    max_length: int,
    located: bool,
) -> Tokens:
    limit = max_length - parts.special
    before, between, after = map(list, (parts.before, parts.between, parts.after))
    ids, lengths, starts, full = (array("i") for _ in range(4))
    if pairs is None:
        for text in _ids_of(tokenizer, texts):
            example = before + text[:limit] + after
            ids.extend(example)
            lengths.append(len(example))
            full.append(len(text) + parts.special)
        starts = lengths
    else:
        for first, second in zip(_ids_of(tokenizer, texts), _ids_of(tokenizer, pairs), strict=True):
            a, b = kept(len(first), len(second), limit)
            example = before + first[:a] + between + second[:b] + after
            ids.extend(example)
            lengths.append(len(example))
            starts.append(len(before) + a + len(between))
            full.append(len(first) + len(second) + parts.special)
    tokens = Tokens(*map(np.asarray, (ids, offsets_of(np.asarray(lengths)), starts, full)))
    if not located:
        return tokens
    return replace(tokens, characters=_locate(tokenizer, parts, texts, pairs, tokens))


def _ids_of(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[list[int]]:
    """The token ids of each text; few of the lists are alive at a time."""
    for begin in range(0, len(texts), _BATCH_TEXTS):
        yield from tokenizer.encode(texts[begin : begin + _BATCH_TEXTS])


def _locate(
    tokenizer: Tokenizer, parts: Frame, texts: Sequence[str], pairs: Sequence[str] | None, tokens: Tokens
) -> np.ndarray:
    """`Tokens.characters` of examples that are encoded already."""
    before, between, after = (
        np.zeros((len(ids), 2), np.int32) for ids in (parts.before, parts.between, parts.after)
    )
    pieces = [before[:0]]
    for first, second, start, length in zip(
        texts, repeat(None, len(texts)) if pairs is None else pairs, tokens.second_starts,
        np.diff(tokens.offsets), strict=True,
    ):  # fmt: skip
        if second is None:
            kept_tokens = length - len(before) - len(after)
            pieces += [before, tokenizer.locate(first)[1][:kept_tokens], after]
        else:
            a, b = start - len(before) - len(between), length - start - len(after)
            pieces += [before, tokenizer.locate(first)[1][:a], between]
            pieces += [tokenizer.locate(second)[1][:b], after]
    return np.concatenate(pieces)


def find_spans(tokens: Tokens, marks: np.ndarray, seconds: list[bool]) -> np.ndarray:
    """The tokens of marked words, int32 [N, P, 2]; see `Tokens.spans`.

    Args:
        tokens: located.
        marks: int [N, P, 2], the characters where each span begins and before which it ends.
        seconds: for each of the P spans whether it stands in the second text.
    """
    lengths = np.diff(tokens.offsets)
    example = np.repeat(np.arange(len(lengths)), lengths)  # for each token, its example
    within = np.arange(len(example)) - tokens.offsets[example]  # and its place there
    in_second = within >= tokens.second_starts[example]
    begins, ends = tokens.characters.T
    spans = np.empty((len(lengths), len(seconds), 2), np.int32)
    for p, second in enumerate(seconds):
        start, end = marks[example, p].T
        touched = (begins < end) & (ends > start) & (in_second == second)
        spans[:, p, 0] = np.minimum.reduceat(np.where(touched, within, lengths[example]), tokens.offsets[:-1])
        spans[:, p, 1] = np.maximum.reduceat(np.where(touched, within + 1, 0), tokens.offsets[:-1])
    spans[spans[:, :, 1] == 0] = 0, 1
    return spans


def length_account(tokens: Tokens, max_length: int) -> dict[str, float | int | None]:
    """Lengths in tokens before truncation, special ones included, and the share truncated.

    With marked words also the share of examples of which at least one lost all its tokens.
    """
    full = tokens.full_lengths[tokens.bounds[:-1]]
    if not len(full):
        return dict.fromkeys(("mean", "p50", "p90", "p95", "p99", "max", "truncated_fraction"))
    spans = tokens.spans
    lost = {} if spans is None else {"span_lost_fraction": float((spans[:, :, 0] == 0).any(axis=1).mean())}
    percentiles = {f"p{q}": int(np.percentile(full, q, method="inverted_cdf")) for q in (50, 90, 95, 99)}
    truncated = float((full > max_length).mean()) if tokens.examples is None else 0.0
    if tokens.examples is not None:
        lost |= {"windows": len(tokens.examples)}
    return {
        "mean": round(float(full.mean()), 2),
        **percentiles,
        "max": int(full.max()),
        "truncated_fraction": truncated,
        **lost,
    }


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
