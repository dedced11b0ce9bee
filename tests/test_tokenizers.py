"""Tokenizers of every kind: transformers' ids, places in the text, and templates."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import VOCABULARY, make_bert_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from test_text import HARD, assert_same, rows
from test_text import corpus as corpus

from kft.errors import KftError
from kft.models.presets import tokenizer_files
from kft.text import BERT, KINDS, ROBERTA, begin_with_space, encode, load_graph_tokenizer, rules_of
from kft.text.templates import sequences_of

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

NASTY = [
    *HARD,
    "two  spaces   three    four",
    "  lead and trail  ",
    "tab\there\t\tthere\n\nlines\r\n \n",
    "123 4567 3.14 1,000,000 ²½ 0x1F",
    "don't they're I'll we'd I'm you've 's ' S 'S DON'T can''t",
    "<s> in </s> the <mask> text<pad><unk>",
    " <mask> x a<mask>b <MASK> < mask >",
    "``quoted'' \"plainly\"",
    "x" * 5000,
    "ж" * 2000 + "👍" * 500,
    "ＡＢＣ ﬁ Ⅷ ㍿",
]
HALVES = ["\ud83d half", "half \udc00", "\udc00\ud83d"]
WORDS = " ".join(NASTY).split()


def byte_bpe(folder: Path) -> Path:
    """A RoBERTa tokenizer of its own merges, as transformers saves it."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=800,
        special_tokens=special,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*NASTY, *WORDS], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocabulary = model["vocab"] | {"<mask>": len(model["vocab"])}
    merges = [tuple(pair) for pair in model["merges"]]
    transformers.RobertaTokenizerFast(vocab=vocabulary, merges=merges).save_pretrained(folder)
    return folder


def unigram(folder: Path, kind: str) -> Path:
    """An XLM-RoBERTa or ALBERT tokenizer of its own pieces, as transformers saves it."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.Unigram())
    tokenizer.normalizer = tokenizers.normalizers.NFKC()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    trainer = tokenizers.trainers.UnigramTrainer(vocab_size=700, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator([*NASTY, *WORDS, *map(str.lower, WORDS)], trainer)
    pieces = [(p, s) for p, s in json.loads(tokenizer.to_str())["model"]["vocab"] if p != "<unk>"]
    special, maker = {
        "xlm-roberta": (["<s>", "<pad>", "</s>", "<unk>"], transformers.XLMRobertaTokenizer),
        "albert": (["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"], transformers.AlbertTokenizer),
        "deberta-v2": (["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"], transformers.DebertaV2Tokenizer),
    }[kind]
    vocabulary = [*((token, 0.0) for token in special), *pieces]
    vocabulary += [("<mask>", 0.0)] if kind == "xlm-roberta" else []
    maker(vocab=vocabulary).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tokenizers")
    written = {kind: unigram(root / kind, kind) for kind in ("xlm-roberta", "albert", "deberta-v2")}
    added = transformers.BertTokenizerFast(vocab={token: i for i, token in enumerate(VOCABULARY)})
    added.add_tokens(["newword", "Two Words"])
    added.add_special_tokens({"additional_special_tokens": ["<user>"]})
    added.save_pretrained(root / "added")
    return written | {"roberta": byte_bpe(root / "roberta"), "added": root / "added"}


NAMES = {
    "roberta": "byte_bpe",
    "xlm-roberta": "unigram",
    "albert": "unigram",
    "deberta-v2": "unigram",
    "added": "wordpiece",
}


@pytest.fixture(scope="module")
def pairs(folders) -> dict:
    """name → (ours, transformers')."""
    return {
        name: (
            tokenizer_files.huggingface(name, folder, 10_000),
            transformers.AutoTokenizer.from_pretrained(folder),
        )
        for name, folder in folders.items()
    }


def expected_ids(theirs, texts: list[str]) -> list[list[int]]:
    return theirs(texts, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("name", NAMES)
def test_nasty_texts(pairs, name):
    ours, theirs = pairs[name]
    assert ours.kind == NAMES[name] in KINDS
    assert_same(NASTY, ours.encode(NASTY), expected_ids(theirs, NASTY))
    assert [ours(text) for text in NASTY] == ours.encode(NASTY)


@pytest.mark.parametrize("name", NAMES)
def test_real_texts(pairs, corpus, name):
    ours, theirs = pairs[name]
    texts = corpus[::40]
    assert_same(texts, ours.encode(texts), expected_ids(theirs, texts))


PARTS = ["<s>", "<mask>", "[CLS]", "newword", "<user>", "'s", "  ", " film", "İ"]
ALPHABET = st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(PARTS))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.lists(ALPHABET, max_size=30).map("".join), min_size=1, max_size=20))
def test_any_text(pairs, name, texts):
    ours, theirs = pairs[name]
    assert_same(texts, ours.encode(texts), expected_ids(theirs, texts))


