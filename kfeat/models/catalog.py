"""Every encoder by its name. Nothing here imports TensorFlow before a model is built."""

from __future__ import annotations

import importlib
import numbers
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kfeat.errors import InputError, nearest

if TYPE_CHECKING:
    import keras

FEATURE_SIZE = 128
"""Length of the feature vector of every encoder here."""

LARGEST = 4096
"""The largest image side in pixels of any encoder here."""

BASELINES = ("pixels", "pca128")
"""What is scored beside encoders under a name of its own: no encoder's name can be one of these."""


@dataclass(frozen=True)
class Encoder:
    """What is known of an encoder without building it.

    Attributes:
        builder: ``module:function`` below ``kfeat.models``. The function takes the image
            size and returns a functional model with a layer called ``features``; where the
            objective is reconstruction, with a layer called ``reconstruction`` too.
        objective: what it learns by, a module of ``kfeat.training``.
        smallest: the smallest image side in pixels.
        step: image sides are multiples of this.
        source: the publication that it follows.
    """

    builder: str
    objective: str
    smallest: int
    step: int
    source: str

    @property
    def supervised(self) -> bool:
        """Whether it learns from labels."""
        return self.objective == "classification"


ENCODERS = {
    "cae1": Encoder("cae:cae1", "reconstruction", 32, 32, "Masci et al. 2011"),
    "cae2": Encoder("cae:cae2", "reconstruction", 16, 16, "Masci et al. 2011, Guo et al. 2017"),
    "cae3": Encoder("cae:cae3", "reconstruction", 16, 16, "Blanco-Mallo et al. 2020"),
    "unet": Encoder("unet:unet", "reconstruction", 32, 32, "Ronneberger et al. 2015"),
    "resnet18": Encoder("resnet:resnet18", "classification", 32, 1, "He et al. 2016"),
    "resnet34": Encoder("resnet:resnet34", "classification", 32, 1, "He et al. 2016"),
    "resnet50": Encoder("resnet:resnet50", "classification", 32, 1, "He et al. 2016"),
}


def find(name: str) -> Encoder:
    """Look an encoder up.

    Raises:
        InputError: there is none of that name.
    """
    if name not in ENCODERS:
        raise InputError(
            f"unknown model {name!r}: choose one of {', '.join(ENCODERS)}" + nearest(name, ENCODERS)
        )
    return ENCODERS[name]


def check_image_size(name: str, image_size: int) -> None:
    """Raise `InputError` where the encoder cannot take square images of that side."""
    encoder = find(name)
    if not isinstance(image_size, numbers.Integral):  # NumPy's integers are some
        raise InputError(f"image_size {image_size!r}: give a whole number of pixels")
    if not encoder.smallest <= image_size <= LARGEST or image_size % encoder.step:
        multiples = f"a multiple of {encoder.step}, " if encoder.step > 1 else ""
        raise InputError(
            f"{name} cannot take images of {image_size} pixels: "
            f"image_size must be {multiples}from {encoder.smallest} to {LARGEST}"
        )


def build_graph(name: str, image_size: int) -> keras.Model:
    """Build the whole graph of an encoder, its decoder included, with random weights.

    Raises:
        InputError: unknown name, or a size that the encoder cannot take.
    """
    check_image_size(name, image_size)
    module, function = find(name).builder.split(":")
    return getattr(importlib.import_module(f"kfeat.models.{module}"), function)(int(image_size))


def build(name: str, image_size: int, weights: str | Path | None = None) -> keras.Model:
    """Build an encoder.

    Args:
        name: one of `ENCODERS`.
        image_size: side S of the square images in pixels.
        weights: None or ``"none"`` for random ones; ``"imagenet"``, or a path, see
            `kfeat.models.weights.load`. ImageNet's and torchvision's have no 128-d feature
            layer: it stays random.

    Returns:
        A functional model: float32 [N, S, S, 3] in [0, 255] -> float32 [N, 128].

    Raises:
        InputError: unknown name, a size that the encoder cannot take, or weights that cannot be
            had, read or fitted in.
    """
    encoder = cut(build_graph(name, image_size))
    if weights not in (None, "none"):
        from kfeat.models.weights import load

        load(encoder, str(weights))
    return encoder


def cut(graph: keras.Model) -> keras.Model:
    """Return the encoder in a graph: from its images to the layer ``features``.

    Layers, and so weights, are shared with the graph.
    """
    import keras

    return keras.Model(graph.inputs[0], graph.get_layer("features").output, name=graph.name)
