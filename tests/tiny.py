"""Random checkpoints of any family, written by transformers: the tiny world of families."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kft.text import templates

SIZES = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.3,
}
_ROBERTA = {
    "max_position_embeddings": 34,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
# What differs from family to family; the other values are SIZES.
CONFIGS = {
    "distilbert": {"vocab_size": 40, "max_position_embeddings": 32, "hidden_dim": 16, "dropout": 0.1},
    "bert": {"vocab_size": 40, "max_position_embeddings": 32, "layer_norm_eps": 1e-12},
    "electra": {"vocab_size": 40, "max_position_embeddings": 32, "embedding_size": 4},
    "roberta": _ROBERTA | {"vocab_size": 300},
    "xlm-roberta": _ROBERTA | {"vocab_size": 60},
    "mpnet": {
        "vocab_size": 40,
        "max_position_embeddings": 34,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    },
    "modernbert": {
        "vocab_size": 300,
        "max_position_embeddings": 32,
        "num_hidden_layers": 4,
        "global_attn_every_n_layers": 3,
        "local_attention": 4,
        "mlp_dropout": 0.1,
        "embedding_dropout": 0.1,
        "attention_dropout": 0.1,
        "classifier_dropout": 0.1,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "cls_token_id": 0,
        "sep_token_id": 2,
    },
    "albert": {
        "vocab_size": 60,
        "max_position_embeddings": 32,
        "embedding_size": 4,
        "hidden_act": "gelu_pytorch_tanh",
        "classifier_dropout_prob": 0.1,
    },
    "deberta-v2": {
        "vocab_size": 60,
        "max_position_embeddings": 32,
        "relative_attention": True,
        "position_buckets": 6,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
        "pos_att_type": ["p2c", "c2p"],
    },
}


def make(
    folder: Path, family: str, kind: str | None = None, labels: list[str] | None = None, **settings
) -> Path:
    """A folder that transformers saved: config.json, model.safetensors and the tokenizer's files.

    Args:
        folder: to make.
        family: a key of `FAMILIES`.
        kind: of its head, a key of `Family.heads`; None makes the bare encoder.
        labels: of a classifier's head.
        settings: other values of config.json.
    """
    import torch
    import transformers

    from kft.models.families import FAMILIES

    record = FAMILIES[family]
    if labels:
        settings |= {
            "id2label": dict(enumerate(labels)),
            "label2id": {name: i for i, name in enumerate(labels)},
        }
    config = transformers.AutoConfig.for_model(family, **SIZES | CONFIGS[family] | settings)
    name = record.heads[kind].architecture if kind else record.architecture
    torch.manual_seed(0)
    model = getattr(transformers, name)(config)
    with torch.no_grad():  # biases and norms too, which start at 0 and 1
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    TOKENIZERS[family](folder)
    return folder


def _wordpiece(folder: Path) -> None:
    import transformers
    from conftest import VOCABULARY

    vocabulary = {token: i for i, token in enumerate(VOCABULARY)}
    transformers.BertTokenizerFast(vocab=vocabulary, do_lower_case=True).save_pretrained(folder)


def _mpnet(folder: Path) -> None:
    import transformers
    from conftest import VOCABULARY

    tokens = ["<s>", "<pad>", "</s>", "[UNK]", *VOCABULARY[5:], "<mask>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    transformers.MPNetTokenizer(vocab=vocabulary).save_pretrained(folder)


def _modernbert(folder: Path) -> None:
    """Byte-level BPE with BERT's special tokens."""
    import tokenizers
    import transformers

    _byte_bpe(folder)
    renamed = {"<s>": "[CLS]", "<pad>": "[PAD]", "</s>": "[SEP]", "<unk>": "[UNK]", "<mask>": "[MASK]"}
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text("utf-8"))
    content["model"]["vocab"] = {renamed.get(t, t): i for t, i in content["model"]["vocab"].items()}
    for entry in content["added_tokens"]:
        entry["content"] = renamed[entry["content"]]
    content["post_processor"] = templates.post_processor(templates.BERT, content["model"]["vocab"])
    made = tokenizers.Tokenizer.from_str(json.dumps(content))
    roles = {f"{role}_token": f"[{role.upper()}]" for role in ("cls", "sep", "pad", "mask", "unk")}
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, **roles).save_pretrained(folder)


def _byte_bpe(folder: Path) -> None:
    import transformers
    from tokenizers.pre_tokenizers import ByteLevel

    merges = [
        ("Ġ", "f"),
        ("Ġf", "i"),
        ("l", "m"),
        ("Ġfi", "lm"),
        ("o", "o"),
        ("Ġ", "g"),
        ("Ġg", "oo"),
        ("Ġgoo", "d"),
    ]
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *sorted(ByteLevel.alphabet()), *map("".join, merges), "<mask>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    transformers.RobertaTokenizerFast(vocab=vocabulary, merges=merges).save_pretrained(folder)


