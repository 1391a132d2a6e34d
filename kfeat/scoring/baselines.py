"""Features without training, which an encoder has to beat."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA

from kfeat.errors import InputError


def pixels(images: np.ndarray) -> np.ndarray:
    """Flatten images: their pixels are the features.

    Args:
        images: uint8 or float [N, H, W, C], values in [0, 255].

    Returns:
        float32 [N, H * W * C], values in [0, 1].

    Raises:
        InputError: another shape, or values that are NaN or outside of [0, 255].

    >>> pixels(np.full([1, 1, 1, 3], 51, np.uint8))
    array([[0.2, 0.2, 0.2]], dtype=float32)
    """
    if images.ndim != 4 or not images.size:
        raise InputError(f"images: shape {list(images.shape)}: give at least one, [N, H, W, C]")
    if images.dtype != np.uint8:
        low, high = images.min(), images.max()
        if not (low >= 0 and high <= 255):
            raise InputError(f"images: values {low} to {high}: scale them to 0 .. 255")
    return np.divide(images.reshape(len(images), -1), np.float32(255), dtype=np.float32)


def pca(
    train: np.ndarray, test: np.ndarray, dim: int = 128, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Project pixels on the principal components of the training images.

    The decomposition is exact (of the covariance) where it is cheap: up to 4096 pixel values
    an image, and more images than pixel values. Elsewhere it is randomised (Halko et al.
    2011). Both are scikit-learn's ``PCA``.

    Args:
        train: float32 [M, P], pixels of the images that the components are fitted to.
        test: float32 [N, P], pixels of other images.
        dim: the number of components, up to the smaller one of M and P.
        seed: seed of the randomised decomposition.

    Returns:
        float32 [M, dim] and float32 [N, dim], the projections of train and of test.

    Raises:
        InputError: dim is below 1, or above M or P; another P in test than in train.

    >>> train, test = np.eye(4, dtype=np.float32), np.zeros([2, 4], np.float32)
    >>> [features.shape for features in pca(train, test, dim=3)]
    [(4, 3), (2, 3)]
    """
    samples, values = train.shape
    if not 1 <= dim <= min(samples, values):
        raise InputError(
            f"pca dim {dim}: {samples} train images of {values} pixel values allow 1 to "
            f"{min(samples, values)}"
        )
    if test.shape[1] != values:
        raise InputError(
            f"test images: {test.shape[1]} pixel values where train images have {values}: "
            "read both at one size"
        )
    exact = values <= 4096 and samples > values
    solver = "covariance_eigh" if exact else "randomized"
    model = PCA(dim, svd_solver=solver, random_state=seed).fit(train)
    return model.transform(train), model.transform(test)
