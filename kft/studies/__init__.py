"""Many runs: over seeds and folds, over settings, over the tasks of a benchmark."""
