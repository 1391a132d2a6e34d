"""Learning without labels: give back the image that came in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kfeat.errors import InputError
from kfeat.models import catalog
from kfeat.training import recipe as recipes

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


def reconstruct(run: str | Path, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Give back images as an auto-encoder does, encoder and decoder, at its best epoch.

    Args:
        run: the folder of its training.
        batches: uint8 or float32 [N, S, S, 3] in [0, 255], of the training's image size.

    Yields:
        For each batch uint8 of its shape, rounded and clipped.

    Raises:
        InputError: the folder is no complete run, or of a model that reconstructs nothing.
    """
    run = Path(run)
    weights = run / "checkpoints" / "best.weights.h5"
    if not (weights.exists() and (run / "results.json").exists()):
        raise InputError(f"{run} is no complete run: train it first")
    recipe = recipes.Recipe(**recipes.read(run / "recipe.toml"))
    if catalog.find(recipe.model).supervised:
        raise InputError(f"{run}: {recipe.model} reconstructs nothing: give an auto-encoder's run")
    model, _ = prepare(catalog.build_graph(recipe.model, recipe.image_size), 0, 0.0)
    model.load_weights(weights)
    infer = tf.function(lambda images: model(images, training=False), autograph=False)
    shape = tf.TensorSpec([None, *model.input_shape[1:]], tf.float32)
    infer = infer.get_concrete_function(shape)
    for batch in batches:
        images = infer(tf.cast(batch, tf.float32)).numpy()
        yield np.clip(np.rint(images), 0, 255).astype(np.uint8)
