"""Keras's optimisers, computed by TensorFlow's fused kernels, and Muon for convolutions.

Keras 3 composes an update from single operations, each of which walks through all the weights;
a fused kernel reads and writes every weight once. Arguments, state and results of `SGD`, `Adam` and
`AdamW` are Keras's own. `Muon` is not `keras.optimizers.Muon`, which leaves convolutions to AdamW.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

POLAR_EXPRESS = (
    (8.405178, -24.850807, 18.424617),
    (4.077174, -3.035042, 0.572207),
    (3.605791, -2.699633, 0.534012),
    (2.617733, -1.941289, 0.448640),
)
"""Polynomials a x + b x^3 + c x^5 that, one after the other, take [1/400, 1] closest to 1: each of
them the best of its degree for what the ones before leave (Amsel et al. 2025, theorem 4.1)."""


class _DecoupledDecay:
    """Weight decay in one pass over the weights."""

    def _apply_weight_decay(self: Any, variables: list[tf.Variable]) -> None:
        if self.weight_decay is None:
            return
        kept = tf.cast(1 - self.learning_rate * self.weight_decay, tf.float32)
        for variable in variables:
            if self._use_weight_decay(variable):
                variable.assign(variable * kept)


@keras.saving.register_keras_serializable(package="kfeat")
class SGD(_DecoupledDecay, keras.optimizers.SGD):
    """`keras.optimizers.SGD` for float32 variables, with ``ResourceApplyKerasMomentum``."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable and its momentum."""
        if not self.momentum:
            super().update_step(gradient, variable, learning_rate)
            return
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=_handle(variable),
            accum=_handle(self.momentums[self._get_variable_index(variable)]),
            lr=tf.cast(learning_rate, tf.float32),
            grad=tf.cast(gradient, tf.float32),
            momentum=tf.cast(self.momentum, tf.float32),
            use_nesterov=self.nesterov,
        )


