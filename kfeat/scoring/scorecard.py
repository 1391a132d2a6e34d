"""The scorecard: how well features cluster and classify."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kfeat.errors import InputError, expand, whole
from kfeat.scoring.classification import linear_probe, per_class
from kfeat.scoring.clustering import kmeans
from kfeat.scoring.features import Features, check_features, check_labels, load_features
from kfeat.scoring.geometry import alignment, effective_rank, silhouette, uniformity
from kfeat.scoring.intervals import accuracy_interval, clustering_intervals
from kfeat.scoring.metrics import accuracy, check_comparable, clustering_metrics
from kfeat.scoring.neighbours import check_search, knn_predict
from kfeat.scoring.retrieval import mean_average_precision

log = logging.getLogger("kfeat")

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

MORE_METRICS = (
    "knn_cosine_accuracy",
    "linear_probe_accuracy",
    "linear_probe_c",
    "mean_average_precision",
    "alignment",
    "uniformity",
    "effective_rank",
    "silhouette_classes",
    "silhouette_clusters",
)
"""What ``all`` adds to a scorecard; docs/scorecard.md says what each tells."""


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
    search: str = "exact",
    all: bool = False,
    intervals: bool = False,
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
        search: what finds the neighbours, ``"exact"`` or ``"faiss"``; see
            `kfeat.scoring.neighbours.nearest`.
        all: also compute `MORE_METRICS`, which are slow, and the intervals.
        intervals: also compute 95 % bootstrap intervals; see `kfeat.scoring.intervals`.

    Returns:
        A dictionary that JSON can hold::

            {"features": {"count": N, "dim": D},
             "clustering": {"k": k, "repeats": repeats, one entry a metric, "sizes": [...]},
             "classification": {"k": neighbours, "search": search, "accuracy": ...},
             "classes": what `kfeat.scoring.classification.per_class` finds in the KNN
                 predictions, and "names": the labels as text,
             "more": {one entry a metric} with all, else None,
             "intervals": {"clustering": {[low, high] a metric}, "classification": [low, high]},
                 or None,
             "seconds": {"clustering": ..., "classification": ..., with all one a metric}}

        The clustering metrics are those of `CLUSTERING_METRICS`, each the mean over the
        repeats; with more than one repeat ``clustering["std"]`` has their sample standard
        deviations (ddof=1) by name. ``sizes`` are the cluster sizes of the first run, largest
        first. ``seconds`` is the time that all repeats took together. What could not be
        computed, for want of labels or of a train set, is None. ``more`` has the metrics of
        `MORE_METRICS`, those of the clusters for the first run of k-means. The intervals of the
        clustering metrics are about their means; they say what the choice of the test samples
        could change, not what the seed of k-means could.

    Raises:
        InputError: features that are not [N, D], not numbers or not finite; labels that are
            not one a row or of the wrong kind; k, neighbours, seed or repeats out of range; no
            such search.

    >>> features = np.array([[0.0], [0.1], [5.0], [5.1]])
    >>> card = score(features, ["cat", "cat", "dog", "dog"], k=2)
    >>> card["clustering"]["nmi"], card["clustering"]["sizes"], card["classification"]
    (1.0, [2, 2], {'k': 5, 'search': 'exact', 'accuracy': None})
    """
    k, neighbours, seed, repeats = check_options(k, neighbours, seed, repeats, search)
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
            if strange := int((~np.isin(labels, train_classes)).sum()):
                log.warning(
                    "%d of %d test samples are of classes that the train set has none of: "
                    "KNN cannot be right about them",
                    *(strange, len(labels)),
                )

    seconds: dict[str, float | None] = {"clustering": None, "classification": None}
    classification: dict[str, Any] = {"k": neighbours, "search": search, "accuracy": None}
    classes = None
    ranges: dict[str, Any] | None = None
    if intervals or all:
        ranges = {"clustering": None, "classification": None}
    if labels is not None and train is not None and train_classes is not None:
        start = time.perf_counter()
        predicted = knn_predict(train, train_classes, test, neighbours, search=search)
        classification["accuracy"] = accuracy(labels, predicted)
        classes = per_class(labels, predicted)
        classes["names"] = [str(label) for label in classes["labels"]]
        seconds["classification"] = time.perf_counter() - start
        if ranges:
            ranges["classification"] = list(accuracy_interval(labels, predicted, seed=seed))

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
    if ranges and labels is not None:
        figures = {name: clustering[name] for name in CLUSTERING_METRICS}
        found = clustering_intervals(test, labels, runs[0], figures, seed=seed)
        ranges["clustering"] = {name: list(ends) for name, ends in found.items()}

    more = None
    if all:
        more, times = _more(test, labels, train, train_classes, runs[0], neighbours, search)
        seconds |= times
    return {
        "features": {"count": test.shape[0], "dim": test.shape[1]},
        "clustering": clustering,
        "classification": classification,
        "classes": classes,
        "more": more,
        "intervals": ranges,
        "seconds": seconds,
    }


