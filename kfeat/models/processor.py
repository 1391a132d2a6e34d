"""What the processor can do."""

from __future__ import annotations

import functools
from pathlib import Path


@functools.cache
def flags() -> frozenset[str]:
    """The processor's instruction sets, as Linux names them; empty where it does not list them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())


def is_narrow() -> bool:
    """Whether it is known to multiply 8 float32 at once (AVX2), not 16 (AVX-512)."""
    return "avx2" in flags() and "avx512f" not in flags()
