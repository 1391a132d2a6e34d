"""How far a metric could lie from its figure by the chance of which images were tested.

A metric of N test images would be another on N other images of the same kind. Its 95 % interval
tells what it would be on average over such sets of N.

The replicates of a bootstrap spread as those sets do, but lie too high: a sample that is drawn
twice agrees with itself, and metrics that take chance agreement within few samples for true
agreement (of entropies, BCubed, the best assignment) do so once more. Percentiles of the
replicates would often leave out the figure itself, of a small NMI nearly always. So they are moved
to have their mean at the figure.

What no image showed, no replicate shows. Of few images, or few of each class, the intervals are too
narrow: they hold what they should less often than their level says. Where KNN is right for all N
images, or for none, the interval of its accuracy has no width, though up to 3 / N of other images
may turn out otherwise (the rule of three for 95 %, Hanley and Lippman-Hand 1983).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from kfeat.errors import InputError
from kfeat.scoring.metrics import Contingency, accuracy, contingency, metrics_of

REPLICATES = 1000

RANGES = {
    "ari": (-0.5, 1.0),
    "ssim": (-1.0, 1.0),
    "mse": (0.0, math.inf),
    "psnr": (-math.inf, math.inf),
}
"""Between which numbers a metric lies, where it is not 0 and 1."""


def clustering_intervals(
    labels_true: ArrayLike,
    labels_pred: ArrayLike,
    *,
    replicates: int = REPLICATES,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Bootstrap intervals of the clustering metrics, over samples.

    N samples are drawn from the N with replacement, each with its class and its cluster, and the
    metrics computed of them, again and again. Drawing samples is drawing the cells of their
    contingency table from a multinomial distribution, so that a replicate costs no more than the
    table is large. The clusters stay those of all samples: k-means does not run again. Percentiles
    of the replicates, less their mean, are added to the metric of all samples.

    Args:
        labels_true: array-like [N] of integers, booleans or strings, the classes.
        labels_pred: likewise, the clusters.
        replicates: how often to draw, 1 or more.
        level: the share of replicates within the interval, in (0, 1).
        seed: of the draws; the same seed gives the same intervals.

    Returns:
        For each metric of `kfeat.scoring.metrics.clustering_metrics`, its lower and upper end,
        within the metric's range, and with the metric itself between them.

    Raises:
        InputError: labels that `kfeat.scoring.metrics.contingency` refuses, or another argument
            out of range.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3.

    >>> low, high = clustering_intervals([0, 0, 1, 1] * 50, [0, 0, 1, 0] * 50)["accuracy"]
    >>> low < 0.75 < high
    True
    """
    _check(replicates, level)
    table = contingency(labels_true, labels_pred)
    samples = int(table.counts.sum())
    rng, shares = np.random.default_rng(seed), table.counts / samples
    values = [
        metrics_of(_redrawn(table, rng.multinomial(samples, shares))) for _ in range(replicates)
    ]
    figures = metrics_of(table)
    return {
        name: _around(name, figures[name], np.array([value[name] for value in values]), level)
        for name in figures
    }


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
        replicates: as `clustering_intervals`.
        level: as `clustering_intervals`.
        seed: as `clustering_intervals`.

    Errors and source: as `clustering_intervals`.

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

    Args, errors and source: as `clustering_intervals`.

    >>> low, high = accuracy_interval([0, 1] * 50, [0, 0] * 50)
    >>> 0.35 < low < 0.5 < high < 0.65
    True
    """
    _check(replicates, level)
    share = accuracy(labels_true, labels_pred)
    samples = len(np.asarray(labels_true))
    right = np.random.default_rng(seed).binomial(samples, share, size=replicates)
    return _percentiles(right / samples, level)


def _check(replicates: int, level: float) -> None:
    if replicates < 1:
        raise InputError(f"replicates {replicates}: give 1 or more")
    if not 0 < level < 1:
        raise InputError(f"level {level}: give a number between 0 and 1")


def _redrawn(table: Contingency, counts: np.ndarray) -> Contingency:
    """The table with other counts; classes and clusters that nothing was drawn of left out."""
    drawn = counts > 0
    classes, rows = np.unique(table.rows[drawn], return_inverse=True)
    clusters, columns = np.unique(table.columns[drawn], return_inverse=True)
    counts = counts[drawn]
    return Contingency(
        counts,
        rows,
        columns,
        np.bincount(rows, counts, len(classes)).astype(np.int64),
        np.bincount(columns, counts, len(clusters)).astype(np.int64),
    )


def _around(name: str, figure: float, values: np.ndarray, level: float) -> tuple[float, float]:
    low, high = moved(name, _percentiles(values, level), figure - float(values.mean()))
    # Few samples may be drawn without one of two classes, which makes another figure of most.
    return min(low, figure), max(high, figure)


def _percentiles(values: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
