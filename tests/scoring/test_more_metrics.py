"""Probe, retrieval, geometry and classes against scikit-learn, and brute force elsewhere."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.preprocessing import StandardScaler

from kfeat.errors import InputError
from kfeat.scoring import classification, geometry, retrieval
from kfeat.scoring.classification import linear_probe, per_class
from kfeat.scoring.geometry import alignment, effective_rank, silhouette, uniformity
from kfeat.scoring.retrieval import mean_average_precision


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Features with duplicates and zeros among them, and labels."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, dim = draw(st.integers(2, 30)), draw(st.sampled_from([1, 2, 5, 40]))
    features = random.normal(size=(rows, dim))
    if draw(st.booleans()):
        features = random.integers(-1, 2, features.shape).astype(float)
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    labels = random.integers(0, draw(st.integers(1, 6)), rows)
    return features.astype(dtype), np.array(["ant", "bee", "cat", "dog", "elk", "fox"])[labels]


def on_sphere(features: np.ndarray) -> np.ndarray:
    features = features.astype(np.float64)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(lengths, lengths, 1)


@settings(max_examples=150)
@given(cases(), st.sampled_from([64, 2**22]))
def test_geometry_and_retrieval_equal_brute_force(case, block) -> None:
    features, labels = case
    points = on_sphere(features)
    pairs = list(itertools.combinations(range(len(points)), 2))
    squares = {(i, j): float(((points[i] - points[j]) ** 2).sum()) for i, j in pairs}
    positive = [squares[i, j] for i, j in pairs if labels[i] == labels[j]]
    singular = np.linalg.svd(features.astype(np.float64) - features.mean(0, np.float64))[1]
    average = []
    for i, query in enumerate(points):
        others = np.arange(len(points)) != i
        relevant = labels[others] == labels[i]
        if relevant.any():
            similar = (points[others] @ query).round(10)
            average.append(reference.average_precision_score(relevant, similar))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geometry, "BLOCK", block)
        patch.setattr(retrieval, "BLOCK", block)
        found = alignment(features, labels)
        assert found == pytest.approx(np.mean(positive) if positive else None, abs=1e-9)
        expected = math.log(np.mean([math.exp(-2 * square) for square in squares.values()]))
        assert uniformity(features) == pytest.approx(expected, abs=1e-9)
        found = mean_average_precision(features, labels)
        assert found == pytest.approx(np.mean(average) if average else None, abs=1e-9)
        if singular[0] > 1e-6:
            shares = singular[singular > 1e-12] / singular.sum()
            expected = math.exp(-(shares * np.log(shares)).sum())
            assert effective_rank(features) == pytest.approx(expected, rel=1e-4)
        else:
            assert effective_rank(features) == 0
    groups = len(set(labels))
    if 2 <= groups < len(labels):
        # Products give distances of equal points as the root of a rounding, some 1e-8.
        expected = reference.silhouette_score(features.astype(np.float64), labels)
        assert silhouette(features, labels) == pytest.approx(expected, abs=1e-6)
    else:
        assert silhouette(features, labels) is None


@pytest.mark.parametrize("far", [None, 0, -1])
@pytest.mark.parametrize("signal, dtype", [(1e-5, np.float32), (1e-6, np.float64)])
def test_one_vector_far_away_leaves_the_ranking_of_close_ones(signal, dtype, far) -> None:
    random = np.random.default_rng(3)
    labels = np.repeat([0, 1, 2], 20)
    features = random.normal(size=(3, 8))[labels] + random.normal(size=(60, 8))
    features = (1 + signal * features).astype(dtype)
    if far is not None:  # all zeros, as of a black image, or the other way
        features, labels = np.vstack([features, far * features[:1]]), np.append(labels, 0)
    points = on_sphere(features).astype(np.longdouble)
    average = []
    for i, query in enumerate(points):
        others = np.arange(len(points)) != i
        distances = ((points[others] - query) ** 2).sum(1)
        distances[~points[others].any(1)] = 2 if query.any() else 0
        if not query.any():
            distances[:] = 2
        relevant = labels[others] == labels[i]
        average.append(reference.average_precision_score(relevant, -distances.astype(float)))
    assert mean_average_precision(features, labels) == pytest.approx(np.mean(average), abs=2e-3)


def test_bounds_are_reached() -> None:
    assert alignment(np.array([[1.0], [-1.0]]), [0, 0]) == 4
    assert (
        alignment(np.eye(2), ["a", "b"]) is None
        and mean_average_precision(np.eye(2), [0, 1]) is None
    )
    assert uniformity(np.ones([5, 3])) == pytest.approx(0) and uniformity(np.ones([1, 3])) is None
    assert (
        mean_average_precision(np.array([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1]]), [0, 0, 1, 1]) == 1
    )
    random = np.random.default_rng(0)
    away = random.normal(size=(200, 8)) * 0.1 + 1e4 + np.repeat(3 * np.eye(8)[:4], 50, axis=0)
    assert mean_average_precision(away, np.repeat(range(4), 50)) > 0.99
    assert effective_rank(np.ones([4, 9], np.float32)) == 0
    assert effective_rank(np.repeat(random.normal(size=(1, 9)), 1000, axis=0)) == 0
    far = np.repeat(1e8 + random.normal(size=(2, 9)), 20, axis=0)
    assert silhouette(far, np.arange(40) // 20) == pytest.approx(1, abs=1e-6)
    flat = random.normal(size=(2000, 3)) @ random.normal(size=(3, 64))
    assert effective_rank(flat.astype(np.float32)) < 3.1
    assert effective_rank(random.normal(size=(20_000, 64))) > 63.5


@pytest.mark.parametrize(("samples", "dim"), [(200, 12), (60, 90)])
def test_linear_probe_is_a_cross_validated_regression_on_standardised_features(
    samples: int, dim: int
) -> None:
    random = np.random.default_rng(samples)
    labels = random.integers(0, 4, samples + 100)
    features = random.normal(size=(4, dim))[labels] / 2
    features = features + random.normal(scale=1.5, size=features.shape)
    features = features * np.logspace(-2, 2, dim)
    train, test, known = features[:samples], features[samples:], labels[:samples]
    predicted, strength = linear_probe(train, known, test)

    scaler = StandardScaler().fit(train)
    standard = scaler.transform(train)
    scores = {
        c: cross_val_score(
            LogisticRegression(C=c, tol=1e-6, max_iter=5000), standard, known, cv=StratifiedKFold(5)
        ).mean()
        for c in classification.REGULARISATIONS
    }
    assert scores[strength] >= max(scores.values()) - 0.02
    assert min(scores.values()) < max(scores.values()) - 0.1
    judge = LogisticRegression(C=strength, tol=1e-6, max_iter=5000).fit(standard, known)
    assert np.mean(judge.predict(scaler.transform(test)) == predicted) >= 0.98
    np.testing.assert_array_equal(linear_probe(train, known, test)[0], predicted)


def test_linear_probe_does_not_see_the_scale_of_a_dimension() -> None:
    random = np.random.default_rng(5)
    labels = np.arange(120) % 3
    features = random.normal(size=(120, 6)) + np.eye(6)[labels]
    scaled = features * 2.0 ** np.arange(-12, 12, 4)
    plain, strength = linear_probe(features[:60], labels[:60], features[60:])
    other, same = linear_probe(scaled[:60], labels[:60], scaled[60:])
    np.testing.assert_array_equal(plain, other)
    assert strength == same
    for few in ([0] * 60, range(60)):
        with pytest.raises(InputError, match="a linear probe needs two or more of both"):
            linear_probe(features[:60], few, features[60:])


def test_linear_probe_learns_rare_classes_too() -> None:
    random = np.random.default_rng(2)
    labels = np.array([*[0, 1] * 40, 2, 2, 3])
    features = random.normal(scale=0.1, size=(83, 4)) + np.eye(4)[labels]
    predicted, strength = linear_probe(features, labels, np.eye(4))
    assert predicted.tolist() == [0, 1, 2, 3] and strength > min(classification.REGULARISATIONS)


@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 60))
def test_classes_are_judged_as_by_scikit_learn(seed: int, classes: int, samples: int) -> None:
    random = np.random.default_rng(seed)
    true, pred = random.integers(-2, classes, samples), random.integers(-1, classes + 1, samples)
    found = per_class(true, pred)
    matrix = reference.confusion_matrix(true, pred, labels=np.unique([true, pred]))
    assert found["labels"] == np.unique([true, pred]).tolist()
    assert found["confusion"] == matrix.tolist()
    precision, recall, _, support = reference.precision_recall_fscore_support(
        true, pred, zero_division=np.nan
    )
    for name, expected in (("precision", precision), ("recall", recall)):
        values = [np.nan if value is None else value for value in found[name]]
        np.testing.assert_allclose(values, expected, rtol=1e-12)
    assert found["support"] == support.tolist()
    np.fill_diagonal(matrix, 0)
    counts = sorted(matrix[matrix > 0].tolist(), reverse=True)[:10]
    assert [pair["count"] for pair in found["most_confused"]] == counts
    for pair in found["most_confused"]:
        place = found["labels"].index(pair["true"]), found["labels"].index(pair["predicted"])
        assert matrix[place] == pair["count"]
        assert pair["share"] == pytest.approx(pair["count"] / support[place[0]])


def test_a_class_of_its_own_for_every_sample() -> None:
    found = per_class(np.arange(200_000), np.arange(200_000)[::-1])
    assert found["confusion"] is None and found["support"] == [1] * 200_000
    assert found["recall"][0] == 0 and len(found["most_confused"]) == 10
    large = per_class(np.array([2**64 - 1, 2**64 - 2], np.uint64), np.array([-1, 2**62]))
    assert large["labels"] == [-1, 2**62, 2**64 - 2, 2**64 - 1]
