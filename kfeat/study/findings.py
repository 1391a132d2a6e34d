"""The study's four findings, tested on figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scipy.stats import spearmanr

from kfeat.reporting.published import CROSSED, METRICS, SUPERVISED, UNSUPERVISED

LITTLE = 0.5
"""Finding 1 holds while the mean rank correlation is below this. A choice of kfeat."""

Figures = Mapping[str, Mapping[str, float]]


def findings(figures: Figures, errors: Mapping[str, float]) -> list[dict[str, Any]]:
    """Test the study's findings.

    The study argues from its tables in words. What has to be true of the figures for a finding
    to hold is a choice of kfeat, and stated with it.

    Args:
        figures: encoder, by the study's name, to metric (`METRICS`) to figure.
        errors: unsupervised encoder to its mean squared error of reconstruction.

    Returns:
        Four dictionaries: ``finding``, the study's words; ``test``, what must be true; ``holds``,
        True, False, or None where figures are missing, or, in the first, are all the same;
        ``numbers``, those that decide it; ``missing``, the encoders without which it cannot be
        tested.
    """
    return [
        _reconstruction(figures, errors),
        _supervised(figures),
        _crossed(figures),
        _size(figures),
    ]


def _reconstruction(figures: Figures, errors: Mapping[str, float]) -> dict[str, Any]:
    missing = [name for name in UNSUPERVISED if name not in figures or name not in errors]
    numbers: dict[str, Any] = {}
    holds = None
    if not missing:
        accuracy = [-errors[name] for name in UNSUPERVISED]
        for metric in METRICS:
            values = [figures[name][metric] for name in UNSUPERVISED]
            if len(set(accuracy)) > 1 and len(set(values)) > 1:  # else there are no ranks
                numbers[metric] = float(spearmanr(accuracy, values).statistic)
        if numbers:
            numbers["mean"] = sum(numbers.values()) / len(numbers)
            holds = numbers["mean"] < LITTLE
    return {
        "finding": "How well a model reconstructs says little about how well its features "
        "cluster and classify.",
        "test": "Over the unsupervised encoders, Spearman's rank correlation of a small "
        f"reconstruction error with each metric is below {LITTLE} in the mean. A negative one, "
        "where those that reconstruct worse have the better features, speaks for the finding too.",
        "holds": holds,
        "numbers": numbers,
        "missing": missing,
    }


def _supervised(figures: Figures) -> dict[str, Any]:
    missing = [name for name in (*UNSUPERVISED, *SUPERVISED) if name not in figures]
    numbers = {}
    if not missing:
        for metric in METRICS:
            best = max(figures[name][metric] for name in UNSUPERVISED)
            worst = min(figures[name][metric] for name in SUPERVISED)
            numbers[metric] = {"best unsupervised": best, "worst supervised": worst}
    return {
        "finding": "Supervised features are far ahead.",
        "test": "In each metric the worst supervised encoder is at least half again as good as "
        "the best unsupervised one. The study's learnt from 20 times fewer images; from how many "
        "these learnt is up to the profile, and not tested.",
        "holds": None
        if missing
        else all(n["worst supervised"] >= 1.5 * n["best unsupervised"] for n in numbers.values()),
        "numbers": numbers,
        "missing": missing,
    }


def _crossed(figures: Figures) -> dict[str, Any]:
    names = (*UNSUPERVISED, *SUPERVISED, *CROSSED)
    missing = [name for name in names if name not in figures]
    numbers = {}
    if not missing:
        for metric in METRICS:
            crossed = [figures[name][metric] for name in CROSSED]
            numbers[metric] = {
                "best unsupervised": max(figures[name][metric] for name in UNSUPERVISED),
                "worst crossed": min(crossed),
                "best crossed": max(crossed),
                "worst supervised": min(figures[name][metric] for name in SUPERVISED),
            }
    return {
        "finding": "Crossed supervised features lie between: better than the unsupervised, worse "
        "than the supervised on the same data.",
        "test": "In each metric every crossed encoder is better than every unsupervised one and "
        "worse than every supervised one.",
        "holds": None
        if missing
        else all(
            n["best unsupervised"] < n["worst crossed"]
            and n["best crossed"] < n["worst supervised"]
            for n in numbers.values()
        ),
        "numbers": numbers,
        "missing": missing,
    }


def _size(figures: Figures) -> dict[str, Any]:
    missing = [name for name in (*SUPERVISED, *CROSSED) if name not in figures]
    numbers = {}
    if not missing:
        for metric in METRICS:
            numbers[metric] = {
                "own data": [figures[name][metric] for name in SUPERVISED],
                "crossed": [figures[name][metric] for name in CROSSED],
            }

    def grows(values: list[float]) -> bool:
        return values == sorted(values) and values[0] < values[-1]

    return {
        "finding": "A larger ResNet is better on its own data; crossed, size no longer matters.",
        "test": "From ResNet18 over 34 to 50 every metric grows on their own data; crossed, none "
        "does.",
        "holds": None
        if missing
        else all(grows(n["own data"]) for n in numbers.values())
        and not any(grows(n["crossed"]) for n in numbers.values()),
        "numbers": numbers,
        "missing": missing,
    }
