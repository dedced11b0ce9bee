"""The texts that an export is tried on: many alphabets, many lengths, and some of the run's own."""

import numpy as np
import polars as pl

from kft.export.source import Source
from kft.text import Tokenizer

_OWN_TEXTS = 64  # texts of the run's validation split
_ALPHABETS = (
    "",
    " \t\n ",
    "a",
    "The quick brown fox jumps over the lazy dog.",
    "JOSÉ's naïve café — “über” £12.50…",
    "Männer, Straße, İstanbul, ĲSSEL, ﬁnance",
    "Съешь же ещё этих мягких французских булок",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία",
    "דג סקרן שט בים מאוכזב",
    "نص حكيم له سر قاطع وذو شأن عظيم",
    "ऋषियों को सताने वाले दुष्ट राक्षसों",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า",
    "天地玄黃，宇宙洪荒。日月盈昃，辰宿列張。",
    "いろはにほへと ちりぬるを カタカナ",
    "키스의 고유조건은 입술끼리 만나야 한다",
    "🙂👩‍👩‍👧 🇩🇪 \U0001f9ff",
    "full-width：ＡＢＣ１２３　no\u00a0break\u2009thin\u200bzero",
    "control\u0000\u0007\ufeff\ufffdcharacters",
    "[CLS] literal [SEP] special [MASK] tokens [UNK] [PAD]",
    "x" * 99 + " " + "y" * 101,
    "https://example.org/a_b?c=d&e=f#g @you #tag 50% <b>$x_1^2$</b>",
    "\U00020000\U0002a6d6 e\u0301 \u1e9b\u0323 \u2126",
)


def sample_texts(source: Source) -> pl.DataFrame:
    """Texts in many alphabets, from 1 word to twice `max_length`, and some of the run's own."""
    rng = np.random.default_rng(0)
    words = _words(source.tokenizer)
    limit = source.max_length
    counts = sorted(
        {1, 2, 3, 5, 8, 13, limit // 4, limit // 2, limit - 3, limit - 2, limit - 1, limit, 2 * limit}
    )
    generated = [" ".join(rng.choice(words, count)) for count in counts if count > 0 for _ in range(3)]
    generated += ["".join(chr(point) for point in rng.integers(33, 0x3000, 40)) for _ in range(10)]
    own = own_texts(source)
    firsts = [*_ALPHABETS, *generated, *own["text"]]
    if not source.paired:
        return pl.DataFrame({"text": firsts})
    seconds = [*rng.permutation([*_ALPHABETS, *generated]), *own["text_pair"]]
    return pl.DataFrame({"text": firsts, "text_pair": list(map(str, seconds))})


def _words(tokenizer: Tokenizer) -> list[str]:
    """Tokens that may begin a word; in the vocabularies of some kinds after a space.

    No special ones: transformers counts no position for a padding token inside a text.
    """
    special = {*tokenizer.special_tokens.values()}
    tokens = sorted(tokenizer.vocabulary.keys() - special, key=tokenizer.vocabulary.get)
    if tokenizer.kind != "wordpiece":
        tokens = [token[1:] for token in tokens if token[:1] in ("Ġ", "▁") and token[1:].isalpha()]
    return [token for token in tokens if not token.startswith(("##", "["))] or ["a"]


def own_texts(source: Source) -> pl.DataFrame:
    """The first texts of the run's validation split; none where a copied run lacks it."""
    names = ["text", "text_pair"] if source.paired else ["text"]
    file = source.loaded.run.split("validation")
    if not file.exists():
        return pl.DataFrame(schema=dict.fromkeys(names, pl.String))
    return pl.read_parquet(file, columns=names).head(_OWN_TEXTS).fill_null("")
