"""From a source to batches: decode, resize, keep, shuffle, augment, batch.

Images are decoded and resized once, into one uint8 array, in memory or on disk. Training
batches are gathered from it by index, so that every epoch is a full shuffle, and what batch
i of epoch e holds follows from the seed alone: a run that was interrupted goes on with the
batches that it would have had.
"""

from __future__ import annotations

import functools
import itertools
import logging
import math
import os
import shutil
import tempfile
import weakref
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from kfeat.data.source import Source
from kfeat.errors import InputError, first_line
from kfeat.progress import progress

if TYPE_CHECKING:
    import tensorflow as tf

log = logging.getLogger("kfeat")

RESIZES = ("crop", "stretch")

HELD_OUT, ORDER, AUGMENTATION, MIRRORED = range(4)
"""What a training draws random numbers for; see `random`."""


@dataclass
class Images:
    """Images of one size, decoded.

    Attributes:
        images: uint8 [N, S, S, 3], an array or a file mapped into memory.
        labels: int64 [N], or None.
        unreadable: images of the split that were passed over, each with the reason.
    """

    images: np.ndarray
    labels: np.ndarray | None
    unreadable: dict[str, str]

    def __len__(self) -> int:
        return len(self.images)

    def digest(self) -> int:
        """The CRC-32 of all pixels and labels: it tells whether data have changed."""
        found = zlib.crc32(self.images.data if self.images.size else b"")
        return found if self.labels is None else zlib.crc32(self.labels.data, found)


