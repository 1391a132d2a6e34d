"""Metrics of a clustering and of a classification, as functions of two sets of labels.

``labels_true`` are the classes of N samples, ``labels_pred`` the clusters (for `accuracy`, the
classes) that were found for them. Labels are any integers, booleans or strings; except for
`accuracy`, only who shares a label with whom matters, not which label it is.

Every clustering metric is computed from the contingency table of the two partitions in
O(N + nonzero cells) time and memory, never over pairs of samples; `clustering_accuracy` has an
assignment problem to solve on top. Below, n_ij is the number of samples of class i in cluster
j, a_i the size of class i, b_j the size of cluster j, and C(n) = n (n - 1) / 2 the number of
pairs among n samples.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from kfeat.errors import InputError, first_line

# Up to this many classes x clusters an assignment is solved on a dense table.
DENSE_CELLS = 2**21


class Contingency(NamedTuple):
    """The nonzero cells of a contingency table, and its margins.

    Attributes:
        counts: int64 [cells], samples in each nonzero cell; at most N cells.
        rows: int64 [cells], the class of each cell, 0 .. classes - 1 in the labels' order.
        columns: int64 [cells], the cluster of each cell, 0 .. clusters - 1 likewise.
        class_sizes: int64 [classes], samples in each class, none of them 0.
        cluster_sizes: int64 [clusters], samples in each cluster, none of them 0.
    """

    counts: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    class_sizes: np.ndarray
    cluster_sizes: np.ndarray


def as_labels(labels: ArrayLike, name: str = "labels") -> np.ndarray:
    """Return ``labels`` as an array of integers, booleans or strings.

    Args:
        labels: array-like [N], N >= 1, of any integer, boolean or string type; an array of
            Python objects that are all strings, or all integers, will do.
        name: what an error calls them.

    Returns:
        Integer, boolean, string or bytes array [N].

    Raises:
        InputError: not one-dimensional, empty, or of another type. Floating point labels are
            refused even if they are whole numbers, for they are more often a score or a
            missing value than a label.

    >>> as_labels(["cat", "dog", "cat"])
    array(['cat', 'dog', 'cat'], dtype='<U3')
    """
    if np.ma.is_masked(labels):
        raise InputError(f"{name}: some are masked: leave their samples out")
    try:
        array = np.asarray(labels)
        if array.dtype.kind == "U" and isinstance(labels, (list, tuple)):
            array = np.asarray(labels, dtype=object)  # what is no string would have become one
    except ValueError as error:  # rows of different lengths
        raise InputError(f"{name}: no array [N]: {first_line(error)}") from None
    if array.ndim != 1:
        shape = list(array.shape)
        raise InputError(f"{name}: shape {shape} where [N] is wanted: give one label a sample")
    if not array.size:
        raise InputError(f"{name}: empty: give at least one label")
    kind = str(array.dtype)
    if array.dtype.kind in "OT":
        values = array.tolist()
        if all(isinstance(value, str) for value in values):
            array = np.asarray(values, dtype=str)
        elif all(isinstance(value, (int, np.integer, np.bool_)) for value in values):
            array = np.asarray(values)
    if array.dtype.kind == "S":
        array = np.strings.decode(array, "utf-8", "backslashreplace")
    if array.dtype.kind not in "biuU":
        raise InputError(f"{name}: of type {kind}: give integers, booleans or strings")
    return array


def contingency(labels_true: ArrayLike, labels_pred: ArrayLike) -> Contingency:
    """Count the samples of each class in each cluster.

    Only the nonzero cells are kept, of which there are at most N: a million samples, each in
    a cluster of its own, need no table of a million squared. Integers of a small range are
    numbered by counting, all others by sorting.

    Args:
        labels_true: array-like [N] of integers, booleans or strings.
        labels_pred: array-like [N] of integers, booleans or strings.

    Raises:
        InputError: labels that are empty, not one-dimensional or of floating point; lengths
            that differ.

    >>> table = contingency(["cat", "cat", "dog"], [7, 7, 3])
    >>> table.counts, table.rows, table.columns
    (array([2, 1]), array([0, 1]), array([1, 0]))
    """
    true, pred = _paired(labels_true, labels_pred)
    rows, class_sizes = _number(true)
    columns, cluster_sizes = _number(pred)
    cells = rows * len(cluster_sizes) + columns
    if len(class_sizes) * len(cluster_sizes) <= 4 * len(cells):
        table = np.bincount(cells)
        cells = np.flatnonzero(table)
        counts = table[cells]
    else:
        cells, counts = np.unique(cells, return_counts=True)
    rows, columns = np.divmod(cells, len(cluster_sizes))
    return Contingency(counts, rows, columns, class_sizes, cluster_sizes)


def _paired(labels_true: ArrayLike, labels_pred: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    true, pred = as_labels(labels_true, "labels_true"), as_labels(labels_pred, "labels_pred")
    if len(true) != len(pred):
        raise InputError(
            f"labels_pred: {len(pred)} labels beside {len(true)} in labels_true: "
            "give one of each a sample"
        )
    return true, pred


def _number(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the distinct labels from 0: the number of each sample, the size of each group."""
    if labels.dtype.kind in "biu":
        low = labels.min()
        if int(labels.max()) - int(low) < 4 * len(labels):
            # Large unsigned labels wrap around, and the difference wraps back.
            numbers = labels.astype(np.int64) - low.astype(np.int64)
            sizes = np.bincount(numbers)
            present = sizes > 0
            if not present.all():
                numbers = (np.cumsum(present) - 1)[numbers]
                sizes = sizes[present]
            return numbers, sizes
    _, numbers, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    return numbers, sizes


