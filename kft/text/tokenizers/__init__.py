"""Text → token ids, a file for each kind of tokenizer."""
