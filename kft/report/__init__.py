"""Run directories → a table, curves.png and an HTML page, from JSON and Parquet, not Keras."""

from kft.report.history import curves
from kft.report.inline import show
from kft.report.page import report
from kft.report.table import summary

__all__ = ["curves", "report", "show", "summary"]
