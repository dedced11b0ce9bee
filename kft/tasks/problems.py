"""What Hugging Face calls the problem that a head solves."""

ONE_CLASS = "single_label_classification"
SEVERAL_CLASSES = "multi_label_classification"
VALUE = "regression"
MULTIPLE_CHOICE = "multiple_choice"
