"""The scorecard: how well features cluster and classify."""

from __future__ import annotations

import os
import time
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kfeat.errors import InputError
from kfeat.scoring.clustering import kmeans
from kfeat.scoring.metrics import accuracy, as_labels, check_comparable, clustering_metrics
from kfeat.scoring.neighbours import knn_predict

CLUSTERING_METRICS = (
    "pairwise_precision",
    "pairwise_recall",
    "pairwise_f",
    "bcubed_precision",
    "bcubed_recall",
    "bcubed_f",
    "nmi",
    "homogeneity",
    "completeness",
    "v_measure",
    "ari",
    "accuracy",
)


def score(
    test_features: ArrayLike,
    test_labels: ArrayLike | None = None,
    train_features: ArrayLike | None = None,
    train_labels: ArrayLike | None = None,
    *,
    k: int = 10,
    neighbours: int = 5,
    seed: int = 0,
    repeats: int = 1,
) -> dict[str, Any]:
    """Score features: cluster those of the test set, classify them by those of the train set.

    The test features are clustered by `kfeat.scoring.clustering.kmeans`, and the clusters
    compared with the labels by every metric of `kfeat.scoring.metrics`. Each test sample is
    then classified by its nearest neighbours in the train set.

    Args:
        test_features: numbers [N, D], finite.
        test_labels: integers, booleans or strings [N]; without them samples are only clustered.
        train_features: numbers [M, D], finite; without a train set nothing is classified.
        train_labels: [M], of the kind of ``test_labels``; given exactly if train_features are.
        k: the number of clusters, up to N.
        neighbours: the number of nearest neighbours that vote, up to M.
        seed: seed of k-means, 0 .. 2**32 - repeats.
        repeats: how often to run k-means, with the seeds seed .. seed + repeats - 1.

    Returns:
        A dictionary that JSON can hold::

            {"features": {"count": N, "dim": D},
             "clustering": {"k": k, "repeats": repeats, one entry a metric, "sizes": [...]},
             "classification": {"k": neighbours, "accuracy": ...},
             "seconds": {"clustering": ..., "classification": ...}}

        The clustering metrics are those of `CLUSTERING_METRICS`, each the mean over the
        repeats; with more than one repeat ``clustering["std"]`` has their sample standard
        deviations (ddof=1) by name. ``sizes`` are the cluster sizes of the first run, largest
        first. ``seconds`` is the time that all repeats took together. What could not be
        computed, for want of labels or of a train set, is None.

    Raises:
        InputError: features that are not [N, D], not numbers or not finite; labels that are
            not one a row or of the wrong kind; k, neighbours, seed or repeats out of range.

    >>> features = np.array([[0.0], [0.1], [5.0], [5.1]])
    >>> card = score(features, ["cat", "cat", "dog", "dog"], k=2)
    >>> card["clustering"]["nmi"], card["clustering"]["sizes"], card["classification"]
    (1.0, [2, 2], {'k': 5, 'accuracy': None})
    """
    for name, value in (("k", k), ("neighbours", neighbours), ("repeats", repeats)):
        if value < 1:
            raise InputError(f"{name} {value}: give 1 or more")
    if not 0 <= seed <= 2**32 - repeats:
        raise InputError(f"seed {seed}: give 0 to {2**32 - repeats}")
    test = check_features(test_features, "test features")
    if k > len(test):
        raise InputError(f"k {k}: more clusters than the {len(test)} test samples: lower k")
    labels = None if test_labels is None else check_labels(test_labels, len(test), "test labels")
    if (train_features is None) != (train_labels is None):
        missing = "train labels" if train_labels is None else "train features"
        raise InputError(f"{missing}: missing: give both train features and train labels, or none")
    train = train_classes = None
    if train_features is not None and train_labels is not None:
        train = check_features(train_features, "train features")
        train_classes = check_labels(train_labels, len(train), "train labels")
        if labels is not None:
            check_comparable(train_classes, labels, "train labels", "test labels")

    seconds: dict[str, float | None] = {"clustering": None, "classification": None}
    classification: dict[str, Any] = {"k": neighbours, "accuracy": None}
    if labels is not None and train is not None and train_classes is not None:
        start = time.perf_counter()
        predicted = knn_predict(train, train_classes, test, neighbours)
        classification["accuracy"] = accuracy(labels, predicted)
        seconds["classification"] = time.perf_counter() - start

    start = time.perf_counter()
    runs = [kmeans(test, k, seed + repeat) for repeat in range(repeats)]
    clustering: dict[str, Any] = {"k": k, "repeats": repeats}
    clustering |= dict.fromkeys(CLUSTERING_METRICS)
    if repeats > 1:
        clustering["std"] = dict.fromkeys(CLUSTERING_METRICS)
    if labels is not None:
        metrics = [clustering_metrics(labels, clusters) for clusters in runs]
        for name in CLUSTERING_METRICS:
            values = [metric[name] for metric in metrics]
            clustering[name] = float(np.mean(values))
            if repeats > 1:
                clustering["std"][name] = float(np.std(values, ddof=1))
    clustering["sizes"] = sorted(np.bincount(runs[0], minlength=k).tolist(), reverse=True)
    seconds["clustering"] = time.perf_counter() - start

    return {
        "features": {"count": test.shape[0], "dim": test.shape[1]},
        "clustering": clustering,
        "classification": classification,
        "seconds": seconds,
    }


