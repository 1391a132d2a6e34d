#!/usr/bin/env python3
"""What does Winograd's filtering give, and what to have its combinations compiled by XLA?

    python benchmarks/convolution.py [--json]

Convolves float32 maps with 3x3 kernels, forward and backward, in turns: by TensorFlow's convolution
and its gradients, which are oneDNN's; by `kfeat.models.winograd` with its combinations as products
of matrices; and with them compiled. The shapes are those of ResNets at 96 pixels and of
auto-encoders. Prints the median milliseconds of each, the median ratios to those compiled, and the
seconds that the first call of these took, most of it compiling. The column `used` says which of
the last two kfeat takes; both, where what comes in and what goes out differ in size; or another way
of `kfeat.models.convolution`.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable

from rounds import common_arguments, seconds, show

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as kfeat has it

SHAPES = (
    (24, 64, 64),
    (12, 128, 128),
    (6, 256, 256),
    (3, 512, 512),
    (48, 16, 32),
    (48, 32, 32),
    (24, 32, 64),
    (112, 32, 32),
)
"""Side and channels of maps, and of what comes out."""


def convolution(
    side: int, channels: int, filters: int, batch: int, compiled: bool | None
) -> Callable[[], object]:
    """Return what convolves maps, forward and backward; None: by TensorFlow."""
    import tensorflow as tf

    from kfeat.models import winograd

    @tf.function
    def step(maps: tf.Tensor, kernel: tf.Tensor, upstream: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch([maps, kernel])
            if compiled is None:
                outputs = tf.nn.conv2d(maps, kernel, 1, "SAME")
            else:
                outputs = winograd.convolve(maps, kernel)
        return [outputs, *tape.gradient(outputs, [maps, kernel], upstream)]

    maps = tf.random.normal([batch, side, side, channels])
    kernel = tf.random.normal([3, 3, channels, filters])
    upstream = tf.random.normal([batch, side, side, filters])
    usual = winograd.LEAST_TO_COMPILE
    if compiled is not None:
        winograd.LEAST_TO_COMPILE = 0 if compiled else float("inf")
    step.get_concrete_function(maps, kernel, upstream)
    winograd.LEAST_TO_COMPILE = usual
    return lambda: step(maps, kernel, upstream)


def used(side: int, channels: int, filters: int) -> str:
    import tensorflow as tf

    from kfeat.models import winograd
    from kfeat.models.convolution import is_by_winograd

    maps = tf.TensorSpec([None, side, side, channels])
    if not is_by_winograd(maps, (3, 3, channels, filters), (1, 1), "same"):
        return "other"
    compiled = {winograd.is_compiled(side, side, depth) for depth in (channels, filters)}
    return {(True,): "compiled", (False,): "matrices"}.get(tuple(compiled), "both")


def main() -> None:
    a = common_arguments(__doc__, rounds=15).parse_args()

    from kfeat.training import memory

    memory.keep_freed()
    for shape in SHAPES:
        ways = [convolution(*shape, a.batch, compiled) for compiled in (None, False, True)]
        first = [seconds(way) for way in ways][-1]
        times = [[seconds(way) for way in ways] for _ in range(a.rounds)]
        direct, matrices, compiled = (1e3 * statistics.median(t) for t in zip(*times, strict=True))
        line = {
            **dict(zip(("side", "channels", "filters"), shape, strict=True)),
            "batch": a.batch,
            "direct_ms": round(direct, 1),
            "matrices_ms": round(matrices, 1),
            "compiled_ms": round(compiled, 1),
            "direct_ratio": round(statistics.median(d / c for d, _, c in times), 2),
            "matrices_ratio": round(statistics.median(m / c for _, m, c in times), 2),
            "first_seconds": round(first, 1),
            "used": used(*shape),
        }
        show(line, a.json)


if __name__ == "__main__":
    main()
