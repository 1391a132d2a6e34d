"""Every metric against brute force over pairs or permutations, and against scikit-learn."""

from __future__ import annotations

import doctest
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from sklearn.metrics.cluster import contingency_matrix

from kfeat.errors import InputError
from kfeat.scoring import metrics
from kfeat.scoring.metrics import accuracy, clustering_metrics, contingency

FUNCTIONS: dict[str, Callable[..., float]] = {
    "pairwise_precision": metrics.pairwise_precision,
    "pairwise_recall": metrics.pairwise_recall,
    "pairwise_f": metrics.pairwise_f,
    "bcubed_precision": metrics.bcubed_precision,
    "bcubed_recall": metrics.bcubed_recall,
    "bcubed_f": metrics.bcubed_f,
    "nmi": metrics.nmi,
    "homogeneity": metrics.homogeneity,
    "completeness": metrics.completeness,
    "v_measure": metrics.v_measure,
    "ari": metrics.adjusted_rand,
    "accuracy": metrics.clustering_accuracy,
}

ALPHABETS: list[list] = [
    [0],
    [0, 1, 2, 3],
    [-2, -1, 0, 5],
    [-(2**63), -1, 2**62, 2**63 - 1],
    ["cat", "dog", "", "Ωmega"],
    [False, True],
    list(range(7)),
]


@st.composite
def partitions(draw: st.DrawFn) -> tuple[list, list]:
    size = draw(st.integers(1, 12))

    def labels() -> list:
        alphabet = draw(st.sampled_from(ALPHABETS))
        return draw(st.lists(st.sampled_from(alphabet), min_size=size, max_size=size))

    return labels(), labels()


def brute_force(true: list, pred: list) -> dict[str, float]:
    """The definitions, over all pairs, all samples and all assignments."""
    samples = range(len(true))
    pairs = list(itertools.combinations(samples, 2))
    in_class = {(i, j) for i, j in pairs if true[i] == true[j]}
    in_cluster = {(i, j) for i, j in pairs if pred[i] == pred[j]}
    both = len(in_class & in_cluster)

    def share(among: int) -> float:
        return both / among if among else float(not in_class and not in_cluster)

    def harmonic(a: float, b: float) -> float:
        return 2 * a * b / (a + b) if a + b else 0.0

    precisions, recalls = [], []
    for i in samples:
        of_class = {j for j in samples if true[j] == true[i]}
        of_cluster = {j for j in samples if pred[j] == pred[i]}
        precisions.append(len(of_class & of_cluster) / len(of_cluster))
        recalls.append(len(of_class & of_cluster) / len(of_class))
    bcubed = sum(precisions) / len(true), sum(recalls) / len(true)

    ari = 1.0
    if in_class != in_cluster:
        chance = len(in_class) * len(in_cluster) / len(pairs)
        ari = (both - chance) / ((len(in_class) + len(in_cluster)) / 2 - chance)

    few, many = sorted((true, pred), key=lambda labels: len(set(labels)))
    names = list(set(few))
    right = max(
        sum(assigned[a] == b for a, b in zip(few, many, strict=True))
        for chosen in itertools.permutations(set(many), len(names))
        for assigned in [dict(zip(names, chosen, strict=True))]
    )
    return {
        "pairwise_precision": share(len(in_cluster)),
        "pairwise_recall": share(len(in_class)),
        "pairwise_f": harmonic(share(len(in_cluster)), share(len(in_class))),
        "bcubed_precision": bcubed[0],
        "bcubed_recall": bcubed[1],
        "bcubed_f": harmonic(*bcubed),
        "ari": ari,
        "accuracy": right / len(true),
    }


def scikit_learn(true: np.ndarray, pred: np.ndarray) -> dict[str, float]:
    return {
        "nmi": reference.normalized_mutual_info_score(true, pred),
        "homogeneity": reference.homogeneity_score(true, pred),
        "completeness": reference.completeness_score(true, pred),
        "v_measure": reference.v_measure_score(true, pred),
        "ari": reference.adjusted_rand_score(true, pred),
    }


