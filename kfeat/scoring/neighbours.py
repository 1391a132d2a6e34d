"""Classes of features by their nearest neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from kfeat.errors import InputError
from kfeat.scoring.metrics import as_labels


def knn_predict(
    train_features: np.ndarray,
    train_labels: ArrayLike,
    test_features: np.ndarray,
    neighbours: int,
) -> np.ndarray:
    """Predict the class that is most frequent among the nearest training samples.

    Distances are Euclidean, every neighbour has one vote, and of classes with as many votes
    the smallest label wins: scikit-learn's ``KNeighborsClassifier`` by exhaustive search.

    Args:
        train_features: float32 or float64 [M, D], finite.
        train_labels: array-like [M] of integers, booleans or strings.
        test_features: float32 or float64 [N, D], finite.
        neighbours: the number of neighbours that vote, 1 .. M.

    Returns:
        [N], the predicted labels, of the type of ``train_labels``.

    Raises:
        InputError: neighbours is below 1 or above M; another D in test than in train; another
            number of labels than of training samples; labels of floating point.

    >>> train = np.array([[0.0], [0.2], [5.0]])
    >>> knn_predict(train, ["cat", "cat", "dog"], np.array([[0.1], [4.0]]), neighbours=1)
    array(['cat', 'dog'], dtype='<U3')
    """
    labels = as_labels(train_labels, "train labels")
    samples, dim = train_features.shape
    if len(labels) != samples:
        raise InputError(f"train labels: {len(labels)} for {samples} samples: give one a sample")
    if test_features.shape[1] != dim:
        raise InputError(
            f"test features: {test_features.shape[1]} dimensions where train features have "
            f"{dim}: make both with the same model"
        )
    if not 1 <= neighbours <= samples:
        raise InputError(f"neighbours {neighbours}: {samples} train samples allow 1 to {samples}")
    classifier = KNeighborsClassifier(neighbours, algorithm="brute")
    return classifier.fit(train_features, labels).predict(test_features)


def nearest_samples(bank: np.ndarray, queries: np.ndarray | None, count: int) -> np.ndarray:
    """Find the nearest samples of a bank, by Euclidean distance, nearest first.

    Args:
        bank: float32 or float64 [M, D], finite.
        queries: [N, D]; None for the bank itself, where no sample is its own neighbour.
        count: how many; as many as there are where there are fewer.

    Returns:
        int64 [N, count], rows of the bank.

    >>> nearest_samples(np.array([[0.0], [1.0], [3.0]]), None, 1).ravel().tolist()
    [1, 0, 1]
    """
    count = min(count, len(bank) - (queries is None))
    search = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(bank)
    return search.kneighbors(queries, return_distance=False)
