"""Leaks: images of the test split that, all but identical, stand in the train split too."""

from __future__ import annotations

import numpy as np

HASH = "phash"
"""What is compared: the perceptual hash of 64 bits of the ImageHash library."""

THRESHOLD = 4
"""Up to so many of the 64 bits may differ between near-identical images."""

# Pairs of hashes compared at a time.
BLOCK = 2**20


def perceptual_hashes(images: np.ndarray) -> np.ndarray:
    """Hash images so that what looks alike has hashes of few different bits.

    ImageHash's ``phash``: the image in grey, at 32 x 32 pixels; of its discrete cosine
    transform, the signs of the 8 x 8 lowest frequencies around their median. Colour does not
    count, and all images of a single colour are near-identical.

    Args:
        images: uint8 [N, S, S, 3], as the pipeline brings them to an encoder.

    Returns:
        uint64 [N].
    """
    import imagehash
    from PIL import Image

    bits = [imagehash.phash(Image.fromarray(image)).hash.ravel() for image in images]
    return np.packbits(np.array(bits, bool).reshape(-1, 64), axis=1).view(np.uint64)[:, 0]


def near_identical(
    test: np.ndarray, train: np.ndarray, threshold: int = THRESHOLD
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the test images that have a near-identical one in the train set.

    Every pair of hashes is compared, block by block.

    Args:
        test: uint64 [N], hashes of `perceptual_hashes`.
        train: uint64 [M], likewise.
        threshold: so many bits may differ, 0 .. 64.

    Returns:
        int64 [L] each: the test images, in order; for each the train image of the most similar
        hash, the first of several; and the number of bits in which the two differ.

    >>> near_identical(np.array([0, 255], np.uint64), np.array([7, 1], np.uint64), threshold=2)
    (array([0]), array([1]), array([1]))
    """
    best, bits = np.zeros(len(test), np.int64), np.full(len(test), 65)
    step = max(1, BLOCK // max(1, len(train)))
    for first in range(0, len(test) if len(train) else 0, step):
        part = slice(first, first + step)
        differing = np.bitwise_count(test[part, None] ^ train)
        best[part] = differing.argmin(axis=1)
        bits[part] = differing.min(axis=1)
    leaked = np.flatnonzero(bits <= threshold)
    return leaked, best[leaked], bits[leaked]
