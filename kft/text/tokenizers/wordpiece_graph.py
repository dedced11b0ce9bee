"""BERT's WordPiece inside a TensorFlow graph, for SavedModels: the same ids for every text."""

import functools
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from kft import backend
from kft.errors import KftError
from kft.text.tokenizers.definition import MAX_WORD_CHARACTERS
from kft.text.tokenizers.record import Tokenizer
from kft.text.tokenizers.wordpiece import SPECIAL_TOKENS, Characters, rules_of

_MAX_TOKEN_BYTES = 256  # of tensorflow_text.FastWordpieceTokenizer
_MARKERS = 0x10FFF0  # private characters that stand for the special tokens


@dataclass(frozen=True)
class GraphTokenizer:
    """`Tokenizer` as TensorFlow operations, inside a `tf.function`; see `load_graph_tokenizer`.

    What the table of characters says is read off code points by gathers, since the operations on
    strings follow the Unicode version of TensorFlow (and `tf.strings.lower` even the language of
    the machine that serves).

    Attributes:
        blocks: int32 [4352], row of `entries` for each 256 code points.
        entries: int32 [rows, 256], index into `starts` for each code point.
        starts: int32 [entries + 1], where in `outputs` the characters of an entry begin.
        outputs: int32, characters; 0 stands for the character itself.
        wordpiece: a `tensorflow_text.FastWordpieceTokenizer`.
    """

    blocks: np.ndarray
    entries: np.ndarray
    starts: np.ndarray
    outputs: np.ndarray
    wordpiece: Any

    def tokenize(self, texts: Any) -> Any:
        """Token ids of texts without [CLS] and [SEP]: string [N] → ragged int32 [N, tokens]."""
        tf = backend.tensorflow()
        # A literal "[SEP]" is the special token. A private character stands for it; such characters
        # in the text itself become another one that BERT drops as well.
        texts = tf.strings.regex_replace(texts, f"[{chr(_MARKERS)}-{chr(_MARKERS + 4)}]", "\x01")
        for i, token in enumerate(SPECIAL_TOKENS):
            texts = tf.strings.regex_replace(texts, re.escape(token), chr(_MARKERS + i))
        texts = tf.strings.join([texts, tf.constant(" ")])  # words end with their text
        characters, splits = self._normalize(tf.strings.unicode_decode(texts, "UTF-8"))
        words, splits = _words_of(tf, characters, splits)
        pieces = self.wordpiece.tokenize(words)  # [words, pieces]
        return tf.RaggedTensor.from_row_splits(pieces, splits, validate=False).merge_dims(1, 2)

    def _normalize(self, characters: Any) -> tuple[Any, Any]:
        """Ragged code points [N, C] → flat normalised code points and their row splits [N + 1]."""
        tf = backend.tensorflow()
        points = characters.flat_values
        entry = tf.gather_nd(self.entries, tf.stack([tf.gather(self.blocks, points // 256), points % 256], 1))
        start = tf.gather(self.starts, entry)
        count = tf.gather(self.starts, entry + 1) - start
        ends = tf.concat([[0], tf.cumsum(count)], 0)
        normalized = tf.gather(self.outputs, tf.repeat(start - ends[:-1], count) + tf.range(ends[-1]))
        normalized = tf.where(normalized == 0, tf.repeat(points, count), normalized)
        return normalized, tf.gather(ends, characters.row_splits)


def load_graph_tokenizer(tokenizer: Tokenizer) -> GraphTokenizer | None:
    """The tokenizer as TensorFlow operations, built in seconds; None where it is not BERT's own.

    Raises:
        KftError: the vocabulary holds a token too long for tensorflow-text.
    """
    rules = rules_of(tokenizer)
    if rules is None:
        return None
    backend.tensorflow()
    import tensorflow_text  # after the backend is chosen: it imports Keras

    wordpiece = tensorflow_text.FastWordpieceTokenizer(
        _distinct_tokens(rules.vocabulary),
        token_out_type="int32",
        max_bytes_per_word=4 * MAX_WORD_CHARACTERS,  # the limit in characters is kept in `_words_of`
        no_pretokenization=True,
    )
    tables = _tables(rules.lowercase, rules.strip_accents, rules.tokenize_chinese_chars)
    return GraphTokenizer(*tables, wordpiece)


@functools.lru_cache(maxsize=2)
def _tables(*settings: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`blocks`, `entries`, `starts` and `outputs` of a GraphTokenizer."""
    texts = _texts_by_point(Characters(*settings))
    outputs = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    points = np.fromiter(map(outputs.__getitem__, texts), np.int32).reshape(-1, 256)
    entries, blocks = np.unique(points, axis=0, return_inverse=True)
    starts = np.cumsum([0, *map(len, outputs)]).astype(np.int32)
    letters = np.array([ord(character) for text in outputs for character in text], np.int32)
    return blocks.astype(np.int32).reshape(-1), entries, starts, letters


def _distinct_tokens(vocabulary: tuple[str, ...]) -> list[str]:
    """The vocabulary as FastWordpieceTokenizer takes it, without tokens that no word can have."""
    last = {token: i for i, token in enumerate(vocabulary)}
    tokens = []
    for i, token in enumerate(vocabulary):
        possible = len(token) <= MAX_WORD_CHARACTERS + len("##") and "\0" not in token
        tokens.append(token if possible and last[token] == i else f"[never {i}]")
    too_long = next((token for token in tokens if len(token.encode()) > _MAX_TOKEN_BYTES), None)
    if too_long:
        raise KftError(
            f"the vocabulary holds a token of more than {_MAX_TOKEN_BYTES} bytes: {too_long}",
            "remove the token from the vocabulary, or take another preset",
        )
    return tokens


def _texts_by_point(characters: Characters) -> list[str]:
    """What the table of characters holds for every code point; "\0" is the character itself."""
    result = []
    for block in range(0, 0x110000, 256):
        # From plane 4 on nothing is assigned but tags (plane 14), private use and the last two of
        # each plane.
        alike = block >= 0x40000 and block >> 12 != 0xE0 and block & 0xFF00 != 0xFF00
        texts = [
            characters.make(p).replace(chr(p), "\0") if p != 32 else " "
            for p in range(block, block + (1 if alike else 256))
        ]
        result += texts * 256 if alike else texts
    for i, token in enumerate(SPECIAL_TOKENS):
        result[_MARKERS + i] = f" {token} "
    return result


def _words_of(tf: Any, characters: Any, splits: Any) -> tuple[Any, Any]:
    """Flat code points between spaces → words, string [W], and their row splits [N + 1].

    Each text ends in a space.
    """
    inside = characters != ord(" ")
    starts = inside & tf.concat([[True], ~inside[:-1]], 0)
    before = tf.concat([[0], tf.cumsum(tf.cast(starts, tf.int64))], 0)
    letters = tf.boolean_mask(characters, inside)
    words = tf.RaggedTensor.from_value_rowids(
        letters, tf.boolean_mask(before[1:], inside) - 1, nrows=before[-1], validate=False
    )
    spelled = tf.strings.unicode_encode(words, "UTF-8")
    spelled = tf.where(words.row_lengths() > MAX_WORD_CHARACTERS, "[UNK]", spelled)
    return spelled, tf.gather(before, splits)
