"""Count which copies of images the leak check finds, and which other images it takes for copies.

Train crops of the embedded photographs are written again as JPEG of quality 90 and 50, or enlarged
by half; each copy counts as found where any of these crops is near-identical to it. The test crops
are compared with all train crops; as none shares a pixel with these, those found are false.

    python benchmarks/leaks.py
    python benchmarks/leaks.py --crops 1000 --json
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable

import numpy as np
from PIL import Image

from kfeat import open_source
from kfeat.data import pipeline
from kfeat.data.leaks import near_identical, perceptual_hashes

THRESHOLDS = (0, 2, 4, 6, 8)


def as_jpeg(quality: int) -> Callable[[Image.Image], Image.Image]:
    """A function that writes an image as JPEG, and reads it again."""

    def copy(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return copy


def enlarged(image: Image.Image) -> Image.Image:
    """An image, enlarged by half, bilinear."""
    return image.resize((image.width * 3 // 2, image.height * 3 // 2), Image.Resampling.BILINEAR)


def as_encoders_get_them(images: list[Image.Image], size: int) -> np.ndarray:
    """Images of one size, brought to another by kfeat's pipeline: uint8 [N, size, size, 3]."""
    import tensorflow as tf

    arrays = np.stack([np.asarray(image) for image in images])
    dataset = pipeline.resized(tf.data.Dataset.from_tensor_slices({"image": arrays}), size)
    return np.stack([element["image"] for element in dataset.as_numpy_iterator()])


COPIES = {"JPEG, quality 90": as_jpeg(90), "JPEG, quality 50": as_jpeg(50), "enlarged": enlarged}


def main() -> None:
    """Parse the options, compare every case and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--crops", type=int, default=300, help="train crops")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--json", action="store_true", help="one line of JSON a case")
    arguments = parser.parse_args()

    source, size = open_source("photos"), arguments.image_size
    train = pipeline.load(source, "train", size).images
    chosen = [Image.fromarray(image) for image in train[: arguments.crops]]
    cases = {
        name: as_encoders_get_them([copy(image) for image in chosen], size)
        for name, copy in COPIES.items()
    }
    cases["test crops"] = pipeline.load(source, "test", size).images
    known = perceptual_hashes(train)
    if not arguments.json:
        print(f"{'share found, up to so many bits':34}", *(f"{bits:6}" for bits in THRESHOLDS))
    for name, images in cases.items():
        hashes = perceptual_hashes(images)
        among = known if name == "test crops" else known[: arguments.crops]
        found = {b: len(near_identical(hashes, among, b)[0]) / len(hashes) for b in THRESHOLDS}
        if arguments.json:
            print(json.dumps({"case": name, "images": len(hashes), "found": found}))
        else:
            shares = (f"{share:6.1%}" for share in found.values())
            print(f"{name + ', ' + str(len(hashes)):34}", *shares)


if __name__ == "__main__":
    main()
