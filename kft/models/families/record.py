"""What kft knows of a kind of model, as data and plain functions that import no Keras."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kft.tasks.problems import ANSWERS, MULTIPLE_CHOICE, NEXT_TOKEN, TOKEN_CLASSES
from kft.text.templates import Template

SEQUENCE = "sequence"
KINDS = (SEQUENCE, MULTIPLE_CHOICE, TOKEN_CLASSES, ANSWERS, NEXT_TOKEN)  # of heads that checkpoints have
ENCODER, DECODER = "encoder", "decoder"


@dataclass(frozen=True)
class Sizes:
    """The dimensions of a model.

    Attributes:
        vocabulary_size: rows of the token embedding.
        num_layers: L, transformer layers.
        num_heads: attention heads of a layer.
        hidden_size: H, width of a token's vector.
        intermediate_size: width inside a feed-forward layer.
        max_length: tokens that it has positions for.
        num_segments: segments that it tells apart; 1 where it has none.
        more: what only some families have, by names that their files give them: values that JSON
            has, so that two records of one model are equal.
    """

    vocabulary_size: int
    num_layers: int
    num_heads: int
    hidden_size: int
    intermediate_size: int
    max_length: int
    num_segments: int = 1
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Encoding:
    """What the shapes of the weights do not say.

    Attributes:
        activation: a key of the `ACTIVATIONS` of `blocks`.
        epsilon: of the norms.
        dropout: rate after each block.
        attention_dropout: rate on attention weights.
    """

    activation: str
    epsilon: float
    dropout: float
    attention_dropout: float


@dataclass(frozen=True)
class Weight:
    """One weight of a checkpoint.

    Attributes:
        shape: of a kernel [inputs, outputs]; PyTorch's files hold it the other way round.
        kind: "table", "kernel", "bias", "scale" or "offset"; says how it starts anew.
        as_is: whether even a kernel is [inputs, outputs] in the file.
    """

    shape: tuple[int, ...]
    kind: str
    as_is: bool = False

    @property
    def turned(self) -> bool:
        """Whether the file holds it the other way round."""
        return self.kind == "kernel" and not self.as_is

    @property
    def shape_in_file(self) -> tuple[int, ...]:
        return self.shape[::-1] if self.turned else self.shape


@dataclass(frozen=True, eq=False)
class Part:
    """Where a weight is in a Keras model: `getattr(layer, attribute)`, by `shape` two-dimensional.

    The attribute is read anew in each use, since a layer may compute it.
    """

    layer: Any
    attribute: str
    shape: tuple[int, ...]

    @property
    def value(self) -> Any:
        return getattr(self.layer, self.attribute)


@dataclass(frozen=True)
class HeadLayers:
    """A family's layers above its encoder for one use, by the checkpoint's names.

    Attributes:
        architecture: transformers' class, as config.json names it.
        output: the dense layer that gives the outputs.
        pooler: the dense layer that a read token passes before it; None where there is none.
        pooler_in_encoder: whether the pooler's name has the encoder's prefix.
        activation: after the pooler, one of the `ACTIVATIONS` of `blocks`.
        dropped_before_pooler: whether dropout also stands before the pooler.
        dropped: whether dropout stands before the output.
        pooler_bias: whether the pooler has one.
        norm: the LayerNorm after the activation, without a bias; None where there is none.
        output_bias: whether the output has one.
    """

    architecture: str
    output: str
    pooler: str | None = None
    pooler_in_encoder: bool = False
    activation: str = "tanh"
    dropped_before_pooler: bool = False
    dropped: bool = True
    pooler_bias: bool = True
    norm: str | None = None
    output_bias: bool = True

    @property
    def layers(self) -> tuple[str, ...]:
        """Those that have weights, from the encoder up."""
        return tuple(name for name in (self.pooler, self.norm, self.output) if name is not None)

    @property
    def own(self) -> tuple[str, ...]:
        """Those of them whose names never have the encoder's prefix."""
        return (self.output,) if self.pooler_in_encoder else self.layers

    def owns(self, name: str) -> bool:
        """Whether a weight is of one of the layers `own`."""
        return name.rpartition(".")[0] in self.own


@dataclass(frozen=True)
class Head:
    """What a fine-tuned checkpoint says of its head.

    Attributes:
        labels: names in id order, one for each output; LABEL_0, LABEL_1, … where nobody named them.
        named: whether somebody did.
        problem_type: one of those in `kft.tasks.problems`.
    """

    labels: tuple[str, ...]
    named: bool
    problem_type: str

    @property
    def kind(self) -> str:
        """A key of `Family.heads`."""
        return kind_of(self.problem_type)


def kind_of(problem: str) -> str:
    """The kind of head, one of KINDS, that solves a problem."""
    return problem if problem in KINDS else SEQUENCE


def numbered_labels(count: int) -> tuple[str, ...]:
    return tuple(f"LABEL_{i}" for i in range(count))


@dataclass(frozen=True)
class Hub:
    """KerasHub's classes for a family: the backbone has the weights, presets load and are written.

    Attributes:
        backbone, tokenizer: names in `keras_hub.models`.
        sizes: field of `Sizes` → argument of the backbone.
        activation, epsilon: those that KerasHub's own code computes with.
        classifier, preprocessor: names in `keras_hub.models`; None where it has no classifier.
        head: dense layers of the classifier, input to output: name → attribute.
        more: key of `Sizes.more` → argument of the backbone.
    """

    backbone: str
    tokenizer: str
    sizes: dict[str, str]
    activation: str
    epsilon: float
    classifier: str | None = None
    preprocessor: str | None = None
    head: dict[str, str] = field(default_factory=dict)
    more: dict[str, str] = field(default_factory=dict)

    def arguments(self, sizes: Sizes) -> dict[str, int]:
        """The arguments of the backbone of a model of these sizes."""
        plain = {theirs: getattr(sizes, ours) for ours, theirs in self.sizes.items()}
        return plain | {theirs: sizes.more[ours] for ours, theirs in self.more.items()}


