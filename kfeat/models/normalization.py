"""Batch normalisation by the statistics of a batch, compiled by XLA together with what follows it.

TensorFlow's fused kernel walks through maps twice for the statistics and once for the outputs; the
sum of a residual block and its ReLU are two more walks. Where maps are larger than the caches, that
is what all of this costs (docs/performance.md). Here one walk takes the statistics, and one
normalises, adds and rectifies; backward, one takes the sums and one gives the gradient, after
TensorFlow's own for the ReLU where something was added.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from kfeat.models import processor

SMALL = 2**14
"""Maps of up to so many values an image are left alone: to have loops compiled takes a second for
each shape, the size of the batch included, which so small ones do not bring in soon."""

FEWEST_CHANNELS = 16
"""From how many channels on; loops over fewer have not been measured."""

SLICES = 8
"""Up to how many slices of the maps are added in one loop. More take longer to compile."""

TWICE = "kfeat's batch norm has no second derivatives in training: use Keras's layer for them"


def applies(maps: tf.Tensor) -> bool:
    """Whether to normalise by `Normalization` pays: large float32 maps, on a processor with AVX2.

    Not for those whose pixels cannot be cut into 3 to 8 equal slices, as 11x11 cannot.
    """
    return (
        maps.dtype == tf.float32
        and None not in maps.shape[1:]
        and math.prod(maps.shape[1:]) > SMALL
        and maps.shape[3] >= FEWEST_CHANNELS
        and _slices(maps) > 2
        and "avx2" in processor.flags()
        and not tf.config.list_physical_devices("GPU")
    )


@dataclass(frozen=True)
class Normalization:
    """Maps, and the means and variances over a batch and its pixels that normalise them.

    What it returns has gradients by ``maps``, through their statistics too, by ``gamma`` and by
    ``beta``. These have none of their own by ``maps``: asking for them raises `LookupError`.

    Source: Ioffe and Szegedy 2015, arXiv 1502.03167, algorithm 1, and the gradients below it.
    """

    maps: tf.Tensor
    """float32 [N, H, W, C]; all but N known."""

    gamma: tf.Tensor
    """What the normalised maps are multiplied by, float32 [C]."""

    beta: tf.Tensor
    """What is then added to them, float32 [C]."""

    epsilon: float
    """What is added to the variances."""

    mean: tf.Tensor
    """The means of ``maps``, float32 [C]."""

    variance: tf.Tensor
    """Their biased variances, float32 [C]."""

    @classmethod
    def of(
        cls, maps: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
    ) -> Normalization:
        """Take the statistics of maps."""
        once = tf.raw_ops.PreventGradient(input=maps, message=TWICE)
        return cls(maps, gamma, beta, epsilon, *_statistics(once))

    def outputs(self) -> tf.Tensor:
        """Return the normalised maps, float32 [N, H, W, C]."""
        return self._computed(_normalized, _backward)

    def rectified(self) -> tf.Tensor:
        """Return the normalised maps, float32 [N, H, W, C], with 0 for what is negative."""
        return self._computed(_rectified, _backward_of_rectified)

    def rectified_with(self, added: tf.Tensor) -> tf.Tensor:
        """Return the normalised maps plus others of their shape, with 0 for what is negative."""

        @tf.custom_gradient
        def rectified(
            maps: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, added: tf.Tensor
        ) -> _WithGradient:
            outputs = _rectified_sum(maps, gamma, beta, *given, added)

            def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
                # Its own walk, as what was added needs it too.
                upstream = tf.raw_ops.ReluGrad(gradients=self._dense(upstream), features=outputs)
                return *_backward(upstream, maps, gamma, beta, *given), upstream

            return outputs, gradient

        given = self._given()
        return rectified(self.maps, self.gamma, self.beta, added)

    def _computed(
        self, forward: Callable[..., tf.Tensor], backward: Callable[..., tuple[tf.Tensor, ...]]
    ) -> tf.Tensor:
        @tf.custom_gradient
        def computed(maps: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> _WithGradient:
            def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
                return backward(self._dense(upstream), maps, gamma, beta, *given)

            return forward(maps, gamma, beta, *given), gradient

        given = self._given()
        return computed(self.maps, self.gamma, self.beta)

    def _given(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return self.mean, self.variance, tf.constant(self.epsilon, tf.float32)

    def _dense(self, gradient: tf.Tensor) -> tf.Tensor:
        """It comes as slices from `tf.gather`, and of unknown shape from other functions."""
        return tf.ensure_shape(tf.convert_to_tensor(gradient), self.maps.shape)


_WithGradient = tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, ...]]]


@tf.function(jit_compile=True)
def _statistics(maps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return means and biased variances, in one walk.

    Source: Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance: analysis
    and recommendations", The American Statistician 37 (3): the textbook algorithm, on data shifted
    by an estimate of their mean. Here it is that of the first image. Unshifted, the difference of
    two large numbers may have no digits left.
    """
    shift = tf.reduce_mean(tf.reshape(maps[0], [-1, maps.shape[3]]), 0)
    sums = _sums(lambda x: (x - shift, x - shift), maps)
    mean, square = (each / _count(maps) for each in sums)
    return shift + mean, tf.maximum(square - tf.square(mean), 0.0)


