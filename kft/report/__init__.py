"""Run directories → a plain table, curves.png and one HTML page; reads JSON, TOML and Parquet,
never Keras.
"""

from kft.report.history import curves
from kft.report.inline import show
from kft.report.page import report
from kft.report.table import summary

__all__ = ["curves", "report", "show", "summary"]
