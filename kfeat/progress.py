"""Progress of long work, on stderr."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


class _Lines:
    """A stream for `tqdm` that writes whole lines, for log files."""

    def write(self, text: str) -> None:
        if text := text.strip():
            sys.stderr.write(text + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


class _Bar(tqdm):
    """A bar that leaves no line behind where the work failed: the error has the last word."""

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if kind:
            self.leave = False
        super().__exit__(kind, *rest)


def progress(**options: Any) -> tqdm:
    """A `tqdm.tqdm` bar on a terminal; elsewhere a line on stderr every 15 seconds.

    Work that takes less than a second shows none, unless ``delay`` says otherwise.
    """
    options.setdefault("delay", 1)
    if sys.stderr.isatty():
        return _Bar(file=sys.stderr, mininterval=0.2, dynamic_ncols=True, **options)
    return _Bar(file=_Lines(), mininterval=15, ascii=True, ncols=100, **options)
