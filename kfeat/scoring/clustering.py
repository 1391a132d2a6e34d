"""Clusters of features."""

from __future__ import annotations

import functools
import logging
import warnings

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import ThreadpoolController

from kfeat.errors import InputError
from kfeat.scoring.scale import scaled

log = logging.getLogger("kfeat")


@functools.cache
def _threadpools() -> ThreadpoolController:
    """The thread pools of what is loaded with scikit-learn; to look for them takes milliseconds."""
    return ThreadpoolController()


def kmeans(features: np.ndarray, k: int, seed: int, n_init: int = 10) -> np.ndarray:
    """Cluster features by k-means: Lloyd's algorithm from k-means++ starts, the best of several.

    This is scikit-learn's ``KMeans`` with its own defaults, but for ``n_init``, in float64: of
    float32 features, products would lose what lies beside a much larger value.

    Args:
        features: float32 or float64 [N, D], finite.
        k: the number of clusters, 1 .. N.
        seed: seed of the starts, 0 .. 2**32 - 1; the same seed gives the same clusters.
        n_init: the number of starts, of which the one of least inertia is kept.

    Returns:
        int32 [N], the cluster of each sample, 0 .. k - 1. Where fewer than k samples are
        distinct, some clusters are empty, which is logged.

    Raises:
        InputError: k is below 1 or above N.

    >>> clusters = kmeans(np.array([[0.0], [0.1], [5.0], [5.1]]), k=2, seed=0)
    >>> bool(clusters[0] == clusters[1] != clusters[2] == clusters[3])
    True
    """
    clusters = find_clusters(features, k, seed, n_init)
    found = len(np.unique(clusters))
    if found < k:
        alike = len(np.unique(features, axis=0)) < k
        why = "since samples are equal" if alike else "since samples are nearer than rounding tells"
        log.warning("k-means: %d of %d clusters are empty, %s", k - found, k, why)
    return clusters


def find_clusters(
    features: np.ndarray,
    k: int,
    seed: int,
    n_init: int,
    *,
    weights: np.ndarray | None = None,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """As `kmeans`, but that nothing is logged.

    Args:
        features: as of `kmeans`.
        k: as of `kmeans`.
        seed: as of `kmeans`.
        n_init: as of `kmeans`.
        weights: [N], of the samples.
        start: [k, D], centres of one more start.
    """
    if not 1 <= k <= len(features):
        raise InputError(f"k {k}: {len(features)} samples make 1 to {len(features)} clusters")
    features, *starts = scaled(features, *([] if start is None else [start]))
    mean = features.mean(axis=0, dtype=np.float64)
    centred = features - mean
    # Each thread adds its share to the centres as it finishes. The sum of two shares does not
    # depend on their order; with more, rounding would differ from run to run. The products of
    # the starts are too small for threads: on a busy machine they mostly wait for each other.
    limits = {"openmp": 2, "blas": 1}
    with _threadpools().limit(limits=limits), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # that samples are equal
        runs = [
            KMeans(k, n_init=n_init, random_state=seed, copy_x=False),
            *(KMeans(k, init=start - mean, n_init=1, copy_x=False) for start in starts),
        ]
        made = [run.fit(centred, sample_weight=weights) for run in runs]
    return min(made, key=lambda run: run.inertia_).labels_
