"""Nearest neighbours of features, exact and in bounded memory, and classes by their votes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Lock

import joblib
import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from kfeat.errors import InputError
from kfeat.progress import progress
from kfeat.scoring.metrics import as_labels
from kfeat.scoring.scale import exponent

METRICS = ("euclidean", "cosine")
SEARCHES = ("exact", "faiss")

# Rows of the bank that are compared at a time, at most, and what they may hold in all.
BANK = 2**14
BANK_VALUES = 2**24
# Queries that a thread compares with them at a time, at most, and what they may hold in all.
QUERIES = 256
QUERY_VALUES = 2**20
# Rows of the bank in one product, and how many of them are first judged as one.
TILE = 2048
GROUP = 16
# Dimensions that one product sums; longer sums would need a wider margin for their rounding.
PANEL = 512
# Pairs that may be near enough to be measured at a time, and those of one query.
PAIRS = 2**19
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
    zeros is at distance 1 from all. Nearest come first; of equal distances, the smaller index,
    though parallel vectors of other lengths are equally far by cosine but for rounding.

    ``"exact"``: float32 products (of vectors with the bank's mean taken off, so that little
    cancels) only rule out rows that are farther than the k nearest so far by more than
    rounding can explain (Higham, Accuracy and Stability of Numerical Algorithms, 2002, eq. 3.5).
    Whatever is left is measured in float64, difference by difference. The result is that of
    a float64 search, at the speed of float32, by as many threads as there are processors.
    Beside its arguments and results, it takes some 200 MB, whatever M and N are; more where k is
    above 500 or D above 15,000.

    ``"faiss"``: faiss's flat search (Johnson et al., arXiv 1702.08734), in float32; for Euclidean
    distances, of vectors with the bank's mean taken off. It sums up ||x||^2 - 2 x.y + ||y||^2, so
    that the order of distances may differ from the exact one where their squares differ by less
    than 1e-6 of ||x||^2. Both arguments are copied.

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
    scale = 2.0 ** exponent(bank, queries)  # by which everything is divided without rounding
    middle = np.zeros(dim)
    if metric == "euclidean":
        # The sum of the largest numbers would overflow: a copy of them is divided before.
        rows_to_sum, divisor = (bank / scale, 1.0) if scale > 1e280 else (bank, scale)
        middle = rows_to_sum.mean(axis=0, dtype=np.float64) / divisor
    if search == "faiss":
        return _faiss(bank, queries, k, metric, scale, middle)
    columns = max(1024, min(BANK, BANK_VALUES // dim), 2 * GROUP * k)
    rows = max(16, min(QUERIES, QUERY_VALUES // dim))
    found = np.full((len(queries), k), samples), np.full((len(queries), k), np.inf)
    threads = min(joblib.cpu_count(), -(-len(queries) // rows))
    with (
        progress(total=len(queries) * samples, unit="pair", unit_scale=True, desc="KNN") as bar,
        threadpool_limits(1, "blas"),
        ThreadPoolExecutor(threads) as pool,
        _stopping() as stopped,
    ):
        counting = Lock()
        for start in range(0, samples, columns):
            block = _Block(bank[start : start + columns], start, k, metric, scale, middle)

            def compare(thread: int, block: _Block = block) -> None:
                likeness = block.room(rows)
                for first in range(thread * rows, len(queries), threads * rows):
                    if stopped.is_set():
                        return
                    part = slice(first, first + rows)
                    block.merge(queries[part], (found[0][part], found[1][part]), likeness)
                    with counting:
                        bar.update(len(queries[part]) * min(columns, samples - block.start))

            list(pool.map(compare, range(threads)))
    indices, distances = found
    if metric == "euclidean":
        np.sqrt(distances, out=distances)
        with np.errstate(over="ignore"):  # float64 has no such numbers
            distances *= scale
    return indices, distances


@contextmanager
def _stopping() -> Iterator[Event]:
    """An event that is set where something is raised, Ctrl-C say: threads that see it end."""
    stopped = Event()
    try:
        yield stopped
    except BaseException:
        stopped.set()
        raise


def nearest_others(features: np.ndarray, k: int, rows: np.ndarray | None = None) -> np.ndarray:
    """Find the rows that are nearest to each row, itself left out, by Euclidean distance.

    Args:
        features: float32 or float64 [N, D], finite.
        k: the number of neighbours, 1 .. N - 1.
        rows: integers [R], the rows whose neighbours are wanted; None for all of them.

    Returns:
        Indices, int64 [R, k], nearest first; of equal distances, the smaller index first.

    Raises:
        InputError: k out of range.

    >>> nearest_others(np.array([[0.0], [1.0], [3.0], [1.0]]), 1).ravel().tolist()
    [1, 3, 1, 1]
    >>> nearest_others(np.array([[0.0], [1.0], [3.0], [1.0]]), 2, rows=[2]).tolist()
    [[1, 3]]
    """
    if not 1 <= k < len(features):
        raise InputError(f"k {k}: each of {len(features)} rows has 1 to {len(features) - 1} others")
    rows = np.arange(len(features)) if rows is None else np.asarray(rows)
    found, _ = nearest(features, features[rows], k + 1)
    # Among many equal rows, the row itself may have been left out: then the last one goes.
    itself = found == rows[:, None]
    itself[:, -1] |= ~itself.any(axis=1)
    return found[~itself].reshape(len(rows), k)


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
    rows /= 2.0 ** (np.frexp(np.abs(rows).max(axis=1, keepdims=True))[1] - 1)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    return np.divide(rows, lengths, out=rows, where=lengths > 0)


def _first_of_equal(rows: np.ndarray, k: int) -> np.ndarray:
    """Which rows have fewer than k equal ones before them: int64 [m], ascending.

    Rows are told apart by a hash of 64 bits; where two that differ share one, all are kept.
    """
    words = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1)
    words = words.view(f"u{rows.itemsize}").astype(np.uint64)
    # Of whole numbers only the upper bits differ, and no product brings these down.
    words ^= words >> np.uint64(32)
    words *= np.uint64(0x9E3779B97F4A7C15)
    words ^= words >> np.uint64(29)
    factors = np.random.default_rng(0).integers(1, 2**64, words.shape[1], np.uint64) | np.uint64(1)
    hashes = words @ factors
    order = np.argsort(hashes, kind="stable")
    first = np.flatnonzero(np.append(True, np.diff(hashes[order]) != 0))
    sizes = np.diff(np.append(first, len(rows)))
    firsts, large = np.repeat(first, sizes), np.repeat(sizes > k, sizes)
    if not np.array_equal(rows[order[large]], rows[order[firsts[large]]]):
        return np.arange(len(rows))
    return np.sort(order[np.arange(len(rows)) < firsts + k])


def _points(features: np.ndarray, metric: str, scale: float) -> np.ndarray:
    return unit_rows(features) if metric == "cosine" else features.astype(np.float64) / scale


class _Block:
    """Rows of the bank, ready to be compared with queries.

    The larger the likeness x.y - ||y||^2 / 2 (for unit vectors, x.y), the nearer y is to x. It is
    one product: of x with a 1 behind it, and y with -||y||^2 / 2 behind it.

    Of equal rows only the first k are in it, the others being nobody's k nearest.

    Attributes:
        indices: int64 [m], of its rows in the bank, ascending.
        points: float64 [m, D].
        factors: float32 [tiles, D + 1, columns]; in the last tile, m may end: what follows is
            less like any query than all else.
    """

    def __init__(
        self, rows: np.ndarray, start: int, k: int, metric: str, scale: float, middle: np.ndarray
    ) -> None:
        self.start, self.metric, self.scale, self.middle = start, metric, scale, middle
        few = _first_of_equal(rows, k)
        rows, self.indices = rows[few], few + start
        self.points = _points(rows, metric, scale)
        centred = self.points - middle
        squares = np.einsum("ij,ij->i", centred, centred)
        self.largest = squares.max()
        tile = min(TILE, -(-len(rows) // GROUP) * GROUP)
        factors = np.zeros((-(-len(rows) // tile) * tile, rows.shape[1] + 1), np.float32)
        factors[: len(rows), :-1] = centred
        factors[: len(rows), -1] = -squares / 2 if metric == "euclidean" else 0
        factors[len(rows) :, -1] = np.finfo(np.float32).min
        self.factors = factors.reshape(-1, tile, factors.shape[1]).transpose(0, 2, 1)

    def room(self, rows: int) -> np.ndarray:
        """Room for the likeness of so many queries: float32 [tiles, rows, columns]."""
        return np.empty((len(self.factors), rows, self.factors.shape[2]), np.float32)

    def merge(
        self, queries: np.ndarray, found: tuple[np.ndarray, np.ndarray], room: np.ndarray
    ) -> None:
        """Bring the neighbours found so far up to date with this block.

        Args:
            queries: [n, D].
            found: indices [n, k] and distances [n, k] (Euclidean ones squared), by distance;
                changed in place.
            room: what `room` gave, for n queries or more.
        """
        indices, distances = found
        count, k = indices.shape
        points = _points(queries, self.metric, self.scale)
        centred = points - self.middle
        x = np.einsum("ij,ij->i", centred, centred)
        left = np.ones((count, centred.shape[1] + 1), np.float32)
        left[:, :-1] = centred
        likeness, best = self._likeness(left, room[:, :count])

        largest, reach = np.sqrt(x * self.largest), 1 - distances[:, -1]
        if self.metric == "euclidean":
            largest, reach = largest + self.largest / 2, (x - distances[:, -1]) / 2
        whole = len(self.points) // GROUP
        if not self.start and k <= whole:
            # The k-th nearest is no farther than the k-th of the nearest of each group.
            reach = np.partition(best, best.shape[1] - k, axis=1)[:, -k]
        # At most so far a float32 sum is from the true one; twice, for both sides of the
        # comparison. What is too small for float32 is lost whole, hence the constant; x is of
        # float64.
        dim = centred.shape[1]
        terms = min(dim, PANEL) + dim // PANEL + 17
        margin = 2 * terms * np.finfo(np.float32).eps * largest + 1e-14 * x + 1e-30
        least = (reach - margin).astype(np.float32)
        near = best >= least[:, None]
        # Many rows may be as near as rounding can tell: of so many pairs, a few queries at a time.
        until = np.cumsum(near.sum(axis=1)) * GROUP // PAIRS
        for part in np.split(np.arange(count), np.flatnonzero(np.diff(until)) + 1):
            some = slice(part[0], part[-1] + 1)
            self._compare(
                points[some],
                near[some],
                likeness[:, some],
                least[some],
                indices[some],
                distances[some],
            )

    def _compare(
        self,
        points: np.ndarray,
        near: np.ndarray,
        likeness: np.ndarray,
        least: np.ndarray,
        indices: np.ndarray,
        distances: np.ndarray,
    ) -> None:
        """Measure the rows whose likeness is large enough, and keep the k nearest of all."""
        k, columns_of_tile = indices.shape[1], likeness.shape[2]
        rows, groups = np.nonzero(near)
        tiles, groups = np.divmod(groups, columns_of_tile // GROUP)
        within = groups[:, None] + np.arange(GROUP) * (columns_of_tile // GROUP)
        columns = tiles[:, None] * columns_of_tile + within
        like = likeness[tiles[:, None], rows[:, None], within] >= least[rows, None]
        like &= columns < len(self.points)
        rows, columns = np.repeat(rows, GROUP)[like.ravel()], columns[like]

        exact = self._distances(points, rows, columns)
        closer = exact < distances[rows, -1]
        rows, columns, exact = rows[closer], columns[closer], exact[closer]
        touched, place = np.unique(rows, return_inverse=True)
        where = np.append(np.repeat(np.arange(len(touched)), k), place)
        index = np.append(indices[touched], self.indices[columns])
        distance = np.append(distances[touched], exact)
        order = np.lexsort((index, distance, where))
        firsts = np.searchsorted(where[order], np.arange(len(touched)))
        order = order[firsts[:, None] + np.arange(k)]
        indices[touched], distances[touched] = index[order], distance[order]

    def _likeness(self, left: np.ndarray, room: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The likeness, [tiles, n, columns], and the largest of each group, [n, groups].

        A group is every so many-th column of a tile, so that the largest are found by comparing
        whole halves.
        """
        best = []
        for likeness, right in zip(room, self.factors, strict=True):
            np.matmul(left[:, :PANEL], right[:PANEL], out=likeness)
            for panel in range(PANEL, left.shape[1], PANEL):
                likeness += left[:, panel : panel + PANEL] @ right[panel : panel + PANEL]
            halves = likeness
            while halves.shape[1] > likeness.shape[1] // GROUP:
                middle = halves.shape[1] // 2
                halves = np.maximum(halves[:, :middle], halves[:, middle:])
            best.append(halves)
        return room, np.concatenate(best, axis=1)

    def _distances(self, points: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The distances of some queries and rows of the block; Euclidean ones squared."""
        exact = np.empty(len(rows))
        step = max(1, 2**21 // points.shape[1])
        for n in range(0, len(rows), step):
            pairs = slice(n, n + step)
            difference = points[rows[pairs]] - self.points[columns[pairs]]
            exact[pairs] = np.einsum("ij,ij->i", difference, difference)
        if self.metric == "cosine":
            zeros = [~np.any(a, axis=1, keepdims=True)[:, 0] for a in (points, self.points)]
            exact = (exact + zeros[0][rows] + zeros[1][columns]) / 2
        return exact


def _faiss(
    bank: np.ndarray, queries: np.ndarray, k: int, metric: str, scale: float, middle: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    import faiss

    bank, queries = (
        _float32_points(features, metric, scale, middle) for features in (bank, queries)
    )
    kind = faiss.METRIC_L2 if metric == "euclidean" else faiss.METRIC_INNER_PRODUCT
    indices = np.empty((len(queries), k), np.int64)
    distances = np.empty((len(queries), k))
    with progress(total=len(queries), unit="query", desc="nearest neighbours") as bar:
        for first in range(0, len(queries), 4096):
            part = slice(first, first + 4096)
            distances[part], indices[part] = faiss.knn(queries[part], bank, k, metric=kind)
            bar.update(len(indices[part]))
    if metric == "cosine":
        return indices, 1 - distances
    return indices, np.sqrt(distances) * scale


def _float32_points(
    features: np.ndarray, metric: str, scale: float, middle: np.ndarray
) -> np.ndarray:
    """`_points` less ``middle``, as contiguous float32 [N, D]."""
    points = np.empty(features.shape, np.float32)
    for first in range(0, len(features), BANK):  # of float64 are a few at a time
        part = slice(first, first + BANK)
        points[part] = _points(features[part], metric, scale) - middle
    return points


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
