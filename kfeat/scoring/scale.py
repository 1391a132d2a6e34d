"""Features of any size, brought to where their squares can be computed with."""

from __future__ import annotations

import numpy as np

USUAL = 30
"""Up to so many powers of two above or below 1, features are taken as they are."""


def exponent(*arrays: np.ndarray) -> int:
    """The power of two by which arrays of features can be divided so that no square overflows.

    Args:
        arrays: float32 or float64, finite, not empty.

    Returns:
        Such an e that the largest magnitude of all is in 2^e .. 2^(e+1); 2^e is a float64
        whatever they hold. -1 where all are 0.

    >>> exponent(np.array([-5.0, 1.0]), np.array([0.5]))
    2
    """
    largest = max(float(abs(edge)) for array in arrays for edge in (array.min(), array.max()))
    return int(np.frexp(largest)[1]) - 1


def scaled(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """Divide arrays of features by one power of two, where they are very large or very small.

    Squared distances of such features overflow, or vanish. The division is exact but for numbers
    that are too small beside the largest one to matter.

    Args:
        arrays: float32 or float64, finite, not empty.

    Returns:
        Arrays of the same types and shapes, the largest magnitude of all in 1 .. 2; or those
        given, not copied, where it is in 2^-30 .. 2^31, or 0.

    >>> scaled(np.array([3e200, -1e200]), np.array([2.0]))[0].round(3)
    array([ 1.96 , -0.653])
    """
    power = exponent(*arrays)
    if abs(power) <= USUAL:
        return arrays
    return tuple(np.ldexp(array, -power) for array in arrays)
