"""Batch normalisation by the statistics of a batch, compiled by XLA.

oneDNN, to which TensorFlow hands ``FusedBatchNormV3``, writes float32 maps past the caches, vector
by vector, which takes long where vectors are narrower than a cache line, as AVX2's are. What XLA
compiles writes them as any loop does (docs/performance.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

from kfeat.models import processor

SMALL = 2**14
"""Maps of up to so many values an image are left alone: to have loops compiled takes a second for
each shape, the size of the batch included, which so small ones do not bring in soon."""

FEWEST_CHANNELS = 64
"""From how many channels on; with 16, loops over them are too short, and slower than oneDNN's."""

SLICES = 8
"""Up to how many slices of the maps are added in one loop. More take longer to compile."""


def applies(maps: tf.Tensor) -> bool:
    """Whether `normalize` pays: large float32 maps of many channels, by AVX2 and not AVX-512.

    Not for those whose pixels cannot be cut into 3 to 8 equal slices, as 11x11 cannot.
    """
    return (
        maps.dtype == tf.float32
        and None not in maps.shape[1:]
        and math.prod(maps.shape[1:]) > SMALL
        and maps.shape[3] >= FEWEST_CHANNELS
        and _slices(maps) > 2
        and processor.ends_at_avx2()
        and not tf.config.list_physical_devices("GPU")
    )


@tf.custom_gradient
def normalize(
    maps: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: tf.Tensor
) -> tuple[tuple[tf.Tensor, tf.Tensor, tf.Tensor], Callable]:
    """Normalise maps by their means and variances over a batch and its pixels.

    Args:
        maps: float32 [N, H, W, C]; all but N known.
        gamma: what the normalised maps are multiplied by, float32 [C].
        beta: what is then added to them, float32 [C].
        epsilon: what is added to the variances, float32 [].

    Returns:
        float32 [N, H, W, C]; the means and biased variances, float32 [C], which have no gradient.

    Source: Ioffe and Szegedy 2015, arXiv 1502.03167, algorithm 1, and the gradients below it.
    """
    outputs, mean, variance = _forward(maps, gamma, beta, epsilon)

    def gradient(upstream: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor | None, ...]:
        # It comes as slices from `tf.gather`, and of unknown shape from other functions.
        upstream = tf.ensure_shape(tf.convert_to_tensor(upstream), maps.shape)
        return *_backward(upstream, maps, gamma, mean, variance, epsilon), None

    return (outputs, mean, variance), gradient


@tf.function(jit_compile=True)
def _forward(
    maps: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    count = _count(maps)
    mean = _sum(lambda x: x, maps) / count
    variance = _sum(lambda x: tf.square(x - mean), maps) / count
    outputs = (maps - mean) * (gamma * tf.math.rsqrt(variance + epsilon)) + beta
    return outputs, mean, variance


@tf.function(jit_compile=True)
def _backward(
    upstream: tf.Tensor,
    maps: tf.Tensor,
    gamma: tf.Tensor,
    mean: tf.Tensor,
    variance: tf.Tensor,
    epsilon: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    count, scale = _count(maps), tf.math.rsqrt(variance + epsilon)
    for_beta = _sum(lambda u: u, upstream)
    for_gamma = _sum(lambda u, x: u * (x - mean), upstream, maps) * scale
    along = (maps - mean) * (scale * for_gamma / count)
    return (gamma * scale) * (upstream - for_beta / count - along), for_gamma, for_beta


def _count(maps: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.reduce_prod(tf.shape(maps)[:3]), tf.float32)


def _sum(term: Callable[..., tf.Tensor], *maps: tf.Tensor) -> tf.Tensor:
    """The sum of a function of maps, [N, H, W, C], over all but the channels.

    XLA does not use vectors where it sums what it computes on the way. It does where it computes
    slices and adds them, and where it sums what lies in memory: so slices are added first.
    """
    height, width, channels = maps[0].shape[1:]
    slices = _slices(maps[0])
    cut = [tf.reshape(m, [-1, slices, height * width // slices, channels]) for m in maps]
    added = tf.add_n([term(*(m[:, i] for m in cut)) for i in range(slices)])
    return tf.reduce_sum(tf.reduce_sum(added, 1), 0)


def _slices(maps: tf.Tensor) -> int:
    pixels = maps.shape[1] * maps.shape[2]
    return max(n for n in range(1, SLICES + 1) if pixels % n == 0)
