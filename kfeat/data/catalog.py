"""A name or a path becomes a source."""

from __future__ import annotations

import importlib
import logging
import os
from pathlib import Path
from typing import Any

from kfeat.data.source import UNLABELLED, Source
from kfeat.errors import InputError, expand, nearest, spelled

log = logging.getLogger("kfeat")

EMBEDDED = ("photos", "digits")
"""Data that come with kfeat's dependencies; each is a file here."""


def default_data_dir() -> Path:
    """Where TFDS keeps prepared data: ``$TFDS_DATA_DIR``, else ``~/tensorflow_datasets``."""
    return data_folder(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def data_folder(data_dir: str | os.PathLike[str] | None) -> Path:
    """Where TFDS keeps prepared data: the folder given, or `default_data_dir`.

    Raises:
        InputError: it is none of this machine, or `kfeat.errors.expand` refuses it.
    """
    if not data_dir:
        return default_data_dir()
    if ":/" in str(data_dir):  # of two slashes, a path keeps one
        raise InputError(f"{data_dir} is no folder of this machine: give one as the data folder")
    return expand(data_dir)


def open_source(
    name: str | os.PathLike[str], *, data_dir: str | Path | None = None, strict: bool = False
) -> Source:
    """Open a data set by its name or its path.

    Args:
        name: ``"photos"`` or ``"digits"``, the embedded data; the path of a folder of images, or
            of a data set that TFDS prepared; or the name of any image data set of TFDS, such as
            ``"stl10"`` or ``"cifar10"``. What starts with ``.``, ``~`` or ``/`` is a path.
            Any other name is looked for among the data prepared in ``data_dir`` first, then
            as a folder, and last among what TFDS can fetch.
        data_dir: where TFDS keeps prepared data; see `default_data_dir`.
        strict: raise at the first unreadable image instead of passing over it.

    Raises:
        InputError: there is no such data set, or nothing usable in it.
    """
    name = spelled("data", name)
    if name in EMBEDDED:
        if Path(name).is_dir():
            log.warning(
                "%s is the data that come with kfeat: write ./%s for the folder", name, name
            )
        return importlib.import_module(f"kfeat.data.{name}").source()
    if not name:
        raise InputError("the data set has no name: give one such as photos, or a folder")
    from kfeat.data import tfds_source

    path = expand(name)
    if not name.startswith((".", "~", os.sep)):
        data_dir = data_folder(data_dir)
        prepared = tfds_source.find_prepared(data_dir, name)
        if prepared:
            return tfds_source.prepared_source(name, prepared)
        if not path.exists() and tfds_source.known(name):
            return tfds_source.fetched_source(name, data_dir)
        if not path.exists() and len(path.parts) == 1:
            names = [*EMBEDDED, *tfds_source.prepared_names(data_dir), *tfds_source.known_names()]
            raise InputError(
                f"{name!r} is no data set that kfeat or TFDS knows, and no folder"
                + nearest(name, names)
            )
    if not path.exists():
        raise InputError(f"{name}: no such file or folder")
    if path.is_file():
        raise InputError(f"{name} is a file: give the folder that holds the images")
    prepared = tfds_source.prepared_in(path)
    if prepared:
        return tfds_source.prepared_source(name, prepared)
    from kfeat.data import folder

    return folder.source(path, name=name, strict=strict)


def default_split(source: Source, *, labelled: bool) -> str:
    """The split to learn from where the user names none.

    With labels: ``train``. Without: ``unlabelled`` where there is one, else ``train``. A
    source of one split has no choice.

    Raises:
        InputError: none of these is there.
    """
    wanted = ("train",) if labelled else (UNLABELLED, "train")
    for split in wanted:
        if split in source.splits:
            return split
    if len(source.splits) == 1:
        return next(iter(source.splits))
    return source.require(wanted[-1])


def listing(data_dir: str | Path | None = None) -> dict[str, Any]:
    """What can be opened by name: ``embedded``, ``prepared`` in ``data_dir``, ``addable``.

    TensorFlow is not imported, and nothing fetched.

    Returns:
        ``data_dir``: the folder looked into; ``embedded`` and ``prepared``: for each name the
        number of images of each split; ``addable``: for each name that `binaries.add` takes,
        the archive that it is made from.

    Raises:
        InputError: ``data_dir`` is no folder.
    """
    from kfeat.data import binaries, digits, photos, tfds_source

    folder = data_folder(data_dir)
    if data_dir and not folder.is_dir():
        raise InputError(f"{data_dir} is no folder: give the one where TFDS keeps prepared data")
    return {
        "data_dir": str(folder),
        "embedded": {"photos": dict(photos.SPLITS), "digits": dict(digits.SPLITS)},
        "prepared": tfds_source.prepared_names(folder),
        "addable": {name: archive.file for name, archive in binaries.ARCHIVES.items()},
    }


def show(source: Source) -> dict[str, Any]:
    """What a data set holds, as plain values.

    Returns:
        ``name``; ``location``: its folder, or None; ``version``: its version, or None;
        ``splits``: for each its number of ``images`` and whether it is ``labelled``;
        ``image_size``: [height, width], or None where they differ; ``classes``: names, or None.
    """
    return {
        "name": source.name,
        "location": source.location,
        "version": source.version,
        "splits": {
            split: {"images": count, "labelled": split in source.labelled}
            for split, count in source.splits.items()
        },
        "image_size": list(source.image_shape) if source.image_shape else None,
        "classes": list(source.class_names) if source.class_names else None,
    }