@pytest.mark.parametrize("name", NAMES)
def test_half_a_surrogate_pair_counts_as_a_replacement_character(pairs, name):
    """transformers refuses such strings; json.loads makes them."""
    ours, theirs = pairs[name]
    for text in HALVES:
        whole = text.replace("\ud83d", "\ufffd").replace("\udc00", "\ufffd")
        assert ours(text) == ours.locate(text)[0] == expected_ids(theirs, [whole])[0]


@pytest.mark.parametrize("name", NAMES)
def test_places_are_those_of_transformers_without_spaces(pairs, name):
    ours, theirs = pairs[name]
    for text in NASTY:
        ids, places = ours.locate(text)
        assert ids == ours(text)
        expected = theirs(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        for (begin, end), (first, last) in zip(places.tolist(), expected, strict=True):
            assert text[begin:end] == text[first:last].strip() or begin == end
            assert first <= begin <= end <= last or begin == end
    if name in ("roberta", "xlm-roberta"):
        _, places = ours.locate("a 👍 ä film")
        assert (
            "".join("a 👍 ä film"[b:e] for b, e in dict.fromkeys(map(tuple, places.tolist()))) == "a👍äfilm"
        )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("max_length", [5, 8, 9, 17, 64])
def test_rows_are_cut_as_in_transformers(pairs, name, max_length):
    ours, theirs = pairs[name]
    template = ROBERTA if name in ("roberta", "xlm-roberta") else BERT
    firsts = [text for text in NASTY for _ in range(3)]
    seconds = [NASTY[(7 * i) % len(NASTY)] for i in range(len(firsts))]
    cut = {"truncation": "longest_first", "max_length": max_length}
    assert rows(encode(ours, template, firsts, None, max_length)) == theirs(firsts, **cut)["input_ids"]
    tokens = encode(ours, template, firsts, seconds, max_length)
    expected = theirs(firsts, seconds, **cut)
    assert rows(tokens) == expected["input_ids"]
    for i, start in enumerate(tokens.second_starts):
        belongs = [word == 1 for word in expected.sequence_ids(i)]
        end = len(belongs) - 1
        assert belongs == [start <= place < end for place in range(len(belongs))]


def test_a_row_needs_room_for_its_special_tokens(pairs):
    with pytest.raises(KftError, match="a row has 4 special tokens"):
        encode(pairs["roberta"][0], ROBERTA, ["a"], ["b"], 3)
    with pytest.raises(KftError, match="the tokenizer has no token"):
        encode(
            pairs["added"][0].__class__(**vars(pairs["added"][0]) | {"sequences": None}),
            ROBERTA,
            ["a"],
            None,
            8,
        )


def test_older_files_of_byte_bpe(folders, tmp_path):
    """vocab.json and merges.txt, as transformers reads them and as KerasHub's assets."""
    model = json.loads((folders["roberta"] / "tokenizer.json").read_text("utf-8"))["model"]
    hub = tmp_path / "hub" / "assets" / "tokenizer"
    hub.mkdir(parents=True)
    merges = "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in model["merges"])
    for vocabulary, place in ((tmp_path / "vocab.json", tmp_path), (hub / "vocabulary.json", hub)):
        vocabulary.write_text(json.dumps(model["vocab"]), "utf-8")
        (place / "merges.txt").write_text(merges, "utf-8")
    (tmp_path / "config.json").write_text('{"model_type": "roberta"}')
    (tmp_path / "hub" / "tokenizer.json").write_text('{"class_name": "RobertaTokenizer", "config": {}}')
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for ours in (
        tokenizer_files.huggingface("x", tmp_path, 1000),
        tokenizer_files.keras_hub("x", tmp_path / "hub", 1000),
    ):
        assert_same(NASTY, ours.encode(NASTY), expected_ids(theirs, NASTY))
        tokens = encode(ours, ROBERTA, NASTY, NASTY[::-1], 24)
        assert rows(tokens) == theirs(NASTY, NASTY[::-1], truncation=True, max_length=24)["input_ids"]
        assert ours.special_tokens["cls_token"] == "<s>"


def test_the_prefix_space_is_that_of_tokenizer_config(folders, tmp_path):
    folder = shutil.copytree(folders["roberta"], tmp_path / "spaced")
    content = json.loads((folder / "tokenizer_config.json").read_text()) | {"add_prefix_space": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(content))
    ours = tokenizer_files.huggingface("x", folder, 1000)
    assert ours("film") == ours(" film")
    assert_same(
        NASTY, ours.encode(NASTY), expected_ids(transformers.AutoTokenizer.from_pretrained(folder), NASTY)
    )


def test_lists_of_words_are_tokenized_as_for_a_token_classifier(folders):
    theirs = transformers.AutoTokenizer.from_pretrained(folders["roberta"], add_prefix_space=True)
    rows = [["film"], ["a", "good", "film", "."], ["Don't", "#stop", "42", "😀", "naïve"], ["x", "film"]]
    plain = tokenizer_files.huggingface("x", folders["roberta"], 1000)
    ours, texts = begin_with_space(plain), [" ".join(row) for row in rows]
    expected = [theirs(row, is_split_into_words=True, add_special_tokens=False) for row in rows]
    assert_same(texts, ours.encode(texts), [encoded["input_ids"] for encoded in expected])
    assert plain("film") != ours("film")
    assert begin_with_space(ours).content == ours.content
    for row, text, encoded in zip(rows, texts, expected, strict=True):
        starts = np.cumsum([0] + [len(word) + 1 for word in row])
        offsets = ours.locate(text)[1]
        assert (np.searchsorted(starts, offsets[:, 0], "right") - 1).tolist() == encoded.word_ids()
        assert [text[begin:end][:1] for begin, end in offsets].count(" ") == 0


def test_added_tokens_need_vectors(folders):
    with pytest.raises(KftError, match=f"tokens in the vocabulary, {len(VOCABULARY)} in the model"):
        tokenizer_files.huggingface("x", folders["added"], len(VOCABULARY))


def test_added_tokens_of_a_decoder_that_have_no_vectors_are_left_out(folders):
    ours = tokenizer_files.huggingface("x", folders["added"], len(VOCABULARY), spare=True)
    assert ours.size <= len(VOCABULARY)
    whole = tokenizer_files.huggingface("x", folders["added"], 1000)
    left_out = [token for token, i in whole.ids.items() if i >= len(VOCABULARY)]
    assert left_out
    assert max(max(ids, default=0) for ids in ours.encode(left_out)) < len(VOCABULARY)


def test_older_files_of_gpt2(folders, tmp_path):
    """vocab.json and merges.txt alone, as of the first checkpoints."""
    model = json.loads((folders["roberta"] / "tokenizer.json").read_text("utf-8"))["model"]
    special = {"<s>", "<pad>", "</s>", "<unk>", "<mask>"}
    tokens = [token for token in model["vocab"] if token not in special] + ["<|endoftext|>"]
    (tmp_path / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}), "utf-8")
    merges = "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in model["merges"])
    (tmp_path / "merges.txt").write_text(merges, "utf-8")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = tokenizer_files.huggingface("x", tmp_path, len(tokens))
    texts = [*NASTY, "a<|endoftext|>b"]
    assert_same(texts, ours.encode(texts), theirs(texts)["input_ids"])
    roles = ("bos_token", "eos_token", "unk_token")
    assert {role: getattr(theirs, role) for role in roles} == ours.special_tokens


