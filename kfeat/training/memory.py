"""How the process holds on to memory while it trains."""

from __future__ import annotations

import ctypes
import logging
import platform

log = logging.getLogger("kfeat")

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
"""Parameters of ``mallopt(3)``, by their numbers in glibc's malloc.h."""


def keep_freed() -> None:
    """Make the C library reuse large blocks of memory instead of giving them back.

    Every step of a training asks for the same blocks and frees them again. glibc maps each
    large one anew and unmaps it afterwards, so that the kernel has to clear its pages every
    time. Here they stay with the process, in one arena that grows to what a step needs. It holds
    for the whole process, for good. Without glibc nothing is done.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    for parameter, value in (
        (_ARENA_MAX, 1),
        (_MMAP_MAX, 0),
        (_TRIM_THRESHOLD, -1),
        (_TOP_PAD, 64 * 2**20),
    ):
        if not mallopt(parameter, value):
            log.debug("mallopt(%d, %d) was refused", parameter, value)
