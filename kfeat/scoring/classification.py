"""Classification of features: by a linear probe, and class by class."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from kfeat.errors import InputError
from kfeat.scoring.metrics import as_labels, check_comparable
from kfeat.scoring.scale import scaled

log = logging.getLogger("kfeat")

REGULARISATIONS = tuple(10.0**power for power in range(-5, 2))
"""The inverse strengths C that `linear_probe` chooses from."""

MATRIX_CLASSES = 1000
"""Up to so many classes `per_class` gives a confusion matrix."""


def linear_probe(
    train_features: np.ndarray, train_labels: ArrayLike, test_features: np.ndarray
) -> tuple[np.ndarray, float]:
    """Predict classes by multinomial logistic regression on standardised features.

    minimise over W, b: 1/2 ||W||^2 - C sum_n log softmax(W z_n + b)[class of n]

    where z has mean 0 and variance 1 in each dimension of the train set. C is the one of
    `REGULARISATIONS` with the best mean accuracy in a stratified cross-validation on the train
    set, of 5 folds, or as many as the largest class has samples; a class's only sample is learnt
    from in all of them. Of equally good ones, it is the smallest. This is scikit-learn's
    ``LogisticRegressionCV``, which learns one vector for two classes, whose C is twice the one in
    the formula; nothing is random.

    It takes some 20 bytes for each train sample and class, and the time of 36 fits.

    Source: Alain and Bengio, Understanding intermediate layers using linear classifier probes
    (arXiv 1610.01644).

    Args:
        train_features: float32 or float64 [M, D], finite.
        train_labels: array-like [M] of integers, booleans or strings; two classes or more,
            one of which has two samples or more.
        test_features: float32 or float64 [N, D], finite.

    Returns:
        [N], the predicted labels, of the type of ``train_labels``, and C.

    Raises:
        InputError: fewer classes or samples a class; labels that are not one a row.

    >>> train = np.array([[0.0], [0.2], [5.0], [5.2]])
    >>> linear_probe(train, ["cat", "cat", "dog", "dog"], np.array([[0.1], [4.0]]))
    (array(['cat', 'dog'], dtype='<U3'), 1e-05)
    """
    labels = as_labels(train_labels, "train labels")
    if len(labels) != len(train_features):
        raise InputError(
            f"train labels: {len(labels)} for {len(train_features)} samples: give one a sample"
        )
    classes, numbers, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2 or sizes.max() < 2:
        raise InputError(
            f"train labels: {len(classes)} classes, the largest of {sizes.max()} samples: "
            "a linear probe needs two or more of both"
        )
    train_features, test_features = scaled(train_features, test_features)
    scaler = StandardScaler().fit(train_features)
    train, rotation = scaler.transform(train_features), None
    if train.shape[1] > len(train):
        # W lies in the span of the train samples: their principal components lose nothing.
        with np.errstate(invalid="ignore"):  # of equal samples, nothing explains any variance
            rotation = PCA(svd_solver="full").fit(train)
        train = rotation.transform(train)
    probe = LogisticRegressionCV(
        Cs=list(REGULARISATIONS),
        cv=_folds(numbers, sizes),
        l1_ratios=(0,),
        scoring="accuracy",
        max_iter=1000,
        use_legacy_attributes=False,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        probe.fit(train, labels)
    if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
        log.warning("linear probe: a fit stopped after 1000 iterations, before it converged")
    del train  # before the test features are copied
    test = scaler.transform(test_features)
    return probe.predict(rotation.transform(test) if rotation else test), float(probe.C_)


def _folds(numbers: np.ndarray, sizes: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Samples to learn from and to judge by, where every class is learnt from in every fold.

    Args:
        numbers: int64 [M], the class of each sample.
        sizes: int64 [classes], their samples.
    """
    alone = np.flatnonzero(sizes[numbers] == 1)
    others = np.flatnonzero(sizes[numbers] > 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a class is in fewer folds
        folds = list(StratifiedKFold(min(5, int(sizes.max()))).split(others, numbers[others]))
    return [
        (np.sort(np.concatenate([others[learnt], alone])), others[judged])
        for learnt, judged in folds
    ]


def per_class(labels_true: ArrayLike, labels_pred: ArrayLike, pairs: int = 10) -> dict[str, Any]:
    """How well each class is recognised, and what it is taken for.

    precision_c = hits_c / predicted_c, recall_c = hits_c / support_c

    Args:
        labels_true: array-like [N] of integers, booleans or strings.
        labels_pred: array-like [N], of strings exactly where ``labels_true`` is.
        pairs: at most so many confused pairs.

    Returns:
        A dictionary that JSON can hold: ``labels``, the C classes that are true or predicted,
        sorted; ``precision`` (None for a class that is never predicted), ``recall`` (None for
        one that never occurs) and ``support`` (samples), lists [C]; ``confusion``, a list
        [C][C] of counts, a row for a true class, a column for a predicted one, or None above
        `MATRIX_CLASSES` classes; ``most_confused``, a list of {"true", "predicted", "count",
        "share" (of the true class)}, most samples first, then in the order of the classes.

    Raises:
        InputError: labels that are empty or of the wrong type, or of different lengths.

    >>> found = per_class(["cat", "cat", "dog"], ["cat", "dog", "dog"])
    >>> found["precision"], found["recall"], found["confusion"]
    ([1.0, 0.5], [0.5, 1.0], [[1, 1], [0, 1]])
    >>> found["most_confused"]
    [{'true': 'cat', 'predicted': 'dog', 'count': 1, 'share': 0.5}]
    """
    true, pred = as_labels(labels_true, "labels_true"), as_labels(labels_pred, "labels_pred")
    check_comparable(true, pred, "labels_true", "labels_pred")
    if len(true) != len(pred):
        raise InputError(f"labels_pred: {len(pred)} labels beside {len(true)}: give one a sample")
    # The two are numbered apart: an array of both would round large integers of mixed signs.
    classes = sorted({*np.unique(true).tolist(), *np.unique(pred).tolist()})
    place = {label: n for n, label in enumerate(classes)}
    rows, columns = (
        np.array([place[label] for label in labels.tolist()], np.int64)[inverse]
        for labels, inverse in (np.unique(array, return_inverse=True) for array in (true, pred))
    )
    count = len(classes)
    cells, counts = np.unique(rows * count + columns, return_counts=True)
    rows, columns = np.divmod(cells, count)
    hits, support, predicted = (
        np.bincount(which, weights, minlength=count).astype(np.int64)
        for which, weights in (
            (rows, counts * (rows == columns)),
            (rows, counts),
            (columns, counts),
        )
    )
    confusion = None
    if count <= MATRIX_CLASSES:
        matrix = np.zeros((count, count), np.int64)
        matrix[rows, columns] = counts
        confusion = matrix.tolist()
    wrong = np.flatnonzero(rows != columns)
    worst = wrong[np.argsort(-counts[wrong], kind="stable")[:pairs]]
    return {
        "labels": classes,
        "precision": _shares(hits, predicted),
        "recall": _shares(hits, support),
        "support": support.tolist(),
        "confusion": confusion,
        "most_confused": [
            {
                "true": classes[rows[n]],
                "predicted": classes[columns[n]],
                "count": int(counts[n]),
                "share": float(counts[n] / support[rows[n]]),
            }
            for n in worst
        ],
    }


def _shares(parts: np.ndarray, wholes: np.ndarray) -> list[float | None]:
    return [
        part / whole if whole else None
        for part, whole in zip(parts.tolist(), wholes.tolist(), strict=True)
    ]
