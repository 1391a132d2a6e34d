"""The study repeated: tables, figures and findings, the published figures beside the measured."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kfeat.errors import InputError, expand
from kfeat.reporting import published
from kfeat.scoring.features import load_features
from kfeat.scoring.intervals import moved
from kfeat.study.cells import Cells
from kfeat.study.figures import FIGURES, POINTS, TABLES, plane_of, planes, reconstructions
from kfeat.study.findings import findings
from kfeat.study.profile import Profile

log = logging.getLogger("kfeat")


def reproduce(
    profile: Profile,
    what: Sequence[str],
    output: str | Path,
    *,
    data_dir: str | Path | None = None,
    command: str | None = None,
) -> dict[str, Any]:
    """Make the study's tables and figures by a profile's trainings, and test its findings.

    What was made before in ``output`` is used again. A training or score that fails is shown as
    failed, and the others are made all the same.

    Args:
        profile: which trainings and data stand for the study's.
        what: of ``"table1"``, ``"table2"``, ``"figure1"``, ``"figure2"`` and ``"figure3"`` those to
            make. The findings are tested on the tables among them.
        output: folder of all that is made, empty before or an earlier reproduction's: ``runs``,
            ``scores``, the tables as Markdown, CSV and JSON, the figures as PNG, the findings;
            ``README.md`` and ``results.json``, which hold all of this call together; with a table,
            ``report.html``, a page that needs no network.
        data_dir: where TFDS keeps prepared data.
        command: the command line to show.

    Returns:
        ``profile``; its ``note`` and ``test`` data; ``trainings``: name to recipe, of the
        first seed, whose ``weights`` may name another; ``tables``: table to its rows, see `row`;
        ``findings``: see `kfeat.study.findings.findings`; ``figures``: figure to what
        `kfeat.study.figures.reconstructions` or `kfeat.study.figures.planes` returns, or to no
        ``files`` and the reason, ``failed``; ``failed``: cell to reason; ``command``; ``machine``;
        ``versions``, of this command; ``earlier``: those of trainings made by others, each once;
        ``minutes``: of the ``trainings`` that were needed, made now or before, and of this
        ``command``; ``report``: the page's name, or None; ``output``.

    Raises:
        InputError: the folder cannot be written, or holds other files than a reproduction's; the
            test data cannot be opened, have no labels, or are too few.
    """
    from kfeat.reporting.study import write_findings, write_index, write_table
    from kfeat.serving.export import software

    started = time.perf_counter()
    output = expand(output)
    _begin(output, profile.name)
    figures = published.tables()
    cells = Cells(profile, output, data_dir)
    cells.check({TABLES.get(name, name) for name in what})
    made = {
        table: [row(cells, table, name, figures[table][name]) for name in figures[table]]
        for table in figures
        if table in what
    }
    if len(made) == 2:
        made["table2"] = [*compared(made["table1"]), *made["table2"]]
    for table, rows in made.items():
        write_table(rows, output, table, profile.name, profile.note)
    measured = [
        entry for rows in made.values() for entry in rows if entry["metrics"] and entry["training"]
    ]
    tested = []
    if made:
        tested = findings(
            {entry["name"]: entry["metrics"] for entry in measured},
            {
                entry["name"]: entry["reconstruction"]["mse"]
                for entry in measured
                if entry["reconstruction"]
            },
        )
        write_findings(tested, output, profile.name, profile.note)
    drawn = {figure: _drawn(cells, figure, output) for figure in FIGURES if figure in what}
    results: dict[str, Any] = {
        "profile": profile.name,
        "note": profile.note,
        "test": profile.test,
        "trainings": {
            training: dataclasses.asdict(profile.recipe(training, profile.seeds[0]))
            | ({"weights": parent} if (parent := profile.parent(training)) else {})
            for training in profile.trainings
        },
        "tables": made,
        "findings": tested,
        "figures": drawn,
        "failed": cells.failed,
        "command": command,
        "machine": machine(),
        "versions": software(),
        "earlier": [],
        "minutes": {
            "trainings": sum(cells.minutes.values()),
        },
        "report": None,
        "output": str(output),
    }
    if measured:
        try:
            results["report"] = _report(results, cells, output, command)
        except Exception as error:  # tables and figures are there already
            cells.fail("report.html", error)
        if not results["report"]:  # the one that may be there shows other figures
            (output / "report.html").unlink(missing_ok=True)
    for versions in cells.versions.values():
        if versions not in (results["versions"], *results["earlier"]):
            results["earlier"].append(versions)
    results["minutes"]["command"] = (time.perf_counter() - started) / 60
    write_index(results, output)
    return results


def _begin(output: Path, profile: str) -> None:
    """Make the folder of a reproduction, or raise `InputError` where it is another one."""
    from kfeat.files import check_writable, from_json, write_text

    marker = output / "reproduction.json"
    try:
        output.mkdir(parents=True, exist_ok=True)
        others = [file.name for file in output.iterdir() if not file.match(f".*.{marker.name}")]
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror}") from None
    check_writable(output / "README.md")
    earlier = None
    for name, keys in ((marker.name, {"profile"}), ("results.json", {"profile", "tables"})):
        with contextlib.suppress(OSError, ValueError):
            found = from_json((output / name).read_text("utf-8"))
            if isinstance(found, dict) and keys <= found.keys():
                earlier = earlier or found
    if others and not earlier:
        raise InputError(
            f"{output} holds other files ({min(others)}) that a reproduction might write over: "
            "choose another --output"
        )
    if earlier and earlier["profile"] != profile:
        raise InputError(
            f"{output} holds the reproduction by profile {earlier['profile']}, which one by "
            f"{profile} would write over: choose another --output"
        )
    if marker.exists():
        return
    write_text(marker, json.dumps({"profile": profile}) + "\n")


def _drawn(cells: Cells, figure: str, output: Path) -> dict[str, Any]:
    """What is told of a figure, once it is drawn or has failed."""
    try:
        if figure == "figure1":
            return reconstructions(cells, output)
        return planes(cells, figure, output)
    except Exception as error:  # the other figures, and the page, still come
        return {"files": [], "failed": cells.fail(figure, error)}


def _report(results: dict[str, Any], cells: Cells, output: Path, command: str | None) -> str:
    """Write the page of the tables' encoders, trained with the first seed; return its name."""
    from kfeat.models.catalog import BASELINES
    from kfeat.reporting.study import sections
    from kfeat.serving.report import write_report

    seed = cells.profile.seeds[0]
    cards, features, maps = [], [], []
    for table, rows in results["tables"].items():
        for entry in rows:
            score = None
            if entry["training"]:
                score, _ = cells.entry(table, entry["name"], seed)
            if not score:
                continue
            folder = Path(score["features"])
            try:
                parts = {part: load_features(folder / f"{part}.npz") for part in ("test", "train")}
                plane, _ = plane_of(score, "umap", seed)
            except Exception as error:  # the others are still shown
                cells.fail(f"report.html {entry['name']}", error)
                continue
            card = score["card"] | {"model": entry["name"]}
            for part in ("test", "train"):  # the data may have moved since
                card[part] = card[part] | {"data": cells.profile.test}
            cards.append(card)
            features.append(parts)
            maps.append(plane)
    if not cards:
        raise InputError("there are no features to show")
    baselines: dict[str, dict[str, Any] | str] = {}
    for name in BASELINES:
        try:
            baselines[name] = cells.baseline(name)
        except InputError as error:  # too few images
            baselines[name] = str(error)
        except Exception as error:  # the encoders are still shown
            baselines[name] = cells.fail(f"report.html {name}", error)
    log.info("report.html of %d encoders", len(cards))
    write_report(
        cards,
        features,
        output / "report.html",
        baselines=baselines,
        seed=seed,
        command=command,
        data_dir=cells.data_dir,
        limit=POINTS,
        study=sections(results, output),
        planes=maps,
    )
    return "report.html"


