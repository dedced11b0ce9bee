"""A run → a SavedModel in TensorFlow Serving's layout; raw text goes in where a graph is exact.

A tokenizer without one is kept beside the model as tokenizer.json, and the model takes token ids
alone: `tokens` gives logits, `answers_of_tokens` what `serving_default` gives elsewhere. `kft
serve` tokenizes for it. So it is with tasks that read many tokens of a text, whose `tokens` gives
the logits of each: `kft serve` cuts windows and makes the answers. Loading it needs TensorFlow and
`import tensorflow_text` (TensorFlow Serving has both), nothing else. A byte that is not UTF-8
counts as U+FFFD, which BERT drops: `b"good\\xff"` is answered as "good".
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kft import backend, runs
from kft.errors import KftError
from kft.export import proof, tokenizer_files
from kft.export.graph import Encoder, make_variables
from kft.export.source import Source
from kft.text import GraphTokenizer, Tokens, load_graph_tokenizer, pack, pack_windows

_METHODS = {"classify": "tensorflow/serving/classify", "regress": "tensorflow/serving/regress"}


def write(source: Source, folder: Path) -> dict[str, Any]:
    """Writes the SavedModel; returns the fields of export.json about it."""
    tf = backend.tensorflow()
    encoder = Encoder(source.architecture, make_variables(source.weights))
    module = tf.Module()
    module.weights = encoder.variables
    segmented = source.paired and source.architecture.kind.segments
    task, tokenizer = source.loaded.task.export, None
    compute = encoder.logits_of_tokens if task.every_token else encoder.logits
    signatures = {"tokens": _tokens_signature(compute, segmented, lambda logits: {"logits": logits})}
    if not task.every_token:
        tokenizer = load_graph_tokenizer(source.tokenizer)
    if tokenizer is not None:
        module.wordpiece = tokenizer.wordpiece
        module.answer = answer = _answer(source, encoder, tokenizer)
        texts = {"serving_default": answer.get_concrete_function()}
        signatures = texts | signatures | _example_signature(source, answer)
    elif not task.every_token:
        decode = functools.partial(task.in_graph, tf, learned=source.loaded.learned)
        signatures["answers_of_tokens"] = _tokens_signature(compute, segmented, decode)
    tf.saved_model.save(module, str(folder), signatures=signatures)
    _name_methods(folder, [name for name in signatures if name in _METHODS])
    described = {"signatures": {name: _described(signature) for name, signature in signatures.items()}}
    if tokenizer is not None:
        described |= {"invalid_utf8": "bytes that are not UTF-8 are left out of the text"}
        return described | ({"windows": _windows(source)} if source.in_windows else {})
    tokenizer_files.write(source, folder)
    note = "tokenizer   " + (
        "the model takes token ids and gives the logits of each token; `kft serve` splits texts by the "
        "tokenizer.json beside it, and answers as `kft predict` does"
        if task.every_token
        else f"{source.tokenizer.kind} has no exact TensorFlow graph: the model takes token ids, "
        "`kft serve` splits texts by the tokenizer.json beside it"
    )
    described |= {"invalid_utf8": "bytes that are not UTF-8 count as U+FFFD", "notes": [note]}
    return described | (_for_server(source) if task.every_token else {})


def prove(source: Source, folder: Path) -> dict[str, Any]:
    """Proves a SavedModel: all of its signatures, in a fresh process, answer as the run does.

    Returns:
        {"comparison", "benchmark"}.

    Raises:
        KftError: they do not.
    """
    expected = proof.reference(source)
    # Rows of tokens are those of cut texts, and texts are answered whole.
    answered = proof.reference(source, windows=True) if source.in_windows else expected
    answers = _bare_answers(source, expected.tokens, answered, folder)
    logits = expected.flat(answers["tokens"]["logits"])
    task, texts = source.loaded.task.export, "serving_default" in answers
    if task.every_token:
        comparison = proof.compare_logits(source, expected, logits)
    else:
        serving = answers["serving_default" if texts else "answers_of_tokens"]
        decided = serving[task.decided] if task.decided else None
        wanted = answered if texts else expected
        comparison = proof.compare(source, wanted, serving[task.numbers], decided)
    proof.check(comparison, "the SavedModel")
    if texts:
        _check_signatures(source, answers, task.numbers)
    else:
        tokenizer_files.check(source, expected, folder)
    comparison["tokens_max_logit_difference"] = proof.logit_difference(source, expected, logits)
    return {"comparison": comparison, "benchmark": answers["benchmark"]}


def _check_signatures(source: Source, answers: dict[str, Any], name: str) -> None:
    """The other ways to ask give what `serving_default` gives.

    They are: one by one, as tf.Example, with stray bytes, nothing.
    """
    serving, allowed = answers["serving_default"], proof.tolerance(source)
    alone = [answer[name][0] for answer in answers["alone"]]
    pairs = {
        "texts one by one": (alone, serving[name]),
        "stray bytes": (answers["invalid"][name], serving[name]),
    }
    signature = source.loaded.task.export.signature
    if signature == "regress":
        pairs["regress"] = (answers["regress"]["outputs"], serving[name])
    elif signature == "classify":
        pairs["classify"] = (answers["classify"]["scores"], serving[name])
        if not answers["classify"]["classes"] == serving["labels"] == [source.labels] * len(serving[name]):
            raise KftError("the SavedModel has other labels than the run", proof.FAULT_HINT)
    if any(len(value) for value in answers["empty"].values()):
        raise KftError("the SavedModel answers a request without texts", proof.FAULT_HINT)
    for what, (got, wanted) in pairs.items():
        difference = np.abs(np.subtract(got, wanted[: len(got)])).max(initial=0)
        if not difference <= allowed:
            raise KftError(
                f"the SavedModel answers {what} otherwise, by up to {difference:.2g}", proof.FAULT_HINT
            )


def _bare_answers(source: Source, tokens: Tokens, answered: proof.Reference, folder: Path) -> dict[str, Any]:
    ids, segments, mask = proof.padded(tokens)
    rows = {"token_ids": ids, "padding_mask": mask} | (
        {"segment_ids": segments} if source.paired and source.architecture.kind.segments else {}
    )
    request = {
        "names": answered.frame.columns,
        "rows": {name: array.tolist() for name, array in rows.items()},
        **proof.texts_of(source, answered),
    }
    return proof.in_fresh_process("on_tensorflow.py", folder, request)


def text_names(source: Source) -> list[str]:
    """The names of the texts of an example, as its task calls them."""
    names = source.loaded.task.texts
    return [names.get(name, name) for name in (["text", "text_pair"] if source.paired else ["text"])]


def _for_server(source: Source) -> dict[str, Any]:
    """What export.json says for the answers that the server makes of the logits of each token."""
    stride = source.loaded.inputs.stride
    windows = {} if stride is None else {"windows": {"stride": stride}}
    return windows | {"learned": runs.without_labels(source.loaded.learned)}


def _windows(source: Source) -> dict[str, Any]:
    """What export.json says of windows that the graph makes."""
    return {"stride": source.loaded.inputs.stride, "merged": source.architecture.windows}


def _answer(source: Source, encoder: Encoder, tokenizer: GraphTokenizer) -> Any:
    """A function: strings [N] → the named answers [N, …]."""
    tf, task = backend.tensorflow(), source.loaded.task
    parts = source.tokenizer.frame(source.architecture.kind.template, source.paired)
    stride = source.loaded.inputs.stride
    merge = {"mean": tf.math.segment_mean, "max": tf.math.segment_max}[source.architecture.windows]

    def answer(text: Any, text_pair: Any = None) -> dict[str, Any]:
        first = tokenizer.tokenize(text)
        second = None if text_pair is None else tokenizer.tokenize(text_pair)
        if not source.in_windows:
            logits = encoder.logits_of_ragged(*pack(first, second, parts, source.max_length))
        else:
            *rows, example = pack_windows(first, second, parts, source.max_length, stride)
            logits = merge(encoder.logits_of_ragged(*rows), example)
        return task.export.in_graph(tf, logits, source.loaded.learned)

    texts = [tf.TensorSpec([None], tf.string, name) for name in text_names(source)]
    return tf.function(answer, input_signature=texts, autograph=False)


def _tokens_signature(
    compute: Callable[..., Any], segmented: bool, decode: Callable[[Any], dict[str, Any]]
) -> Any:
    """Of padded token ids: what `decode` makes of the logits that `compute` gives."""
    tf = backend.tensorflow()
    names = ("token_ids", "padding_mask", "segment_ids") if segmented else ("token_ids", "padding_mask")

    def answer(token_ids: Any, padding_mask: Any, segment_ids: Any = None) -> dict[str, Any]:
        segments = tf.zeros_like(token_ids) if segment_ids is None else segment_ids
        return decode(compute(token_ids, segments, padding_mask))

    return _with_signature([tf.TensorSpec([None, None], tf.int32, name) for name in names], answer)


def _example_signature(source: Source, answer: Any) -> dict[str, Any]:
    """TensorFlow Serving's classify or regress, over serialized `tf.Example`s of the texts."""
    tf = backend.tensorflow()
    features = {name: tf.io.FixedLenFeature([], tf.string) for name in text_names(source)}

    def parse(examples: Any) -> dict[str, Any]:
        parsed = tf.io.parse_example(examples, features)
        return answer(*(parsed[name] for name in features))

    def classify(inputs: Any) -> dict[str, Any]:
        answers = parse(inputs)
        return {"classes": answers["labels"], "scores": answers["probabilities"]}

    def regress(inputs: Any) -> dict[str, Any]:
        return {"outputs": parse(inputs)["value"]}

    name = source.loaded.task.export.signature
    if name is None:
        return {}
    work = {"classify": classify, "regress": regress}[name]
    return {name: _with_signature([tf.TensorSpec([None], tf.string, "inputs")], work)}


def _with_signature(specs: list[Any], work: Any) -> Any:
    """A concrete function with named inputs."""
    tf = backend.tensorflow()
    return tf.function(work, autograph=False).get_concrete_function(**{spec.name: spec for spec in specs})


def _described(signature: Any) -> dict[str, Any]:
    """Name → type and shape of the inputs and outputs."""
    positional, named = signature.structured_input_signature
    inputs = {spec.name: spec for spec in (*positional, *named.values()) if spec is not None}
    sides = {"inputs": inputs, "outputs": signature.structured_outputs}
    return {
        side: {
            name: f"{spec.dtype.name} {spec.shape.as_list()}".replace("None", "*")
            for name, spec in specs.items()
        }
        for side, specs in sides.items()
    }


def _name_methods(folder: Path, names: list[str]) -> None:
    """TensorFlow Serving asks for its own names; `tf.saved_model.save` calls all "predict"."""
    tf = backend.tensorflow()
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(folder))
    for name in names:
        updater.replace_method_name(signature_key=name, method_name=_METHODS[name])
    updater.save()
