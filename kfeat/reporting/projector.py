"""Features for TensorBoard's Embedding Projector: vectors, metadata, images, configuration."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
from PIL import Image

from kfeat.errors import on_one_line
from kfeat.files import write_text, written

log = logging.getLogger("kfeat")

SIDE = 8192
"""The side in pixels of the largest image that the Projector takes for a sprite."""

LIMIT = (SIDE // 32) ** 2
"""The most images of a set: 32 pixels each, they fill the largest sprite."""

MANY = 50_000_000
"""Values above which a browser can hardly hold the vectors."""

Embedding = tuple[str, np.ndarray, dict[str, list[str]]]


def thumbnail_size(count: int) -> int:
    """The side in pixels, 96 at most, at which so many thumbnails fit into one sprite.

    >>> thumbnail_size(1000), thumbnail_size(10_000), thumbnail_size(LIMIT)
    (96, 81, 32)
    """
    return min(96, SIDE // _side(count))


def write_set(embeddings: list[Embedding], thumbnails: np.ndarray, folder: Path) -> None:
    """Write a folder that ``tensorboard --logdir FOLDER`` shows.

    It holds ``sprite.png``, the images in a square, row by row; for each model ``tensors.tsv``
    (the features, one row an image, as decimals that give back the same float32) and
    ``metadata.tsv`` (a row of headings, then one row an image), numbered from the second model
    on; and ``projector_config.pbtxt``, which names them by their paths within the folder. Each
    file appears whole, the configuration last; files of these names are replaced.

    Args:
        embeddings: for each model its name, features [N, D] and columns of metadata, each [N].
        thumbnails: uint8 [N, S, S, 3], which `thumbnail_size` makes fit.
        folder: an existing folder.

    Raises:
        InputError: a file cannot be written.

    Source: TensorBoard, ``plugins/projector/projector_config.proto``.
    """
    from google.protobuf import text_format
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    size = thumbnails.shape[1]
    with written(folder / "sprite.png") as unfinished:
        _sprite(thumbnails).save(unfinished, "PNG")
    config = ProjectorConfig()
    names = [name for name, _, _ in embeddings]
    for n, (name, vectors, columns) in enumerate(embeddings, 1):
        if vectors.size > MANY:
            log.warning("projector: few browsers hold so many as %d x %d features", *vectors.shape)
        number = f"-{n}" if n > 1 else ""
        embedding = config.embeddings.add()
        given = on_one_line(name)  # which may be a path that is not UTF-8
        embedding.tensor_name = given + number if name in names[: n - 1] else given
        embedding.tensor_path = f"tensors{number}.tsv"
        embedding.metadata_path = f"metadata{number}.tsv"
        embedding.tensor_shape.extend(vectors.shape)
        embedding.sprite.image_path = "sprite.png"
        embedding.sprite.single_image_dim.extend([size, size])
        with written(folder / embedding.tensor_path) as unfinished:
            np.savetxt(unfinished, vectors, "%.9g", "\t")
        lines = [list(columns), *zip(*columns.values(), strict=True)]
        text = "\n".join("\t".join(" ".join(cell.split()) for cell in line) for line in lines)
        write_text(folder / embedding.metadata_path, text + "\n")
    write_text(folder / "projector_config.pbtxt", text_format.MessageToString(config))


def _side(count: int) -> int:
    """The images along a side of the smallest square that holds so many."""
    return math.isqrt(count - 1) + 1


def _sprite(thumbnails: np.ndarray) -> Image.Image:
    """A square of as many images along each side, filled row by row, the rest black."""
    count, size = thumbnails.shape[:2]
    side = _side(count)
    canvas = np.zeros((side, size, side, size, 3), np.uint8)
    for n, image in enumerate(thumbnails):
        canvas[n // side, :, n % side] = image
    return Image.fromarray(canvas.reshape(side * size, side * size, 3))
