"""A file, folder or name of TFDS → a config that trains, and why it says what it says."""

from kft.guess.writing import init, text

__all__ = ["init", "text"]
