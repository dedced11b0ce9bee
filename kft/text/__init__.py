"""Text → token ids, equal to transformers' `BertTokenizerFast` for every text; once, then kept on disk.

Training and prediction tokenize in Python (`text`): BERT treats each character whatever its neighbours are, so one
`str.translate` and one look-up per word do it, on one core 3 times as fast as Hugging Face's tokenizers on two. A SavedModel
carries the same tables as TensorFlow operations (`graph`). Both tables are filled by Hugging Face's own normaliser and
WordPiece, so there is one definition of the tokens.
"""

from kft.text.cache import encode_cached
from kft.text.frames import encode_frame
from kft.text.rows import Tokens, account, encode, find_spans
from kft.text.tokenizers.wordpiece import Tokenizer, load_tokenizer
from kft.text.tokenizers.wordpiece_graph import GraphTokenizer, load_graph_tokenizer
from kft.text.vocabulary import read_vocabulary, save_vocabulary

__all__ = [
    "GraphTokenizer",
    "Tokenizer",
    "Tokens",
    "account",
    "encode",
    "encode_cached",
    "encode_frame",
    "find_spans",
    "load_graph_tokenizer",
    "load_tokenizer",
    "read_vocabulary",
    "save_vocabulary",
]
