"""The baseline pca128 is scikit-learn's PCA, and refuses what it cannot be fitted to."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from sklearn.decomposition import PCA

from kfeat.errors import InputError
from kfeat.scoring import baselines
from kfeat.scoring.baselines import fit_pca


def pixels(samples: int) -> np.ndarray:
    """Noise in which a few patterns are strong, so that the first components are clear."""
    random = np.random.default_rng(samples)
    patterns = np.random.default_rng(0).normal(0, 1, [6, 48])
    values = random.normal(0, [40, 30, 20, 15, 10, 5], [samples, 6]) @ patterns
    values = 128 + values / 4 + random.normal(0, 1, values.shape)
    return (np.clip(values, 0, 255) / 255).astype(np.float32)


@pytest.mark.parametrize(("samples", "tolerance"), [(100, 1e-4), (40, 0.02)])
def test_components_are_those_of_an_exact_decomposition(samples: int, tolerance: float) -> None:
    train, test = pixels(samples), pixels(7)
    features = fit_pca(train, dim=5, seed=1).transform(test)
    assert features.shape == (7, 5) and features.dtype == np.float32
    exact = PCA(5, svd_solver="full").fit(train.astype(np.float64))
    np.testing.assert_allclose(np.abs(features), np.abs(exact.transform(test)), atol=tolerance)
    np.testing.assert_array_equal(fit_pca(train, dim=5, seed=1).transform(test), features)


@pytest.mark.parametrize("dim", [0, 21])
def test_more_components_than_images_are_refused(dim: int) -> None:
    with pytest.raises(InputError, match=f"pca{dim}: 20 images of 48 pixel values have 1 to 20"):
        fit_pca(pixels(20), dim=dim)


def test_examples() -> None:
    results = doctest.testmod(baselines)
    assert results.attempted and not results.failed
