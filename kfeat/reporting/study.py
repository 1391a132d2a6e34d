"""The study's tables with measured figures beside the published ones; findings; an index."""

from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path
from typing import Any

from kfeat.files import write_text
from kfeat.reporting import published

HEADINGS = {
    "pairwise_f": "pairwise F",
    "bcubed_f": "BCubed F",
    "nmi": "NMI",
    "knn_accuracy": "KNN accuracy",
}
LEGEND = (
    "Each figure stands with its 95 % interval, and the study's own after it. The interval tells "
    "of the choice of test images (bootstrap, first seed); it knows of no other training. ▲ and ▼: "
    "the measured figure is higher or lower, and the study's lies outside the interval. ± is the "
    "standard deviation over seeds."
)


def write_table(
    rows: list[dict[str, Any]], folder: Path, name: str, profile: str, note: str = ""
) -> None:
    """Write a table as ``<name>.md``, ``<name>.csv`` and ``<name>.json``.

    Args:
        rows: see `kfeat.study.reproduce.row`.
        folder: where to.
        name: ``"table1"`` or ``"table2"``.
        profile: whose trainings are measured.
        note: what readers have to know of it.
    """
    title = f"# Table {name.removeprefix('table')}, profile {profile}"
    _write_markdown(folder / f"{name}.md", title, note, markdown(rows), LEGEND)
    write_text(folder / f"{name}.csv", _csv(rows))
    write_text(folder / f"{name}.json", json.dumps(rows, indent=2) + "\n")


def _write_markdown(file: Path, *paragraphs: str) -> None:
    write_text(file, "\n\n".join(filter(None, paragraphs)) + "\n")


def markdown(rows: list[dict[str, Any]]) -> str:
    """A table's rows as Markdown, as the study prints them."""
    columns, *lines = _cells(rows)
    lines = [columns, ["---"] * len(columns), *lines]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join([table, *map(_literal, _reasons(rows))])


def _cells(rows: list[dict[str, Any]]) -> list[list[str]]:
    """The headings of a table and its rows, as texts."""
    reconstructs = any(row["reconstruction"] for row in rows)
    columns = [heading for metric in HEADINGS.values() for heading in (metric, "study")]
    lines = [["encoder", *columns, *(["MSE"] if reconstructs else []), "minutes"]]
    for row in rows:
        cells = [row["name"]]
        for metric in HEADINGS:
            cells += [_measured(row, metric), f"{row['published'][metric]:.4f}"]
        if reconstructs:
            cells.append(_error(row))
        cells.append(f"{row['minutes']:.0f}" if row["minutes"] is not None else "")
        lines.append(cells)
    return lines


def _reasons(rows: list[dict[str, Any]]) -> list[str]:
    reasons = []
    for row in rows:
        if row["failed"] and row["metrics"] and not row["training"]:
            reasons.append(f"{row['name']}: {row['failed']}")
        elif row["failed"] and row["metrics"]:
            seeds = ", ".join(map(str, row["seeds"]))
            reasons.append(f"{row['name']} is of seed {seeds} only: {row['failed']}")
        elif _left_out(row):
            reasons.append(f"{row['name']}: {row['failed']}")
        elif row["failed"]:
            reasons.append(f"{row['name']} failed: {row['failed']}")
    return reasons


def _left_out(row: dict[str, Any]) -> bool:
    """Whether the profile has no training for a row, which then did not fail."""
    return row["training"] is None and row["name"] not in published.COMPARED


def _literal(text: str) -> str:
    """A text that may quote the name of any file, for Markdown: without HTML."""
    return text.replace("<", "\\<")


def _error(row: dict[str, Any]) -> str:
    if not row["reconstruction"]:
        return ""
    low, high = row["intervals"]["mse"]
    return f"{row['reconstruction']['mse']:.4f} [{low:.4f}, {high:.4f}]"


def _measured(row: dict[str, Any], metric: str) -> str:
    if row["metrics"] is None:
        return "–" if _left_out(row) else "failed"
    value = row["metrics"][metric]
    text = f"{value:.4f}"
    if row["std"] and row["std"][metric] is not None:
        text += f" ± {row['std'][metric]:.4f}"
    low, high = row["intervals"][metric]
    text += f" [{low:.4f}, {high:.4f}]"
    if not low <= row["published"][metric] <= high:
        text += " ▲" if value > row["published"][metric] else " ▼"
    return text


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    parts = ("", "_std", "_low", "_high", "_published")
    errors = ("mse", "psnr", "ssim")
    figures = [f"{metric}{part}" for metric in HEADINGS for part in parts]
    figures += [f"{error}{part}" for error in errors for part in ("", "_low", "_high")]
    writer.writerow(["encoder", "training", *figures, "minutes", "failed"])
    for row in rows:
        values = []
        for metric in HEADINGS:
            low, high = (row["intervals"] or {}).get(metric, (None, None))
            values += [(row["metrics"] or {}).get(metric), (row["std"] or {}).get(metric)]
            values += [low, high, row["published"][metric]]
        for name in errors:
            low, high = (row["intervals"] or {}).get(name, (None, None))
            values += [(row["reconstruction"] or {}).get(name), low, high]
        writer.writerow([row["name"], row["training"], *values, row["minutes"], row["failed"]])
    return text.getvalue()


