"""The one exception that means: the user's input cannot be used."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

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


def expand(path: str | os.PathLike[str]) -> Path:
    """A path that a user gave, its ``~`` replaced by the home folder.

    Raises:
        InputError: there is no such home folder, no file can have that name, or a folder on the
            way to it may not be entered.
    """
    try:
        expanded = Path(path).expanduser()
        os.stat(expanded)
    except RuntimeError:
        raise InputError(
            f"{path}: there is no user of that name: for a folder called so write ./{path}"
        ) from None
    except ValueError:
        raise InputError(f"{str(path)!r} cannot be a path: it holds a null character") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(f"{str(path)[:60]}...: the name is too long for a file") from None
        if error.errno == errno.EACCES:
            raise InputError(f"{path} cannot be reached: {error.strerror}") from None
    return expanded


def first_line(error: Exception) -> str:
    """What an exception says, in one line of at most 300 characters; else its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
