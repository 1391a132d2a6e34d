"""Features of images, with what made them: checked, and kept in files."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kfeat.errors import InputError, expand, first_line, whole
from kfeat.files import from_json, written
from kfeat.scoring.metrics import as_labels


@dataclass
class Features:
    """The features of a set of images.

    Attributes:
        features: float32 or float64 [N, D].
        labels: integers, booleans or strings [N], or None.
        ids: strings [N], each the name of an image in its data set, or None.
        manifest: what made them, as values that JSON can hold.
    """

    features: np.ndarray
    labels: np.ndarray | None = None
    ids: np.ndarray | None = None
    manifest: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.features)

    @property
    def classes(self) -> list[str] | None:
        """The names of the classes, where the manifest tells them, whoever wrote it."""
        data = self.manifest.get("data")
        names = data.get("classes") if isinstance(data, dict) else None
        return [str(name) for name in names] if isinstance(names, list | tuple) else None

    def names(self, labels: Iterable[Any]) -> list[str]:
        """What labels are called: their classes' names where these are known, else as text."""
        labels, classes = list(labels), self.classes
        if classes and all(
            isinstance(label, int | np.integer) and 0 <= label < len(classes) for label in labels
        ):
            return [classes[label] for label in labels]
        return [str(label) for label in labels]

    def take(self, rows: np.ndarray) -> Features:
        """Those of some images: of the rows int [M], in that order."""
        labels, ids = (None if a is None else a[rows] for a in (self.labels, self.ids))
        return Features(self.features[rows], labels, ids, self.manifest)


def spread(count: int, limit: int) -> np.ndarray:
    """Choose ``limit`` of ``count`` images, evenly spaced, or all if there are fewer.

    A data set may come class by class, so that the first images would not stand for all.

    Returns:
        int [min(count, limit)], the rows, rising.
    """
    return np.linspace(0, count - 1, min(count, limit)).round().astype(int)


def save_features(features: Features, path: str | os.PathLike[str]) -> None:
    """Write features as an .npz file.

    It holds the arrays ``id``, ``label`` (each only if known), ``feature`` [N, D] and
    ``manifest``, a JSON text. It appears whole, by a rename; an existing file is replaced.

    Raises:
        InputError: it cannot be written.
    """
    path = Path(path)
    arrays: dict[str, Any] = {
        "id": features.ids,
        "label": features.labels,
        "feature": features.features,
    }
    arrays["manifest"] = np.array(json.dumps(features.manifest))
    with written(path) as unfinished, open(unfinished, "wb") as file:
        np.savez(file, **{key: value for key, value in arrays.items() if value is not None})


def load_features(path: str | os.PathLike[str], limit: int | None = None) -> Features:
    """Read features, and what else is known of them, from an .npz file.

    Args:
        path: file of the arrays ``features`` (or ``feature``), numbers [N, D], and ``labels``
            (or ``label``), integers, booleans or strings [N], as ``numpy.savez`` or
            `save_features` writes them; ``id`` is read only beside a ``manifest``. Nothing is
            ever unpickled.
        limit: keep at most so many rows, evenly spaced; see `spread`.

    Raises:
        InputError: no such file, not an .npz file, a damaged one, no features in it, an array
            of Python objects, or arrays that `check_features` or `check_labels` refuses.
    """
    limit = limit if limit is None else whole("limit", limit, 1)
    if not isinstance(path, str | os.PathLike):
        raise InputError(
            f"features of type {type(path).__name__}: give the path of an .npz file "
            "(kfeat.scoring.scorecard.score takes arrays)"
        )
    path = expand(path)
    if not os.path.isfile(path):
        what = "no file" if os.path.exists(path) else "no such file"
        raise InputError(f"{path}: {what}: give the .npz file of the features")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path}: not an .npz file, or cut short: write it with numpy.savez")
    arrays: dict[str, np.ndarray] = {}
    try:
        archive = np.load(path, allow_pickle=False)
    except Exception as error:  # broken bytes make the reader stumble in any way
        raise InputError(f"{path}: the file is damaged: write it again") from error
    with archive:
        for wanted in ("features", "labels"):
            for key in (wanted, wanted.removesuffix("s")):
                if key in archive.files:
                    arrays[wanted] = _read_array(archive, key, path)
                    break
        if "manifest" in archive.files:
            arrays["manifest"] = _read_array(archive, "manifest", path)
            if "id" in archive.files:
                arrays["ids"] = _read_array(archive, "id", path)
        keys = ", ".join(archive.files) or "nothing"
    if "features" not in arrays:
        raise InputError(f"{path}: no array 'features', it holds {keys}: name it 'features'")
    features = check_features(arrays["features"], f"{path}: features")
    labels, ids = arrays.get("labels"), arrays.get("ids")
    if labels is not None:
        labels = check_labels(labels, len(features), f"{path}: labels")
    if ids is not None:
        ids = check_labels(ids, len(features), f"{path}: ids")
    try:
        manifest = from_json(str(arrays["manifest"])) if "manifest" in arrays else {}
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict):
        raise InputError(f"{path}: manifest is not the JSON text of an object: leave it out")
    read = Features(features, labels, ids, manifest)
    return read if limit is None else read.take(spread(len(read), limit))


def _read_array(archive: Any, key: str, path: str | os.PathLike[str]) -> np.ndarray:
    try:
        return np.asarray(archive[key])
    except Exception as error:  # broken bytes make the reader stumble in any way
        if "Object arrays" in str(error):
            problem = "holds pickled Python objects, which are never loaded: save plain numbers"
            problem += " or strings"
        else:
            problem = "cannot be read, the file is damaged: write it again"
        raise InputError(f"{path}: array {key!r} {problem}") from error


def check_features(features: ArrayLike, name: str = "features") -> np.ndarray:
    """Return features as a float array [N, D], or raise `InputError` where they are not.

    Args:
        features: numbers [N, D], N >= 1, D >= 1, all finite.
        name: what an error calls them.

    Returns:
        float32 [N, D] for types that it holds exactly (floats and integers of few bits,
        booleans), float64 [N, D] for all others.

    Raises:
        InputError: another shape, no numbers, NaN or infinite values, or some masked.
    """
    if np.ma.is_masked(features):
        raise InputError(f"{name}: some values are masked: leave their rows out, or fill them")
    try:
        array = np.asarray(features)
    except ValueError as error:  # rows of different lengths
        raise InputError(f"{name}: no array [N, D]: {first_line(error)}") from None
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name}: of type {array.dtype}: give real numbers")
    if array.ndim != 2 or not array.size:
        raise InputError(
            f"{name}: shape {list(array.shape)}: give [N, D], one row a sample, none of it 0"
        )
    kind = np.float32 if np.can_cast(array.dtype, np.float32) else np.float64
    with np.errstate(over="ignore"):  # what becomes infinite is found below
        array = array.astype(kind, copy=False)
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise InputError(
            f"{name}: {len(bad)} of {len(array)} rows hold NaN or infinite values as "
            f"{array.dtype}, the first is row {bad[0]} (counted from 0): leave them out or mend "
            "what made them"
        )
    return array


def check_labels(labels: ArrayLike, count: int, name: str = "labels") -> np.ndarray:
    """Return labels as an array of ``count`` labels, or raise `InputError`."""
    array = as_labels(labels, name)
    if len(array) != count:
        raise InputError(f"{name}: {len(array)} labels for {count} rows: give one a row")
    return array