@dataclass(frozen=True)
class Gguf:
    """How GGUF files have a family.

    Attributes:
        architecture: `general.architecture` of the metadata.
        keys: key of the metadata, after the architecture's name → config.json's key.
        names: name in the file → name in the checkpoint, without ".weight" and ".bias", "{i}" for
            the layer's number.
        interleaved: last part of the name of a dense layer whose outputs the file has in pairs
            → config.json's key of its heads.
    """

    architecture: str
    keys: dict[str, str]
    names: dict[str, str]
    interleaved: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """One kind of model.

    A checkpoint's names stand without the encoder's prefix ("bert."); a kernel's name is that of
    its dense layer and ".weight". What the checkpoint's file holds and what the model holds may
    differ: `fold` and `unfold` go between them.

    Attributes:
        name: `model_type` in config.json.
        prefix: of the encoder's weights in a checkpoint that has a head.
        architecture: transformers' class of the bare encoder.
        hub: KerasHub's classes; None where it has none, so that `models.holder` holds the weights.
        heads: kind of head → its layers.
        template: what stands around the texts of an example, and whether segment ids tell two
            apart.
        sizes, encoding: config.json as `Settings` → the records, checked.
        to_config: (sizes, encoding) → the fields of config.json that they make.
        weights: sizes → {name: Weight} of the encoder's weights in a checkpoint's file, without
            a pooler.
        fold: (arrays of the file, sizes) → arrays that the model holds; kernels are [inputs,
            outputs] in both.
        unfold: (arrays that the model holds, sizes) → arrays of the file.
        parts: backbone → {name: Part} of the weights that it holds, in its own order.
        depth: name → 0 for embeddings, 1 … `own_layers` for layers; None above them.
        adapters: target → patterns of its dense layers, "{i}" for the layer's number.
        run: (blocks, inputs, places) → hidden states [R, M, H] at places [R, M], or of all tokens
            [R, T, H] where places is None.
        head_dropout: config.json's key of the rate before the head.
        own_layers: sizes → layers that have weights of their own.
        reads_head: config.json as `Settings` → whether the head reads the first token, as kft does.
        shape: ENCODER, or DECODER, whose tokens see none that come later.
        tokens: a decoder's table of tokens, by the checkpoint's name.
        own_weights: sizes → {name: Weight} that a `models.holder` holds; None where they are those
            of the file.
        gguf: how GGUF files have it; None where kft reads none.
    """

    name: str
    prefix: str
    architecture: str
    hub: Hub | None
    heads: dict[str, HeadLayers]
    template: Template
    sizes: Callable[[Any], Sizes]
    encoding: Callable[[Any], Encoding]
    to_config: Callable[[Sizes, Encoding], dict[str, Any]]
    weights: Callable[[Sizes], dict[str, Weight]]
    parts: Callable[[Any], dict[str, Part]]
    depth: Callable[[str], int | None]
    adapters: dict[str, tuple[str, ...]]
    run: Callable[..., Any]
    fold: Callable[[dict[str, Any], Sizes], dict[str, Any]] = lambda arrays, sizes: arrays
    unfold: Callable[[dict[str, Any], Sizes], dict[str, Any]] = lambda arrays, sizes: arrays
    head_dropout: str = "classifier_dropout"
    own_layers: Callable[[Sizes], int] = lambda sizes: sizes.num_layers
    own_weights: Callable[[Sizes], dict[str, Weight]] | None = None
    reads_head: Callable[[Any], bool] = lambda settings: True
    shape: str = ENCODER
    tokens: str = "embed_tokens"
    gguf: Gguf | None = None

    @property
    def segments(self) -> bool:
        return self.template.segments

    def head_weights(self, kind: str, sizes: Sizes, outputs: int) -> dict[str, Weight]:
        """{name: Weight} of a kind of head, its pooler included."""
        layers, hidden = self.heads[kind], sizes.hidden_size
        pooler = dense(layers.pooler, hidden, hidden, layers.pooler_bias) if layers.pooler else {}
        scale = norm(layers.norm, hidden, bias=False) if layers.norm else {}
        return pooler | scale | dense(layers.output, hidden, outputs, layers.output_bias)

    def adapted(self, targets: tuple[str, ...], sizes: Sizes) -> list[str]:
        """The dense layers that `targets`, keys of `adapters`, name: layer by layer."""
        return [
            pattern.format(i=i)
            for i in range(self.own_layers(sizes))
            for pattern in dict.fromkeys(p for target in targets for p in self.adapters[target])
        ]


def table(name: str, rows: int, width: int) -> dict[str, Weight]:
    return {f"{name}.weight": Weight((rows, width), "table")}


def dense(name: str, inputs: int, outputs: int, bias: bool = True) -> dict[str, Weight]:
    kernel = {f"{name}.weight": Weight((inputs, outputs), "kernel")}
    return kernel | ({f"{name}.bias": Weight((outputs,), "bias")} if bias else {})


def norm(name: str, width: int, bias: bool = True) -> dict[str, Weight]:
    scale = {f"{name}.weight": Weight((width,), "scale")}
    return scale | ({f"{name}.bias": Weight((width,), "offset")} if bias else {})
