"""Nearest neighbours against a float64 search over all differences, and against scikit-learn."""

from __future__ import annotations

import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_distances
from sklearn.neighbors import KNeighborsClassifier

from kfeat.errors import InputError
from kfeat.scoring import neighbours
from kfeat.scoring.neighbours import knn_predict, nearest


def brute_force(bank: np.ndarray, queries: np.ndarray, metric: str) -> np.ndarray:
    bank, queries = bank.astype(np.float64), queries.astype(np.float64)
    if metric == "cosine":
        # scikit-learn takes very short vectors for zeros.
        bank, queries = (a / max(np.abs(a).max(), 1e-300) for a in (bank, queries))
        return cosine_distances(queries, bank)
    return np.stack([np.sqrt(np.square(bank - query).sum(axis=1)) for query in queries])


def check(bank: np.ndarray, queries: np.ndarray, k: int, metric: str = "euclidean") -> None:
    """The distances are the k smallest, each is that of its index, and no index is twice."""
    indices, distances = nearest(bank, queries, k, metric)
    every = brute_force(bank, queries, metric)
    absolute = 1e-14 if metric == "cosine" else 0
    np.testing.assert_allclose(distances, np.sort(every)[:, :k], rtol=1e-11, atol=absolute)
    own = np.take_along_axis(every, indices, axis=1)
    np.testing.assert_allclose(distances, own, rtol=1e-11, atol=absolute)
    assert all(len(set(row)) == k for row in indices.tolist())
    assert (np.diff(distances) >= 0).all()


@settings(max_examples=120)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 60),
    dim=st.sampled_from([1, 2, 7, 128, 700]),
    shift=st.sampled_from([0.0, 1.0, 1e4]),
    size=st.sampled_from([1e-30, 1e-3, 1.0, 1e15]),
    dtype=st.sampled_from([np.float32, np.float64]),
    metric=st.sampled_from(neighbours.METRICS),
    kind=st.sampled_from(["normal", "grid", "close", "zeros"]),
    data=st.data(),
)
def test_neighbours_are_those_of_a_float64_search(
    seed, rows, dim, shift, size, dtype, metric, kind, data
) -> None:
    random = np.random.default_rng(seed)
    bank, queries = random.normal(size=(rows, dim)), random.normal(size=(9, dim))
    if kind == "grid":
        bank, queries = random.integers(-1, 2, bank.shape), random.integers(-1, 2, queries.shape)
    if kind == "close":  # nearer to each other than float32 products can tell
        bank, queries = bank[:1] + 1e-5 * bank, bank[:1] + 1e-5 * queries
    if kind == "zeros":
        bank, queries = bank * (random.random((rows, 1)) < 0.5), queries * 0
    bank, queries = ((size * (a + shift)).astype(dtype) for a in (bank, queries))
    check(bank, queries, data.draw(st.integers(1, rows)), metric)


def test_of_equal_distances_the_smaller_index_is_nearer() -> None:
    random = np.random.default_rng(4)
    bank, queries = (random.integers(0, 3, [rows, 4]).astype(np.float32) for rows in (200, 30))
    every = brute_force(bank, queries, "euclidean")
    for k in (1, 3, 50, 200):
        expected = np.argsort(every, axis=1, kind="stable")[:, :k]
        np.testing.assert_array_equal(nearest(bank, queries, k)[0], expected)