def by_pairs(true: np.ndarray, pred: np.ndarray) -> dict[str, float]:
    """What tables of all pairs say, and SciPy's best assignment."""
    in_class, in_cluster = true[:, None] == true, pred[:, None] == pred
    both, pair = in_class & in_cluster, np.triu(np.ones([len(true)] * 2, bool), 1)
    bcubed = (both.sum(1) / in_cluster.sum(1)).mean(), (both.sum(1) / in_class.sum(1)).mean()
    table = contingency_matrix(true, pred)
    precision, recall = ((both & pair).sum() / (of & pair).sum() for of in (in_cluster, in_class))
    return {
        "pairwise_precision": precision,
        "pairwise_recall": recall,
        "pairwise_f": 2 * precision * recall / (precision + recall),
        "bcubed_precision": bcubed[0],
        "bcubed_recall": bcubed[1],
        "bcubed_f": 2 * bcubed[0] * bcubed[1] / sum(bcubed),
        "accuracy": table[linear_sum_assignment(-table)].sum() / len(true),
    }


@settings(max_examples=150, deadline=None)
@given(partitions())
def test_metrics_equal_brute_force_and_scikit_learn(labels: tuple[list, list]) -> None:
    true, pred = labels
    scores = clustering_metrics(true, pred)
    expected = brute_force(true, pred) | scikit_learn(np.array(true), np.array(pred))
    assert scores == pytest.approx(expected, abs=1e-9)
    assert scores == {name: function(true, pred) for name, function in FUNCTIONS.items()}
    assert all(type(value) is float for value in scores.values())
    assert all(value <= 1 for value in scores.values())


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40))
def test_table_and_metrics_equal_scikit_learn_on_larger_cases(
    seed: int, classes: int, clusters: int
) -> None:
    random = np.random.default_rng(seed)
    true = random.integers(0, classes, 300)
    pred = np.where(random.random(300) < 0.5, true % clusters, random.integers(0, clusters, 300))
    table = contingency(true, pred)
    dense = np.zeros([len(table.class_sizes), len(table.cluster_sizes)], np.int64)
    dense[table.rows, table.columns] = table.counts
    np.testing.assert_array_equal(dense, contingency_matrix(true, pred))
    np.testing.assert_array_equal(table.class_sizes, dense.sum(axis=1))
    np.testing.assert_array_equal(table.cluster_sizes, dense.sum(axis=0))
    expected = by_pairs(true, pred) | scikit_learn(true, pred)
    assert clustering_metrics(true, pred) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i4", "u8", "i8", "U3", "S3", "O", "str objects"])
def test_labels_of_any_kind_give_the_same_partition(dtype: str) -> None:
    numbers = np.array([120, 3, 3, 120, 64, 3])
    labels = numbers.astype(str).astype(object) if dtype == "str objects" else numbers.astype(dtype)
    expected = clustering_metrics(numbers, numbers[::-1])
    assert clustering_metrics(labels, labels[::-1]) == pytest.approx(expected, abs=1e-12)


def test_bytes_are_texts() -> None:
    labels = np.array([b"a", b"caf\xc3\xa9", b"\xff"])
    assert metrics.as_labels(labels).tolist() == ["a", "caf\u00e9", "\\xff"]
    assert metrics.as_labels(np.array([np.int64(3), np.int8(4)], object)).tolist() == [3, 4]


def test_labels_at_the_ends_of_their_type() -> None:
    for dtype, labels in [
        (np.int8, [-128, 127, -128]),
        (np.int64, [-(2**63), 2**63 - 1, -(2**63)]),
        (np.uint64, [2**64 - 1, 2**64 - 2, 2**64 - 1]),
        (np.uint64, [0, 2**64 - 1, 0]),
    ]:
        table = contingency(np.array(labels, dtype), ["a", "b", "a"])
        assert sorted(table.counts) == [1, 2]


