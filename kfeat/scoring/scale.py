"""Features of any size, brought to where their squares can be computed with."""

from __future__ import annotations

import numpy as np

USUAL = 30
"""Up to so many powers of two above or below 1, features are taken as they are."""


def scaled(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """Divide arrays of features by one power of two, where they are very large or very small.

    Squared distances of such features overflow, or vanish. The division is exact but for numbers
    that are too small beside the largest one to matter.

    Args:
        arrays: float32 or float64, finite, not empty.

    Returns:
        Arrays of the same types and shapes, the largest magnitude of all in 0.5 .. 1; or those
        given, not copied, where it is in 2^-30 .. 2^30, or 0.

    >>> scaled(np.array([3e200, -1e200]), np.array([2.0]))[0].round(3)
    array([ 0.98 , -0.327])
    """
    largest = max(float(abs(edge)) for array in arrays for edge in (array.min(), array.max()))
    exponent = int(np.frexp(largest)[1])
    if abs(exponent) <= USUAL:
        return arrays
    return tuple(np.ldexp(array, -exponent) for array in arrays)