def pairwise_precision(labels_true: ArrayLike, labels_pred: ArrayLike) -> float:
    """Share of the pairs within a cluster that are also within a class.

    P = sum_ij C(n_ij) / sum_j C(b_j)

    If no cluster has a pair (all are singletons), P is 1 where no class has one either, as
    the partitions are then the same (scikit-learn's ``adjusted_rand_score`` has this rule),
    and else 0 (the rule of its ``precision_score`` and ``fowlkes_mallows_score``).

    Source: Manning, Raghavan and Schütze 2008, Introduction to Information Retrieval, 16.3.

    Args:
        labels_true: array-like [N] of integers, booleans or strings.
        labels_pred: array-like [N] of integers, booleans or strings.

    Returns:
        float in 0 .. 1.

    Raises:
        InputError: as `contingency`.

    The source's own example, of 40 pairs in clusters and 44 in classes, 20 of them in both:

    >>> classes, clusters = list("xxxxxo" "xooood" "xxddd"), list("aaaaaa" "bbbbbb" "ccccc")
    >>> pairwise_precision(classes, clusters)
    0.5
    """
    return _pairwise(contingency(labels_true, labels_pred))[0]


def pairwise_recall(labels_true: ArrayLike, labels_pred: ArrayLike) -> float:
    """Share of the pairs within a class that are also within a cluster.

    R = sum_ij C(n_ij) / sum_i C(a_i)

    If no class has a pair, R is 1 where no cluster has one either, and else 0: the rule of
    `pairwise_precision`.

    Source: Manning, Raghavan and Schütze 2008, Introduction to Information Retrieval, 16.3.

    Args:
        labels_true: array-like [N] of integers, booleans or strings.
        labels_pred: array-like [N] of integers, booleans or strings.

    Returns:
        float in 0 .. 1.

    Raises:
        InputError: as `contingency`.

    >>> classes, clusters = list("xxxxxo" "xooood" "xxddd"), list("aaaaaa" "bbbbbb" "ccccc")
    >>> round(pairwise_recall(classes, clusters), 3)
    0.455
    """
    return _pairwise(contingency(labels_true, labels_pred))[1]


def pairwise_f(labels_true: ArrayLike, labels_pred: ArrayLike) -> float:
    """Harmonic mean of `pairwise_precision` and `pairwise_recall`.

    F = 2 P R / (P + R) = 2 sum_ij C(n_ij) / (sum_i C(a_i) + sum_j C(b_j))

    1 if neither partition has a pair.

    Source: Manning, Raghavan and Schütze 2008, Introduction to Information Retrieval, 16.3.

    Args:
        labels_true: array-like [N] of integers, booleans or strings.
        labels_pred: array-like [N] of integers, booleans or strings.

    Returns:
        float in 0 .. 1.

    Raises:
        InputError: as `contingency`.

    >>> classes, clusters = list("xxxxxo" "xooood" "xxddd"), list("aaaaaa" "bbbbbb" "ccccc")
    >>> round(pairwise_f(classes, clusters), 3)
    0.476
    """
    return _pairwise(contingency(labels_true, labels_pred))[2]


