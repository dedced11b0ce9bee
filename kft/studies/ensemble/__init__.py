"""One config → several runs, over seeds and folds of a cross-validation, and their account."""

from kft.studies.ensemble.results import FIELDS, text
from kft.studies.ensemble.running import resume, train

__all__ = ["FIELDS", "resume", "text", "train"]
