"""Learning without labels: give back the image that came in."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

LOSS = "mean squared error"


def mean_squared_error(images: tf.Tensor, reconstruction: tf.Tensor) -> tf.Tensor:
    """Mean squared error of images in [0, 255], on the scale of images in [0, 1].

    Args:
        images: uint8 or float32 [N, S, S, 3].
        reconstruction: float32, the same shape.

    Returns:
        float32 [N], one mean an image.
    """
    error = tf.cast(images, tf.float32) - reconstruction
    return tf.reduce_mean(tf.square(error), axis=(1, 2, 3)) / 255**2


def prepare(
    graph: keras.Model, class_count: int, label_smoothing: float
) -> tuple[keras.Model, dict[str, Any]]:
    """Return the model to fit, images -> reconstruction, and what to compile it with."""
    reconstruction = graph.get_layer("reconstruction").output
    model = keras.Model(graph.inputs[0], reconstruction, name=graph.name)
    return model, {"loss": mean_squared_error}
