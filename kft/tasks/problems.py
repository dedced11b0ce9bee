"""What Hugging Face calls the problem that a head solves."""

ONE_CLASS = "single_label_classification"
SEVERAL_CLASSES = "multi_label_classification"
VALUE = "regression"
MULTIPLE_CHOICE = "multiple_choice"
# transformers has no `problem_type` for these two; their heads read tokens, not a row.
TOKEN_CLASSES = "token_classification"
ANSWERS = "question_answering"
NEXT_TOKEN = "next_token"  # of language models, whose head is their vocabulary
