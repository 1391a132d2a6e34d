"""How far a metric could lie from its figure by the chance of which images were tested."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from kfeat.errors import InputError
from kfeat.scoring.metrics import Contingency, accuracy, contingency, metrics_of

REPLICATES = 1000


def clustering_intervals(
    labels_true: ArrayLike,
    labels_pred: ArrayLike,
    *,
    replicates: int = REPLICATES,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals of the clustering metrics, over samples.

    N samples are drawn from the N with replacement, each with its class and its cluster, and the
    metrics computed of them, again and again. Drawing samples is drawing the cells of their
    contingency table from a multinomial distribution, so that a replicate costs no more than the
    table is large. The clusters stay those of all samples: k-means does not run again. A sample
    that is drawn twice makes a pair with itself, which lifts pairwise metrics by about 1/N.

    Args:
        labels_true: array-like [N] of integers, booleans or strings, the classes.
        labels_pred: likewise, the clusters.
        replicates: how often to draw, 1 or more.
        level: the share of replicates within the interval, in (0, 1).
        seed: of the draws; the same seed gives the same intervals.

    Returns:
        For each metric of `kfeat.scoring.metrics.clustering_metrics`, its lower and upper end.

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
    draws = np.random.default_rng(seed).multinomial(
        samples, table.counts / samples, size=replicates
    )
    values = [metrics_of(_redrawn(table, counts)) for counts in draws]
    return {
        name: _percentiles(np.array([value[name] for value in values]), level) for name in values[0]
    }


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


def _percentiles(values: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
