"""What is made once and kept in a file."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from kfeat.errors import first_line
from kfeat.files import from_json, write_text, written

log = logging.getLogger("kfeat")

Kept = TypeVar("Kept")


def kept_json(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What JSON can hold, as JSON holds it: read from a file, or made and written there."""
    return _kept(
        file,
        make,
        lambda file: from_json(file.read_text("utf-8")),
        lambda file, made: write_text(file, json.dumps(made, indent=2) + "\n"),
    )


def kept_array(file: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """An array: read from a file, or made and written there."""
    return _kept(file, make, lambda file: np.load(file, allow_pickle=False), _write_array)


def _write_array(file: Path, made: np.ndarray) -> None:
    with written(file) as unfinished:
        np.save(unfinished, made)


def _kept(
    file: Path,
    make: Callable[[], Kept],
    read: Callable[[Path], Kept],
    write: Callable[[Path, Kept], None],
) -> Kept:
    try:
        return read(file)
    except (OSError, ValueError, EOFError) as error:
        if file.exists():
            log.warning("%s is damaged (%s): made anew", file, first_line(error))
    write(file, make())
    return read(file)
