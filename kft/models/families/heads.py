"""The heads that transformers puts on an encoder, as several families have them."""

from typing import Any

from kft.models.families.record import ANSWERS, MULTIPLE_CHOICE, SEQUENCE, TOKEN_CLASSES, HeadLayers

POOLER = "pooler.dense"


def of_tokens(name: str) -> dict[str, HeadLayers]:
    """The heads that read every token.

    Args:
        name: with which transformers' classes of the family begin, such as "Bert".
    """
    return {
        TOKEN_CLASSES: HeadLayers(f"{name}ForTokenClassification", output="classifier"),
        ANSWERS: HeadLayers(f"{name}ForQuestionAnswering", output="qa_outputs", dropped=False),
    }


def of_first_token(name: str, *layers: Any, **more: Any) -> dict[str, HeadLayers]:
    """The heads that read one token, alike in their layers: the arguments of `HeadLayers`."""
    kinds = {SEQUENCE: "SequenceClassification", MULTIPLE_CHOICE: "MultipleChoice"}
    return {kind: HeadLayers(f"{name}For{use}", *layers, **more) for kind, use in kinds.items()}


def with_pooler(name: str, pooler: str = POOLER) -> dict[str, HeadLayers]:
    """BERT's heads: those that read one token pass it through the encoder's own pooler."""
    return of_first_token(name, "classifier", pooler, True) | of_tokens(name)


def with_dense(name: str, activation: str = "tanh") -> dict[str, HeadLayers]:
    """RoBERTa's heads: the classifier has a dense layer of its own."""
    classifier = HeadLayers(
        f"{name}ForSequenceClassification",
        output="classifier.out_proj",
        pooler="classifier.dense",
        activation=activation,
        dropped_before_pooler=True,
    )
    return with_pooler(name) | {SEQUENCE: classifier}