def resized(dataset: tf.data.Dataset, image_size: int, resize: str = "crop") -> tf.data.Dataset:
    """Bring every image of a dataset to image_size x image_size, antialiased bilinear.

    Args:
        dataset: elements with ``image``: uint8 [H, W, 3]; other keys pass through.
        image_size: side S in pixels.
        resize: ``"crop"`` scales the shorter side to S and cuts out the centre;
            ``"stretch"`` scales both sides to S.

    Raises:
        InputError: another ``resize``.
    """
    import tensorflow as tf

    if resize not in RESIZES:
        raise InputError(f"resize {resize!r}: choose one of {', '.join(RESIZES)}")

    def fit(element: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        image = element["image"]
        if image.shape[:2] != (image_size, image_size):
            if resize == "crop":
                shape = tf.shape(image)
                side = tf.reduce_min(shape[:2])
                top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
                image = image[top : top + side, left : left + side]
            image = tf.image.resize(image, (image_size, image_size), antialias=True)
            image = tf.cast(tf.round(image), tf.uint8)
        return {**element, "image": tf.ensure_shape(image, (image_size, image_size, 3))}

    return dataset.map(fit, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def load(
    source: Source,
    split: str,
    image_size: int,
    *,
    resize: str = "crop",
    limit: int | None = None,
    memory_limit: float = 4.0,
    cache_dir: Path | None = None,
) -> Images:
    """Decode and resize a split, or its first ``limit`` images, into one array.

    Sources keep their images in a mixed order, so that the first N are a fair sample.

    Args:
        source: where the images are.
        split: one of its splits.
        image_size: side S in pixels.
        resize: see `resized`.
        limit: at most so many images; None for all.
        memory_limit: up to so many GiB the array is held in memory; a larger one is a
            nameless file in ``cache_dir``, which vanishes with the process.
        cache_dir: the folder for it; None for the system's folder for temporary files.

    Raises:
        InputError: no such split, no image in it that can be read, or one without a label
            beside others that have one.
    """
    dataset, count = source.dataset(split, limit), source.count(split, limit)
    shape = (count, image_size, image_size, 3)
    if math.prod(shape) <= memory_limit * 2**30:
        images = np.empty(shape, np.uint8)
    else:
        images = _on_disk(shape, cache_dir)
        log.info("%s %s does not fit into %g GiB: kept on disk", source.name, split, memory_limit)
    labels = np.empty(count, np.int64) if split in source.labelled else None

    n, before = 0, len(source.unreadable)
    batches = resized(dataset, image_size, resize).batch(64).prefetch(2)
    with progress(total=count, unit="img", desc=f"reading {source.name} {split}") as bar:
        for batch in read(batches, source):
            size = len(batch["image"])
            images[n : n + size] = batch["image"]
            if labels is not None:
                labels[n : n + size] = batch["label"]
            n += size
            bar.update(size)
    unreadable = passed_over(source, split, n, before)
    if labels is not None:
        check_labels(labels[:n], source, split)
    return Images(images[:n], labels[:n] if labels is not None else None, unreadable)


def _on_disk(shape: tuple[int, ...], folder: Path | None) -> np.ndarray:
    """Map a nameless file into memory, its place on the disk taken beforehand."""
    folder = folder or Path(tempfile.gettempdir())
    with tempfile.TemporaryFile(dir=folder) as file:
        size, free = math.prod(shape), shutil.disk_usage(folder).free
        fits = size <= free
        if fits and hasattr(os, "posix_fallocate"):  # macOS has it not
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError:
                fits = False
        if not fits:
            raise InputError(
                f"{folder} has {free / 2**30:.1f} GiB free where the images take "
                f"{size / 2**30:.1f} GiB: make room, or lower image_size or limit"
            )
        return np.memmap(file, np.uint8, "w+", shape=shape)


def passed_over(source: Source, split: str, read: int, before: int = 0) -> dict[str, str]:
    """Log and return the images that were unreadable in a split.

    Args:
        source: where the images are.
        split: the split that was read.
        read: the number of images that were readable.
        before: how many images of the source were unreadable before.

    Raises:
        InputError: no image was readable.
    """
    # Threads found them, in an order that is not always the same.
    new = dict(sorted(itertools.islice(source.unreadable.items(), before, None)))
    if not read:
        which = "".join(f" ({path}: {reason})" for path, reason in itertools.islice(new.items(), 1))
        raise InputError(f"{source.name} has no readable image in its split {split!r}{which}")
    for path, reason in new.items():
        log.warning("passed over %s: %s", path, reason)
    return new


def check_labels(labels: np.ndarray, source: Source, split: str) -> None:
    """Raise `InputError` where images of a labelled split, int64 [N], have the label -1: none."""
    if missing := int((labels < 0).sum()):
        raise InputError(
            f"{source.name} {split}: {missing} of {len(labels)} images have no label beside others "
            "that have one: choose another split"
        )


def read(batches: tf.data.Dataset, source: Source) -> Iterator[dict[str, np.ndarray]]:
    """Iterate over batches made from a source, as arrays.

    Raises:
        InputError: an image is unreadable, and the source is strict about that; or a file that
            TFDS wrote, or an image in it, is damaged.
    """
    import tensorflow as tf

    try:
        yield from batches.as_numpy_iterator()
    except tf.errors.DataLossError as error:
        raise InputError(
            f"{source.name} is damaged ({first_line(error)}): prepare it again"
        ) from None
    except tf.errors.OpError as error:
        if source.version and isinstance(error, tf.errors.FailedPreconditionError):
            raise InputError(
                f"{source.name} has not the files or images that it should ({first_line(error)}): "
                "prepare it again"
            ) from None
        if source.version and isinstance(error, tf.errors.InvalidArgumentError):
            raise InputError(
                f"{source.name} holds an image that cannot be read ({first_line(error)}): prepare "
                "it again without it"
            ) from None
        if not source.unreadable or "UnreadableError" not in str(error):
            raise
        path, reason = next(iter(source.unreadable.items()))
        raise InputError(f"{path} cannot be read: {reason}") from None


def training_batches(
    data: Images,
    indices: np.ndarray,
    *,
    batch_size: int,
    epochs: range,
    seed: int,
    flip: bool = False,
    shift: int = 0,
    crop_area: float = 1.0,
    erase: int = 0,
) -> tf.data.Dataset:
    """Shuffled, augmented batches for a range of epochs.

    An epoch holds ``len(indices) // batch_size`` whole batches; the images that are left
    over differ from epoch to epoch.

    Args:
        data: the images.
        indices: int [M], the images to learn from.
        batch_size: images a batch.
        epochs: the epochs to give, counted from 0 over the whole training.
        seed: decides order and augmentation, together with the epoch.
        flip: mirror each image in every second epoch; half of them, drawn once, in the first
            ("alternating flip", Jordan, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, 2024,
            arXiv 2404.00498). Two epochs show both sides of an image, where a draw in each would
            show half of the images the same side twice.
        shift: move each image by up to so many pixels, at random; what comes into sight is
            the image mirrored at its edge.
        crop_area: cut each image down to a random part of at least this share of its area, and
            scale that up again; 1 for none.
        erase: paint over a random square of so many pixels a side in each image; 0 for none.

    Returns:
        Elements (images uint8 [B, S, S, 3], target): target is labels int64 [B], or the
        images themselves where there are no labels.
    """
    import tensorflow as tf

    steps = len(indices) // batch_size
    first_mirrored = random(seed, MIRRORED).random(len(data)) < 0.5

    @functools.lru_cache(maxsize=2)
    def order(epoch: int) -> np.ndarray:
        return random(seed, ORDER, epoch).permutation(indices)

    def batch(position: np.int64) -> list[np.ndarray]:
        epoch, step = divmod(int(position), steps)
        chosen = order(epoch)[step * batch_size : (step + 1) * batch_size]
        images = data.images[chosen]
        if flip or shift or crop_area < 1 or erase:
            rng = random(seed, AUGMENTATION, epoch, step)
            mirrored = flip & (first_mirrored[chosen] ^ bool(epoch % 2))
            images = augment(images, rng, mirrored, shift=shift, crop_area=crop_area, erase=erase)
        return [images] if data.labels is None else [images, data.labels[chosen]]

    positions = tf.data.Dataset.range(epochs.start * steps, epochs.stop * steps)
    return _gather(positions, batch, data, batch_size)


def random(seed: int, *purpose: int) -> np.random.Generator:
    """Random numbers for one purpose, independent of those for all others."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=purpose))


def validation_batches(data: Images, indices: np.ndarray, batch_size: int) -> tf.data.Dataset:
    """Every image of ``indices`` once, in order, as they are; elements as in training."""
    import tensorflow as tf

    def batch(start: np.int64) -> list[np.ndarray]:
        chosen = indices[start : start + batch_size]
        images = data.images[chosen]
        return [images] if data.labels is None else [images, data.labels[chosen]]

    return _gather(tf.data.Dataset.range(0, len(indices), batch_size), batch, data, None)


def _gather(positions, batch, data: Images, batch_size: int | None) -> tf.data.Dataset:
    import tensorflow as tf

    types = [tf.uint8] if data.labels is None else [tf.uint8, tf.int64]
    shape = (batch_size, *data.images.shape[1:])
    # TensorFlow keeps what a numpy_function calls until the process ends: not the images with it.
    made = weakref.ref(batch)

    def call(position: np.int64) -> list[np.ndarray]:
        function = made()
        if function is None:
            raise RuntimeError("the batches are gone")
        return function(position)

    def element(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images, *labels = tf.numpy_function(call, [position], types, stateful=False)
        images.set_shape(shape)
        if not labels:
            return images, images
        labels[0].set_shape((batch_size,))
        return images, labels[0]

    options = tf.data.Options()
    # Nothing is left to tune, and an iterator with a tuner may not end before the tuner next
    # wakes up, which it does at ever longer intervals, up to a minute.
    options.autotune.enabled = False
    batches = positions.map(element, num_parallel_calls=2, deterministic=True).prefetch(4)
    batches = batches.with_options(options)
    batches.made_by = batch  # for as long as the batches are wanted
    return batches


def augment(
    images: np.ndarray,
    rng: np.random.Generator,
    mirrored: np.ndarray,
    *,
    shift: int = 0,
    crop_area: float = 1.0,
    erase: int = 0,
) -> np.ndarray:
    """Mirror some images of a batch; shift, crop and erase a part of each at random.

    A crop's share of the area is uniform in [crop_area, 1]; the ratio of its sides is log-uniform
    in as much of [3/4, 4/3] as fits into the image, and its place is uniform (after Szegedy et
    al., Going deeper with convolutions, 2015, section 6). Pillow scales it up, bilinear.

    The centre of an erased square is uniform over the image, whose edge may cut the square off
    (DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with Cutout,
    2017). It takes the image's own mean colour: the paper's is that of all images.

    Args:
        images: uint8 [B, S, S, 3].
        rng: draws two shifts an image, four numbers more for a crop, two for a square.
        mirrored: bool [B], the images to mirror.
        shift: see `training_batches`; less than S.
        crop_area: see `training_batches`; above 0, up to 1.
        erase: see `training_batches`.

    Returns:
        A new array of the same shape and type.
    """
    count, size = images.shape[:2]
    offsets = rng.integers(-shift, shift + 1, (2, count, 1))
    edges = ((0, 0), (shift, shift), (shift, shift), (0, 0))
    padded = np.pad(images, edges, "symmetric") if shift else images
    out = np.empty_like(images)
    for n, (top, left) in enumerate(shift + offsets[:, :, 0].T):
        cut = padded[n, top : top + size, left : left + size]
        out[n] = cut[:, ::-1] if mirrored[n] else cut
    if crop_area < 1:
        areas = rng.uniform(crop_area, 1, count)
        reach = np.minimum(math.log(4 / 3), -np.log(areas))
        ratios = np.exp(reach * rng.uniform(-1, 1, count))
        sides = size * np.sqrt([areas * ratios, areas / ratios])
        corners = rng.random((2, count)) * (size - sides)
        boxes = np.concatenate([corners, corners + sides]).T
        for n, box in enumerate(boxes.tolist()):
            image = Image.fromarray(out[n])
            out[n] = image.resize((size, size), Image.Resampling.BILINEAR, tuple(box))
    if erase:
        colours = np.rint(out.mean((1, 2))).astype(np.uint8)
        starts = rng.integers(0, size, (count, 2)) - erase // 2
        for image, colour, (top, left) in zip(out, colours, starts.tolist(), strict=True):
            image[max(top, 0) : top + erase, max(left, 0) : left + erase] = colour
    return out
