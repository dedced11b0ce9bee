"""One config → several runs, over seeds and the folds of a cross-validation, and one account of all
of them.
"""

from kft.studies.ensemble.results import FIELDS, text
from kft.studies.ensemble.running import resume, train

__all__ = ["FIELDS", "resume", "text", "train"]
