"""Searches settings: a grid, random ones, or ones that Optuna guides; any number of processes share
a study.

`space` and `storage` need no Keras; `working` trains.
"""