def machine() -> dict[str, Any]:
    """What this runs on: ``processor``, its name; ``cores``; ``memory``, in GiB."""
    names = [platform.processor() or platform.machine()]
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(": ", 1)[1] for line in lines if line.startswith("model name")] or names
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"processor": names[0], "cores": os.cpu_count(), "memory": round(memory / 2**30)}


def row(cells: Cells, table: str, name: str, figures: dict[str, float]) -> dict[str, Any]:
    """One row of a table: the scores of a training with each of the profile's seeds.

    Returns:
        ``name``, the study's; ``training``; ``published``: metric to figure; ``metrics``: metric to
        the mean over seeds, or None where there is none; ``std``: to the sample standard deviation
        over seeds, None for one seed; ``intervals``: to the 95 % interval, about the mean and as
        wide as the first seed's; ``reconstruction``: the means, or None; their intervals are among
        ``intervals``; ``minutes``: of all its trainings, and of those that they start from;
        ``seeds``: those that have a score; ``failed``: the reason why a seed has none, or None.
    """
    training = cells.profile.tables[table].get(name)
    entry = _empty(name, training, figures)
    scores = []
    for seed in cells.profile.seeds:
        score, reason = cells.entry(table, name, seed)
        if score:
            scores.append(score)
        else:
            entry["failed"] = reason
    return entry | summary(scores) if scores else entry


