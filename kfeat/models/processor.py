"""What the processor can do."""

from __future__ import annotations

import functools
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")

BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16")
"""What Linux calls the instructions that multiply bfloat16, on processors that have them."""


@functools.cache
def fields() -> dict[str, str]:
    """What Linux says of the first processor, by name; empty where it says nothing."""
    try:
        first = CPUINFO.read_text().partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def flags() -> frozenset[str]:
    """The processor's instruction sets, as Linux names them; empty where it does not list them."""
    return frozenset(fields().get("flags", "").split())


def bfloat16_flags() -> list[str]:
    """Those of the instruction sets that multiply bfloat16; empty where it has to be emulated."""
    return [flag for flag in BFLOAT16_FLAGS if flag in flags()]


def is_narrow() -> bool:
    """Whether it is known to multiply 8 float32 at once, not 16.

    So do those that have AVX2 and not AVX-512, and AMD's Zen 4 (family 25), which computes what
    AVX-512 asks for in two halves.
    """
    if "avx512f" not in flags():
        return "avx2" in flags()
    return (fields().get("vendor_id"), fields().get("cpu family")) == ("AuthenticAMD", "25")
