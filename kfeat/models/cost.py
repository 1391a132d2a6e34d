"""What a model costs."""

from __future__ import annotations

import math

import keras
from keras import layers


def multiply_adds(model: keras.Model) -> int:
    """Count the multiply-adds of a functional model for one image.

    Convolutions, transposed convolutions and dense layers count, as is usual in the
    literature (He et al. 2016: 1.8e9 for ResNet18 on 224 pixels): each use of a weight is one.
    Normalisation, activations, pooling and biases do not count. What the padding multiplies
    by zero does.
    """
    total = 0
    for layer in model.layers:
        match layer:
            case layers.Conv2D():
                _, height, width, _ = layer.output.shape
            case layers.Conv2DTranspose():
                _, height, width, _ = layer.input.shape
            case layers.Dense():
                height = width = 1
            case _:
                continue
        total += math.prod(layer.kernel.shape) * height * width
    return total