def _unigram(kind: str, special: list[str], mask: str) -> Callable[[Path], None]:
    """A function that writes a tokenizer of some pieces and every letter."""

    def write(folder: Path) -> None:
        import transformers

        pieces = [(f"▁{word}", -3.0) for word in ("the", "a", "good", "bad", "film", "plot")]
        letters = [(letter, -6.0) for letter in "▁abcdefghijklmnopqrstuvwxyz.,!"]
        vocabulary = [*((token, 0.0) for token in special), *pieces, *letters, (mask, 0.0)]
        getattr(transformers, kind)(vocab=vocabulary).save_pretrained(folder)

    return write


def sentencepiece_model(**settings) -> bytes:
    """A unigram model that SentencePiece trains on a few sentences."""
    sentencepiece = pytest.importorskip("sentencepiece")
    texts = [
        "the quick brown fox",
        "good film, 3,000 people",
        "what a bad plot it was",
        "two words here and there",
        "the earth is round",
    ]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts * 8),
        model_writer=model,
        vocab_size=40,
        model_type="unigram",
        minloglevel=2,
        **settings,
    )
    return model.getvalue()


# KerasHub's class → how its model is trained.
SENTENCEPIECE = {
    "XLMRobertaTokenizer": {"unk_id": 0, "bos_id": 1, "eos_id": 2},
    "AlbertTokenizer": {
        "pad_id": 0,
        "unk_id": 1,
        "bos_id": 2,
        "eos_id": 3,
        "pad_piece": "<pad>",
        "bos_piece": "[CLS]",
        "eos_piece": "[SEP]",
        "user_defined_symbols": "[MASK]",
    },
    "DebertaV3Tokenizer": {
        "pad_id": 0,
        "bos_id": 1,
        "eos_id": 2,
        "unk_id": 3,
        "pad_piece": "[PAD]",
        "bos_piece": "[CLS]",
        "eos_piece": "[SEP]",
        "unk_piece": "[UNK]",
    },
}


def keras_hub_tokenizer(kind: str):
    """A tokenizer of KerasHub's of the class `kind`."""
    import keras_hub
    from conftest import VOCABULARY
    from tokenizers.pre_tokenizers import ByteLevel

    make = getattr(keras_hub.models, kind)
    if kind in SENTENCEPIECE:
        return make(proto=sentencepiece_model(**SENTENCEPIECE[kind]))
    if kind == "RobertaTokenizer":
        tokens = ["<s>", "<pad>", "</s>", "<unk>", *sorted(ByteLevel.alphabet()), "Ġf", "<mask>"]
        return make(vocabulary={token: i for i, token in enumerate(tokens)}, merges=["Ġ f"])
    return make(vocabulary=VOCABULARY)


TOKENIZERS = {
    "bert": _wordpiece,
    "distilbert": _wordpiece,
    "electra": _wordpiece,
    "roberta": _byte_bpe,
    "modernbert": _modernbert,
    "mpnet": _mpnet,
    "xlm-roberta": _unigram("XLMRobertaTokenizer", ["<s>", "<pad>", "</s>", "<unk>"], "<mask>"),
    "albert": _unigram("AlbertTokenizer", ["<pad>", "<unk>", "[CLS]", "[SEP]"], "[MASK]"),
    "deberta-v2": _unigram("DebertaV2Tokenizer", ["[PAD]", "[CLS]", "[SEP]", "[UNK]"], "[MASK]"),
}


# --- Decoders

DECODER = {
    "vocab_size": 300,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 16384,
    "initializer_range": 0.4,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 1,
}
_ANY = ("vocab_size", "initializer_range", "bos_token_id", "eos_token_id", "pad_token_id")


def make_decoder(folder: Path, family: str, kind: str = "next_token", **settings) -> Path:
    """A folder that transformers saved of a random decoder, byte-level BPE beside it."""
    import torch
    import transformers

    from kft.models.families import FAMILIES

    shared = DECODER if "n_embd" not in settings else {k: v for k, v in DECODER.items() if k in _ANY}
    config = transformers.AutoConfig.for_model(family, **shared | settings)
    torch.manual_seed(0)
    model = getattr(transformers, FAMILIES[family].heads[kind].architecture)(config)
    with torch.no_grad():  # biases and norms too, which start at 0 and 1
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    _byte_bpe(folder)
    return folder
