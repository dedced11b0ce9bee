"""Runs side by side on the same rows: scores, significance, and where they disagree.

Needs no Keras: it reads what runs predicted when they were trained.
"""

from kft.report.compare.comparing import FIELDS, compare, read, trained_on, write_disagreements
from kft.report.compare.text import text

__all__ = ["FIELDS", "compare", "read", "text", "trained_on", "write_disagreements"]
