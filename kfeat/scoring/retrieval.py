"""Retrieval: each image as a query for the others of its class."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from kfeat.errors import InputError
from kfeat.progress import progress
from kfeat.scoring.metrics import as_labels
from kfeat.scoring.neighbours import unit_rows

# Queries x samples ranked at a time.
BLOCK = 2**21


def mean_average_precision(features: np.ndarray, labels: ArrayLike) -> float | None:
    """How far up those of its own class stand when a sample ranks all the others.

    mAP = 1/Q sum_q 1/R_q sum_(relevant i) precision_q(rank of i)

    over the Q samples whose class has others: R_q of them, the relevant ones. The ranking is
    by cosine similarity (a choice: the usual one of image retrieval); samples equally similar,
    but for rounding, share a rank, the last one, which is the definition of scikit-learn's
    ``average_precision_score``.

    Source: Manning, Raghavan and Schuetze, Introduction to Information Retrieval (2008),
    equation 8.8. O(N^2 (D + log N)) time; N rows are ranked at once, so memory is O(N D)
    beside the arguments.

    Args:
        features: float32 or float64 [N, D], finite.
        labels: array-like [N] of integers, booleans or strings.

    Returns:
        float in 0 .. 1, higher is better; None where no class has two samples.

    Raises:
        InputError: labels that are not one a row, or of the wrong type.

    >>> features = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.5, 0.5]])
    >>> mean_average_precision(features, ["cat", "cat", "dog", "cat"])
    0.9444444444444443
    """
    array = as_labels(labels)
    count = len(features)
    if len(array) != count:
        raise InputError(f"labels: {len(array)} for {count} samples: give one a sample")
    _, numbers = np.unique(array, return_inverse=True)
    relevant = np.bincount(numbers)[numbers] - 1
    if not relevant.any():
        return None
    # 2 x.y = ||x||^2 + ||y||^2 - ||x - y||^2, and distances can be had of rows less their mean:
    # beside a common offset, all cosines are one but for what rounding loses.
    units = unit_rows(features)
    lengths = units.any(axis=1) - 1.0  # -1 where all values are 0
    units -= units.mean(axis=0)
    squares = np.einsum("ij,ij->i", units, units)
    # Rows of length 1 are rounded, and so is each term of their products.
    errors = np.sqrt(squares) * 8 * (4 + units.shape[1] ** 0.5) * np.finfo(np.float64).eps
    total, step = 0.0, max(1, BLOCK // count)
    with progress(total=count, unit="query", desc="mean average precision") as bar:
        for first in range(0, count, step):
            queries = np.arange(first, min(first + step, count))
            # What is the same in all of a query's row does not change its ranking.
            ranked = 2 * (units[queries] @ units.T) - squares + lengths
            ranked[np.arange(len(queries)), queries] = -np.inf  # itself comes last, and is cut
            order = np.argsort(-ranked, axis=1)[:, :-1]
            ranked = np.take_along_axis(ranked, order, axis=1)
            rounding = errors[order] + errors[queries, None]
            last = np.ones(ranked.shape, bool)
            last[:, :-1] = -np.diff(ranked) > np.maximum(rounding[:, :-1], rounding[:, 1:])
            hits = numbers[order] == numbers[queries, None]
            total += float(_average_precisions(last, hits).sum())
            bar.update(len(queries))
    return total / int((relevant > 0).sum())


def _average_precisions(last: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Average precision of each row [n, N]; 0 where nothing is relevant.

    ``last`` says of each sample, the best first, whether the next one is less similar.
    """
    positions = np.arange(last.shape[1])
    ends = np.where(last, positions, len(positions))
    ends = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
    found = np.cumsum(hits, axis=1)
    precisions = np.take_along_axis(found, ends, axis=1) / (ends + 1)
    return (precisions * hits).sum(axis=1) / np.maximum(found[:, -1], 1)
