"""Embedded data of another kind: the handwritten digits that scikit-learn brings along."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kfeat.data.source import Source

if TYPE_CHECKING:
    import tensorflow as tf

SIZE = 8
"""Height and width of a sample in pixels."""

SPLITS = {"train": 1_500, "test": 297}
"""The number of samples of each split: scikit-learn's first 1,500, and the rest."""


def source() -> Source:
    """Open the embedded data set, ``digits``: 1,797 handwritten digits of 8x8 pixels.

    Grey values 0 .. 16 become 0 .. 255, the same in the three channels.

    Source: E. Alpaydin and C. Kaynak 1998, "Optical recognition of handwritten digits", UCI.
    """
    return Source(
        name="digits",
        class_names=tuple("0123456789"),
        splits=dict(SPLITS),
        labelled=frozenset(SPLITS),
        read=_read,
        image_shape=(SIZE, SIZE),
    )


def _read(split: str, limit: int | None) -> tf.data.Dataset:
    import tensorflow as tf
    from sklearn.datasets import load_digits

    digits = load_digits()
    part = slice(0, SPLITS["train"]) if split == "train" else slice(SPLITS["train"], None)
    grey = np.rint(digits.images[part] * (255 / 16)).astype(np.uint8)
    names = [f"{split} {number}" for number in range(len(grey))]
    elements = {
        "id": names,
        "image": np.repeat(grey[..., None], 3, axis=3),
        "label": digits.target[part].astype(np.int64),
    }
    return tf.data.Dataset.from_tensor_slices(elements).take(limit or -1)
