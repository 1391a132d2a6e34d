"""Features without learning, which an encoder has to beat."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA

from kfeat.errors import InputError


def fit_pca(pixels: np.ndarray, dim: int = 128, seed: int = 0) -> PCA:
    """Find the principal components of images.

    The decomposition is exact (of the covariance) where it is cheap: up to 4096 pixel values
    an image, and more images than pixel values. Elsewhere it is randomised (Halko et al.
    2011). Both are scikit-learn's ``PCA``.

    Args:
        pixels: float32 [M, P], the values of M images.
        dim: the number of components, up to the smaller one of M and P.
        seed: seed of the randomised decomposition.

    Returns:
        The fitted ``PCA``; its ``transform`` turns float32 [N, P] into float32 [N, dim].

    Raises:
        InputError: dim is below 1, or above M or P.

    >>> fit_pca(np.eye(4, dtype=np.float32), dim=3).transform(np.zeros([2, 4], np.float32)).shape
    (2, 3)
    """
    samples, values = pixels.shape
    if not 1 <= dim <= min(samples, values):
        mend = "larger images" if values < min(dim, samples) else "more images"
        raise InputError(
            f"pca{dim}: {samples} images of {values} pixel values have 1 to "
            f"{min(samples, values)} components: fit it to {mend}"
        )
    exact = values <= 4096 and samples > values
    solver = "covariance_eigh" if exact else "randomized"
    return PCA(dim, svd_solver=solver, random_state=seed).fit(pixels)