def test_whole_numbers_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their lower bits are all zero, as 64-bit numbers: few bits are left to tell them by."""
    one, other = np.zeros(16), np.repeat([0.0, 1.0, 0.0], [1, 6, 9])
    bank = np.stack([one, other, other, one, one, one, one])
    assert nearest(bank, one[None], 3)[0].tolist() == [[0, 3, 4]]
    random = np.random.default_rng(7)
    for _ in range(100):
        bank = random.integers(0, 2, (60, 12)).astype(np.float64)
        bank = bank[random.integers(0, 60, 300)]
        queries = bank[:5]
        expected = np.argsort(brute_force(bank, queries, "euclidean"), axis=1, kind="stable")
        np.testing.assert_array_equal(nearest(bank, queries, 3)[0], expected[:, :3])
    codes = random.permutation(2**13)[:, None] >> np.arange(13) & 1
    blank = np.concatenate([codes, np.zeros((9000, 13), int)]).astype(np.float64)
    assert len(neighbours._first_of_equal(blank, 5)) < 2**13 + 5


def test_of_many_equal_rows_the_first_are_found_in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collapsed encoder gives the same features again and again."""
    random = np.random.default_rng(6)
    bank = random.normal(size=(4, 8))[random.integers(0, 4, 40_000)]
    measured = []
    distances = neighbours._Block._distances

    def counted(block: neighbours._Block, points: np.ndarray, *pairs: np.ndarray) -> np.ndarray:
        measured.append(len(pairs[0]))
        return distances(block, points, *pairs)

    monkeypatch.setattr(neighbours._Block, "_distances", counted)
    queries = bank[:50]
    indices, found = nearest(bank, queries, 7)
    for query, row in zip(queries, indices, strict=True):
        np.testing.assert_array_equal(row, np.flatnonzero((bank == query).all(axis=1))[:7])
    assert not found.any() and sum(measured) < 50 * 7 * 4 * 3  # of 3 blocks


@pytest.mark.parametrize("metric", neighbours.METRICS)
def test_blocks_are_merged(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "BANK", 2**12)
    monkeypatch.setattr(neighbours, "QUERIES", 32)
    random = np.random.default_rng(0)
    bank = random.normal(size=(13_000, 16)).astype(np.float32)
    bank[9000:] = bank[:4000]  # ties in other blocks
    queries = np.concatenate([bank[8990:9010], random.normal(size=(50, 16)).astype(np.float32)])
    for k in (1, 2, 5, 100):
        check(bank, queries, k, metric)
    indices, distances = nearest(bank, bank[9000:9003], 2)
    assert indices.tolist() == [[0, 9000], [1, 9001], [2, 9002]] and not distances.any()


def test_cancellation_does_not_hide_the_nearest() -> None:
    """Far from zero, ||x||^2 - 2 x.y + ||y||^2 in float32 is noise."""
    random = np.random.default_rng(1)
    bank = (10_000 + random.normal(size=(500, 64))).astype(np.float32)
    queries = bank[:40] + random.normal(scale=0.1, size=(40, 64)).astype(np.float32)
    single = (queries**2).sum(1)[:, None] - 2 * queries @ bank.T + (bank**2).sum(1)
    assert (single.argmin(axis=1) != np.arange(40)).any()
    assert nearest(bank, queries, 1)[0][:, 0].tolist() == list(range(40))
    # Centred, but in two distant groups: the mean is of no help there.
    bank[250:] *= -1
    check(bank, queries, 3)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    dim=st.integers(1, 40),
    voters=st.integers(1, 30),
    metric=st.sampled_from(neighbours.METRICS),
)
def test_predictions_are_those_of_scikit_learn(seed, dim, voters, metric) -> None:
    random = np.random.default_rng(seed)
    train = random.normal(size=(80, dim + 1)).astype(np.float32)
    test = random.normal(size=(50, dim + 1)).astype(np.float32)
    labels = random.integers(-2, 3, 80)
    judge = KNeighborsClassifier(voters, algorithm="brute", metric=metric).fit(train, labels)
    predicted = knn_predict(train, labels, test, voters, metric=metric)
    np.testing.assert_array_equal(predicted, judge.predict(test))


