"""Maps of features keep neighbours together, and are repeatable."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import make_blobs
from sklearn.neighbors import KNeighborsClassifier

from kfeat.errors import InputError
from kfeat.scoring.features import spread
from kfeat.scoring.projection import project


@pytest.mark.parametrize("method", ["umap", "tsne"])
def test_a_map_keeps_groups_apart_and_a_seed_repeats_it(method):
    x, y = make_blobs(90, n_features=64, centers=3, cluster_std=0.5, random_state=0)
    plane = project(x, method, seed=3)
    assert plane.shape == (90, 2) and np.isfinite(plane).all()
    assert KNeighborsClassifier(5).fit(plane[::2], y[::2]).score(plane[1::2], y[1::2]) == 1
    np.testing.assert_array_equal(plane, project(x, method, seed=3))
    assert not np.array_equal(plane, project(x, method, seed=4))


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_a_spread_is_even(count, limit):
    rows = spread(count, limit)
    assert rows.dtype.kind == "i" and len(rows) == min(count, limit)
    assert rows[0] == 0 and (rows[-1] == count - 1 or limit == 1)
    steps = np.diff(rows)
    assert not len(steps) or (steps.min() >= 1 and np.ptp(steps) <= 1)


@pytest.mark.parametrize("method", ["umap", "tsne"])
@pytest.mark.parametrize("value", [0.0, 3.7])
def test_features_that_are_all_the_same_have_a_map_too(method, value):
    plane = project(np.full((40, 128), value, np.float32), method)
    assert plane.shape == (40, 2) and np.isfinite(plane).all()


@pytest.mark.parametrize("method", ["umap", "tsne"])
@pytest.mark.parametrize("factor", [1e-30, 1e20, 1e300])
def test_very_small_and_very_large_features_have_a_map(method, factor):
    features = np.random.default_rng(0).normal(size=(40, 3))
    features[20:] += 20
    plane = project(features * factor, method)
    centres = plane[:20].mean(axis=0), plane[20:].mean(axis=0)
    distances = [np.linalg.norm(plane - centre, axis=1) for centre in centres]
    np.testing.assert_array_equal(distances[0] < distances[1], np.arange(40) < 20)


def test_features_of_one_dimension_have_a_map():
    assert np.isfinite(project(np.arange(20.0)[:, None], "tsne")).all()


def test_few_samples_and_unknown_methods():
    x = np.random.default_rng(0).normal(size=(4, 8))
    assert project(x, "tsne").shape == project(x, "umap").shape == (4, 2)
    with pytest.raises(InputError, match="4 or more"):
        project(x[:3])
    with pytest.raises(InputError, match="choose one of umap, tsne"):
        project(x, "pca")
