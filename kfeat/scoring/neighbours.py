"""Nearest neighbours of features, exact and in bounded memory, and classes by their votes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from kfeat.errors import InputError
from kfeat.progress import progress
from kfeat.scoring.metrics import as_labels

METRICS = ("euclidean", "cosine")
SEARCHES = ("exact", "faiss")

# Queries x bank rows in one block of float32 products: 64 MiB.
BLOCK = 2**24
# Dimensions that one product sums; longer sums would need a wider margin for their rounding.
PANEL = 512
# Queries whose votes are counted at a time.
VOTERS = 2**16


def nearest(
    bank: np.ndarray,
    queries: np.ndarray,
    k: int,
    metric: str = "euclidean",
    *,
    search: str = "exact",
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k rows of a bank that are nearest to each query, by exhaustive search.

    Distances are Euclidean, ||x - y||, or cosine, 1 - x.y / (||x|| ||y||), where a vector of
    zeros is at distance 1 from all. Nearest come first; of equal distances, the smaller index.

    ``"exact"``: products of float32 blocks (of vectors with the bank's mean taken off, so that
    little cancels) only rule out rows that are farther than the k nearest so far by more than
    rounding can explain (Higham, Accuracy and Stability of Numerical Algorithms, 2002, eq. 3.5).
    Whatever is left is measured in float64, difference by difference. The result is that of
    a float64 search, at the speed of float32. Beside its arguments and results, it takes some
    200 MB, whatever M and N are.

    ``"faiss"``: faiss's flat search (Johnson et al., arXiv 1702.08734), float32 throughout: where
    distances agree to 7 digits, their order may differ from the exact one. float64 arguments,
    and all arguments of a cosine search, are copied.

    Args:
        bank: float32 or float64 [M, D], finite.
        queries: float32 or float64 [N, D], finite.
        k: the number of neighbours, 1 .. M.
        metric: one of `METRICS`.
        search: one of `SEARCHES`.

    Returns:
        Indices into the bank, int64 [N, k], and distances, float64 [N, k].

    Raises:
        InputError: k out of range; another D in the queries; no such metric or search; faiss
            is not installed.

    >>> indices, distances = nearest(np.array([[0.0], [4.0], [5.0]]), np.array([[4.4]]), k=2)
    >>> indices, distances.round(6)
    (array([[1, 2]]), array([[0.4, 0.6]]))
    """
    check_search(metric, search)
    samples, dim = bank.shape
    if queries.shape[1] != dim:
        raise InputError(f"queries: {queries.shape[1]} dimensions where the bank has {dim}")
    if not 1 <= k <= samples:
        raise InputError(f"k {k}: a bank of {samples} rows has 1 to {samples} neighbours")
    if search == "faiss":
        return _faiss(bank, queries, k, metric)

    # A power of two, by which everything is divided without rounding: no square overflows.
    largest = max(float(abs(edge)) for a in (bank, queries) for edge in (a.min(), a.max()))
    scale = 2.0 ** np.frexp(largest)[1]
    middle = np.zeros(dim)
    if metric == "euclidean":
        middle = bank.mean(axis=0, dtype=np.float64) / scale
    columns = min(samples, max(4096, 4 * k))
    rows = max(1, BLOCK // columns)
    indices = np.empty((len(queries), k), np.int64)
    distances = np.empty((len(queries), k))
    with progress(total=len(queries), unit="query", desc="nearest neighbours") as bar:
        for first in range(0, len(queries), rows):
            points = _points(queries[first : first + rows], metric, scale)
            found = np.full((len(points), k), samples), np.full((len(points), k), np.inf)
            for start in range(0, samples, columns):
                block = _points(bank[start : start + columns], metric, scale)
                _merge(found, points, block, start, metric, middle)
            indices[first : first + rows], distances[first : first + rows] = found
            bar.update(len(points))
    if metric == "euclidean":
        np.sqrt(distances, out=distances)
        distances *= scale
    return indices, distances


def nearest_others(features: np.ndarray, k: int) -> np.ndarray:
    """Find the rows that are nearest to each row, itself left out, by Euclidean distance.

    Args:
        features: float32 or float64 [N, D], finite.
        k: the number of neighbours, 1 .. N - 1.

    Returns:
        Indices, int64 [N, k], nearest first; of equal distances, the smaller index first.

    Raises:
        InputError: k out of range.

    >>> nearest_others(np.array([[0.0], [1.0], [3.0], [1.0]]), 1).ravel().tolist()
    [1, 3, 1, 1]
    """
    if not 1 <= k < len(features):
        raise InputError(f"k {k}: each of {len(features)} rows has 1 to {len(features) - 1} others")
    found, _ = nearest(features, features, k + 1)
    rows = np.arange(len(features))[:, None]
    # Among many equal rows, the row itself may have been left out: then the last one goes.
    itself = found == rows
    itself[:, -1] |= ~itself.any(axis=1)
    return found[~itself].reshape(len(features), k)


def check_search(metric: str, search: str) -> None:
    """Raise `InputError` where `nearest` has no such metric or search, or faiss is missing."""
    if metric not in METRICS:
        raise InputError(f"metric {metric!r}: choose one of {', '.join(METRICS)}")
    if search not in SEARCHES:
        raise InputError(f"search {search!r}: choose one of {', '.join(SEARCHES)}")
    if search == "faiss":
        try:
            import faiss  # noqa: F401
        except ImportError:
            raise InputError(
                "search 'faiss': not installed: pip install 'kfeat[faiss]', or search 'exact'"
            ) from None


def unit_rows(features: np.ndarray) -> np.ndarray:
    """Divide each row by its Euclidean length; rows of zeros stay.

    Args:
        features: float32 or float64 [N, D], finite.

    Returns:
        float64 [N, D].

    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    rows = features.astype(np.float64)
    rows /= 2.0 ** np.frexp(np.abs(rows).max(axis=1, keepdims=True))[1]
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    return np.divide(rows, lengths, out=rows, where=lengths > 0)


def _points(features: np.ndarray, metric: str, scale: float) -> np.ndarray:
    return unit_rows(features) if metric == "cosine" else features.astype(np.float64) / scale


def _merge(
    found: tuple[np.ndarray, np.ndarray],
    points: np.ndarray,
    block: np.ndarray,
    start: int,
    metric: str,
    middle: np.ndarray,
) -> None:
    """Bring the neighbours found so far up to date with the next block of the bank.

    Args:
        found: indices [n, k] and distances [n, k] (Euclidean ones squared), by distance;
            changed in place.
        points: float64 [n, D].
        block: float64 [m, D], the rows of the bank from ``start``.
        start: index of the block's first row.
        metric: one of `METRICS`.
        middle: float64 [D], the mean of the bank.
    """
    indices, distances = found
    k, dim = indices.shape[1], points.shape[1]
    # The larger x.y - ||y||^2 / 2, the nearer; for unit vectors, x.y alone.
    centred = points - middle, block - middle
    x, y = (np.einsum("ij,ij->i", rows, rows) for rows in centred)
    left, right = (rows.astype(np.float32) for rows in centred)
    likeness = left[:, :PANEL] @ right[:, :PANEL].T
    for panel in range(PANEL, dim, PANEL):
        likeness += left[:, panel : panel + PANEL] @ right[:, panel : panel + PANEL].T
    largest, reach = np.sqrt(x) * np.sqrt(y.max()), 1 - distances[:, -1]
    if metric == "euclidean":
        likeness -= (y / 2).astype(np.float32)
        largest, reach = largest + y.max() / 2, (x - distances[:, -1]) / 2
    if not start and k <= len(block):
        # The k-th nearest of the block is no farther than the k-th of the nearest of each group.
        groups = min(len(block), max(256, 8 * k))
        size = len(block) // groups
        best = likeness[:, : size * groups].reshape(-1, size, groups).max(axis=1)
        reach = np.partition(best, groups - k, axis=1)[:, -k]
    # At most so far a float32 sum is from the true one; twice, for both sides of the comparison.
    # What is too small for float32 is lost whole, hence the constant; x is of float64.
    terms = min(dim, PANEL) + dim // PANEL + 16
    margin = 2 * terms * np.finfo(np.float32).eps * largest + 1e-14 * x + 1e-30
    rows, columns = np.nonzero(likeness >= (reach - margin).astype(np.float32)[:, None])

    exact = np.empty(len(rows))
    step = max(1, 2**21 // dim)
    for n in range(0, len(rows), step):
        pairs = slice(n, n + step)
        difference = points[rows[pairs]] - block[columns[pairs]]
        exact[pairs] = np.einsum("ij,ij->i", difference, difference)
    if metric == "cosine":
        zeros = [~np.any(a, axis=1, keepdims=True)[:, 0] for a in (points, block)]
        exact = (exact + zeros[0][rows] + zeros[1][columns]) / 2
    closer = exact < distances[rows, -1]
    rows, columns, exact = rows[closer], columns[closer], exact[closer]

    touched, place = np.unique(rows, return_inverse=True)
    where = np.append(np.repeat(np.arange(len(touched)), k), place)
    index = np.append(indices[touched], columns + start)
    distance = np.append(distances[touched], exact)
    order = np.lexsort((index, distance, where))
    firsts = np.searchsorted(where[order], np.arange(len(touched)))
    order = order[firsts[:, None] + np.arange(k)]
    indices[touched], distances[touched] = index[order], distance[order]


def _faiss(
    bank: np.ndarray, queries: np.ndarray, k: int, metric: str
) -> tuple[np.ndarray, np.ndarray]:
    import faiss

    if metric == "cosine":
        bank, queries = unit_rows(bank), unit_rows(queries)
    bank, queries = (np.ascontiguousarray(a, np.float32) for a in (bank, queries))
    kind = faiss.METRIC_L2 if metric == "euclidean" else faiss.METRIC_INNER_PRODUCT
    indices = np.empty((len(queries), k), np.int64)
    distances = np.empty((len(queries), k))
    with progress(total=len(queries), unit="query", desc="nearest neighbours") as bar:
        for first in range(0, len(queries), 4096):
            part = slice(first, first + 4096)
            distances[part], indices[part] = faiss.knn(queries[part], bank, k, metric=kind)
            bar.update(len(indices[part]))
    return indices, 1 - distances if metric == "cosine" else np.sqrt(distances)


def knn_predict(
    train_features: np.ndarray,
    train_labels: ArrayLike,
    test_features: np.ndarray,
    neighbours: int,
    *,
    metric: str = "euclidean",
    search: str = "exact",
) -> np.ndarray:
    """Predict the class that is most frequent among the nearest training samples.

    Every neighbour has one vote, and of classes with as many votes the smallest label wins, as
    in scikit-learn's ``KNeighborsClassifier``. Of training samples at the same distance, those
    of smaller index are the nearer ones.

    Args:
        train_features: float32 or float64 [M, D], finite.
        train_labels: array-like [M] of integers, booleans or strings.
        test_features: float32 or float64 [N, D], finite.
        neighbours: the number of neighbours that vote, 1 .. M.
        metric: ``"euclidean"`` or ``"cosine"``.
        search: ``"exact"`` or ``"faiss"``; see `nearest`.

    Returns:
        [N], the predicted labels, of the type of ``train_labels``.

    Raises:
        InputError: neighbours is below 1 or above M; another D in test than in train; another
            number of labels than of training samples; labels of floating point; what `nearest`
            refuses.

    >>> train = np.array([[0.0], [0.2], [5.0]])
    >>> knn_predict(train, ["cat", "cat", "dog"], np.array([[0.1], [4.0]]), neighbours=1)
    array(['cat', 'dog'], dtype='<U3')
    """
    labels = as_labels(train_labels, "train labels")
    samples, dim = train_features.shape
    if len(labels) != samples:
        raise InputError(f"train labels: {len(labels)} for {samples} samples: give one a sample")
    if test_features.shape[1] != dim:
        raise InputError(
            f"test features: {test_features.shape[1]} dimensions where train features have "
            f"{dim}: make both with the same model"
        )
    if not 1 <= neighbours <= samples:
        raise InputError(f"neighbours {neighbours}: {samples} train samples allow 1 to {samples}")
    indices, _ = nearest(train_features, test_features, neighbours, metric, search=search)
    classes, numbers = np.unique(labels, return_inverse=True)
    predicted = np.empty(len(indices), np.int64)
    for first in range(0, len(indices), VOTERS):
        votes = numbers[indices[first : first + VOTERS]]
        ballots = votes + np.arange(len(votes))[:, None] * len(classes)
        cells, counts = np.unique(ballots, return_counts=True)
        rows, voted = np.divmod(cells, len(classes))
        order = np.lexsort((voted, -counts, rows))
        winners = order[np.searchsorted(rows, np.arange(len(votes)))]
        predicted[first : first + VOTERS] = voted[winners]
    return classes[predicted]
