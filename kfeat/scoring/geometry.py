"""How features lie in space: spread, dimensions, how near those of one class are.

Each is computed block by block: beside its arguments, it takes some 200 MB, whatever N is;
`alignment` 8 D bytes a class more, `effective_rank` 16 min(N, D)^2, and `silhouette` a copy of the
features.
"""

from __future__ import annotations

import math

import numpy as np
import sklearn
from numpy.typing import ArrayLike
from sklearn.metrics import silhouette_score

from kfeat.errors import InputError
from kfeat.progress import progress
from kfeat.scoring.metrics import as_labels
from kfeat.scoring.neighbours import unit_rows
from kfeat.scoring.scale import scaled

# Values in one block of float64: 32 MiB.
BLOCK = 2**22


def alignment(features: np.ndarray, labels: ArrayLike) -> float | None:
    """How far apart, on the unit sphere, the samples of one class are.

    alignment = E ||f(x) - f(y)||^2 over positive pairs (x, y)

    Source: Wang and Isola, Understanding Contrastive Representation Learning through Alignment
    and Uniformity on the Hypersphere, ICML 2020 (arXiv 2005.10242), with its exponent 2. There
    a positive pair is two augmentations of an image; here, by choice, two samples of one class,
    every such pair counting once. The sum over the pairs of a class of n samples is
    n sum ||f||^2 - ||sum f||^2.

    Args:
        features: float32 or float64 [N, D], finite; divided by their lengths here.
        labels: array-like [N] of integers, booleans or strings.

    Returns:
        float in 0 .. 4, lower is better; None where no class has two samples.

    Raises:
        InputError: labels that are not one a row, or of the wrong type.

    >>> alignment(np.array([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0]]), ["cat", "cat", "dog"])
    2.0
    """
    classes, numbers = _classes(features, labels)
    sums, squares = np.zeros((len(classes), features.shape[1])), np.zeros(len(classes))
    for part in _blocks(features):
        rows = unit_rows(features[part])
        np.add.at(sums, numbers[part], rows)
        np.add.at(squares, numbers[part], np.einsum("ij,ij->i", rows, rows))
    sizes = np.bincount(numbers)
    pairs = int((sizes * (sizes - 1) // 2).sum())
    if not pairs:
        return None
    total = (sizes * squares - np.einsum("ij,ij->i", sums, sums))[sizes > 1].sum()
    return max(0.0, float(total / pairs))


def uniformity(features: np.ndarray) -> float | None:
    """How evenly the features cover the unit sphere.

    uniformity = log E exp(-2 ||f(x) - f(y)||^2) over all pairs of different samples

    Source: as `alignment`, with its t = 2. O(N^2 D) time.

    Args:
        features: float32 or float64 [N, D], finite; divided by their lengths here.

    Returns:
        float in -8 .. 0, lower is better; None for a single sample.

    >>> uniformity(np.array([[1.0, 0.0], [-3.0, 0.0]]))
    -8.0
    """
    count = len(features)
    if count < 2:
        return None
    total = 0.0
    with progress(total=count, unit="row", desc="uniformity") as bar:
        for part in _blocks(features, count):
            left = unit_rows(features[part])
            x = np.einsum("ij,ij->i", left, left)
            for other in _blocks(features):
                if other.stop <= part.start:
                    continue
                right = unit_rows(features[other])
                y = np.einsum("ij,ij->i", right, right)
                squared = np.maximum(x[:, None] + y - 2 * (left @ right.T), 0)
                later = (
                    np.arange(other.start, other.stop) > np.arange(part.start, part.stop)[:, None]
                )
                total += float(np.exp(-2 * squared, where=later, out=np.zeros_like(squared)).sum())
            bar.update(len(left))
    return math.log(total / (count * (count - 1) / 2))


def effective_rank(features: np.ndarray) -> float:
    """How many dimensions the features really use.

    erank = exp(-sum_i p_i log p_i), p_i = s_i / sum_j s_j

    with s_i the singular values of the matrix of features, from which the mean feature is taken
    first (a choice: else a large common offset would count as the one dimension in use).

    Source: Roy and Vetterli, The effective rank: a measure of effective dimensionality,
    EUSIPCO 2007, definition 1. The singular values are square roots of eigenvalues of the
    smaller one of F^T F and F F^T; those that rounding alone could make count as 0.

    Args:
        features: float32 or float64 [N, D], finite.

    Returns:
        float in 1 .. min(N, D); 0 where all features are equal.

    >>> effective_rank(np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    2.0
    """
    (features,) = scaled(features)
    count, dim = features.shape
    # From one of them, equal features differ by nothing, and from their mean by its rounding.
    origin = features[0].astype(np.float64)
    largest = max(abs(float(features.max())), abs(float(features.min()))) or 1.0
    mean = sum((features[part] - origin).sum(axis=0) for part in _blocks(features)) / count
    small = min(count, dim)
    products = np.zeros((small, small))
    if dim <= count:
        for part in _blocks(features):
            centred = (features[part] - origin - mean) / largest
            products += centred.T @ centred
    else:
        for part in _blocks(features.T):
            centred = (features[:, part] - origin[part] - mean[part]) / largest
            products += centred @ centred.T
    values = np.linalg.eigvalsh(products)
    values = values[values > max(count, dim) * np.finfo(np.float64).eps * max(values[-1], 1e-30)]
    if not len(values):
        return 0.0
    shares = np.sqrt(values) / np.sqrt(values).sum()
    return round(math.exp(-float((shares * np.log(shares)).sum())), 12)


def silhouette(features: np.ndarray, labels: ArrayLike) -> float | None:
    """How much nearer samples are to their own group than to the next one.

    silhouette = 1/N sum_i (b_i - a_i) / max(a_i, b_i)

    with a_i the mean distance of sample i to the others of its group, b_i to those of the
    nearest other group; 0 for a sample alone in its group. Distances are Euclidean.

    Source: Rousseeuw, Silhouettes, J. Comput. Appl. Math. 20 (1987); this is scikit-learn's
    ``silhouette_score``, with 64 MB of memory for a block. O(N^2 D) time.

    Args:
        features: float32 or float64 [N, D], finite.
        labels: array-like [N] of integers, booleans or strings, the groups.

    Returns:
        float in -1 .. 1, higher is better; None unless there are 2 .. N - 1 groups.

    Raises:
        InputError: labels that are not one a row, or of the wrong type.

    >>> features = np.array([[0.0], [1.0], [10.0], [11.0]])
    >>> round(silhouette(features, ["cat", "cat", "dog", "dog"]), 4)
    0.8997
    """
    classes, numbers = _classes(features, labels)
    if not 2 <= len(classes) < len(features):
        return None
    (features,) = scaled(features)
    # scikit-learn's distances are of products, which lose what is small beside a common offset.
    # A few samples far away would take the mean with them.
    centred = features - np.median(features, axis=0).astype(np.float64)
    with sklearn.config_context(working_memory=64):
        return float(silhouette_score(centred, numbers))


def _classes(features: np.ndarray, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    array = as_labels(labels)
    if len(array) != len(features):
        raise InputError(f"labels: {len(array)} for {len(features)} samples: give one a sample")
    return np.unique(array, return_inverse=True)


def _blocks(features: np.ndarray, width: int | None = None) -> list[slice]:
    """Slices of rows, in order, each of at most `BLOCK` values of ``width`` (or D) columns."""
    count = len(features)
    step = max(1, BLOCK // max(features.shape[1], min(width or 64, BLOCK // 64)))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
