"""Keras's optimisers, computed by TensorFlow's fused kernels.

Keras 3 composes an update from single operations, each of which walks through all the weights;
a fused kernel reads and writes every weight once. Arguments, state and results are Keras's own.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


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
