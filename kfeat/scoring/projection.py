"""Features in the plane, to look at."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from kfeat.errors import InputError
from kfeat.scoring.scale import scaled

PROJECTIONS = ("umap", "tsne")

_DIM = 50


def project(features: np.ndarray, method: str = "umap", seed: int = 0) -> np.ndarray:
    """Lay features out in the plane, neighbours beside neighbours.

    UMAP (McInnes, Healy and Melville 2018) is umap-learn's, t-SNE (van der Maaten and Hinton
    2008) scikit-learn's, both with their own defaults but for few samples, where UMAP's 15
    neighbours become N - 1 at most, and t-SNE's perplexity of 30 (N - 1) / 3. Features of more
    than 50 dimensions, if there are more than 50 samples, are reduced to their 50 principal
    components first, as van der Maaten and Hinton do; for UMAP that is a choice of ours. Distances
    between far points, and the axes, mean nothing in either.

    Args:
        features: float32 or float64 [N, D], finite, N >= 4.
        method: ``"umap"`` or ``"tsne"``.
        seed: of all that is random; the same seed gives the same picture.

    Returns:
        float32 [N, 2].

    Raises:
        InputError: another method, or fewer than 4 samples.
    """
    count = len(features)
    if method not in PROJECTIONS:
        raise InputError(f"map {method!r}: choose one of {', '.join(PROJECTIONS)}")
    if count < 4:
        raise InputError(f"a map of {count} images: give 4 or more")
    (features,) = scaled(features)
    if features.shape[1] > _DIM < count:
        features = PCA(_DIM, svd_solver="randomized", random_state=seed).fit_transform(features)
    if method == "tsne":
        from sklearn.manifold import TSNE

        # Its start takes two principal components, and divides by the spread along the first.
        wide = features.shape[1] > 1 and np.ptp(features, axis=0).any()
        start = "pca" if wide else "random"
        plane = TSNE(perplexity=min(30, (count - 1) / 3), init=start, random_state=seed)
    else:
        from umap import UMAP

        # The spectral start needs more samples than dimensions and neighbours.
        start = "spectral" if count > 16 else "random"
        plane = UMAP(n_neighbors=min(15, count - 1), init=start, random_state=seed, n_jobs=1)
    # Two threads, as for k-means: the sum of more shares would depend on their order.
    with threadpool_limits({"openmp": 2}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # umap-learn on its own use of scikit-learn
        return np.asarray(plane.fit_transform(features), np.float32)
