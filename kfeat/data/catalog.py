"""A name or a path becomes a source."""

from __future__ import annotations

import os
from pathlib import Path

from kfeat.data.source import Source
from kfeat.errors import InputError, nearest

UNLABELLED = "unlabelled"
"""The name of the split without labels, whatever a source's author calls it."""


def default_data_dir() -> Path:
    """Where TFDS keeps prepared data: ``$TFDS_DATA_DIR``, else ``~/tensorflow_datasets``."""
    return Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()


def open_source(
    name: str, *, data_dir: str | Path | None = None, strict: bool = False
) -> Source:
    """Open a data set by its name or its path.

    Args:
        name: ``"photos"``, the embedded data; the path of a folder of images, or of a data
            set that TFDS prepared; or the name of any image data set of TFDS, such as
            ``"stl10"`` or ``"cifar10"``. What starts with ``.``, ``~`` or ``/`` is a path,
            and so is every other name of an existing folder that no data set has.
        data_dir: where TFDS keeps prepared data; see `default_data_dir`.
        strict: raise at the first unreadable image instead of passing over it.

    Raises:
        InputError: there is no such data set, or nothing usable in it.
    """
    data_dir = Path(data_dir).expanduser() if data_dir else default_data_dir()
    if name == "photos":
        from kfeat.data import photos

        return photos.source()
    path = Path(name).expanduser()
    is_path = name.startswith((".", "~", os.sep)) or len(path.parts) > 1
    if not is_path or not path.exists():
        from kfeat.data import tfds_source

        prepared = tfds_source.find_prepared(data_dir, name)
        if prepared:
            return tfds_source.prepared_source(name, prepared)
        if not path.exists():
            if is_path and not tfds_source.known(name.split("/")[0]):
                raise InputError(f"{name}: no such file or folder")
            if not tfds_source.known(name.split("/")[0].split(":")[0]):
                raise InputError(
                    f"{name!r} is no data set that kfeat or TFDS knows, and no folder"
                    + nearest(name, ["photos", *tfds_source.known_names()])
                )
            return tfds_source.fetched_source(name, data_dir)
    if path.is_file():
        raise InputError(f"{name} is a file: give the folder that holds the images")
    from kfeat.data import folder, tfds_source

    prepared = tfds_source.find_prepared(path.parent, path.name)
    if prepared:
        return tfds_source.prepared_source(name, prepared)
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
