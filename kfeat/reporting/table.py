"""The scorecard as a table."""

from __future__ import annotations

from typing import Any


def format_table(results: list[dict[str, Any]]) -> str:
    """Lay out results of `kfeat.score` as plain text, one row a model.

    Args:
        results: dictionaries of `kfeat.score`, with ``"model"`` and ``"test"`` ({"data", "split"})
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