def _pairs(sizes: np.ndarray) -> int:
    """Count the pairs within groups of these sizes, exactly."""
    if sizes.sum() >= 2**31:
        sizes = sizes.astype(object)
    return int((sizes * (sizes - 1)).sum()) // 2


def _pair_counts(table: Contingency) -> tuple[int, int, int]:
    """Count the pairs within both a class and a cluster, within a class, within a cluster."""
    return _pairs(table.counts), _pairs(table.class_sizes), _pairs(table.cluster_sizes)


def _pairwise(table: Contingency) -> tuple[float, float, float]:
    both, true, pred = _pair_counts(table)
    precision = both / pred if pred else float(true == 0)
    recall = both / true if true else float(pred == 0)
    f = 2 * both / (true + pred) if true + pred else 1.0
    return precision, recall, f


def bcubed_precision(labels_true: ArrayLike, labels_pred: ArrayLike) -> float:
    """Share of a sample's cluster that is of the sample's class, averaged over the samples.

    P = 1/N sum_ij n_ij^2 / b_j

    A sample counts itself, so that the mean is never empty, and singletons have precision 1.

    Source: Bagga and Baldwin 1998, "Entity-based cross-document coreferencing using the vector
    space model"; for clusterings, Amigó et al. 2009, "A comparison of extrinsic clustering
    evaluation metrics based on formal constraints".

    Args:
        labels_true: array-like [N] of integers, booleans or strings.
        labels_pred: array-like [N] of integers, booleans or strings.

    Returns:
        float, above 0 and up to 1.

    Raises:
        InputError: as `contingency`.

    >>> bcubed_precision(["cat", "cat", "dog", "dog"], [0, 0, 0, 0])
    0.5
    """
    return _bcubed(contingency(labels_true, labels_pred))[0]


def bcubed_recall(labels_true: ArrayLike, labels_pred: ArrayLike) -> float:
    """Share of a sample's class that is in the sample's cluster, averaged over the samples.

    R = 1/N sum_ij n_ij^2 / a_i

    Source: Bagga and Baldwin 1998; Amigó et al. 2009, as for `bcubed_precision`.

    Args:
        labels_true: array-like [N] of integers, booleans or strings.
        labels_pred: array-like [N] of integers, booleans or strings.

    Returns:
        float, above 0 and up to 1.

    Raises:
        InputError: as `contingency`.

    >>> bcubed_recall(["cat", "cat", "dog", "dog"], [0, 1, 2, 2])
    0.75
    """
    return _bcubed(contingency(labels_true, labels_pred))[1]


def bcubed_f(labels_true: ArrayLike, labels_pred: ArrayLike) -> float:
    """Harmonic mean of `bcubed_precision` and `bcubed_recall`.

    F = 2 P R / (P + R), of the averaged P and R; not the average of each sample's F.

    Source: Bagga and Baldwin 1998; Amigó et al. 2009, as for `bcubed_precision`.

    Args:
        labels_true: array-like [N] of integers, booleans or strings.
        labels_pred: array-like [N] of integers, booleans or strings.

    Returns:
        float, above 0 and up to 1.

    Raises:
        InputError: as `contingency`.

    >>> round(bcubed_f(["cat", "cat", "dog", "dog"], [0, 0, 0, 0]), 3)
    0.667
    """
    return _bcubed(contingency(labels_true, labels_pred))[2]


def _bcubed(table: Contingency) -> tuple[float, float, float]:
    samples = table.counts.sum()
    precision = np.sum(table.counts * (table.counts / table.cluster_sizes[table.columns]))
    recall = np.sum(table.counts * (table.counts / table.class_sizes[table.rows]))
    precision, recall = float(precision / samples), float(recall / samples)
    return precision, recall, 2 * precision * recall / (precision + recall)


