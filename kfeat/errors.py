"""The one exception that means: the user's input cannot be used."""

from __future__ import annotations

import errno
import operator
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


class InputError(ValueError):
    """Input that cannot be used.

    The message is one line which names the thing, says what is wrong with it and how to
    mend it. The command line prints it without a traceback and exits with code 2.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name closest to ``name``, or ``""``."""
    import difflib

    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def plain(value: Any) -> Any:
    """A value that a user gave from Python, of NumPy's types or a path, as Python's own or text."""
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    return value.item() if hasattr(value, "item") and not getattr(value, "ndim", 1) else value


def whole(name: str, value: Any, least: int) -> int:
    """A whole number that a user gave, of NumPy's or Python's, as Python's.

    Raises:
        InputError: it is none, or below ``least``.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name} {value!r}: give a whole number, {least} or more") from None
    if number < least:
        raise InputError(f"{name} {number}: give {least} or more")
    return number


def spelled(what: str, name: str | os.PathLike[str]) -> str:
    """A name or a path, as text.

    Raises:
        InputError: it is neither.
    """
    if not isinstance(name, str | os.PathLike):
        raise InputError(f"{what} of type {type(name).__name__}: give a name or a path")
    return os.fsdecode(name)


def on_one_line(text: str) -> str:
    """A text, which may name any file, without line ends and what a terminal takes for orders."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def expand(path: str | os.PathLike[str]) -> Path:
    """A path that a user gave, its ``~`` replaced by the home folder.

    Raises:
        InputError: it is no path, there is no such home folder, no file can have that name, or it
            is a folder that may not be entered, or one on the way to it is.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"path of type {type(path).__name__}: give a text or a Path")
    text = os.fsdecode(path)
    expanded = Path(at_home := os.path.expanduser(text))
    if text.startswith("~") and at_home == text:
        raise InputError(
            f"{path}: there is no user of that name: for a folder called so write ./{path}"
        )
    if expanded.parts and expanded.parts[0].startswith("~"):  # that were ./~, which a Path drops
        expanded = Path.cwd() / expanded
    try:
        os.stat(expanded)
    except ValueError:
        raise InputError(f"{str(path)!r} cannot be a path: it holds a null character") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(f"{str(path)[:60]}...: the name is too long for a file") from None
        if error.errno == errno.EACCES:
            raise InputError(f"{path} cannot be reached: {error.strerror}") from None
        return expanded
    if expanded.is_dir() and not os.access(expanded, os.X_OK):
        raise InputError(f"{path} may not be entered: have its owner permit it, or give another")
    return expanded


def first_line(error: Exception) -> str:
    """What an exception says, in one line of at most 300 characters; else its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
