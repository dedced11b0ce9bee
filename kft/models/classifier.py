"""The Keras model: a family's encoder, whose weights KerasHub's backbone has, and a head."""

from kft import backend, tasks
from kft.models import heads, losses
from kft.models.architecture import Architecture
from kft.models.blocks.dropout import Dropout
from kft.models.blocks.on_keras import KerasBlocks
from kft.models.families.parts import dense_parts, norm_parts
from kft.models.weights import Weights

backend.select()

import keras  # noqa: E402


class Classifier(keras.Model):
    """An encoder and a head over packed rows: `batches`' inputs → logits float32 [R, M, C].

    With `r_drop_alpha` it trains by R-Drop (Liang et al. 2021): on the mean loss of two passes,
    whose dropout differs, and alpha times the divergence of their predictions. Any other use sees
    one pass.

    Attributes:
        architecture: what it computes.
        backbone: KerasHub's, for its weights; its graph is not used.
        head: the dense layer that gives the outputs.
        pooler: the dense layer before it, where the backbone has none and the head reads one
            token.
        named: all of these weights by the checkpoint's names.
        mean_loss: Keras's metric of the loss, each step by the weight of its examples; once
            compiled.
        adapters: low-rank adapters by the names of their dense layers; of `adapters.add_lora`.
        drawn: layers of the head that start from no checkpoint; of `building.build`.
    """

    def __init__(self, architecture: Architecture, backbone, seed: int = 0, r_drop_alpha: float = 0.0):
        super().__init__(name="classifier")
        self.architecture = architecture
        self.r_drop_alpha = r_drop_alpha
        self.backbone = backbone
        parts = architecture.kind.parts(backbone)
        layers, width = architecture.head, architecture.sizes.hidden_size
        self.head = _dense("head", (1 + architecture.spans) * width, architecture.outputs, seed)
        pooled = architecture.pooling == "cls" and layers.pooler is not None
        if pooled and f"{layers.pooler}.weight" not in parts:
            self.pooler = _dense("pooler", width, width, 1000 * seed + 999, layers.pooler_bias)
            parts |= dense_parts(layers.pooler, self.pooler)
        if pooled and layers.norm is not None:
            self.head_norm = keras.layers.LayerNormalization(center=False, dtype="float32", name="head_norm")
            self.head_norm.build((None, width))
            parts |= norm_parts(layers.norm, self.head_norm)
        encoder = architecture.kind.weights(architecture.sizes)
        for name, part in parts.items():  # a pooler that KerasHub holds, and this head does not read
            if name not in encoder and name.rpartition(".")[0] not in layers.layers:
                part.value.trainable = False
        self.named = Weights(parts | dense_parts(layers.output, self.head))
        self.adapters = {}
        self.drawn: tuple[str, ...] = ()
        self.mean_loss = None
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, inputs, training=False):
        architecture = self.architecture
        dropout = Dropout(self.seed_generator if training else None)
        compute_type = self.backbone.dtype_policy.compute_dtype
        blocks = KerasBlocks(self.named, architecture.sizes, architecture.encoding, compute_type, dropout)
        return heads.logits(blocks, architecture, inputs, inputs["reads"])

    def compile(self, *arguments, **named):
        super().compile(*arguments, **named)
        if self.mean_loss is None:
            self.mean_loss = keras.metrics.Mean(name="mean_loss")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The mean loss of a step, times the step's share in its update where `x` has it."""
        loss = self._mean(x, y, y_pred, sample_weight, training)
        if not training:
            return loss
        weight = keras.ops.sum(sample_weight)
        self.mean_loss.update_state(keras.ops.stop_gradient(loss), sample_weight=weight)
        return loss * keras.ops.max(x["share"]) if "share" in x else loss

    def _mean(self, x, y, y_pred, sample_weight, training):
        y_pred = self._merged(x, y_pred)
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not (training and self.r_drop_alpha):
            return loss
        again = self._merged(x, self(x, training=True))
        loss = (loss + super().compute_loss(x, y, again, sample_weight, training)) / 2
        divergence = losses.DIVERGENCES[tasks.TASKS[self.architecture.task].divergence]
        apart = divergence(y, y_pred, again)  # [R, M]
        mean = keras.ops.divide_no_nan(keras.ops.sum(apart * sample_weight), keras.ops.sum(sample_weight))
        return loss + self.r_drop_alpha * mean

    def _merged(self, x, y_pred):
        """The outputs, in place of each window's what those of its example become together."""
        if "windows" not in x:
            return y_pred
        return losses.MERGED[self.architecture.windows](y_pred, x["windows"])


def _dense(name: str, inputs: int, outputs: int, seed: int, bias: bool = True):
    """In float32, drawn as BERT's own layers start."""
    initializer = keras.initializers.TruncatedNormal(stddev=0.02, seed=seed)
    layer = keras.layers.Dense(
        outputs, use_bias=bias, kernel_initializer=initializer, dtype="float32", name=name
    )
    layer.build((None, inputs))
    return layer
