"""The study repeated: its tables and findings, with the published figures beside the measured."""

from __future__ import annotations

import json
import logging
import statistics
from pathlib import Path
from typing import Any

from kfeat.errors import InputError
from kfeat.study import published
from kfeat.study.cells import Cells
from kfeat.study.findings import findings
from kfeat.study.profile import Profile

log = logging.getLogger("kfeat")


def reproduce(
    profile: Profile,
    tables: tuple[str, ...],
    output: str | Path,
    *,
    data_dir: str | Path | None = None,
) -> dict[str, Any]:
    """Make the study's tables by a profile's trainings, and test its findings.

    What was made before in ``output`` is used again. A training or score that fails is shown as
    failed, and the others are made all the same.

    Args:
        profile: which trainings and data stand for the study's.
        tables: ``"table1"``, ``"table2"`` or both.
        output: folder of all that is made: ``runs``, ``scores``, the tables as Markdown, CSV and
            JSON, and the findings.
        data_dir: where TFDS keeps prepared data.

    Returns:
        ``profile``; ``tables``: table to its rows, see `row`; ``findings``: see
        `kfeat.study.findings.findings`; ``failed``: cell to reason; ``output``.

    Raises:
        InputError: the folder cannot be written, or the test data not be opened.
    """
    from kfeat.reporting.study import write_findings, write_table

    output = Path(output)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror}") from None
    cells = Cells(profile, output, data_dir)
    cells.source(profile.test)
    figures = published.tables()
    made = {
        table: [
            row(cells, name, profile.tables[table].get(name), figures[table][name])
            for name in figures[table]
        ]
        for table in tables
    }
    for table, rows in made.items():
        write_table(rows, output, table, profile.name)
    measured = [entry for rows in made.values() for entry in rows if entry["metrics"]]
    tested = findings(
        {entry["name"]: entry["metrics"] for entry in measured},
        {
            entry["name"]: entry["reconstruction"]["mse"]
            for entry in measured
            if entry["reconstruction"]
        },
    )
    write_findings(tested, output, profile.name)
    results = {
        "profile": profile.name,
        "tables": made,
        "findings": tested,
        "failed": cells.failed,
        "output": str(output),
    }
    (output / "results.json").write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    return results


def row(cells: Cells, name: str, training: str | None, figures: dict[str, float]) -> dict[str, Any]:
    """One row of a table: the scores of a training with each of the profile's seeds.

    Returns:
        ``name``, the study's; ``training``; ``published``: metric to figure; ``metrics``: metric to
        the mean over seeds, or None where there is none; ``std``: to the sample standard deviation
        over seeds, None for one seed; ``intervals``: to the 95 % interval of the first seed;
        ``reconstruction``: the means, or None; ``minutes``: of all its trainings; ``failed``: the
        reason why a seed has no score, or None.
    """
    entry: dict[str, Any] = {"name": name, "training": training, "published": figures}
    entry |= dict.fromkeys(("metrics", "std", "intervals", "reconstruction", "minutes", "failed"))
    if training is None:
        entry["failed"] = f"profile {cells.profile.name} has no training for it"
        return entry
    scores = []
    for seed in cells.profile.seeds:
        try:
            scores.append(cells.scored(training, seed))
        except Exception as error:  # the other cells still come
            reason = str(error) if isinstance(error, InputError) else repr(error)
            log.error("%s (seed %d) failed: %s", training, seed, reason)
            log.debug("", exc_info=True)
            cells.failed[f"{training} seed {seed}"] = entry["failed"] = reason
    return entry | summary(scores) if scores else entry


def summary(scores: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of a row from the scores of its seeds; see `row`.

    Args:
        scores: dictionaries of `kfeat.study.cells.Cells.scored`, the first seed's first.
    """
    entry = {
        "metrics": _means([score["metrics"] for score in scores]),
        "intervals": scores[0]["intervals"],
        "minutes": sum(score["minutes"] for score in scores),
    }
    if len(scores) > 1:
        entry["std"] = {
            metric: statistics.stdev(score["metrics"][metric] for score in scores)
            for metric in published.METRICS
        }
    if scores[0]["reconstruction"]:
        entry["reconstruction"] = _means([score["reconstruction"] for score in scores])
    return entry


def _means(figures: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.fmean(figure[name] for figure in figures) for name in figures[0]}
