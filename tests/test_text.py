"""Tokens: transformers' ids for every text, in Python and in TensorFlow; kept on disk."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED_DATA, SPECIAL
from hypothesis import given, settings
from hypothesis import strategies as st

from kft.errors import KftError
from kft.models import presets
from kft.text import (
    BERT,
    Tokenizer,
    Tokens,
    bert_tokenizer,
    cache,
    encode,
    encode_cached,
    length_account,
    load_graph_tokenizer,
    pack,
    read_vocabulary,
    rules_of,
    vocabulary_lines,
)

transformers = pytest.importorskip("transformers")

HARD = [
    "",
    " ",
    "\n\t\r \x0b\x0c\x1c\x85\u2028\u2029\u3000\xa0",
    "a\x00b a\ufffdb a\u200bb a\u00adb a\ue000b \U0010fff0\U0010fff3 \U0010ffff",
    "José Männer naïve coöperate ﬁne Ⅷ ½ ß ẞ ŉ ǆ ÅÅ",
    "e\u0301\u0323 \u0323\u0301e a\u0315\u0300\u05ae\u0062",
    "İstanbul IĞDIR ı Σίσυφος ΟΔΟΣ ΣΑΣ ΙΧΣ ὀδυσσεύς",
    "我爱北京天安门 豈更 𠀀𪜀 \U0002b820\U0002b900\U0002b920 ㍿ 々 〇",
    "カタカナ ﾊﾝｶｸ が が 한국어 각 각 ᄀ",
    "สวัสดีครับ हिन्दी தமிழ் ខ្មែរ ကော עִבְרִית العربيّة",
    "👍🏽 👨‍👩‍👧 🇩🇪 ☺️ ✂︎ 1️⃣ \U000e0067\U000e007f 😀",
    "“smart” ‘quotes’ … — – • © ® ™ ° € £ ¥ ¬ ~ ` ^ $ < > | = + _",
    "don't e-mail a.b.c 3.14 $5.00 http://x.org/?q=a&b=c#d user@example.com @you #tag",
    "[SEP] a[MASK]b [CLS][PAD] [UNK]ed [sep] [ SEP ] [[SEP]] [SE\U0010fff0P] [SE\x01P] [SEP",
    "##ing # ## ##a a##b",
    "x" * 100 + " " + "x" * 101 + " " + "é" * 100 + " " + "é" * 101,
    "ж" * 60 + " " + "ж" * 100 + " " + "ж" * 101 + " " + "ก" * 99 + " " + "𝒳" * 100 + " " + "각" * 34,
    "a" * 100 + "\u0301 " + "a" * 50 + "\u200b" + "a" * 50,
    "antidisestablishmentarianism " * 30,
]
SETTINGS = {  # name → arguments of load_tokenizer
    "uncased": {"lowercase": True},
    "cased": {"lowercase": False},
    "lower-cased with accents": {"lowercase": True, "strip_accents": False},
    "cased without accents": {"lowercase": False, "strip_accents": True, "tokenize_chinese_chars": False},
}


def strings_in(value) -> list[str]:
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [string for part in parts for string in strings_in(part)]


def texts_of(file: Path) -> list[str]:
    """Every string of a JSON or JSONL file, every line of another."""
    content = file.read_text("utf-8")
    if file.suffix not in (".json", ".jsonl"):
        return content.split("\n")
    try:
        return strings_in(json.loads(content))
    except ValueError:
        return strings_in([json.loads(line) for line in content.split("\n") if line.strip()])


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    """Texts of every file in shared/data: all that look hard, a part of the plain English."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the data sets of shared/data are not here")
    files = [f for f in sorted(SHARED_DATA.rglob("*")) if f.is_file() and f.suffix != ".gz"]
    texts = list(dict.fromkeys(text for file in files for text in texts_of(file)))
    plain = re.compile(r"[\t -Z\\-~]*")  # ASCII without [
    return [text for i, text in enumerate(texts) if i % 16 == 0 or not plain.fullmatch(text)]


@pytest.fixture(scope="module")
def vocabulary() -> list[str]:
    return list(rules_of(presets.locate("all_minilm_l6_v2_en").tokenizer).vocabulary)