ONE = [0, 0, 0, 0]
SINGLETONS = [0, 1, 2, 3]
HALVES = [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("true", "pred", "expected"),
    [
        # pairwise P, R, F; BCubed P, R, F; NMI, homogeneity, completeness, V; ARI; accuracy
        ([5], [2], [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        (ONE, ONE, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        (SINGLETONS, SINGLETONS, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        (HALVES, ONE, [1 / 3, 1, 1 / 2, 1 / 2, 1, 2 / 3, 0, 0, 1, 0, 0, 1 / 2]),
        (ONE, HALVES, [1, 1 / 3, 1 / 2, 1, 1 / 2, 2 / 3, 0, 1, 0, 0, 0, 1 / 2]),
        (HALVES, SINGLETONS, [0, 0, 0, 1, 1 / 2, 2 / 3, 2 / 3, 1, 1 / 2, 2 / 3, 0, 1 / 2]),
        (ONE, SINGLETONS, [0, 0, 0, 1, 1 / 4, 2 / 5, 0, 1, 0, 0, 0, 1 / 4]),
        (SINGLETONS, ONE, [0, 0, 0, 1 / 4, 1, 2 / 5, 0, 0, 1, 0, 0, 1 / 4]),
    ],
)
def test_edge_cases(true: list, pred: list, expected: list) -> None:
    scores = clustering_metrics(true, pred)
    assert scores == pytest.approx(dict(zip(FUNCTIONS, expected, strict=True)), abs=1e-12)


def test_a_million_labels() -> None:
    samples = 1_000_000
    classes = np.arange(samples) % 10
    singletons = np.random.default_rng(0).permutation(samples)
    same = clustering_metrics(singletons, singletons[::-1])
    assert same == dict.fromkeys(FUNCTIONS, 1.0)

    # Nine tenths of each class stay, one tenth moves to the next.
    moved = (classes + (np.arange(samples) // 10 % 10 == 0)) % 10
    scores = clustering_metrics(classes, moved)
    pairs = 10 * (90_000 * 89_999 + 10_000 * 9_999) / (10 * 100_000 * 99_999)
    assert scores["pairwise_precision"] == pytest.approx(pairs, rel=1e-12)
    assert scores["bcubed_recall"] == pytest.approx(0.82, rel=1e-12)
    assert scores["accuracy"] == 0.9
    assert scores == pytest.approx(scores | scikit_learn(classes, moved), abs=1e-12)

    split = clustering_metrics(classes, np.arange(samples))
    assert (split["pairwise_f"], split["ari"], split["homogeneity"]) == (0, 0, 1)
    assert split["accuracy"] == 10 / samples


def test_counts_too_large_for_the_square_of_an_integer() -> None:
    assert metrics._pairs(np.array([10**10, 3])) == 10**10 * (10**10 - 1) // 2 + 3


@pytest.mark.parametrize("dense_cells", [0, metrics.DENSE_CELLS])
def test_assignment_is_the_same_on_sparse_and_dense_tables(
    dense_cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "DENSE_CELLS", dense_cells)
    random = np.random.default_rng(1)
    for classes, clusters in [(30, 30), (40, 7), (7, 40)]:
        true, pred = random.integers(0, classes, 200), random.integers(0, clusters, 200)
        dense = contingency_matrix(true, pred)
        best = dense[linear_sum_assignment(-dense)].sum() / 200
        assert metrics.clustering_accuracy(true, pred) == best
        # Two tables side by side, joined by nothing: the assignments add up.
        twice = metrics.clustering_accuracy(
            np.append(true, true + classes), np.append(pred, pred + clusters)
        )
        assert twice == best


@pytest.mark.parametrize(
    ("true", "pred", "problem"),
    [
        ([], [], "labels_true: empty"),
        ([0, 1], [0], "labels_pred: 1 labels beside 2"),
        ([[0, 1]], [0, 1], r"labels_true: shape \[1, 2\]"),
        (0, 0, r"labels_true: shape \[\]"),
        ([0, 1], [0.0, 1.0], "labels_pred: of type float64"),
        ([0, 1], ["a", None], "labels_pred: of type object"),
        ([0, 1], ["a", float("nan")], "labels_pred: of type object"),
        ([0, 1], ["1", 1], "labels_pred: of type object"),
        ([0, 1], np.ma.masked_equal([7, 0], 7), "labels_pred: some are masked"),
        ([0, 1], np.array(["2020-01-01", "2020-01-02"], "M8[D]"), "of type datetime64"),
    ],
)
@pytest.mark.parametrize("function", [*FUNCTIONS.values(), clustering_metrics, accuracy])
def test_bad_labels_are_refused(function: Callable, true: list, pred: list, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as raised:
        function(true, pred)
    assert "\n" not in str(raised.value)


def test_classification_accuracy() -> None:
    assert accuracy([1, 2, 3, 4], np.array([1, 2, 3, 0], np.uint64)) == 0.75
    assert accuracy(["a", "b"], np.array(["a", "c"], object)) == 0.5
    with pytest.raises(InputError, match="labels_pred: numbers where labels_true are text"):
        accuracy(["1", "2"], [1, 2])


def test_examples() -> None:
    results = doctest.testmod(metrics)
    assert results.attempted > 20 and results.failed == 0