def _empty(name: str, training: str | None, figures: dict[str, float]) -> dict[str, Any]:
    """A row without a score; see `row`."""
    entry: dict[str, Any] = {"name": name, "training": training, "published": figures, "seeds": []}
    return entry | dict.fromkeys(
        ("metrics", "std", "intervals", "reconstruction", "minutes", "failed")
    )


def summary(scores: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of a row from the scores of its seeds; see `row`.

    Args:
        scores: dictionaries of `kfeat.study.cells.Cells.scored`, the first seed's first.
    """
    entry = {
        "metrics": _means([score["metrics"] for score in scores]),
        "minutes": sum(score["minutes"] for score in scores),
        "seeds": [score["seed"] for score in scores],
    }
    if len(scores) > 1:
        entry["std"] = {
            metric: statistics.stdev(score["metrics"][metric] for score in scores)
            for metric in published.METRICS
        }
    if scores[0]["reconstruction"]:
        entry["reconstruction"] = _means([score["reconstruction"] for score in scores])
    first = scores[0]["metrics"] | (scores[0]["reconstruction"] or {})
    means = entry["metrics"] | entry.get("reconstruction", {})
    entry["intervals"] = {}
    for name, (low, high) in scores[0]["intervals"].items():
        if name in published.CLUSTERING:  # as far up as down, and cut off where the range ends
            reach = max(first[name] - low, high - first[name])
            low, high = first[name] - reach, first[name] + reach
        entry["intervals"][name] = list(moved(name, (low, high), means[name] - first[name]))
    return entry


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows above table 2, which the study draws from table 1: its best and worst figures.

    Args:
        rows: those of table 1; see `row`.

    Returns:
        Rows without a training. Each figure is of another encoder, maybe: the best, or worst, in
        that metric, of those that have one. ``failed`` names those that have none.
    """
    return [_compared(rows, name, *of) for name, of in published.COMPARED.items()]


def _compared(
    rows: list[dict[str, Any]], name: str, names: tuple[str, ...], choose: Callable[..., Any]
) -> dict[str, Any]:
    study = published.tables()["table1"]
    figures = {
        metric: choose(study[encoder][metric] for encoder in names) for metric in published.METRICS
    }
    entry = _empty(name, None, figures)
    there = [row for row in rows if row["name"] in names and row["metrics"]]
    missing = [row["name"] for row in rows if row["name"] in names and not row["metrics"]]
    if missing:
        entry["failed"] = f"there are no figures of {', '.join(missing)}"
    if there:
        of = {
            metric: choose(there, key=lambda row, metric=metric: row["metrics"][metric])
            for metric in published.METRICS
        }
        for part in ("metrics", "std", "intervals"):
            if any(row[part] for row in of.values()):  # std: of one seed there is none
                entry[part] = {
                    metric: row[part] and row[part][metric] for metric, row in of.items()
                }
        entry["seeds"] = sorted({seed for row in of.values() for seed in row["seeds"]})
    return entry


def _means(figures: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.fmean(figure[name] for figure in figures) for name in figures[0]}