def check_features(features: ArrayLike, name: str = "features") -> np.ndarray:
    """Return features as a float array [N, D], or raise `InputError` where they are not.

    Args:
        features: numbers [N, D], N >= 1, D >= 1, all finite.
        name: what an error calls them.

    Returns:
        float64 [N, D] for float64, float32 [N, D] for all other types.

    Raises:
        InputError: another shape, no numbers, or NaN or infinite values.
    """
    array = np.asarray(features)
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name}: of type {array.dtype}: give real numbers")
    if array.ndim != 2 or not array.size:
        raise InputError(
            f"{name}: shape {list(array.shape)}: give [N, D], one row a sample, none of it 0"
        )
    if array.dtype != np.float64:
        array = array.astype(np.float32, copy=False)
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise InputError(
            f"{name}: {len(bad)} of {len(array)} rows hold NaN or infinite values, the first is "
            f"row {bad[0]} (counted from 0): leave them out or mend what made them"
        )
    return array


def check_labels(labels: ArrayLike, count: int, name: str = "labels") -> np.ndarray:
    """Return labels as an array of ``count`` labels, or raise `InputError`."""
    array = as_labels(labels, name)
    if len(array) != count:
        raise InputError(f"{name}: {len(array)} labels for {count} rows: give one a row")
    return array


def load_features(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """Read features, and labels if there are any, from an .npz file.

    Args:
        path: file of the arrays ``features`` (or ``feature``), numbers [N, D], and ``labels``
            (or ``label``), integers, booleans or strings [N], as ``numpy.savez`` writes them.
            Other arrays in it are not read. Nothing is ever unpickled.

    Returns:
        float32 [N, D], and the labels [N] or None.

    Raises:
        InputError: no such file, not an .npz file, a damaged one, no features in it, an array
            of Python objects, or arrays that `check_features` or `check_labels` refuses.
    """
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file: give the .npz file of the features")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path}: not an .npz file, or cut short: write it with numpy.savez")
    arrays: dict[str, np.ndarray] = {}
    with np.load(path, allow_pickle=False) as archive:
        for wanted in ("features", "labels"):
            for key in (wanted, wanted[:-1]):
                if key in archive.files:
                    arrays[wanted] = _read_array(archive, key, path)
                    break
        keys = ", ".join(archive.files) or "nothing"
    if "features" not in arrays:
        raise InputError(f"{path}: no array 'features', it holds {keys}: name it 'features'")
    features = arrays["features"]
    if features.dtype == np.float64:
        with np.errstate(over="ignore"):  # becomes infinite, which check_features reports
            features = features.astype(np.float32)
    features = check_features(features, f"{path}: features")
    if "labels" not in arrays:
        return features, None
    return features, check_labels(arrays["labels"], len(features), f"{path}: labels")


def _read_array(archive: Any, key: str, path: str | os.PathLike[str]) -> np.ndarray:
    try:
        return np.asarray(archive[key])
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        if "Object arrays" in str(error):
            problem = "holds pickled Python objects, which are never loaded: save plain numbers"
            problem += " or strings"
        else:
            problem = "cannot be read, the file is damaged: write it again"
        raise InputError(f"{path}: array {key!r} {problem}") from error


def format_table(results: list[dict[str, Any]]) -> str:
    """Lay out results of `score` as plain text, one row a model.

    Args:
        results: dictionaries of `score`, with ``"model"`` and ``"test"`` ({"data", "split"})
            where they are known.

    Returns:
        Lines of aligned columns, joined by newlines. Metrics have four decimals, with
        ± and the standard deviation after repeats; what is not known is ``-``.
    """
    shown = {
        "pairwise F": "pairwise_f",
        "BCubed F": "bcubed_f",
        "NMI": "nmi",
        "ARI": "ari",
        "clustering accuracy": "accuracy",
    }
    rows = [("model", "test", "N", "dim", *shown, "KNN accuracy")]
    for result in results:
        clustering, features = result["clustering"], result["features"]
        test = result.get("test") or {}
        deviations = clustering.get("std", {})
        rows.append(
            (
                result.get("model") or "-",
                " ".join(str(test[key]) for key in ("data", "split") if test.get(key)) or "-",
                str(features["count"]),
                str(features["dim"]),
                *(_decimals(clustering[name], deviations.get(name)) for name in shown.values()),
                _decimals(result["classification"]["accuracy"]),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        words = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        words += [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join(words))
    return "\n".join(lines)


def _decimals(value: float | None, deviation: float | None = None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if deviation is None else f"{value:.4f} ± {deviation:.4f}"
