"""The few operations of which every family's forward pass is written, on three machines.

`on_keras` trains and predicts on packed rows, on every backend of Keras; `export.graph` makes the
graph of a SavedModel and `export.onnx_graph` that of an ONNX file, both for one example a row, of
which all read the same places [M]. A machine is an object with these methods; x and the results are
its own tensors. R rows, T tokens, M read places; A heads, D = H / A.

    embed(name, ids)                     rows of the table `name` for ids [R, T] → [R, T, H]
    compute(x), full(x)                  x in the type that layers compute in; in float32
    add(x, y)                            x + y
    multiply(x, y), scale(x, number)     x * y, x * number
    dense(name, x)                       x · kernel + bias, by the checkpoint's name; no bias where
                                         the checkpoint has none
    norm(name, x)                        LayerNorm over the last axis; the same of its bias
    activate(x, kind)                    one of ACTIVATIONS
    rms_norm(name, x, plus)              x / root mean square over the last axis * (scale + plus)
    split_heads(x, heads)                [R, M, H] → [R, A, M, D]; all heads where None is given
    merge_heads(x)                       [R, A, M, D] → [R, M, H]
    visible(example_ids, places)         which tokens see which: each those of its example. `places`
                                         [R, M] are the places that look, None for all. What comes
                                         back is the machine's own, for `attend` alone
    visible(example_ids, places, reach)  the same, and no farther apart than `reach` tokens
    visible(…, causal)                   the same, and none that come later
    attend(query, key, value, visible, bias, scale, cap)
                                         softmax attention of heads [R, A, M, D]; scores are
                                         products * scale (None for D ** -0.5) + bias [R, A, M, T],
                                         kept below `cap` by tanh where it is given. Fewer heads of
                                         keys and values serve a group of queries each
    cap(x, number)                       number * tanh(x / number)
    match(name, x)                       x · tableᵀ for the table `name`: [R, M, H] → [R, M, N]
    table(name)                          a whole table [1, N, H]
    distances(ids, places)               how many tokens each place, all for None, stands behind
                                         each token: int [R or 1, M, T], negative before it
    bucket(distances, numbers)           numbers[n + d] of an int array [2 n + 1] for each distance
                                         d from -n to n; farther ones count as the farthest
    products(x, y)                       x · yᵀ of heads: [R, A, M, D], [R, A, N, D] → [R, A, M, N]
    pick(x, buckets)                     x[r, a, m, buckets[r, m, t]]: [R, A, M, N] → [R, A, M, T]
    turn(x)                              the last two axes of heads exchanged
    flip(distances)                      the same of distances or buckets: [R, M, T] → [R, T, M]
    heads_first(x)                       [R, M, T, A] → [R, A, M, T]
    rotate(x, positions, rates)          heads [R, A, M, D] turned by their positions [R, M] times
                                         D / 2 rates: rotary embeddings, the first half of D
                                         with the second
    split(x, count)                      the last axis in so many equal parts
    take(x, places)                      [R, T, H] → [R, M, H]
    at_places(numbers, places)           [R, T] → [R, M]; all of them where places is None
    mean(x, example_ids, places)         [R, T, H] → [R, M, H], mean of the tokens of each example
    spans(x, spans)                      [R, T, H] → [R, M, P * H], means of the marked words
    join(vectors)                        side by side along the last axis
    drop(x, rate)                        dropout, in training alone

and the attributes `sizes` and `encoding` of the model.
"""

ACTIVATIONS = ("gelu_exact", "gelu_tanh", "relu", "silu", "tanh")
