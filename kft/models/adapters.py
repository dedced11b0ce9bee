"""What of a backbone trains and what it starts from: low-rank adapters, new top layers."""

from kft import backend

backend.select()

import keras  # noqa: E402

# What each target of LoRA names in a layer of KerasHub's encoder.
LORA_TARGETS = {
    "query": lambda layer: [layer._self_attention_layer._query_dense],
    "key": lambda layer: [layer._self_attention_layer._key_dense],
    "value": lambda layer: [layer._self_attention_layer._value_dense],
    "output": lambda layer: [layer._self_attention_layer._output_dense],
    "feedforward": lambda layer: [layer._feedforward_intermediate_dense, layer._feedforward_output_dense],
}


def add_lora(backbone, rank: int, alpha: float, targets: list[str], seed: int) -> None:
    """Adds low-rank adapters (Hu et al. 2021) to kernels of each layer and fixes every other weight of the backbone.

    Keras's own: A of shape [*kernel.shape[:-1], rank] and B [rank, kernel.shape[-1]], so the queries, keys and values of
    each head have an A of their own. The pooler trains on, as the head does.
    """
    pooler = {id(v) for v in backbone.pooled_dense.variables}
    for variable in backbone.variables:
        variable.trainable = id(variable) in pooler
    parts = [
        part
        for layer in backbone.transformer_layers
        for name in targets
        for part in LORA_TARGETS[name](layer)
    ]
    for i, dense in enumerate(parts):
        dense.enable_lora(
            rank, lora_alpha=alpha, a_initializer=keras.initializers.HeUniform(seed=seed * 1000 + i)
        )


def reinitialise(backbone, layers: int, seed: int) -> None:
    """Draws the top layers and the pooler anew, as BERT's own start (Zhang et al. 2021, "Revisiting Few-sample BERT").

    Kernels from a normal distribution of deviation 0.02 cut at two, biases 0, LayerNorm 1 and 0.
    """
    if not layers:
        return
    parts = [*backbone.transformer_layers[-layers:], backbone.pooled_dense]
    variables = [v for part in parts for v in part.weights]
    for i, variable in enumerate(variables):
        if variable.name in ("bias", "beta", "gamma"):
            value = keras.ops.full(variable.shape, float(variable.name == "gamma"))
        else:
            value = keras.initializers.TruncatedNormal(stddev=0.02, seed=seed * 1000 + i)(variable.shape)
        variable.assign(value)
