"""How the process holds on to memory while it trains."""

from __future__ import annotations

import ctypes
import logging
import platform

log = logging.getLogger("kfeat")

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -2, -3, -4, -8
"""Parameters of ``mallopt(3)``, by their numbers in glibc's malloc.h."""


def keep_freed() -> None:
    """Make the C library reuse large blocks of memory instead of giving them back.

    Every step of a training asks for the same blocks and frees them again. glibc maps each
    large one anew and unmaps it afterwards, so that the kernel has to clear its pages every
    time. Here they stay with the process, in one arena that grows to what a step needs. It holds
    for the whole process, until `give_back`. Without glibc nothing is done.
    """
    _set((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, 64 * 2**20))


def give_back() -> None:
    """Give the system what memory is free, and have the C library do so from now on.

    The one arena stays. The parameters are those at which glibc arrives by itself in a process
    that frees large blocks, its own ones for the top of an arena and the number of mappings.
    """
    _set(
        (_MMAP_MAX, 65536),
        (_MMAP_THRESHOLD, 32 * 2**20),
        (_TRIM_THRESHOLD, 64 * 2**20),
        (_TOP_PAD, 128 * 2**10),
    )
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))


def _set(*parameters: tuple[int, int]) -> None:
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    for parameter, value in parameters:
        if not mallopt(parameter, value):
            log.debug("mallopt(%d, %d) was refused", parameter, value)