@pytest.fixture(scope="module")
def cased_vocabulary() -> list[str]:
    """Words of hard and English texts, letters, and following pieces; some odd, one twice."""
    words = Counter(re.findall(r"\w+|[^\w\s]", " ".join(HARD)))
    words.update(
        [
            "The",
            "the",
            "Film",
            "film",
            "was",
            "WAS",
            "good",
            "José",
            "Männer",
            "München",
            "é",
            "É",
            "Σ",
            "σ",
            "ς",
            "I",
            "İ",
            "i",
            "A",
            "man",
            "in",
        ]
    )
    letters = {letter for word in words for letter in word} | set(map(chr, range(33, 0x250)))
    pieces = [
        *(word for word in words if len(word.encode()) <= 256),
        *sorted(letters),
        *("##" + letter for letter in sorted(letters)),
        "##ing",
        "##ed",
        "##in",
    ]
    return [*SPECIAL, *dict.fromkeys(pieces), "\u2028", "b ", " ", "##", "film"]


@pytest.fixture(scope="module")
def pairs_of_tokenizers(vocabulary, cased_vocabulary):
    """name → (ours, transformers')."""
    pairs = {}
    for name, options in SETTINGS.items():
        words = vocabulary if name == "uncased" else cased_vocabulary
        theirs = transformers.BertTokenizerFast(
            vocab={token: i for i, token in enumerate(words)},
            do_lower_case=options["lowercase"],
            strip_accents=options.get("strip_accents"),
            tokenize_chinese_chars=options.get("tokenize_chinese_chars", True),
        )
        pairs[name] = (bert_tokenizer(words, **options), theirs)
    return pairs


@pytest.fixture(scope="module")
def graph_tokenizers(pairs_of_tokenizers):
    return {name: load_graph_tokenizer(pairs_of_tokenizers[name][0]) for name in ("uncased", "cased")}


@pytest.fixture(scope="module")
def graphs(graph_tokenizers):
    """name → function from texts to lists of ids, which runs in a graph."""
    from kft import backend

    tf = backend.tensorflow()
    signature = [tf.TensorSpec([None], tf.string)]

    def run(name):
        compiled = tf.function(graph_tokenizers[name].tokenize, input_signature=signature, autograph=False)
        return lambda texts: compiled(tf.constant(texts, tf.string)).to_list()

    return {name: run(name) for name in graph_tokenizers}


