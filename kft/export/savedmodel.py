"""A run → a SavedModel that takes raw text, in TensorFlow Serving's layout.

Loading it needs TensorFlow and `import tensorflow_text` (TensorFlow Serving has both), nothing else. A byte that is
not UTF-8 counts as U+FFFD, which BERT drops: `b"good\\xff"` is answered as "good".
"""

from pathlib import Path
from typing import Any

from kft import backend
from kft.export.graph import Encoder, make_variables
from kft.export.source import Source
from kft.text import GraphTokenizer, load_graph_tokenizer, pack

_METHODS = {"classify": "tensorflow/serving/classify", "regress": "tensorflow/serving/regress"}


def write(source: Source, folder: Path) -> dict[str, Any]:
    """Writes the SavedModel; returns what export.json tells of it."""
    tf = backend.tensorflow()
    encoder = Encoder(source.architecture, make_variables(source.weights))
    tokenizer = load_graph_tokenizer(source.tokenizer)
    module = tf.Module()
    module.weights = encoder.variables
    module.wordpiece = tokenizer.wordpiece
    module.answer = answer = _answer(source, encoder, tokenizer)
    signatures = {
        "serving_default": answer.get_concrete_function(),
        "tokens": _tokens_signature(encoder, source.paired and source.architecture.kind.segments),
        **_example_signature(source, answer),
    }
    tf.saved_model.save(module, str(folder), signatures=signatures)
    _name_methods(folder, [name for name in signatures if name in _METHODS])
    return {
        "signatures": {name: _described(made) for name, made in signatures.items()},
        "invalid_utf8": "bytes that are not UTF-8 are left out of the text",
    }


def text_names(source: Source) -> list[str]:
    """The names of the texts of an example."""
    return ["text", "text_pair"] if source.paired else ["text"]


def _answer(source: Source, encoder: Encoder, tokenizer: GraphTokenizer) -> Any:
    """A function: strings [N] → the named answers [N, …]."""
    tf, task = backend.tensorflow(), source.loaded.task
    parts = source.tokenizer.frame(source.architecture.kind.template, source.paired)

    def answer(text: Any, text_pair: Any = None) -> dict[str, Any]:
        second = None if text_pair is None else tokenizer.tokenize(text_pair)
        rows = pack(tokenizer.tokenize(text), second, parts, source.max_length)
        return task.export.in_graph(tf, encoder.logits_of_ragged(*rows), source.loaded.learned)

    texts = [tf.TensorSpec([None], tf.string, name) for name in text_names(source)]
    return tf.function(answer, input_signature=texts, autograph=False)


def _tokens_signature(encoder: Encoder, segmented: bool) -> Any:
    tf = backend.tensorflow()
    names = ("token_ids", "padding_mask", "segment_ids") if segmented else ("token_ids", "padding_mask")

    def logits(token_ids: Any, padding_mask: Any, segment_ids: Any = None) -> dict[str, Any]:
        segments = tf.zeros_like(token_ids) if segment_ids is None else segment_ids
        return {"logits": encoder.logits(token_ids, segments, padding_mask)}

    return _with_signature([tf.TensorSpec([None, None], tf.int32, name) for name in names], logits)


def _example_signature(source: Source, answer: Any) -> dict[str, Any]:
    """TensorFlow Serving's classify or regress, over serialized `tf.Example`s whose features are the texts."""
    tf = backend.tensorflow()
    features = {name: tf.io.FixedLenFeature([], tf.string) for name in text_names(source)}

    def parse(examples: Any) -> dict[str, Any]:
        parsed = tf.io.parse_example(examples, features)
        return answer(*(parsed[name] for name in features))

    def classify(inputs: Any) -> dict[str, Any]:
        made = parse(inputs)
        return {"classes": made["labels"], "scores": made["probabilities"]}

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
    """`tf.saved_model.save` calls every signature "predict"; TensorFlow Serving asks for its own names."""
    tf = backend.tensorflow()
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(folder))
    for name in names:
        updater.replace_method_name(signature_key=name, method_name=_METHODS[name])
    updater.save()
