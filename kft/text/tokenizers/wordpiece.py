"""One text → token ids, equal to transformers' `BertTokenizerFast` for every text."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import tokenizers

from kft.errors import KftError

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MAX_WORD_CHARACTERS = 100  # transformers calls longer words [UNK]
_WORDS_REMEMBERED = 500_000  # about 100 MB
_SURROGATE = re.compile("[\ud800-\udfff]")
_SPECIAL = re.compile("(" + "|".join(map(re.escape, SPECIAL_TOKENS)) + ")")


class Characters(dict):
    """Code point → what BERT makes of it: normalised, and between spaces where it is a token of its own.

    BERT cleans, lower-cases, strips and splits each character whatever its neighbours are, so a table says it all.
    transformers' own normaliser fills it, one character when it is first met.
    """

    def __init__(self, lowercase: bool, strip_accents: bool, tokenize_chinese_chars: bool):
        super().__init__()
        self._normalizer = tokenizers.normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=tokenize_chinese_chars,
            strip_accents=strip_accents,
            lowercase=lowercase,
        )
        self._splitter = tokenizers.pre_tokenizers.BertPreTokenizer()

    def __missing__(self, point: int) -> str:
        made = self[point] = self.make(point)
        return made

    def make(self, point: int) -> str:
        """What the table holds for a code point."""
        if 0xD800 <= point <= 0xDFFF:  # half a pair, no character: decoders make it U+FFFD, which BERT drops
            return ""
        return "".join(map(self._between_spaces, self._normalizer.normalize_str(chr(point))))

    def _between_spaces(self, character: str) -> str:
        alone = len(self._splitter.pre_tokenize_str("a" + character)) > 1
        return f" {character} " if alone else character


class _Words(dict):
    """Word → its token ids, by transformers' own WordPiece when it is first met."""

    def __init__(self, model: tokenizers.models.WordPiece):
        super().__init__()
        self._model = model

    def __missing__(self, word: str) -> tuple[int, ...]:
        if len(self) >= _WORDS_REMEMBERED:
            self.clear()
        ids = tuple(token.id for token in self._model.tokenize(word))
        if len(word) <= MAX_WORD_CHARACTERS:
            self[word] = ids
        return ids


@dataclass(frozen=True)
class Tokenizer:
    """A BERT tokenizer. Make it with `load_tokenizer`.

    Attributes:
        vocabulary: tokens in id order.
        lowercase: whether texts are lower-cased.
        strip_accents: whether accents are removed.
        tokenize_chinese_chars: whether each CJK ideograph is a word.
        ids: ids of the special tokens, by token.
    """

    vocabulary: tuple[str, ...]
    lowercase: bool
    strip_accents: bool
    tokenize_chinese_chars: bool
    ids: dict[str, int]
    _characters: Characters = field(repr=False, compare=False)
    _words: _Words = field(repr=False, compare=False)
    _located: tokenizers.Tokenizer = field(repr=False, compare=False)

    def __call__(self, text: str) -> list[int]:
        """The token ids of a text, without [CLS] and [SEP]."""
        if "[" in text and _SPECIAL.search(text):
            return self._with_special_tokens(text)
        return list(
            chain.from_iterable(map(self._words.__getitem__, text.translate(self._characters).split()))
        )

    def locate(self, text: str) -> tuple[list[int], np.ndarray]:
        """The token ids of a text, as calling gives them, and int32 [tokens, 2]: where each begins and ends in the text.

        Places count characters (Unicode code points); a token ends before the second one.
        """
        # Half a pair of surrogates is no character to Hugging Face's tokenizer; U+FFFD is dropped like it.
        found = self._located.encode(_SURROGATE.sub("\ufffd", text), add_special_tokens=False)
        return found.ids, np.array(found.offsets, np.int32).reshape(-1, 2)

    def _with_special_tokens(self, text: str) -> list[int]:
        ids = []
        for i, part in enumerate(_SPECIAL.split(text)):
            ids += [self.ids[part]] if i % 2 else self(part)
        return ids


def load_tokenizer(
    vocabulary: Iterable[str],
    lowercase: bool,
    strip_accents: bool | None = None,
    tokenize_chinese_chars: bool = True,
) -> Tokenizer:
    """The tokenizer of a vocabulary.

    Args:
        vocabulary: tokens in id order; of a token that stands twice the later id counts, as in transformers.
        lowercase: whether texts are lower-cased.
        strip_accents: whether accents are removed; None follows `lowercase`, as in BERT.
        tokenize_chinese_chars: whether each CJK ideograph is a word.

    Raises:
        KftError: the vocabulary lacks a special token.
    """
    vocabulary = tuple(vocabulary)
    ids = {token: i for i, token in enumerate(vocabulary)}
    missing = [token for token in SPECIAL_TOKENS if token not in ids]
    if missing:
        raise KftError(
            f"the vocabulary has no {', '.join(missing)}", "is it a BERT vocabulary, copied whole?"
        )
    strip_accents = lowercase if strip_accents is None else strip_accents
    model = tokenizers.models.WordPiece(
        ids, unk_token="[UNK]", max_input_chars_per_word=MAX_WORD_CHARACTERS, continuing_subword_prefix="##"
    )
    return Tokenizer(
        vocabulary,
        lowercase,
        strip_accents,
        tokenize_chinese_chars,
        {token: ids[token] for token in SPECIAL_TOKENS},
        Characters(lowercase, strip_accents, tokenize_chinese_chars),
        _Words(model),
        _located_by(model, lowercase, strip_accents, tokenize_chinese_chars),
    )


def _located_by(model: tokenizers.models.WordPiece, *settings: bool) -> tokenizers.Tokenizer:
    """Hugging Face's own tokenizer, slower than `Tokenizer` and able to tell where tokens stand."""
    lowercase, strip_accents, chinese = settings
    located = tokenizers.Tokenizer(model)
    located.normalizer = tokenizers.normalizers.BertNormalizer(True, chinese, strip_accents, lowercase)
    located.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    located.add_special_tokens(list(SPECIAL_TOKENS))
    return located
