"""The embedded data: crops of ten photographs that scikit-image and scikit-learn bring along."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kfeat.data.source import UNLABELLED, Source
from kfeat.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf
    from PIL import Image

SIZE = 96
"""Height and width of a sample in pixels."""

PHOTOGRAPHS = {
    "astronaut": ("skimage", "data/astronaut.png", (512, 512)),
    "chelsea": ("skimage", "data/chelsea.png", (451, 300)),
    "china": ("sklearn", "datasets/images/china.jpg", (640, 427)),
    "coffee": ("skimage", "data/coffee.png", (600, 400)),
    "flower": ("sklearn", "datasets/images/flower.jpg", (640, 427)),
    "hubble": ("skimage", "data/hubble_deep_field.jpg", (1000, 872)),
    "ihc": ("skimage", "data/ihc.png", (512, 512)),
    "motorcycle": ("skimage", "data/motorcycle_left.png", (741, 500)),
    "retina": ("skimage", "data/retina.jpg", (1411, 1411)),
    "rocket": ("skimage", "data/rocket.jpg", (640, 427)),
}
"""Each class: the package with the photograph, its file there, its (width, height)."""

SPLITS = {"train": 2_000, "test": 1_000, UNLABELLED: 5_000}
"""The number of samples of each split, the same of every class."""

_DISTRIBUTIONS = {"skimage": "scikit-image", "sklearn": "scikit-learn"}
_SEEDS = {"train": 0, "test": 1, UNLABELLED: 2}


def source() -> Source:
    """Open the embedded data set, ``photos``.

    Ten classes, each one photograph. A sample is a square crop of it at random scale (a side
    of 64 pixels up to the most that fits, at most 192) and random position, resized to
    96x96, antialiased. The left three fifths of a photograph belong to ``train`` (2,000
    samples, 200 a class) and to ``unlabelled`` (5,000 other samples, 500 a class), the right
    two fifths to ``test`` (1,000 samples, 100 a class); none is upright. The crops are the
    same on every machine.

    Raises:
        InputError: a photograph is missing from the installed packages.
    """
    for name in PHOTOGRAPHS:
        _file(name)
    return Source(
        name="photos",
        class_names=tuple(PHOTOGRAPHS),
        splits=dict(SPLITS),
        labelled=frozenset({"train", "test"}),
        read=_read,
        image_shape=(SIZE, SIZE),
    )


def region(name: str, split: str) -> tuple[int, int, int, int]:
    """The part of a photograph that a split sees: left, top, right, bottom in pixels."""
    width, height = PHOTOGRAPHS[name][2]
    cut = width * 3 // 5
    return (cut, 0, width, height) if split == "test" else (0, 0, cut, height)


def crops(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Draw the crops of a split.

    Returns:
        Boxes int64 [N, 4] of left, top, right, bottom in pixels, and labels int64 [N].
    """
    # NEP 19 freezes the stream of RandomState: the same numbers with every NumPy.
    random = np.random.RandomState(_SEEDS[split])
    boxes = []
    for name in PHOTOGRAPHS:
        left, top, right, bottom = region(name, split)
        # The largest crop fits into both regions, so that train and test have the same scales.
        regions = np.array([region(name, "train"), region(name, "test")])
        largest = min(192, int((regions[:, 2:] - regions[:, :2]).min()))
        for _ in range(SPLITS[split] // len(PHOTOGRAPHS)):
            side = random.randint(64, largest + 1, dtype=np.int64)
            x = random.randint(left, right - side + 1, dtype=np.int64)
            y = random.randint(top, bottom - side + 1, dtype=np.int64)
            boxes.append((x, y, x + side, y + side))
    labels = np.repeat(np.arange(len(PHOTOGRAPHS)), SPLITS[split] // len(PHOTOGRAPHS))
    order = random.permutation(len(boxes))
    return np.array(boxes, np.int64)[order], labels[order].astype(np.int64)


def _file(name: str) -> Path:
    package, file, _ = PHOTOGRAPHS[name]
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin or "").parent / file if spec else None
    if path is None or not path.is_file():
        distribution = _DISTRIBUTIONS[package]
        raise InputError(
            f"photos: {file} is not in the installed {distribution}: "
            f"run pip install --force-reinstall {distribution}"
        )
    return path


@functools.cache
def _photograph(name: str) -> Image.Image:
    """Decode a photograph: RGB, of its listed size.

    Raises:
        InputError: it cannot be read, or is another one.
    """
    from PIL import Image

    path, size = _file(name), PHOTOGRAPHS[name][2]
    try:
        with Image.open(path) as image:
            photograph = image.convert("RGB")
    except OSError as error:
        raise InputError(f"photos: {path} cannot be read: {error}") from None
    if photograph.size != size:
        width, height = photograph.size
        raise InputError(f"photos: {path} is {width}x{height} pixels, not {size[0]}x{size[1]}")
    return photograph


def _read(split: str, limit: int | None) -> tf.data.Dataset:
    import tensorflow as tf
    from PIL import Image

    photographs = [_photograph(name) for name in PHOTOGRAPHS]

    def sample(box: np.ndarray, label: np.int64) -> np.ndarray:
        # Cut out before resizing: resize(box=...) also looks at the pixels around the box.
        cut = photographs[label].crop(tuple(box.tolist()))
        return np.asarray(cut.resize((SIZE, SIZE), Image.Resampling.BICUBIC))

    def element(name: tf.Tensor, box: tf.Tensor, label: tf.Tensor) -> dict[str, tf.Tensor]:
        image = tf.numpy_function(sample, [box, label], tf.uint8, stateful=False)
        out = {"id": name, "image": tf.ensure_shape(image, (SIZE, SIZE, 3))}
        return out if split == UNLABELLED else {**out, "label": label}

    boxes, labels = crops(split)
    classes = list(PHOTOGRAPHS)
    names = [
        f"{classes[label]} {left},{top} {right - left}"
        for (left, top, right, _), label in zip(boxes.tolist(), labels, strict=True)
    ]
    dataset = tf.data.Dataset.from_tensor_slices((names, boxes, labels)).take(limit or -1)
    return dataset.map(element, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