def _normal(
    maps: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    mean: tf.Tensor,
    variance: tf.Tensor,
    epsilon: tf.Tensor,
) -> tf.Tensor:
    return (maps - mean) * (gamma * tf.math.rsqrt(variance + epsilon)) + beta


_normalized = tf.function(_normal, jit_compile=True)


@tf.function(jit_compile=True)
def _rectified(*arguments: tf.Tensor) -> tf.Tensor:
    return tf.nn.relu(_normal(*arguments))


@tf.function(jit_compile=True)
def _rectified_sum(*arguments: tf.Tensor) -> tf.Tensor:
    return tf.nn.relu(_normal(*arguments[:-1]) + arguments[-1])


def _gradients(
    passed: Callable[..., tf.Tensor],
    upstream: tf.Tensor,
    maps: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    mean: tf.Tensor,
    variance: tf.Tensor,
    epsilon: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The gradients by maps, gamma and beta, of what of ``upstream`` is ``passed`` for maps."""
    count, scale = _count(maps), tf.math.rsqrt(variance + epsilon)
    for_beta, along = _sums(lambda u, x: (passed(u, x), x - mean), upstream, maps)
    for_gamma = along * scale
    from_variance = (maps - mean) * (scale * for_gamma / count)
    from_mean = for_beta / count
    for_maps = (gamma * scale) * (passed(upstream, maps) - from_mean - from_variance)
    return for_maps, for_gamma, for_beta


@tf.function(jit_compile=True)
def _backward(
    upstream: tf.Tensor, maps: tf.Tensor, *others: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    return _gradients(lambda u, x: u, upstream, maps, *others)


@tf.function(jit_compile=True)
def _backward_of_rectified(
    upstream: tf.Tensor, maps: tf.Tensor, *others: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    def passed(u: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return tf.where(_normal(x, *others) > 0, u, 0.0)

    return _gradients(passed, upstream, maps, *others)


def _count(maps: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.reduce_prod(tf.shape(maps)[:3]), tf.float32)


def _sums(
    factors: Callable[..., tuple[tf.Tensor, tf.Tensor]], *maps: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The sums of p, and of p q, over all but the channels, where p and q are made of maps.

    Both in one walk, as sums over a new axis of 2: of two sums, XLA makes two loops. It does not
    use vectors where it sums what it computes on the way. It does where it computes slices and
    adds them, and where it sums what lies in memory: so slices are added first.

    Args:
        factors: returns p and q for a part of all maps.
        maps: [N, H, W, C] each.

    Returns:
        [C] each.
    """
    height, width, channels = maps[0].shape[1:]
    slices = _slices(maps[0])
    cut = [tf.reshape(m, [-1, slices, height * width // slices, 1, channels]) for m in maps]
    both = []
    for i in range(slices):
        p, q = factors(*(m[:, i] for m in cut))
        both.append(p * tf.where([[False], [True]], q, 1.0))
    total = tf.reduce_sum(tf.reduce_sum(tf.add_n(both), 1), 0)
    return total[0], total[1]


def _slices(maps: tf.Tensor) -> int:
    pixels = maps.shape[1] * maps.shape[2]
    return max(n for n in range(1, SLICES + 1) if pixels % n == 0)
