"""From the encoder's vectors to logits: what a head reads of an example, by `blocks`."""

from typing import Any

from kft.models.architecture import Architecture
from kft.models.families import HeadLayers


def logits(blocks: Any, architecture: Architecture, inputs: dict[str, Any], places: Any) -> Any:
    """float32 [R, M, C] of the places [R, M]; without an example they are finite and mean nothing.

    The head reads a place's own vector through the family's pooler ("cls"), or the mean of its
    example's tokens ("mean"); and beside it the mean of each marked word (`inputs["spans"]` [R, M,
    P, 2]) in the last layer.
    """
    run, layers = architecture.kind.run, architecture.head
    if architecture.pooling == "cls" and not architecture.spans:
        vectors = _pool(blocks, layers, run(blocks, inputs, places), architecture.head_dropout)
    else:  # more than the places themselves is read
        x = run(blocks, inputs, None)  # [R, T, H]
        if architecture.pooling == "mean":
            vectors = blocks.mean(x, inputs["example_ids"], places)
        else:
            vectors = _pool(blocks, layers, blocks.take(x, places), architecture.head_dropout)
        if architecture.spans:
            vectors = blocks.join([vectors, blocks.spans(x, inputs["spans"])])
    vectors = blocks.full(vectors)
    if layers.dropped:
        vectors = blocks.drop(vectors, architecture.head_dropout)
    return blocks.dense(layers.output, vectors)


def _pool(blocks: Any, layers: HeadLayers, vectors: Any, rate: float) -> Any:
    if layers.pooler is None:
        return vectors
    if layers.dropped_before_pooler:
        vectors = blocks.drop(vectors, rate)
    vectors = blocks.activate(blocks.dense(layers.pooler, vectors), layers.activation)
    return vectors if layers.norm is None else blocks.norm(layers.norm, vectors)
