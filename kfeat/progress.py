"""Progress of long work, on stderr."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


def progress(*args: Any, **options: Any) -> tqdm:
    """A `tqdm.tqdm` bar on stderr: often on a terminal, a line every 15 s in a log file."""
    terminal = sys.stderr.isatty()
    options.setdefault("mininterval", 0.2 if terminal else 15)
    options.setdefault("dynamic_ncols", terminal)
    return tqdm(*args, file=sys.stderr, **options)
