"""Searches settings by a grid, at random or with Optuna, in any number of processes.

`space` and `storage` need no Keras; `working` trains.
"""