def nmi(labels_true: ArrayLike, labels_pred: ArrayLike) -> float:
    """Mutual information, normalised by the arithmetic mean of the two entropies.

    NMI = I / ((H_true + H_pred) / 2), where
    I = sum_ij n_ij/N log(n_ij N / (a_i b_j)) and H_true = -sum_i a_i/N log(a_i/N)

    Edge cases as in scikit-learn's ``normalized_mutual_info_score``: 1 if both partitions
    are one group, 0 if one of them is. Always equal to `v_measure`.

    Source: Vinh, Epps and Bailey 2010, "Information theoretic measures for clusterings
    comparison" (there NMI_sum).

    Args:
        labels_true: array-like [N] of integers, booleans or strings.
        labels_pred: array-like [N] of integers, booleans or strings.

    Returns:
        float in 0 .. 1.

    Raises:
        InputError: as `contingency`.

    >>> classes, clusters = list("xxxxxo" "xooood" "xxddd"), list("aaaaaa" "bbbbbb" "ccccc")
    >>> round(nmi(classes, clusters), 3)
    0.365
    """
    return _information(contingency(labels_true, labels_pred))["nmi"]


def homogeneity(labels_true: ArrayLike, labels_pred: ArrayLike) -> float:
    """How far each cluster is of one class only.

    h = I / H_true, with I and H_true as in `nmi`

    1 if there is but one class, as in scikit-learn's ``homogeneity_score``.

    Source: Rosenberg and Hirschberg 2007, "V-Measure: a conditional entropy-based external
    cluster evaluation measure".

    Args:
        labels_true: array-like [N] of integers, booleans or strings.
        labels_pred: array-like [N] of integers, booleans or strings.

    Returns:
        float in 0 .. 1.

    Raises:
        InputError: as `contingency`.

    >>> homogeneity(["cat", "cat", "dog", "dog"], [0, 1, 2, 2])
    1.0
    """
    return _information(contingency(labels_true, labels_pred))["homogeneity"]


def completeness(labels_true: ArrayLike, labels_pred: ArrayLike) -> float:
    """How far each class is in one cluster only.

    c = I / H_pred, with I and H_pred as in `nmi`

    1 if there is but one cluster, as in scikit-learn's ``completeness_score``.

    Source: Rosenberg and Hirschberg 2007, "V-Measure: a conditional entropy-based external
    cluster evaluation measure".

    Args:
        labels_true: array-like [N] of integers, booleans or strings.
        labels_pred: array-like [N] of integers, booleans or strings.

    Returns:
        float in 0 .. 1.

    Raises:
        InputError: as `contingency`.

    >>> round(completeness(["cat", "cat", "dog", "dog"], [0, 1, 2, 2]), 3)
    0.667
    """
    return _information(contingency(labels_true, labels_pred))["completeness"]


def v_measure(labels_true: ArrayLike, labels_pred: ArrayLike) -> float:
    """Harmonic mean of `homogeneity` and `completeness`.

    V = 2 h c / (h + c); 0 if both are 0, as in scikit-learn's ``v_measure_score``.

    Source: Rosenberg and Hirschberg 2007, "V-Measure: a conditional entropy-based external
    cluster evaluation measure" (with beta = 1).

    Args:
        labels_true: array-like [N] of integers, booleans or strings.
        labels_pred: array-like [N] of integers, booleans or strings.

    Returns:
        float in 0 .. 1.

    Raises:
        InputError: as `contingency`.

    >>> round(v_measure(["cat", "cat", "dog", "dog"], [0, 1, 2, 2]), 3)
    0.8
    """
    return _information(contingency(labels_true, labels_pred))["v_measure"]


def _entropy(sizes: np.ndarray) -> float:
    samples = float(sizes.sum())
    return float(np.sum(sizes / samples * np.log(samples / sizes)))


def _information(table: Contingency) -> dict[str, float]:
    samples = float(table.counts.sum())
    independent = table.class_sizes[table.rows] * table.cluster_sizes[table.columns].astype(float)
    true, pred = _entropy(table.class_sizes), _entropy(table.cluster_sizes)
    shared = np.sum(table.counts / samples * np.log(table.counts * samples / independent))
    shared = min(max(float(shared), 0.0), true, pred)  # its bounds, which rounding may cross
    homogeneous = shared / true if true else 1.0
    complete = shared / pred if pred else 1.0
    both = homogeneous + complete
    return {
        "nmi": 2 * shared / (true + pred) if true + pred else 1.0,
        "homogeneity": homogeneous,
        "completeness": complete,
        "v_measure": 2 * homogeneous * complete / both if both else 0.0,
    }


