"""The baselines are scikit-learn's PCA of pixels, and refuse what they cannot use."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from sklearn.decomposition import PCA

from kfeat.errors import InputError
from kfeat.scoring import baselines
from kfeat.scoring.baselines import pca, pixels


def images(samples: int, size: int = 4) -> np.ndarray:
    """Noise in which a few patterns are strong, so that the first components are clear."""
    random = np.random.default_rng(samples)
    patterns = np.random.default_rng(0).normal(0, 1, [6, size * size * 3])
    values = random.normal(0, [40, 30, 20, 15, 10, 5], [samples, 6]) @ patterns
    values = 128 + values / 4 + random.normal(0, 1, values.shape)
    return np.clip(values, 0, 255).astype(np.uint8).reshape(samples, size, size, 3)


def test_pixels_are_flat_and_in_0_to_1() -> None:
    batch = images(5)
    flat = pixels(batch)
    assert flat.shape == (5, 48) and flat.dtype == np.float32
    np.testing.assert_allclose(flat.reshape(batch.shape), batch / 255, rtol=1e-6)
    np.testing.assert_array_equal(pixels(batch.astype(np.float32)), flat)
    np.testing.assert_allclose(pixels(batch.astype(np.float64)), flat, rtol=1e-6)


@pytest.mark.parametrize(("samples", "solver"), [(100, "exact"), (40, "randomized")])
def test_pca_is_fitted_on_train_and_applied_to_test(samples: int, solver: str) -> None:
    train, test = pixels(images(samples)), pixels(images(7))
    train_features, test_features = pca(train, test, dim=5, seed=1)
    assert train_features.shape == (samples, 5) and test_features.shape == (7, 5)
    assert train_features.dtype == test_features.dtype == np.float32

    exact = PCA(5, svd_solver="full").fit(train.astype(np.float64))
    tolerance = 1e-4 if solver == "exact" else 0.02
    for features, flat in ((train_features, train), (test_features, test)):
        np.testing.assert_allclose(np.abs(features), np.abs(exact.transform(flat)), atol=tolerance)
    np.testing.assert_array_equal(pca(train, test, dim=5, seed=1)[1], test_features)


def test_bad_input_is_refused_in_one_line() -> None:
    flat = pixels(images(20))
    for call, problem in [
        (lambda: pixels(flat), r"images: shape \[20, 48\]"),
        (lambda: pixels(images(0)), r"images: shape \[0, 4, 4, 3\]"),
        (lambda: pixels(np.full([1, 2, 2, 3], 256.0)), "images: values 256.0 to 256.0"),
        (lambda: pixels(np.full([1, 2, 2, 3], np.nan)), "images: values nan to nan"),
        (lambda: pca(flat, flat, dim=21), "pca dim 21: 20 train images of 48 pixel values"),
        (lambda: pca(flat, flat, dim=0), "pca dim 0: "),
        (lambda: pca(flat, flat[:, :9], dim=3), "test images: 9 pixel values"),
    ]:
        with pytest.raises(InputError, match=problem) as raised:
            call()
        assert "\n" not in str(raised.value)


def test_examples() -> None:
    results = doctest.testmod(baselines)
    assert results.attempted and not results.failed