def _more(
    test: np.ndarray,
    labels: np.ndarray | None,
    train: np.ndarray | None,
    train_classes: np.ndarray | None,
    clusters: np.ndarray,
    neighbours: int,
    search: str,
) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """Compute `MORE_METRICS`, and the seconds of each; None where labels or train set lack."""
    more: dict[str, float | None] = dict.fromkeys(MORE_METRICS)
    seconds: dict[str, float | None] = {}

    def add(name: str, compute: Callable[[], float | None]) -> None:
        log.info("scoring: %s", name.replace("_", " "))
        start = time.perf_counter()
        more[name] = compute()
        seconds[name] = time.perf_counter() - start

    add("uniformity", lambda: uniformity(test))
    add("effective_rank", lambda: effective_rank(test))
    add("silhouette_clusters", lambda: silhouette(test, clusters))
    if labels is None:
        return more, seconds
    add("mean_average_precision", lambda: mean_average_precision(test, labels))
    add("alignment", lambda: alignment(test, labels))
    add("silhouette_classes", lambda: silhouette(test, labels))
    if train is None or train_classes is None:
        return more, seconds

    def by_angle() -> float:
        options = {"metric": "cosine", "search": search}
        return accuracy(labels, knn_predict(train, train_classes, test, neighbours, **options))

    def by_probe() -> float | None:
        try:
            predicted, more["linear_probe_c"] = linear_probe(train, train_classes, test)
        except InputError as error:  # features that are fine for all else
            log.warning("linear probe left out: %s", error)
            return None
        return accuracy(labels, predicted)

    add("knn_cosine_accuracy", by_angle)
    add("linear_probe_accuracy", by_probe)
    return more, seconds


def check_options(
    k: int = 10, neighbours: int = 5, seed: int = 0, repeats: int = 1, search: str = "exact"
) -> tuple[int, int, int, int]:
    """Return k, neighbours, seed and repeats of `score` as Python's whole numbers.

    Raises:
        InputError: one is out of range for any features; no such search.
    """
    k, neighbours = whole("k", k, 1), whole("neighbours", neighbours, 1)
    repeats, seed = whole("repeats", repeats, 1), whole("seed", seed, 0)
    if repeats > 2**32:
        raise InputError(f"repeats {repeats}: more runs of k-means than there are seeds")
    if seed > 2**32 - repeats:
        raise InputError(f"seed {seed}: give 0 to {2**32 - repeats}")
    check_search("euclidean", search)
    return k, neighbours, seed, repeats


def score_features(
    test: str | os.PathLike[str],
    train: str | os.PathLike[str] | None = None,
    *,
    k: int = 10,
    neighbours: int = 5,
    seed: int = 0,
    repeats: int = 1,
    limit: int | None = None,
    search: str = "exact",
    all: bool = False,
) -> dict[str, Any]:
    """Score features that anybody made, without TensorFlow.

    Args:
        test: an .npz file with ``features`` [N, D] and ``labels`` [N]; see
            `kfeat.scoring.features.load_features`.
        train: likewise, for KNN; None for no classification.
        k: clusters of k-means.
        neighbours: neighbours that vote.
        seed: of k-means.
        repeats: runs of k-means; mean and standard deviation are given.
        limit: at most so many rows of each file, evenly spaced.
        search: what finds the neighbours, ``"exact"`` or ``"faiss"``.
        all: also compute the slow metrics, `MORE_METRICS`.

    Returns:
        As `kfeat.score`; ``data`` is the file, ``model`` is the one that the file names, or
        None; ``leaks`` is None.

    Raises:
        InputError: a file or an option cannot be used, or, as far as the files tell, an image is in
            both.
    """
    k, neighbours, seed, repeats = check_options(k, neighbours, seed, repeats, search)
    tested, fitted = open_features(test, train, limit)
    options = {"k": k, "neighbours": neighbours, "seed": seed, "repeats": repeats}
    return score_opened(tested, fitted, str(test), str(train), search=search, all=all, **options)


