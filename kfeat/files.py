"""Files: written so that they appear whole, read without surprises.

What is written is checked before the work, goes to another name and is renamed.
"""

from __future__ import annotations

import errno
import json
import os
import re
import tomllib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kfeat.errors import InputError, expand


def check_writable(path: Path) -> None:
    """Raise `InputError` where a file cannot lie at ``path``; cheap, so ask it before the work."""
    expand(path)  # which refuses what no file can be called
    target = _behind(path)
    if target.is_dir():
        raise InputError(f"{path} cannot be written: it is a folder, give the name of a file")
    if not target.parent.is_dir():
        raise InputError(f"{path} cannot be written: make the folder {path.parent} first")
    unfinished = _unfinished(target)
    try:
        unfinished.touch()
        unfinished.unlink()
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``, which becomes ``path`` where nothing was raised.

    It ends like ``path``, for those who read the format from it. A link stays one: what it leads
    to is replaced.

    Raises:
        InputError: the file cannot be written.
        OSError: the disk is full, or fails.
    """
    target = _behind(path)
    unfinished = _unfinished(target.with_name(path.name))
    try:
        yield unfinished
        flush(unfinished)
        os.replace(unfinished, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):  # no fault of what was given
            raise
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Have a file, or all files of a folder, on the disk before more is done.

    A rename may get there before what was written: where the power fails in between, a file is
    there whole by its name, and empty.
    """
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    for file in files:
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())


def _behind(path: Path) -> Path:
    """The file that a path leads to, or would; not a device or pipe: a rename would end it."""
    target = Path(os.path.realpath(path))
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise InputError(f"{path} cannot be written: it is no regular file, give another name")
    return target


def _unfinished(path: Path) -> Path:
    # 60 characters take 240 bytes at most, so that the name is no longer than a file's may be.
    return path.with_name(f".{os.getpid()}.{path.name[-60:]}")


def remove_unfinished(folder: Path, names: Collection[str]) -> None:
    """Remove what processes that were killed left of files that are in a folder, or were to be.

    Args:
        folder: where no other process writes.
        names: of the files.
    """
    for file in folder.glob(".*"):
        if re.sub(r"^\.\d+\.", "", file.name) in names:
            with suppress(OSError):
                file.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8 that appears whole, or raise `InputError`.

    What UTF-8 has no bytes for, as odd file names hold it, is written as an escape.
    """
    with written(path) as unfinished:
        unfinished.write_text(text, "utf-8", "backslashreplace")


def from_json(text: str) -> Any:
    """Parse a JSON text, or raise `ValueError`, also where it is nested too deep to be read."""
    return _parsed(json.loads, text)


def from_toml(text: str) -> dict[str, Any]:
    """Parse a TOML text, or raise `ValueError`, also where it is nested too deep to be read.

    A byte-order mark, which some editors begin a file with, is passed over.
    """
    return _parsed(tomllib.loads, text.removeprefix("\ufeff"))


def _parsed(parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