@keras.saving.register_keras_serializable(package="kfeat")
class Muon(SGD):
    """Steps of kernels are made orthogonal; those of vectors get a length of their own.

    The kernel of a convolution, [height, width, C, F], is taken for a matrix of F columns, as that
    of a dense layer is one. Its momentum is replaced by about the nearest matrix whose singular
    values are all the same (`orthogonal`), so that every direction learns as fast as every other.
    A step is about ``learning_rate`` times as long as the kernel is at its start (less where the
    momentum has few directions), however large the gradient is.

    A convolution's kernel keeps its length, and has no weight decay: each convolution has to be
    followed by batch normalisation, to which its kernel's length is nothing. A dense layer's kernel
    does not: its step is ``learning_rate`` times the length that Glorot's initialisation gives it,
    not times its own, in proportion to which it would grow or shrink without end. Steps and weight
    decay balance at ``sqrt(learning_rate / (2 weight_decay))`` of that length, wherever it starts,
    if each step has a direction of its own; at more, if one is like the next, as with momentum.

    Scales, offsets and biases take steps whose root mean square is `VECTORS` times
    ``learning_rate``, also however large the gradient is: a vector is a matrix with one singular
    value. State, arguments and serialisation are those of `SGD`.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks",
    kellerjordan.github.io/posts/muon, and for kernels of a constant length Jordan's airbench94_muon
    (github.com/KellerJordan/cifar10-airbench). Choices of ours: vectors, which learn by another
    optimiser there; that the last layer is no exception, which by SGD makes the deeper ResNets
    diverge; four polynomials of Amsel et al. in place of Jordan's five times one: less work,
    values closer to 1.
    """

    VECTORS = 0.2
    """The root mean square of a vector's step, in ``learning_rate``."""

    def _use_weight_decay(self, variable: Any) -> bool:
        return len(variable.shape) != 4 and super()._use_weight_decay(variable)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable and its momentum."""
        learning_rate = tf.cast(learning_rate, tf.float32)
        moved = gradient = tf.cast(gradient, tf.float32)
        if self.momentum:
            momentum = self.momentums[self._get_variable_index(variable)]
            moved = self.momentum * tf.convert_to_tensor(momentum) + gradient
            momentum.assign(moved)
            if self.nesterov:
                moved = self.momentum * moved + gradient
        weights = tf.convert_to_tensor(variable)
        if len(weights.shape) < 2:
            rate = learning_rate * self.VECTORS * weights.shape.num_elements() ** 0.5
            variable.assign(weights - rate * tf.math.divide_no_nan(moved, tf.norm(moved)))
            return
        step = orthogonal(tf.reshape(moved, [-1, weights.shape[-1]]))
        rows, columns = step.shape
        convolution = len(weights.shape) == 4
        length = tf.norm(weights) if convolution else (2 / (1 / rows + 1 / columns)) ** 0.5
        # With all singular values 1, the step would be as long as the root of their number.
        rate = learning_rate * length / min(rows, columns) ** 0.5
        weights -= rate * tf.reshape(step, weights.shape)
        if convolution:
            weights *= tf.math.divide_no_nan(length, tf.norm(weights))
        variable.assign(weights)


def orthogonal(matrix: tf.Tensor) -> tf.Tensor:
    """Bring all singular values of a matrix to about 1, and keep its singular vectors.

    Four polynomials are applied one after the other, `POLAR_EXPRESS`: values of more than 1/400 of
    the matrix's Frobenius norm end between 0.74 and 1.26. For a matrix more than 1.5 times as long
    as wide they run on the Gram matrix of the shorter side, which is applied to the matrix once:
    two fifths of the work for a 3x3 kernel of 512 to 512 channels. Not so on a GPU, whose products
    may be rounded to 11 bits: the Gram matrix would get negative eigenvalues, and these would grow.

    Source: Amsel et al. 2025, "The Polar Express", arXiv:2505.16932, algorithm 1 and appendix F.

    Args:
        matrix: float32 [M, N].

    Returns:
        float32 [M, N]; zeros for zeros.
    """
    matrix = tf.math.divide_no_nan(matrix, tf.norm(matrix))
    tall = matrix.shape[0] >= matrix.shape[1]
    identity = tf.eye(min(matrix.shape))

    def gram() -> tf.Tensor:
        return tf.matmul(matrix, matrix, transpose_a=tall, transpose_b=not tall)

    def factor(squares: tf.Tensor, linear: float, cubic: float, quintic: float) -> tf.Tensor:
        return linear * identity + cubic * squares + quintic * tf.matmul(squares, squares)

    def times(whole: tf.Tensor) -> tf.Tensor:
        return tf.matmul(matrix, whole) if tall else tf.matmul(whole, matrix)

    if max(matrix.shape) <= 1.5 * min(matrix.shape) or tf.config.list_physical_devices("GPU"):
        for polynomial in POLAR_EXPRESS:
            matrix = times(factor(gram(), *polynomial))
        return matrix
    squares = gram()
    whole = once = factor(squares, *POLAR_EXPRESS[0])
    for polynomial in POLAR_EXPRESS[1:]:
        squares = tf.matmul(tf.matmul(once, squares), once)
        once = factor(squares, *polynomial)
        whole = tf.matmul(once, whole)
    return times(whole)


class _FusedAdam(_DecoupledDecay):
    def update_step(self: Any, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable and its two moments."""
        if self.amsgrad:
            super().update_step(gradient, variable, learning_rate)  # type: ignore[misc]
            return
        step = tf.cast(self.iterations + 1, tf.float32)
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(self._momentums[index]),
            v=_handle(self._velocities[index]),
            beta1_power=tf.pow(tf.cast(self.beta_1, tf.float32), step),
            beta2_power=tf.pow(tf.cast(self.beta_2, tf.float32), step),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=tf.cast(self.beta_1, tf.float32),
            beta2=tf.cast(self.beta_2, tf.float32),
            epsilon=tf.cast(self.epsilon, tf.float32),
            grad=tf.cast(gradient, tf.float32),
        )


@keras.saving.register_keras_serializable(package="kfeat")
class Adam(_FusedAdam, keras.optimizers.Adam):
    """`keras.optimizers.Adam` for float32 variables, with ``ResourceApplyAdam``."""


@keras.saving.register_keras_serializable(package="kfeat")
class AdamW(_FusedAdam, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` for float32 variables, with ``ResourceApplyAdam``."""


def _handle(variable: Any) -> tf.Tensor:
    """The resource behind a variable of TensorFlow's or of Keras's."""
    return (variable if isinstance(variable, tf.Variable) else variable.value).handle
