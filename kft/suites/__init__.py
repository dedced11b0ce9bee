"""GLUE and SuperGLUE: every task trained over seeds, scored by the benchmark's rules, answers ready for its server.

`kft.suites.running.run` trains, and needs Keras; what stands here does not.
"""

from kft.suites.records import SUITES
from kft.suites.submission import check
from kft.suites.summary import text

__all__ = ["SUITES", "check", "text"]