def test_memory_does_not_grow_with_queries_and_bank() -> None:
    random = np.random.default_rng(2)
    bank = random.normal(size=(120_000, 32)).astype(np.float32)
    queries = random.normal(size=(12_000, 32)).astype(np.float32)
    tracemalloc.start()
    knn_predict(bank, np.arange(120_000) % 10, queries, 5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # All distances at once would be 5,760 MB.
    assert peak < 250e6


def test_memory_does_not_grow_with_rows_that_cannot_be_told_apart() -> None:
    random = np.random.default_rng(2)
    bank = random.choice([-1e4, 1e4], (32_000, 1)) + 1e-3 * random.normal(size=(32_000, 32))
    tracemalloc.start()
    nearest(bank, bank[:500], 5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 250e6


def test_the_largest_numbers_there_are_have_neighbours() -> None:
    bank = np.array([[1.7e308, 0], [-1.7e308, 0], [1.6e308, 0]])
    for metric, expected in (("euclidean", [2, 0, 1]), ("cosine", [0, 2, 1])):
        assert nearest(bank, np.array([[1.5e308, 0]]), 3, metric)[0].tolist() == [expected]


def test_an_interrupted_search_ends_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    merged = []

    def interrupted(block: object, *arguments: object) -> None:
        merged.append(block)
        raise KeyboardInterrupt

    monkeypatch.setattr(neighbours._Block, "merge", interrupted)
    bank = np.zeros((60_000, 4), np.float32)
    with pytest.raises(KeyboardInterrupt):
        nearest(bank, bank, 1)
    assert len(merged) <= 64  # a thread each, of 938 parts


@pytest.mark.parametrize("metric", neighbours.METRICS)
def test_faiss_finds_the_same(metric: str) -> None:
    pytest.importorskip("faiss", reason="faiss-cpu is not installed (pip install 'kfeat[faiss]')")
    random = np.random.default_rng(3)
    bank, queries = random.normal(size=(900, 24)), random.normal(size=(5000, 24))
    indices, distances = nearest(bank, queries, 4, metric, search="faiss")
    exact, expected = nearest(bank, queries, 4, metric)
    assert np.mean(indices == exact) > 0.999
    np.testing.assert_allclose(distances, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dimensions", [1, 128])
def test_faiss_finds_the_same_far_from_zero(dimensions: int) -> None:
    """With so many queries it sums up ||x||^2 - 2 x.y + ||y||^2, in float32."""
    pytest.importorskip("faiss", reason="faiss-cpu is not installed (pip install 'kfeat[faiss]')")
    random = np.random.default_rng(3)
    bank, queries = random.normal(size=(500, 128)), random.normal(size=(1100, 128))
    for features in (bank, queries):
        features[:, :dimensions] += 1000
    indices, distances = nearest(bank, queries, 4, search="faiss")
    exact, expected = nearest(bank, queries, 4)
    assert np.mean(indices == exact) > 0.999
    np.testing.assert_allclose(distances, expected, rtol=1e-4)


@pytest.mark.parametrize("factor", [1e-30, 1e20, 1e200])
def test_faiss_finds_the_same_at_any_scale(factor: float) -> None:
    pytest.importorskip("faiss", reason="faiss-cpu is not installed (pip install 'kfeat[faiss]')")
    random = np.random.default_rng(3)
    bank, queries = random.normal(size=(300, 8)), random.normal(size=(50, 8))
    for metric in neighbours.METRICS:
        exact, expected = nearest(bank, queries, 3, metric)
        indices, distances = nearest(bank * factor, queries * factor, 3, metric, search="faiss")
        np.testing.assert_array_equal(indices, exact)
        unit = factor if metric == "euclidean" else 1
        np.testing.assert_allclose(distances, expected * unit, rtol=1e-4, atol=1e-6 * unit)


def test_what_cannot_be_searched_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = np.ones([4, 3], np.float32)
    for arguments, problem in [
        ((bank, bank[:, :2], 1), "queries: 2 dimensions where the bank has 3"),
        ((bank, bank, 0), "k 0: a bank of 4 rows has 1 to 4 neighbours"),
        ((bank, bank, 5), "k 5: a bank of 4 rows"),
        ((bank, bank, 1, "manhattan"), "metric 'manhattan': choose one of euclidean, cosine"),
    ]:
        with pytest.raises(InputError, match=problem):
            nearest(*arguments)
    with pytest.raises(InputError, match="search 'annoy': choose one of exact, faiss"):
        nearest(bank, bank, 1, search="annoy")
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match=r"search 'faiss': not installed: pip install 'kfeat\["):
        knn_predict(bank, [0, 0, 1, 1], bank, 1, search="faiss")