def adjusted_rand(labels_true: ArrayLike, labels_pred: ArrayLike) -> float:
    """Rand index, adjusted for chance.

    ARI = (T - E) / (M - E), where T = sum_ij C(n_ij), A = sum_i C(a_i), B = sum_j C(b_j),
    E = A B / C(N) is what T is expected to be by chance, and M = (A + B) / 2

    1 if the partitions are the same, be it one cluster or all singletons, as in
    scikit-learn's ``adjusted_rand_score``.

    Source: Hubert and Arabie 1985, "Comparing partitions".

    Args:
        labels_true: array-like [N] of integers, booleans or strings.
        labels_pred: array-like [N] of integers, booleans or strings.

    Returns:
        float in -0.5 .. 1; 0 is expected of random labels.

    Raises:
        InputError: as `contingency`.

    >>> adjusted_rand(["cat", "cat", "dog", "dog"], [0, 1, 0, 1])
    -0.5
    """
    return _adjusted_rand(contingency(labels_true, labels_pred))


def _adjusted_rand(table: Contingency) -> float:
    both, true, pred = _pair_counts(table)
    if both == true == pred:
        return 1.0
    samples = int(table.counts.sum())
    pairs = samples * (samples - 1) // 2
    chance = true * pred
    return 2 * (both * pairs - chance) / ((true + pred) * pairs - 2 * chance)


def clustering_accuracy(labels_true: ArrayLike, labels_pred: ArrayLike) -> float:
    """Accuracy under the best one-to-one assignment of clusters to classes.

    ACC = 1/N max_m sum_j n_{m(j) j}, over all m that give each cluster a class of its own

    With more clusters than classes some clusters get no class, and their samples count as
    wrong; so all singletons have an accuracy of classes / N.

    The assignment is solved by the Hungarian method (scipy's ``linear_sum_assignment``) for
    each connected component of the table, and for large components on the nonzero cells
    alone (``min_weight_full_bipartite_matching``).

    Source: Kuhn 1955, "The Hungarian method for the assignment problem"; for clusterings,
    Xie, Girshick and Farhadi 2016, "Unsupervised deep embedding for clustering analysis".

    Args:
        labels_true: array-like [N] of integers, booleans or strings.
        labels_pred: array-like [N] of integers, booleans or strings.

    Returns:
        float, above 0 and up to 1.

    Raises:
        InputError: as `contingency`.

    >>> clustering_accuracy(["cat", "cat", "dog", "dog"], [1, 1, 0, 1])
    0.75
    """
    return _clustering_accuracy(contingency(labels_true, labels_pred))


def _clustering_accuracy(table: Contingency) -> float:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    classes, clusters = len(table.class_sizes), len(table.cluster_sizes)
    graph = coo_array(
        (table.counts, (table.rows, classes + table.columns)), shape=(classes + clusters,) * 2
    )
    components, component = connected_components(graph, directed=False)
    heights, rows = _places(component[:classes], components)
    widths, columns = _places(component[classes:], components)
    rows, columns = rows[table.rows], columns[table.columns]
    if components == 1:
        matched = _assigned(table.counts, rows, columns, classes, clusters)
        return float(matched / table.counts.sum())

    of_cell = component[table.rows]
    order = np.argsort(of_cell, kind="stable")
    counts, rows, columns = table.counts[order], rows[order], columns[order]
    ends = np.cumsum(np.bincount(of_cell, minlength=components))
    starts = np.append(0, ends[:-1])
    # Where a component has one class or one cluster, its largest cell is its assignment.
    simple = (heights == 1) | (widths == 1)
    matched = np.maximum.reduceat(counts, starts)[simple].sum()
    for i in np.flatnonzero(~simple):
        cells = slice(starts[i], ends[i])
        matched += _assigned(counts[cells], rows[cells], columns[cells], heights[i], widths[i])
    return float(matched / counts.sum())


