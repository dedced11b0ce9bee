"""Random checkpoints of any family, written by transformers: the tiny world of families."""

from collections.abc import Callable
from pathlib import Path

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
    config = transformers.AutoConfig.for_model(family, **SIZES, **CONFIGS[family], **settings)
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


TOKENIZERS = {
    "bert": _wordpiece,
    "distilbert": _wordpiece,
    "electra": _wordpiece,
    "roberta": _byte_bpe,
    "xlm-roberta": _unigram("XLMRobertaTokenizer", ["<s>", "<pad>", "</s>", "<unk>"], "<mask>"),
    "albert": _unigram("AlbertTokenizer", ["<pad>", "<unk>", "[CLS]", "[SEP]"], "[MASK]"),
    "deberta-v2": _unigram("DebertaV2Tokenizer", ["[PAD]", "[CLS]", "[SEP]", "[UNK]"], "[MASK]"),
}
