"""The few operations of which every family's forward pass is written, on three machines.

`on_keras` trains and predicts on packed rows, on every backend of Keras; `export.graph` makes the
graph of a SavedModel and `export.onnx_graph` that of an ONNX file, both for one example a row, of
which all read the same places [M]. A machine is an object with these methods; x and the results are
its own tensors. R rows, T tokens, M read places; A heads, D = H / A.

    embed(name, ids)                     rows of the table `name` for ids [R, T] → [R, T, H]
    compute(x), full(x)                  x in the type that layers compute in; in float32
    add(x, y)                            x + y
    dense(name, x)                       x · kernel + bias, by the checkpoint's name
    norm(name, x)                        LayerNorm over the last axis
    activate(x, kind)                    one of ACTIVATIONS
    split_heads(x), merge_heads(x)       [R, M, H] ↔ [R, A, M, D]
    visible(example_ids, places)         which tokens see which: each those of its example. `places`
                                         [R, M] are the places that look, None for all. What comes
                                         back is the machine's own, for `attend` alone
    attend(query, key, value, visible)   softmax attention of heads [R, A, M, D]
    take(x, places)                      [R, T, H] → [R, M, H]
    mean(x, example_ids, places)         [R, T, H] → [R, M, H], mean of the tokens of each example
    spans(x, spans)                      [R, T, H] → [R, M, P * H], means of the marked words
    join(vectors)                        side by side along the last axis
    drop(x, rate)                        dropout, in training alone

and the attributes `sizes` and `encoding` of the model.
"""

ACTIVATIONS = ("gelu_exact", "gelu_tanh", "relu", "silu", "tanh")
