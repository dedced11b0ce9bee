"""GLUE and SuperGLUE: tasks trained over seeds, scored by their rules, answers for the server.

`kft.studies.suites.running.run` trains, and needs Keras; what stands here does not.
"""

from kft.studies.suites.records import SUITES
from kft.studies.suites.submission import check
from kft.studies.suites.summary import text

__all__ = ["SUITES", "check", "text"]