def _places(component: np.ndarray, components: int) -> tuple[np.ndarray, np.ndarray]:
    """Number the nodes of each component from 0: the size of each component, the numbers."""
    sizes = np.bincount(component, minlength=components)
    places = np.empty(len(component), np.int64)
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    places[np.argsort(component, kind="stable")] = np.arange(len(component)) - starts
    return sizes, places


def _assigned(
    counts: np.ndarray, rows: np.ndarray, columns: np.ndarray, height: int, width: int
) -> int:
    """Count the samples in the best one-to-one assignment of rows to columns."""
    if height > width:
        rows, columns, height, width = columns, rows, width, height
    if height * width <= DENSE_CELLS:
        from scipy.optimize import linear_sum_assignment

        dense = np.zeros((height, width))
        dense[rows, columns] = counts
        return int(dense[linear_sum_assignment(dense, maximize=True)].sum())

    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    # A full matching gives every row a column, so each row gets one more column of its own
    # that stands for none. Weights of 0 are not allowed, so all are 1 too large.
    none = np.arange(height)
    weights = np.append(counts + 1.0, np.ones(height))
    cells = np.array([np.append(rows, none), np.append(columns, width + none)], np.int32)
    table = coo_array((weights, tuple(cells)), shape=(height, width + height)).tocsr()
    return int(table[min_weight_full_bipartite_matching(table, maximize=True)].sum()) - height


def accuracy(labels_true: ArrayLike, labels_pred: ArrayLike) -> float:
    """Share of the samples whose class is right.

    ACC = 1/N sum_n [true_n = pred_n]

    Args:
        labels_true: array-like [N] of integers, booleans or strings.
        labels_pred: array-like [N], of strings exactly where ``labels_true`` is.

    Returns:
        float in 0 .. 1.

    Raises:
        InputError: as `contingency`; text compared with numbers.

    >>> accuracy(["cat", "cat", "dog", "dog"], ["cat", "cat", "cat", "dog"])
    0.75
    """
    true, pred = _paired(labels_true, labels_pred)
    check_comparable(true, pred, "labels_true", "labels_pred")
    return float(np.mean(true == pred))


def check_comparable(a: np.ndarray, b: np.ndarray, a_name: str, b_name: str) -> None:
    """Raise `InputError` where labels of ``a`` can never equal labels of ``b``."""
    kinds = ["text" if array.dtype.kind == "U" else "numbers" for array in (a, b)]
    if kinds[0] != kinds[1]:
        raise InputError(f"{b_name}: {kinds[1]} where {a_name} are {kinds[0]}: give both alike")


def clustering_metrics(labels_true: ArrayLike, labels_pred: ArrayLike) -> dict[str, float]:
    """Compute every clustering metric of this module from one contingency table.

    Args:
        labels_true: array-like [N] of integers, booleans or strings.
        labels_pred: array-like [N] of integers, booleans or strings.

    Returns:
        The metrics by name; ``"ari"`` is `adjusted_rand`, ``"accuracy"`` is
        `clustering_accuracy`, and the others are named like their functions.

    Raises:
        InputError: as `contingency`.

    >>> scores = clustering_metrics(["cat", "cat", "dog", "dog"], [0, 0, 0, 0])
    >>> for name, value in scores.items():
    ...     print(f"{name} {value:.3f}")
    pairwise_precision 0.333
    pairwise_recall 1.000
    pairwise_f 0.500
    bcubed_precision 0.500
    bcubed_recall 1.000
    bcubed_f 0.667
    nmi 0.000
    homogeneity 0.000
    completeness 1.000
    v_measure 0.000
    ari 0.000
    accuracy 0.500
    """
    return metrics_of(contingency(labels_true, labels_pred))


def metrics_of(table: Contingency) -> dict[str, float]:
    """As `clustering_metrics`, of a contingency table."""
    parts = ("precision", "recall", "f")
    return {
        **{f"pairwise_{part}": value for part, value in zip(parts, _pairwise(table), strict=True)},
        **{f"bcubed_{part}": value for part, value in zip(parts, _bcubed(table), strict=True)},
        **_information(table),
        "ari": _adjusted_rand(table),
        "accuracy": _clustering_accuracy(table),
    }
