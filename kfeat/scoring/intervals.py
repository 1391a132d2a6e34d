"""How far a metric could lie from its figure by the chance of which images were tested.

A metric of N test images would be another on N other images of the same kind. Its 95 % interval
tells what it would be on average over such sets of N.

What no image showed, no replicate shows. Of few images, or few of each class, the intervals are too
narrow: they hold what they should less often than their level says. Where KNN is right for all N
images, or for none, the interval of its accuracy has no width, though up to 3 / N of other images
may turn out otherwise (the rule of three for 95 %, Hanley and Lippman-Hand 1983).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from kfeat.errors import InputError
from kfeat.progress import progress
from kfeat.scoring.clustering import find_clusters
from kfeat.scoring.metrics import accuracy, as_labels, clustering_metrics
from kfeat.scoring.scale import scaled

REPLICATES = 1000

REPLICATES_CLUSTERED = 100
"""Of those in which k-means runs again."""

STARTS = 3
"""Of k-means in each of them, beside the one from the clusters of all samples."""

LARGEST_DRAW = 10_000
DRAWN_VALUES = 2**24
"""A replicate draws up to so many samples, and has up to so many products of a value with a
centre, unless it would be of too few."""

RANGES = {
    "ari": (-0.5, 1.0),
    "ssim": (-1.0, 1.0),
    "mse": (0.0, math.inf),
    "psnr": (-math.inf, math.inf),
}
"""Between which numbers a metric lies, where it is not 0 and 1."""


def clustering_intervals(
    features: np.ndarray,
    labels: ArrayLike,
    clusters: np.ndarray,
    figures: Mapping[str, float],
    *,
    replicates: int = REPLICATES_CLUSTERED,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Intervals of the clustering metrics, by a bootstrap in which the clusters are found anew.

    Samples are drawn with replacement, those drawn are clustered, and the metrics computed of
    them, again and again. The standard deviation of these replicates, times the normal
    distribution's quantile, is added to and taken from the figure. Where clusters are unclear,
    most of a metric's chance is in which of them k-means finds: with the clusters of all samples
    held fixed, intervals would be half as wide as they should be.

    Clear clusters would be missed by a few starts elsewhere now and then, and unclear ones kept by
    a start from their centres alone: of both, the better is taken. Replicates are not what the
    metric would be of other samples, for a sample that is drawn twice agrees with itself; only
    their spread is used. Of many samples, wide features or many clusters each replicate draws M of
    the N samples only, and the deviation is multiplied by sqrt(M / N): a thousand or more, five or
    more a cluster, and ten thousand where that takes little time.

    Args:
        features: float32 or float64 [N, D], finite: those that were clustered.
        labels: array-like [N] of integers, booleans or strings, the classes.
        clusters: integers [N], the clusters of all samples, from whose centres k-means starts,
            beside `STARTS` times elsewhere.
        figures: metric to the figure that the interval is of; see
            `kfeat.scoring.metrics.clustering_metrics`.
        replicates: how often to draw, 2 or more.
        level: how often intervals should hold what they are of, in (0, 1).
        seed: of the draws and of k-means; the same seed gives the same intervals.

    Returns:
        For each metric of ``figures``, its lower and upper end, within the metric's range.

    Raises:
        InputError: labels that are of the wrong type, or another argument out of range.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 13.2, the
    standard normal interval; draws of fewer samples: Politis, Romano and Wolf 1999,
    "Subsampling". `STARTS`, and how many are drawn, are choices of ours.

    >>> features = np.random.default_rng(0).normal(size=(60, 2)) + [[0], [9], [18]] * 20
    >>> clusters = np.tile([0, 1, 2], 20)
    >>> clustering_intervals(features, clusters, clusters, {"nmi": 1.0}, replicates=3)
    {'nmi': (1.0, 1.0)}
    """
    _check(replicates, level, least=2)
    classes = as_labels(labels)
    count, dim = features.shape
    for name, of in (("labels", classes), ("clusters", clusters)):
        if len(of) != count:
            raise InputError(f"{name}: {len(of)} for {count} samples: give one a sample")
    (features,) = scaled(features)
    if dim > count:  # turned into the space that they span, where all distances are the same
        centred = features - features.mean(0, np.float64)
        features = np.asarray(np.linalg.qr(centred.T, mode="r")).T
        dim = count
    centres = np.stack([features[clusters == c].mean(0, np.float64) for c in np.unique(clusters)])
    k = len(centres)
    drawn = min(count, max(5 * k, 1000, min(LARGEST_DRAW, DRAWN_VALUES // (dim * k))))
    rng = np.random.default_rng(seed)
    values: dict[str, list[float]] = {name: [] for name in figures}
    with progress(total=replicates, unit="replicate", desc="intervals of clusters") as bar:
        for replicate in range(replicates):
            times = np.bincount(rng.integers(0, count, drawn), minlength=count)
            rows = np.flatnonzero(times)
            found = find_clusters(
                features[rows],
                min(k, len(rows)),
                (seed + replicate) % 2**32,
                STARTS,
                weights=times[rows],
                start=centres if k <= len(rows) else None,
            )
            metrics = clustering_metrics(
                np.repeat(classes[rows], times[rows]), np.repeat(found, times[rows])
            )
            for name in figures:
                values[name].append(metrics[name])
            bar.update()
    quantile = float(norm.ppf((1 + level) / 2)) * math.sqrt(drawn / count)
    reach = {name: quantile * float(np.std(of, ddof=1)) for name, of in values.items()}
    return {name: moved(name, (-reach[name], reach[name]), figures[name]) for name in figures}


def mean_interval(
    values: ArrayLike,
    *,
    replicates: int = REPLICATES,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Bootstrap interval of the mean of what was measured of each sample.

    Args:
        values: numbers [N], one a sample.
        replicates: how often to draw, 1 or more.
        level: the share of replicates within the interval, in (0, 1).
        seed: of the draws.

    Errors: as `clustering_intervals`.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3, the
    percentile interval.

    >>> low, high = mean_interval([0.0, 1.0] * 50)
    >>> 0.35 < low < 0.5 < high < 0.65
    True
    """
    _check(replicates, level)
    numbers = np.asarray(values, np.float64)
    rng, count = np.random.default_rng(seed), len(numbers)
    means = [numbers[rng.integers(0, count, count)].mean() for _ in range(replicates)]
    return _percentiles(np.array(means), level)


def moved(metric: str, interval: Sequence[float], by: float) -> tuple[float, float]:
    """An interval as wide, for another figure: up by so much, but within the metric's `RANGES`.

    The figure that is shown is often a mean, over runs of k-means or over trainings, and the
    interval one of them's.
    """
    least, most = RANGES.get(metric, (0.0, 1.0))
    low, high = (min(max(end + by, least), most) for end in interval)
    return low, high


def accuracy_interval(
    labels_true: ArrayLike,
    labels_pred: ArrayLike,
    *,
    replicates: int = REPLICATES,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of `kfeat.scoring.metrics.accuracy`, over samples.

    Args:
        labels_true: array-like [N] of integers, booleans or strings.
        labels_pred: likewise.
        replicates: as `mean_interval`.
        level: as `mean_interval`.
        seed: as `mean_interval`.

    Errors and source: as `mean_interval`.

    >>> low, high = accuracy_interval([0, 1] * 50, [0, 0] * 50)
    >>> 0.35 < low < 0.5 < high < 0.65
    True
    """
    _check(replicates, level)
    share = accuracy(labels_true, labels_pred)
    samples = len(np.asarray(labels_true))
    right = np.random.default_rng(seed).binomial(samples, share, size=replicates)
    return _percentiles(right / samples, level)


def _check(replicates: int, level: float, least: int = 1) -> None:
    if replicates < least:
        raise InputError(f"replicates {replicates}: give {least} or more")
    if not 0 < level < 1:
        raise InputError(f"level {level}: give a number between 0 and 1")


def _percentiles(values: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
