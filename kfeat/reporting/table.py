"""The scorecard as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kfeat.errors import on_one_line

CLUSTERING = {
    "pairwise F": "pairwise_f",
    "BCubed F": "bcubed_f",
    "NMI": "nmi",
    "ARI": "ari",
    "clustering accuracy": "accuracy",
}
"""What a column is called, and the metric in it."""

MORE = {
    "KNN cosine": "knn_cosine_accuracy",
    "linear probe": "linear_probe_accuracy",
    "mAP": "mean_average_precision",
    "alignment": "alignment",
    "uniformity": "uniformity",
    "effective rank": "effective_rank",
    "silhouette of classes": "silhouette_classes",
    "of clusters": "silhouette_clusters",
}


def format_table(results: list[dict[str, Any]]) -> str:
    """Lay out results of `kfeat.score` as plain text, one row a model.

    Args:
        results: dictionaries of `kfeat.score`, with ``"model"`` and ``"test"`` ({"data", "split"})
            where they are known.

    Returns:
        Lines of aligned columns, joined by newlines. Metrics have four decimals, with
        ± and the standard deviation after repeats; what is not known is ``-``. Results with
        ``"more"`` add a second table, and for each model a list of the most confused classes.
    """
    rows = [("model", "test", "N", "dim", *CLUSTERING, "KNN accuracy")]
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
                *(
                    _decimals(clustering[name], deviations.get(name))
                    for name in CLUSTERING.values()
                ),
                _decimals(result["classification"]["accuracy"]),
            )
        )
    lines = _aligned(rows, 2)
    if any(result.get("more") for result in results):
        lines += ["", *_aligned(_more_rows(results), 1)]
        for result in results:
            lines += _confusions(result)
    return "\n".join(lines)


def _more_rows(results: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    rows = [("model", *MORE, "leaks")]
    for result in results:
        more, leaks = result.get("more") or {}, result.get("leaks")
        values = [_decimals(more.get(name)) for name in MORE.values()]
        count = str(leaks["count"]) if leaks else "-"
        rows.append((result.get("model") or "-", *values, count))
    return rows


def _confusions(result: dict[str, Any]) -> list[str]:
    """The most confused pairs of classes, in words; nothing where KNN did not run."""
    classes = result.get("classes")
    if not classes or not classes["most_confused"]:
        return []
    names = dict(zip(classes["labels"], classes["names"], strict=True))
    rows = [
        (names[pair["true"]], names[pair["predicted"]], str(pair["count"]), f"{pair['share']:.1%}")
        for pair in classes["most_confused"]
    ]
    heading = ("of class", "taken for", "samples", "share")
    model = result.get("model") or "features"
    return ["", f"{model}: most confused by KNN", *_aligned([heading, *rows], 2)]


def _aligned(rows: Sequence[tuple[str, ...]], left: int) -> list[str]:
    """Pad the columns to equal widths, the first ``left`` of them on the right."""
    rows = [tuple(on_one_line(cell) for cell in row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        words = [cell.ljust(width) for cell, width in zip(row[:left], widths[:left], strict=True)]
        words += [cell.rjust(width) for cell, width in zip(row[left:], widths[left:], strict=True)]
        lines.append("  ".join(words))
    return lines


def _decimals(value: float | None, deviation: float | None = None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if deviation is None else f"{value:.4f} ± {deviation:.4f}"
