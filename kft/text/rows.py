"""Texts or pairs of texts → rows of token ids, end to end in flat arrays."""

import functools
from array import array
from dataclasses import dataclass, replace
from itertools import repeat

import joblib
import numpy as np

from kft.text.tokenizers.wordpiece import Tokenizer, load_tokenizer

PARALLEL_TEXTS = 200_000  # fewer are done before other processes would have started
PIECE_TEXTS = 50_000  # texts that a process takes at a time


@dataclass(frozen=True)
class Tokens:
    """Token rows of N examples, end to end; [CLS] a [SEP], or [CLS] a [SEP] b [SEP] for pairs.

    Attributes:
        ids: int32 [total tokens].
        offsets: int64 [N + 1]; example i is ids[offsets[i]:offsets[i + 1]].
        second_starts: int32 [N], the position in the example where the second text begins; its length if there is none.
        full_lengths: int32 [N], tokens before truncation, special tokens included.
        characters: int32 [total tokens, 2] where the texts were located: each token's first character in its text and
            the one after its last; 0, 0 for special tokens.
        spans: int32 [N, P, 2] where examples have marked words: each span's first token in the example and the one after
            its last; 0, 1 (the first token of the example) where truncation left no token of it.
    """

    ids: np.ndarray
    offsets: np.ndarray
    second_starts: np.ndarray
    full_lengths: np.ndarray
    characters: np.ndarray | None = None
    spans: np.ndarray | None = None


def encode(
    tokenizer: Tokenizer, texts: list[str], pairs: list[str] | None, max_length: int, *, located: bool = False
) -> Tokens:
    """The token rows of N texts, or of N pairs of texts.

    A row longer than `max_length` loses tokens at its end; of a pair the longer text loses first, as in transformers'
    "longest_first".

    Args:
        tokenizer: from `load_tokenizer`.
        texts: first texts.
        pairs: second texts, or None.
        max_length: tokens of a row at most, special tokens included; at least 3.
        located: whether to tell where each token stands, which takes several times as long.

    Many texts are shared among a process for each core.
    """
    if len(texts) < PARALLEL_TEXTS or (cores := joblib.cpu_count()) == 1:
        return _encode(tokenizer, texts, pairs, max_length, located)
    # Only the settings travel: the tokenizer itself holds all words that it has met.
    rules = (
        tokenizer.vocabulary,
        tokenizer.lowercase,
        tokenizer.strip_accents,
        tokenizer.tokenize_chinese_chars,
    )
    cuts = [slice(i, i + PIECE_TEXTS) for i in range(0, len(texts), PIECE_TEXTS)]
    pieces = joblib.Parallel(n_jobs=cores)(
        joblib.delayed(_encode_piece)(rules, texts[cut], pairs and pairs[cut], max_length, located)
        for cut in cuts
    )
    return _joined(pieces)


def _encode_piece(rules: tuple, *what) -> Tokens:
    return _encode(_tokenizer_of(rules), *what)


_tokenizer_of = functools.lru_cache(1)(lambda rules: load_tokenizer(*rules))  # a process keeps its words


def _joined(pieces: list[Tokens]) -> Tokens:
    lengths = np.concatenate([np.diff(piece.offsets) for piece in pieces])
    ids, starts, full = (
        np.concatenate([getattr(piece, name) for piece in pieces])
        for name in ("ids", "second_starts", "full_lengths")
    )
    characters = [piece.characters for piece in pieces if piece.characters is not None]
    return Tokens(ids, offsets_of(lengths), starts, full, np.concatenate(characters) if characters else None)


def _encode(
    tokenizer: Tokenizer, texts: list[str], pairs: list[str] | None, max_length: int, located: bool
) -> Tokens:
    cls, sep = tokenizer.ids["[CLS]"], tokenizer.ids["[SEP]"]
    ids, lengths, starts, full = array("i"), array("i"), array("i"), array("i")
    for first, second in zip(texts, pairs or [None] * len(texts), strict=True):
        a = tokenizer(first)
        if second is None:
            row = [cls, *a[: max_length - 2], sep]
            full.append(len(a) + 2)
            starts.append(len(row))
        else:
            b = tokenizer(second)
            kept_a, kept_b = _kept(len(a), len(b), max_length - 3)
            row = [cls, *a[:kept_a], sep, *b[:kept_b], sep]
            full.append(len(a) + len(b) + 3)
            starts.append(kept_a + 2)
        ids.extend(row)
        lengths.append(len(row))
    rows = Tokens(np.asarray(ids), offsets_of(np.asarray(lengths)), np.asarray(starts), np.asarray(full))
    return replace(rows, characters=_locate(tokenizer, texts, pairs, rows)) if located else rows


def _locate(tokenizer: Tokenizer, texts: list[str], pairs: list[str] | None, rows: Tokens) -> np.ndarray:
    """`Tokens.characters` of rows that are encoded already."""
    special = np.zeros((1, 2), np.int32)
    parts = [special[:0]]
    for first, second, start, length in zip(
        texts, pairs or repeat(None, len(texts)), rows.second_starts, np.diff(rows.offsets), strict=True
    ):
        parts += [special, tokenizer.locate(first)[1][: start - 2], special]
        if second is not None:
            parts += [tokenizer.locate(second)[1][: length - start - 1], special]
    return np.concatenate(parts)


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
    found = np.empty((len(lengths), len(seconds), 2), np.int32)
    for p, second in enumerate(seconds):
        start, end = marks[example, p].T
        touched = (begins < end) & (ends > start) & (in_second == second)
        found[:, p, 0] = np.minimum.reduceat(np.where(touched, within, lengths[example]), tokens.offsets[:-1])
        found[:, p, 1] = np.maximum.reduceat(np.where(touched, within + 1, 0), tokens.offsets[:-1])
    found[found[:, :, 1] == 0] = 0, 1
    return found


def account(tokens: Tokens, max_length: int) -> dict[str, float | int | None]:
    """Lengths in tokens before truncation, special tokens included, and the share of examples that are truncated.

    With marked words also the share of examples of which at least one lost all its tokens.
    """
    full = tokens.full_lengths
    if not len(full):
        return dict.fromkeys(("mean", "p50", "p90", "p95", "p99", "max", "truncated_fraction"))
    spans = tokens.spans
    lost = {} if spans is None else {"span_lost_fraction": float((spans[:, :, 0] == 0).any(axis=1).mean())}
    at = {f"p{q}": int(np.percentile(full, q, method="inverted_cdf")) for q in (50, 90, 95, 99)}
    truncated = float((full > max_length).mean())
    return {
        "mean": round(float(full.mean()), 2),
        **at,
        "max": int(full.max()),
        "truncated_fraction": truncated,
        **lost,
    }


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _kept(first: int, second: int, limit: int) -> tuple[int, int]:
    """Tokens kept of each text of a pair.

    As `truncate_encodings` of Hugging Face's tokenizers: the longer text gives way until both are as long, of an odd
    limit the second text gets one more where the texts are as long or it is the longer one.
    """
    if first + second <= limit:
        return first, second
    short = min(first, second, limit // 2)
    return (limit - short, short) if first > second else (short, limit - short)