def write_findings(
    findings: list[dict[str, Any]], folder: Path, profile: str, note: str = ""
) -> None:
    """Write the findings as ``findings.md`` and ``findings.json``.

    Args:
        findings: see `kfeat.study.findings.findings`.
        folder: where to.
        profile: whose trainings they are tested on.
        note: what readers have to know of it.
    """
    title = f"# The study's findings, profile {profile}"
    _write_markdown(folder / "findings.md", title, note, findings_markdown(findings))
    write_text(folder / "findings.json", json.dumps(findings, indent=2) + "\n")


def findings_markdown(findings: list[dict[str, Any]], level: str = "##") -> str:
    """The findings as Markdown, each with whether it held, the test and the numbers."""
    parts = []
    for number, finding in enumerate(findings, 1):
        parts.append(f"{level} {number}. {finding['finding']}")
        parts.append(f"**{verdict(finding)}.** {finding['test']}")
        if finding["numbers"]:
            parts.append("\n".join(f"* {line}" for line in _lines(finding)))
    return "\n\n".join(parts)


def _lines(finding: dict[str, Any]) -> list[str]:
    """The numbers that decide a finding, a text each."""
    return [
        f"{HEADINGS.get(name, name)}: {_numbers(value)}"
        for name, value in finding["numbers"].items()
    ]


def verdict(finding: dict[str, Any]) -> str:
    """Whether a finding held, in words."""
    words = {True: "Held", False: "Not held", None: "Not tested"}[finding["holds"]]
    if finding["missing"]:
        words += f": without figures of {', '.join(finding['missing'])}"
    return words


FIGURES = {
    "figure1": "Test images, and their reconstructions by the encoders that learn without labels. "
    "MSE (of values in [0, 1]), PSNR and SSIM are means over all test images.",
    "figure2": "The test features of table 1's encoders in the plane, by t-SNE and by UMAP, "
    "coloured by class.",
    "figure3": "The test features of table 2's encoders in the plane, by t-SNE and by UMAP, "
    "coloured by class.",
}


def write_index(results: dict[str, Any], folder: Path) -> None:
    """Write all of a reproduction as ``README.md`` and ``results.json``.

    Args:
        results: see `kfeat.study.reproduce.reproduce`.
        folder: where to.
    """
    machine, minutes = results["machine"], results["minutes"]
    versions, *earlier = (
        ", ".join(f"{name} {version}" for name, version in software.items())
        for software in (results["versions"], *results["earlier"])
    )
    parts = [f"# The study repeated, profile {results['profile']}", results["note"]]
    if results["command"]:
        parts.append(f"    {results['command']}")
    parts.append(
        f"Machine: {machine['processor']}, {machine['cores']} cores, {machine['memory']} GiB. "
        f"Minutes: {minutes['trainings']:.1f} of the trainings that it needed; "
        f"{minutes['command']:.1f} for this command, which uses again what is there. "
        f"Versions: {versions}."
        + "".join(f" Some were trained by {software}." for software in earlier)
    )
    if results["report"]:
        parts.append(
            f"All of it, with an interactive map: [{results['report']}]({results['report']})."
        )
    for table, rows in results["tables"].items():
        parts += [f"## Table {table.removeprefix('table')}", markdown(rows)]
        parts.append(f"As [CSV]({table}.csv), [JSON]({table}.json).")
    if results["tables"]:
        parts += [LEGEND, "## Findings", findings_markdown(results["findings"], "###")]
    for figure, about in results["figures"].items():
        parts += [f"## Figure {figure.removeprefix('figure')}", FIGURES[figure]]
        parts += [f"![{FIGURES[figure]}]({file})" for file in about["files"]]
        if about.get("failed"):
            parts.append(_literal(f"It failed: {about['failed']}"))
    if results["failed"]:
        failed = [_literal(f"* {cell}: {reason}") for cell, reason in results["failed"].items()]
        parts += ["## Failed", "\n".join(failed)]
    _write_markdown(folder / "README.md", *parts)
    write_text(folder / "results.json", json.dumps(results, indent=2) + "\n")


def sections(results: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What a page shows of a reproduction; its template is ``study.html``.

    Args:
        results: see `kfeat.study.reproduce.reproduce`.
        folder: where the figures lie.

    Returns:
        ``profile``; ``note``; ``tables``: ``title``, ``columns``, ``rows``, ``reasons``;
        ``legend``; ``findings``: ``finding``, ``verdict``, ``test``, ``numbers``; ``figures``:
        ``title``, ``text``, ``images`` as data URLs, ``failed``, the reason or None.
    """
    tables = []
    for table, rows in results["tables"].items():
        columns, *lines = _cells(rows)
        title = f"Table {table.removeprefix('table')}"
        tables.append({"title": title, "columns": columns, "rows": lines})
        tables[-1]["reasons"] = _reasons(rows)
    return {
        "profile": results["profile"],
        "note": results["note"],
        "tables": tables,
        "legend": LEGEND,
        "findings": [
            {
                "finding": finding["finding"],
                "verdict": verdict(finding),
                "test": finding["test"],
                "numbers": _lines(finding),
            }
            for finding in results["findings"]
        ],
        "figures": [
            {
                "title": f"Figure {figure.removeprefix('figure')}",
                "text": FIGURES[figure],
                "images": [_data_url(folder / file) for file in about["files"]],
                "failed": about.get("failed"),
            }
            for figure, about in results["figures"].items()
        ],
    }


def _data_url(file: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"


def _numbers(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_numbers(number)}" for name, number in value.items())
    if isinstance(value, list):
        return " / ".join(map(_numbers, value))
    return f"{value:.4f}"