def expected_ids(theirs, texts: list[str]) -> list[list[int]]:
    return [row.ids for row in theirs.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def assert_same(texts, got, expected):
    wrong = [(text, f, e) for text, f, e in zip(texts, got, expected, strict=True) if f != e]
    assert not wrong, f"{len(wrong)} of {len(texts)} texts differ, the first one: {wrong[0]}"


def rows(tokens: Tokens) -> list[list[int]]:
    return [tokens.ids[a:b].tolist() for a, b in zip(tokens.offsets, tokens.offsets[1:], strict=False)]


# --- Equal to transformers


@pytest.mark.parametrize("name", SETTINGS)
def test_hard_texts(pairs_of_tokenizers, name):
    ours, theirs = pairs_of_tokenizers[name]
    got = [ours(text) for text in HARD]
    assert_same(HARD, got, expected_ids(theirs, HARD))
    # encode_batch_fast is not what users call
    assert_same(HARD, got, theirs(HARD, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("name", ["uncased", "cased"])
def test_hard_texts_in_a_graph(pairs_of_tokenizers, graphs, name):
    assert_same(HARD, graphs[name](HARD), expected_ids(pairs_of_tokenizers[name][1], HARD))


@pytest.mark.parametrize("name", ["uncased", "cased"])
def test_real_texts(pairs_of_tokenizers, graphs, corpus, name):
    ours, theirs = pairs_of_tokenizers[name]
    texts = corpus if name == "uncased" else corpus[::4]
    expected = expected_ids(theirs, texts)
    assert_same(texts, [ours(text) for text in texts], expected)
    in_graph = [ids for i in range(0, len(texts), 4096) for ids in graphs[name](texts[i : i + 4096])]
    assert_same(texts, in_graph, expected)


ALPHABET = st.one_of(
    st.characters(exclude_categories=["Cs"]),
    st.sampled_from(sorted({character for text in HARD for character in text})),
    st.sampled_from(["[SEP]", "[MASK]", " ", "ing", "##", "film", "The"]),
)
TEXTS = st.lists(st.lists(ALPHABET, max_size=30).map("".join), min_size=1, max_size=20)


@pytest.mark.parametrize("name", SETTINGS)
@settings(max_examples=150, deadline=None)
@given(texts=TEXTS)
def test_any_text(pairs_of_tokenizers, name, texts):
    ours, theirs = pairs_of_tokenizers[name]
    assert_same(texts, [ours(text) for text in texts], expected_ids(theirs, texts))


@pytest.mark.parametrize("name", ["uncased", "cased"])
@settings(max_examples=100, deadline=None)
@given(texts=TEXTS)
def test_any_text_in_a_graph(pairs_of_tokenizers, graphs, name, texts):
    assert_same(texts, graphs[name](texts), expected_ids(pairs_of_tokenizers[name][1], texts))


def test_every_character(pairs_of_tokenizers, graph_tokenizers):
    """The words of each character beside others, in Python, in the graph, in transformers."""
    from kft import backend

    tf = backend.tensorflow()
    for name, step in (("uncased", 1), ("cased", 16)):
        ours, theirs = pairs_of_tokenizers[name]
        graph = graph_tokenizers[name]
        whole = theirs.backend_tokenizer
        # Above plane 3 nearly nothing is assigned, and every seventh character lies in each block
        # of the tables.
        everything = [*range(0, 0x40000, step), *range(0x40000, 0x110000, 7)]
        points = [p for p in everything if not (0xD800 <= p < 0xE000 or 0x10FFF0 <= p <= 0x10FFF4)]
        texts = ["".join(f"a{chr(p)}b " for p in points[i : i + 4096]) for i in range(0, len(points), 4096)]
        flat, splits = graph._normalize(tf.strings.unicode_decode(texts, "UTF-8"))
        spelled = tf.strings.unicode_encode(tf.RaggedTensor.from_row_splits(flat, splits), "UTF-8").numpy()
        for text, in_graph in zip(texts, spelled, strict=True):
            translated = text.translate(ours.encode.__self__.characters)
            words = whole.pre_tokenizer.pre_tokenize_str(whole.normalizer.normalize_str(text))
            assert translated.split() == [word for word, _ in words]
            assert translated == in_graph.decode()


def test_half_a_surrogate_pair_is_dropped(pairs_of_tokenizers):
    """transformers refuses such strings; json.loads makes them."""
    ours, _ = pairs_of_tokenizers["uncased"]
    assert ours(json.loads('"fi\\ud83dlm"')) == ours("film")


def test_memory_of_words_is_bounded(monkeypatch, vocabulary):
    from kft.text.tokenizers import wordpiece

    monkeypatch.setattr(wordpiece, "_WORDS_REMEMBERED", 10)
    ours = bert_tokenizer(vocabulary, True)
    many = " ".join(f"word{i}" for i in range(100)) + " " + "x" * 1000
    assert ours(many) == bert_tokenizer(vocabulary, True)(many)
    assert len(ours.encode.__self__.words) <= 10


# --- Rows


def test_rows_of_single_texts(pairs_of_tokenizers):
    ours, theirs = pairs_of_tokenizers["uncased"]
    for max_length in (3, 4, 9, 512):
        tokens = encode(ours, BERT, HARD, None, max_length)
        assert_same(HARD, rows(tokens), theirs(HARD, truncation=True, max_length=max_length)["input_ids"])
        assert tokens.second_starts.tolist() == np.diff(tokens.offsets).tolist()
        assert tokens.full_lengths.tolist() == [len(ids) for ids in theirs(HARD)["input_ids"]]
    assert (tokens.ids.dtype, tokens.offsets.dtype) == (np.int32, np.int64)
    assert tokens.second_starts.dtype == tokens.full_lengths.dtype == np.int32


LENGTHS = range(12)
FIRSTS = ["film " * a for a in LENGTHS for _ in LENGTHS]
SECONDS = ["good " * b for _ in LENGTHS for b in LENGTHS]


@pytest.mark.parametrize("max_length", range(3, 28))
def test_pairs_are_truncated_as_in_transformers(pairs_of_tokenizers, max_length):
    ours, theirs = pairs_of_tokenizers["uncased"]
    tokens = encode(ours, BERT, FIRSTS, SECONDS, max_length)
    expected = theirs(FIRSTS, SECONDS, truncation="longest_first", max_length=max_length)
    assert rows(tokens) == expected["input_ids"]
    assert tokens.second_starts.tolist() == [segments.index(1) for segments in expected["token_type_ids"]]
    assert tokens.full_lengths.tolist() == [a + b + 3 for a in LENGTHS for b in LENGTHS]


@pytest.mark.parametrize("paired", [False, True])
def test_several_processes_make_the_same_rows(pairs_of_tokenizers, monkeypatch, paired):
    tokenizer, _ = pairs_of_tokenizers["uncased"]
    texts = [f"{text} {i}" for i in range(3) for text in HARD]
    pairs = texts[::-1] if paired else None
    alone = encode(tokenizer, BERT, texts, pairs, 24, located=True)
    monkeypatch.setattr("kft.text.rows.PARALLEL_TEXTS", len(texts))
    monkeypatch.setattr("kft.text.rows.PIECE_TEXTS", 7)
    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    together = encode(tokenizer, BERT, texts, pairs, 24, located=True)
    for name in ("ids", "offsets", "second_starts", "full_lengths", "characters"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(together, name), err_msg=name)
        assert getattr(alone, name).dtype == getattr(together, name).dtype, name


def test_a_graph_packs_as_encode_does(pairs_of_tokenizers, graph_tokenizers):
    from kft import backend

    tf = backend.tensorflow()
    ours, graph = pairs_of_tokenizers["cased"][0], graph_tokenizers["cased"]
    first, second = graph.tokenize(tf.constant(FIRSTS)), graph.tokenize(tf.constant(SECONDS))
    for max_length in (3, 4, 5, 8, 9, 16, 17, 28):
        ids, segments = pack(first, second, ours.frame(BERT, True), max_length)
        tokens = encode(ours, BERT, FIRSTS, SECONDS, max_length)
        assert ids.to_list() == rows(tokens)
        starts = tokens.second_starts.tolist()
        assert segments.to_list() == [
            [0] * s + [1] * (n - s) for s, n in zip(starts, np.diff(tokens.offsets), strict=True)
        ]
        ids, segments = pack(first, None, ours.frame(BERT, False), max_length)
        assert ids.to_list() == rows(encode(ours, BERT, FIRSTS, None, max_length))
        assert not np.any(segments.flat_values)


def test_a_token_too_long_for_a_graph():
    never = bert_tokenizer([*SPECIAL, "é" * 200], False)
    assert load_graph_tokenizer(never).tokenize(["é" * 200, "é"]).to_list() == [[1], [1]]
    with pytest.raises(KftError, match="more than 256 bytes"):
        load_graph_tokenizer(bert_tokenizer([*SPECIAL, "ก" * 100], False))


def test_a_graph_takes_no_texts(graphs):
    assert graphs["uncased"]([]) == []


def test_a_saved_model_tokenizes_alike_in_another_language(pairs_of_tokenizers, graph_tokenizers, tmp_path):
    """A Turkish server: TensorFlow's own lower-casing would make ındıa of INDIA there."""
    from kft import backend

    tf = backend.tensorflow()
    ours, graph = pairs_of_tokenizers["uncased"][0], graph_tokenizers["uncased"]
    module, parts = tf.Module(), ours.frame(BERT, True)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)] * 2, autograph=False)
    def serve(firsts, seconds):
        return pack(graph.tokenize(firsts), graph.tokenize(seconds), parts, 24)[0].to_tensor()

    module.serve = serve
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=serve.get_concrete_function())
    firsts, seconds = [*HARD, "INDIA [SEP]"], ["Istanbul IS GOOD"] * (len(HARD) + 1)
    (tmp_path / "texts.json").write_text(json.dumps([firsts, seconds]))
    code = (
        "import json, sys, tensorflow as tf, tensorflow_text\n"
        "texts = json.load(open(sys.argv[2]))\n"
        "print(json.dumps(tf.saved_model.load(sys.argv[1]).serve(*map(tf.constant, texts)).numpy().tolist()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "saved"), str(tmp_path / "texts.json")],
        env=os.environ | {"LC_ALL": "tr_TR.UTF-8", "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        check=True,
    )
    expected = rows(encode(ours, BERT, firsts, seconds, 24))
    longest = max(map(len, expected))
    assert json.loads(done.stdout) == [row + [0] * (longest - len(row)) for row in expected]


def test_account(pairs_of_tokenizers):
    ours, _ = pairs_of_tokenizers["uncased"]
    tokens = encode(ours, BERT, ["film " * n for n in range(1, 101)], None, 50)  # 3 to 102 tokens
    assert length_account(tokens, 50) == {
        "mean": 52.5,
        "p50": 52,
        "p90": 92,
        "p95": 97,
        "p99": 101,
        "max": 102,
        "truncated_fraction": 0.52,
    }
    assert set(length_account(encode(ours, BERT, [], None, 50), 50).values()) == {None}


# --- Kept on disk


@pytest.fixture
def tokenizer(cased_vocabulary) -> Tokenizer:
    return bert_tokenizer(cased_vocabulary, True)


def same(one: Tokens, other: Tokens) -> bool:
    fields = ("ids", "offsets", "second_starts", "full_lengths")
    return all(
        getattr(one, f).dtype == getattr(other, f).dtype
        and np.array_equal(getattr(one, f), getattr(other, f))
        for f in fields
    )


@pytest.mark.parametrize("pairs", [None, HARD[::-1]], ids=["single", "pairs"])
def test_a_second_call_reads_the_same_rows_from_disk(tokenizer, tmp_path, monkeypatch, pairs):
    folder = tmp_path / "deep" / "cache"
    first = encode_cached(tokenizer, BERT, HARD, pairs, 16, folder)
    assert same(first, encode(tokenizer, BERT, HARD, pairs, 16))
    monkeypatch.setattr(cache, "encode", None)
    second = encode_cached(tokenizer, BERT, HARD, pairs, 16, folder)
    assert same(first, second)
    assert isinstance(second.ids, np.memmap)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [file.suffix for file in folder.iterdir()] == [".npy"]


def test_no_texts_can_be_kept(tokenizer, tmp_path):
    for _ in range(2):
        tokens = encode_cached(tokenizer, BERT, [], None, 16, tmp_path)
        assert (len(tokens.ids), tokens.offsets.tolist()) == (0, [0])


def test_half_a_surrogate_pair_can_be_kept(tokenizer, tmp_path):
    assert same(
        encode_cached(tokenizer, BERT, ["a\ud800b"], None, 16, tmp_path),
        encode(tokenizer, BERT, ["ab"], None, 16),
    )


def test_the_cache_is_the_users_unless_set(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("KFT_CACHE_DIR", str(tmp_path / "mine"))
    encode_cached(tokenizer, BERT, ["film"], None, 16)
    assert len(list((tmp_path / "mine" / "tokens").glob("*.npy"))) == 1


def test_whatever_changes_the_rows_changes_the_key(cased_vocabulary, tmp_path):
    calls = [
        (cased_vocabulary, {"lowercase": True}, ["ab", "c"], None, 16),
        (cased_vocabulary, {"lowercase": True}, ["a", "bc"], None, 16),
        (cased_vocabulary, {"lowercase": True}, ["abc"], None, 16),
        (cased_vocabulary, {"lowercase": True}, ["ab", "c"], ["", ""], 16),
        (cased_vocabulary, {"lowercase": True}, ["ab", "c"], None, 17),
        (cased_vocabulary, {"lowercase": False}, ["ab", "c"], None, 16),
        (cased_vocabulary, {"lowercase": True, "strip_accents": False}, ["ab", "c"], None, 16),
        (cased_vocabulary, {"lowercase": True, "tokenize_chinese_chars": False}, ["ab", "c"], None, 16),
        ([*cased_vocabulary, "abc"], {"lowercase": True}, ["ab", "c"], None, 16),
    ]
    for number, (words, options, texts, pairs, max_length) in enumerate(calls, start=1):
        encode_cached(bert_tokenizer(words, **options), BERT, texts, pairs, max_length, tmp_path)
        assert len(list(tmp_path.iterdir())) == number


def cut(content: bytes) -> bytes:
    return content[:-40]


def flip(content: bytes) -> bytes:
    return content[:-4] + bytes([content[-4] ^ 1]) + content[-3:]


@pytest.mark.parametrize("spoil", [cut, flip, lambda _: b"", lambda _: b"not an array"])
def test_a_damaged_file_is_made_again(tokenizer, tmp_path, caplog, spoil):
    expected = encode_cached(tokenizer, BERT, HARD, None, 16, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(spoil(whole := file.read_bytes()))
    assert same(encode_cached(tokenizer, BERT, HARD, None, 16, tmp_path), expected)
    assert file.read_bytes() == whole
    assert "is damaged" in caplog.text


def test_a_folder_that_cannot_be_used_only_costs_time(tokenizer, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    tokens = encode_cached(tokenizer, BERT, HARD, None, 16, tmp_path / "file" / "cache")
    assert same(tokens, encode(tokenizer, BERT, HARD, None, 16))
    assert "tokens are not kept" in caplog.text


def test_a_full_disk_only_costs_time(tokenizer, tmp_path, monkeypatch, caplog):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    tokens = encode_cached(tokenizer, BERT, HARD, None, 16, tmp_path)
    assert same(tokens, encode(tokenizer, BERT, HARD, None, 16))
    assert "No space left on device" in caplog.text
    assert not list(tmp_path.iterdir())


def test_the_files_unused_for_longest_make_room(tokenizer, tmp_path, monkeypatch):
    def kept() -> set[Path]:
        return set(tmp_path.iterdir())

    files = []
    for i in range(3):
        before = kept()
        encode_cached(tokenizer, BERT, [f"text {i}"], None, 16, tmp_path)
        files += kept() - before
    for age, file in enumerate(files):
        os.utime(file, (1000 - age, 1000 - age))  # the first one is the youngest
    size = files[0].stat().st_size
    monkeypatch.setattr(cache, "CACHE_BYTES", 3 * size)
    encode_cached(tokenizer, BERT, ["text 1"], None, 16, tmp_path)  # used now
    encode_cached(tokenizer, BERT, ["text 3"], None, 16, tmp_path)
    assert len(kept()) == 3
    assert files[2] not in kept()
    monkeypatch.setattr(cache, "CACHE_BYTES", 10)
    encode_cached(tokenizer, BERT, ["text 4"], None, 16, tmp_path)  # alone too big to keep
    assert len(kept()) == 3


# --- Vocabulary


def test_a_vocabulary_survives_its_file(tmp_path, cased_vocabulary):
    odd = [*cased_vocabulary, "", "\r", "\x85", "\x0b", " x ", "\ufeff", "日本"]
    (tmp_path / "vocabulary.txt").write_bytes(vocabulary_lines(odd))
    assert read_vocabulary(tmp_path / "vocabulary.txt") == odd


def test_vocabulary_mistakes(tmp_path):
    file = tmp_path / "vocabulary.txt"
    with pytest.raises(KftError, match="is missing"):
        read_vocabulary(file)
    for content in (b"a\nb", b"\xff\n"):
        file.write_bytes(content)
        with pytest.raises(KftError, match="is damaged"):
            read_vocabulary(file)
    with pytest.raises(KftError, match="token 1 of the vocabulary holds a line feed"):
        vocabulary_lines(["a", "b\nc"])
    with pytest.raises(KftError, match=r"no \[CLS\], \[MASK\]"):
        bert_tokenizer(["[PAD]", "[UNK]", "[SEP]", "film"], True)


def test_importing_tokens_imports_neither_keras_nor_tensorflow():
    code = (
        "import sys; from kft.text import bert_tokenizer\n"
        "t = bert_tokenizer(['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'film'], True)\n"
        "assert t('Film') == [5]\n"
        "heavy = {'keras', 'tensorflow', 'jax', 'torch', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
