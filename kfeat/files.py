"""Files that appear whole: checked before the work, written under another name, renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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
    """
    target = _behind(path)
    unfinished = _unfinished(target.with_name(path.name))
    try:
        yield unfinished
        os.replace(unfinished, target)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _behind(path: Path) -> Path:
    """The file that a path leads to, or would; not a device or pipe: a rename would end it."""
    target = Path(os.path.realpath(path))
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise InputError(f"{path} cannot be written: it is no regular file, give another name")
    return target


def _unfinished(path: Path) -> Path:
    # 60 characters take 240 bytes at most, so that the name is no longer than a file's may be.
    return path.with_name(f".{os.getpid()}.{path.name[-60:]}")


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8 that appears whole, or raise `InputError`.

    What UTF-8 has no bytes for, as odd file names hold it, is written as an escape.
    """
    with written(path) as unfinished:
        unfinished.write_text(text, "utf-8", "backslashreplace")
