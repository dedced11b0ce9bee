"""Text → token ids → the tokens of a model's examples, once, then kept on disk.

Each kind of tokenizer gives the same ids as transformers for every text (`kft.text.tokenizers`); a
family's template says which special tokens stand around the texts of an example
(`kft.text.templates`).
"""

from kft.text.cache import encode_cached
from kft.text.frames import encode_frame
from kft.text.graph_rows import pack, pack_windows
from kft.text.rows import Tokens, encode, find_spans, length_account
from kft.text.stored import read_tokenizer, save_tokenizer, tokenizer_entry
from kft.text.templates import BERT, ROBERTA, Template
from kft.text.tokenizers import KINDS, Tokenizer, begin_with_space, load_tokenizer
from kft.text.tokenizers.wordpiece import Rules, bert_tokenizer, rules_of
from kft.text.tokenizers.wordpiece_graph import GraphTokenizer, load_graph_tokenizer
from kft.text.vocabulary import read_vocabulary, vocabulary_lines

__all__ = [
    "BERT",
    "KINDS",
    "ROBERTA",
    "GraphTokenizer",
    "Rules",
    "Template",
    "Tokenizer",
    "Tokens",
    "begin_with_space",
    "bert_tokenizer",
    "encode",
    "encode_cached",
    "encode_frame",
    "find_spans",
    "length_account",
    "load_graph_tokenizer",
    "load_tokenizer",
    "pack",
    "pack_windows",
    "read_tokenizer",
    "read_vocabulary",
    "rules_of",
    "save_tokenizer",
    "tokenizer_entry",
    "vocabulary_lines",
]