def test_only_berts_own_rules_have_tables_and_a_graph(pairs, tmp_path):
    plain = tokenizer_files.huggingface("x", make_bert_folder(tmp_path / "bert"), 100)
    assert rules_of(plain).lowercase
    for ours, _ in pairs.values():
        assert rules_of(ours) is None
        assert load_graph_tokenizer(ours) is None


def test_letters_before_bytes(tmp_path):
    """The tokenizer.json of Llama 2 and Gemma: BPE of letters, bytes for those that it lacks."""
    import transformers

    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens = [*special, "▁", *"abcdefilmgo", "fi", "lm", "film", "▁film"]
    merges = [("f", "i"), ("l", "m"), ("fi", "lm"), ("▁", "film")]
    theirs = transformers.LlamaTokenizer(vocab={t: i for i, t in enumerate(tokens)}, merges=merges)
    theirs.save_pretrained(tmp_path)
    ours = tokenizer_files.huggingface("x", tmp_path, len(tokens))
    assert ours.kind == "bpe"
    for text in ("a film", "film  film", "", " é\n漢", "</s> mild"):
        assert ours(text) == theirs(text, add_special_tokens=False)["input_ids"], text


def test_another_kind_is_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_text(
        json.dumps({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "pre_tokenizer": None})
    )
    with pytest.raises(KftError, match="holds a BPE model without bytes as letters"):
        tokenizer_files.huggingface("x", tmp_path, 10)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "spiece.model").write_bytes(b"")
    with pytest.raises(KftError, match="its tokenizer is in spiece.model"):
        tokenizer_files.huggingface("x", tmp_path, 10)


def test_rows_of_a_tokenizer_json():
    roberta = {"type": "RobertaProcessing", "cls": ["<s>", 0], "sep": ["</s>", 2]}
    assert sequences_of({"type": "Sequence", "processors": [{"type": "ByteLevel"}, roberta]}) == (
        ROBERTA.single,
        ROBERTA.pair,
    )
    assert sequences_of(roberta | {"type": "BertProcessing"})[1] == ("<s>", "$A", "</s>", "$B", "</s>")
    assert sequences_of({"type": "ByteLevel"}) is None
    assert sequences_of(None) is None


def test_no_texts(pairs):
    for ours, _ in pairs.values():
        assert ours.encode([]) == []
        assert ours.locate("")[1].shape == (0, 2)
        assert np.array_equal(encode(ours, BERT if rules_of(ours) else ROBERTA, [], None, 8).offsets, [0])
