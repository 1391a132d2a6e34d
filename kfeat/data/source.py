"""A source: images under a name, in splits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kfeat.errors import InputError, nearest

if TYPE_CHECKING:
    import tensorflow as tf

UNLABELLED = "unlabelled"
"""The name of the split without labels, whatever a source's author calls it."""


@dataclass
class Source:
    """Images under a name, in splits.

    Attributes:
        name: what the user called it: ``"photos"``, ``"stl10"``, a path.
        class_names: one name a class; a label is an index into it. None without labels.
        splits: the number of images in each split.
        labelled: the splits whose images have a label.
        read: makes the ``tf.data.Dataset`` of the first so many images of a split, or of all;
            use `dataset` instead.
        image_shape: (height, width) that all images share, or None where they differ.
        location: the folder that the images lie in, absolute; None for the embedded ones.
        version: the version of the data set, where it has one.
        state: returns a text that changes with the files: with their names, sizes, times of
            change, splits or classes, or with what TFDS wrote of them. None where the version
            says it, or there are no files.
        files: returns the paths in ``location`` of a split's images; None where they are not files
            of their own.
        cut: whether kfeat itself made the splits ``train`` and ``test`` of what is ``all``.
        unreadable: images passed over so far, each with the reason; grows while reading.
    """

    name: str
    class_names: tuple[str, ...] | None
    splits: dict[str, int]
    labelled: frozenset[str]
    read: Callable[[str, int | None], tf.data.Dataset]
    image_shape: tuple[int, int] | None = None
    location: str | None = None
    version: str | None = None
    state: Callable[[], str] | None = None
    files: Callable[[str], Iterable[str]] | None = None
    cut: bool = False
    unreadable: dict[str, str] = field(default_factory=dict)

    def require(self, split: str) -> str:
        """Return ``split``, or raise `InputError` where the source has no such split."""
        if split not in self.splits:
            there = ", ".join(self.splits)
            raise InputError(
                f"{self.name} has no split {split!r}: choose one of {there}"
                + nearest(split, self.splits)
            )
        return split

    def count(self, split: str, limit: int | None = None) -> int:
        """The number of images in a split, or in its first ``limit``."""
        return min(self.splits[self.require(split)], limit or self.splits[split])

    def dataset(self, split: str, limit: int | None = None) -> tf.data.Dataset:
        """Read one split, or its first ``limit`` images, always in the same order.

        Returns:
            Elements ``{"id": string [], "image": uint8 [H, W, 3], "label": int64 []}``; ``id``
            names the image within the split; ``label`` is missing where the split has none.

        Raises:
            InputError: the source has no such split.
        """
        return self.read(self.require(split), limit and self.count(split, limit))