def score_opened(
    tested: Features, fitted: Features | None, test: str, train: str, **options: Any
) -> dict[str, Any]:
    """Score what `open_features` returns of the files ``test`` and ``train``; see there."""
    card = score(
        tested.features,
        tested.labels,
        fitted.features if fitted else None,
        fitted.labels if fitted else None,
        **options,
    )
    if card["classes"]:
        card["classes"]["names"] = tested.names(card["classes"]["labels"])
    say_what_is_missing(tested.labels is not None, fitted is not None, "--train-features")
    return {
        "model": named(tested),
        "test": {"data": test, "split": None, "count": len(tested)},
        "train": {"data": train, "split": None, "count": len(fitted)} if fitted else None,
        **card,
        "leaks": None,
        "seconds": {"features": None, **card["seconds"]},
    }


def open_features(
    test: str | os.PathLike[str],
    train: str | os.PathLike[str] | None = None,
    limit: int | None = None,
) -> tuple[Features, Features | None]:
    """Read the files of `score_features`; see there."""
    tested = load_features(test, limit)
    if not train:
        return tested, None
    fitted = load_features(train, limit)
    if fitted.labels is None:
        raise InputError(f"{train}: no array 'labels': KNN learns from labelled features")
    if os.path.samefile(expand(test), expand(str(train))) or _share_images(tested, fitted):
        raise InputError(
            f"{train} holds images of {test}, each the nearest to itself: give features of "
            "images that are not in the test"
        )
    _check_together(tested, fitted, str(test), str(train))
    return tested, fitted


def named(features: Features) -> str | None:
    """The model that a file of features names, or None."""
    model = features.manifest.get("model")
    return None if model is None else str(model)


def _share_images(test: Features, train: Features) -> bool:
    """Whether both have an image of one data set, as far as their manifests tell."""
    told = [features.manifest.get("data") for features in (test, train)]
    about = [data for data in told if isinstance(data, dict)]
    if test.ids is None or train.ids is None or len(about) < 2:
        return False
    places = [(one.get("location") or one.get("name"), one.get("version")) for one in about]
    splits = {str(one.get("split")) for one in about}
    if places[0] != places[1] or (len(splits) > 1 and "all" not in splits):
        return False
    return bool(np.isin(test.ids, train.ids).any())


def _check_together(test: Features, train: Features, test_path: str, train_path: str) -> None:
    """Raise `InputError` where the manifests tell of different encoders, images or classes."""

    def made_by(features: Features) -> tuple[Any, Any]:
        encoder = features.manifest.get("encoder")
        model = features.manifest.get("model")
        return (encoder.get("sha256") or model if isinstance(encoder, dict) else model), model

    for key in ("image_size", "resize", "pca"):
        ours, theirs = (features.manifest.get(key) for features in (test, train))
        if None not in (ours, theirs) and ours != theirs:
            what = {"image_size": f"of images of {ours} pixels, {theirs} in"}
            what |= {"resize": f"of images brought to size by {ours}, by {theirs} in"}
            said = what.get(key, "of other principal components than")
            raise InputError(f"{test_path} holds features {said} {train_path}: give those of one")
    (tested, model), (fitted, other) = made_by(test), made_by(train)
    if None not in (tested, fitted) and tested != fitted:
        raise InputError(
            f"{test_path} holds features of {model}, {train_path} of another encoder, {other}: "
            "give features of one"
        )
    if None not in (test.classes, train.classes) and test.classes != train.classes:
        raise InputError(
            f"{test_path} and {train_path} have different classes: give features of the same"
        )


def say_what_is_missing(has_labels: bool, has_train: bool, option: str = "--train") -> None:
    """Log which part of the scorecard stays empty, why, and the option that would fill it."""
    if not has_labels:
        log.info("no labels to test against: clusters are counted, nothing is compared")
    elif not has_train:
        log.info("no labelled train images: KNN accuracy is left out (%s gives them)", option)
