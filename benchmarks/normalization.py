#!/usr/bin/env python3
"""What does it give to have batch normalisation compiled by XLA?

    python benchmarks/normalization.py [--json]

Normalises float32 maps as `kfeat.models.layers.BatchNormalization` does in training, a ReLU after
it, and takes the gradients: by TensorFlow's fused kernel and its ReLU, and by
`kfeat.models.normalization`, in turns. Three such layers lie one behind the other, as what one
writes is what the next one reads. Where `residual` is true, what a layer reads is added before its
ReLU, as at the end of a residual block. The shapes are those of ResNets at 96 pixels and, with
fewer channels, of auto-encoders. Prints the median milliseconds of a layer by each, the median
ratio, and the seconds that the first call of the compiled one took, most of it compiling. The
column `used` says where kfeat has it compiled.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable

from rounds import common_arguments, seconds, show

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as kfeat has it

SHAPES = (
    (96, 16, False),
    (48, 32, False),
    (48, 64, False),
    (24, 64, False),
    (24, 256, True),
    (12, 128, False),
    (12, 512, True),
    (6, 256, False),
    (6, 1024, True),
    (3, 512, False),
    (3, 2048, True),
)
"""Side and channels of maps, and whether what the layer reads is added to them."""

LAYERS = 3


def layers(
    side: int, channels: int, residual: bool, batch: int, compiled: bool
) -> Callable[[], object]:
    """Return what normalises maps by several layers, forward and backward."""
    import tensorflow as tf

    from kfeat.models.normalization import Normalization

    empty = tf.zeros([0])

    def fused(maps: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> tf.Tensor:
        normalized, *_ = tf.raw_ops.FusedBatchNormV3(
            x=maps, scale=gamma, offset=beta, mean=empty, variance=empty, epsilon=1e-3
        )
        return tf.nn.relu(normalized + maps if residual else normalized)

    def by_xla(maps: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> tf.Tensor:
        normalization = Normalization.of(maps, gamma, beta, 1e-3)
        return normalization.rectified_with(maps) if residual else normalization.rectified()

    layer = by_xla if compiled else fused
    gamma, beta = tf.ones([channels]), tf.zeros([channels])

    @tf.function
    def step(maps: tf.Tensor, upstream: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch([maps, gamma, beta])
            outputs = maps
            for _ in range(LAYERS):
                outputs = layer(outputs, gamma, beta)
        return tape.gradient(outputs, [maps, gamma, beta], upstream)

    maps, upstream = tf.random.normal([2, batch, side, side, channels])
    return lambda: step(maps, upstream)


def main() -> None:
    a = common_arguments(__doc__, rounds=15).parse_args()

    import tensorflow as tf

    from kfeat.models.normalization import applies
    from kfeat.training import memory

    memory.keep_freed()
    for side, channels, residual in SHAPES:
        fused, compiled = (
            layers(side, channels, residual, a.batch, by_xla) for by_xla in (False, True)
        )
        fused()
        first = seconds(compiled)
        times = [(seconds(fused), seconds(compiled)) for _ in range(a.rounds)]
        theirs, ours = (statistics.median(each) * 1e3 / LAYERS for each in zip(*times, strict=True))
        line = {
            "side": side,
            "channels": channels,
            "residual": residual,
            "batch": a.batch,
            "fused_ms": round(theirs, 1),
            "compiled_ms": round(ours, 1),
            "ratio": round(statistics.median(f / c for f, c in times), 2),
            "first_seconds": round(first, 1),
            "used": applies(tf.TensorSpec([a.batch, side, side, channels])),
        }
        show(line, a.json)


if __name__ == "__main__":
    main()
