"""The fields of export.json."""

_COMPARED = {
    "examples": "texts compared, of many lengths and alphabets",
    "max_difference": "largest difference from `kft predict`: of a probability, or of a value",
    "labels_that_differ": "(classes) texts with another label where no near tie explains it",
    "near_ties": "(classes) texts with another label whose two best probabilities are within twice the tolerance",
}
_TIMED = {
    "load_seconds": "time that loading took",
    "*.calls": "batch_1 and batch_32: timed calls with so many texts each, raw texts to answers",
    "*.first_milliseconds": "the first call with so many texts, which is not among them",
    "*.median_milliseconds": "of a call",
    "*.p90_milliseconds": "90th percentile",
    "*.texts_per_second": "texts answered in a second",
}


def _under(name: str, fields: dict[str, str]) -> dict[str, str]:
    return {f"{name}.{field}": meaning for field, meaning in fields.items()}


# Dotted names, as in `kft.runs.FIELDS`.
FIELDS: dict[str, str] = {
    "format": "version of this file's layout",
    "to": "what the run was exported to: savedmodel, hf, keras, onnx or peft",
    "created": "when, with the offset from UTC",
    "run": "name of the run's folder",
    "run_sha256.*": "file of the run: its hash",
    "sha256.*": "file of the export: its hash",
    "task": "what is predicted",
    "labels[]": "label names, in the order of the outputs; none for a regression",
    "inputs[]": "names of the texts of an example",
    "max_length": "tokens of an example at most, special ones included; longer texts are cut, or read in windows",
    "windows.stride": "(savedmodel) tokens that a window of a longer text shares with the one before; absent where it is cut",
    "learned.*": "(savedmodel) as in model.json: what the server turns the logits of each token into answers with",
    "learned.thresholds[]": "(savedmodel) see learned",
    "windows.merged": "(savedmodel) mean or max: what the logits of the windows become",
    "pooling": "cls or mean",
    "activation": "of the feed-forward layers",
    "environment.backend": "Keras backend that computed the run's answers",
    "environment.devices[]": "kind of each device that it ran on",
    "environment.python": "version of Python",
    "environment.platform": "operating system",
    "environment.processor": "processor",
    "environment.cpu_count": "number of logical processors",
    "environment.versions.*": "version of each package that decides about the result",
    "notes[]": "what a user should know, in words",
    "signatures.*.inputs.*": "(savedmodel) signature, name: type and shape, * where it is free",
    "signatures.*.outputs.*": "(savedmodel) the same for what it answers",
    "invalid_utf8": "(savedmodel) what becomes of bytes that are not UTF-8",
    "inputs_of_graph.*": "(onnx) name: type and shape",
    "bytes.*": "(onnx) graph: size of its file",
    "comparison": "of the export's answers with the run's, in a fresh process; null with --no-verify; else:",
    **_under("comparison", _COMPARED),
    "comparison.tolerance": "the largest difference allowed",
    "comparison.tokens_max_logit_difference": "(savedmodel) largest difference of a logit of the signature tokens",
    "comparison.max_logit_difference": "(hf, onnx, peft) largest difference of a logit",
    "comparison.read_by[]": "(hf, peft) what read the folder for the comparison",
    "comparison.exact": "(keras) whether the run, too, uses the tanh approximation of GELU",
    "comparison.labels_changed_by_approximation": "(keras) texts with another label where it does not",
    **_under("comparison_of_raw_texts", _COMPARED),
    "comparison_of_raw_texts.tolerance": "(keras) what is allowed where both split texts alike",
    **_under("benchmark", _TIMED),
    **_under("int8", _COMPARED),
    "int8.validation_examples": "(onnx) examples of the run's validation split",
    "int8.validation_metrics.*.*": "(onnx) float32 and int8, metric: score on them",
    **_under("int8.benchmark", _TIMED),
}
