"""One figure of a score: the map, the confusion matrix, clusters or neighbours."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np

from kfeat.errors import InputError, expand, on_one_line
from kfeat.reporting import plots
from kfeat.scoring.features import Features, spread
from kfeat.scoring.projection import PROJECTIONS, project

log = logging.getLogger("kfeat")

FIGURES = ("map", "confusion", "clusters", "neighbours")
COLOURS = ("class", "cluster", "error")

_SHEET_IMAGES = 12


def plot(
    what: str,
    model: str,
    test: str,
    path: str | Path,
    *,
    map: str = "umap",
    colour: str | None = None,
    **options: Any,
) -> None:
    """Draw one figure of what `kfeat.score` finds.

    Args:
        what: ``"map"``, the test features in the plane; ``"confusion"``, the confusion matrix of
            KNN; ``"clusters"``, the images nearest to the centre of each cluster;
            ``"neighbours"``, test images that KNN gets wrong and right, and the train images
            that vote.
        model: as `kfeat.score`.
        test: as `kfeat.score`.
        path: the file; it ends in ``.png`` or ``.svg``. An existing one is replaced.
        map: how a map is made, ``"umap"`` or ``"tsne"``.
        colour: what a map is coloured by, ``"class"``, ``"cluster"`` or ``"error"`` (of KNN);
            None for the class, or for the cluster where there are no labels.
        **options: those of `kfeat.score` that say what is scored and how, from ``train`` to
            ``home``. The same ``seed`` gives the same bytes.

    Raises:
        InputError: the model, the data or an option cannot be used, or the data lack what the
            figure shows.
    """
    path = expand(path)
    _check(what, path, map, colour)
    from kfeat.serving.evaluate import evaluate

    needs = {"map": ["map"], "confusion": ["classes", "matrix"], "neighbours": ["neighbours"]}
    wanted = needs.get(what, [])
    if colour in ("class", "error"):
        wanted.append("labels" if colour == "class" else "classes")
    knn = not {"classes", "neighbours"}.isdisjoint(wanted)
    result, parts = evaluate(model, test, knn=knn, needs=wanted, **options)
    seed, data_dir = options.get("seed", 0), options.get("data_dir")
    if what in ("map", "confusion"):
        _without_images(what, result, parts, path, map, colour, seed)
    else:
        _with_images(what, result, parts, path, seed, data_dir)


def plot_features(
    what: str,
    features: str | os.PathLike[str],
    path: str | Path,
    *,
    train: str | os.PathLike[str] | None = None,
    map: str = "umap",
    colour: str | None = None,
    **options: Any,
) -> None:
    """Draw one figure of features that anybody made, without an encoder.

    Args:
        what: ``"map"`` or ``"confusion"``, as `plot`; the others need images.
        features: as `kfeat.score_features`.
        path: as `plot`.
        train: as `kfeat.score_features`.
        map: as `plot`.
        colour: as `plot`.
        **options: the others of `kfeat.score_features`.

    Raises:
        InputError: a file or an option cannot be used, or the features lack what the figure
            shows.
    """
    from kfeat.scoring import scorecard

    path = expand(path)
    _check(what, path, map, colour)
    if what in ("clusters", "neighbours"):
        raise InputError(f"{what} shows images, which features have not: give a model and data")
    if train is None and (what == "confusion" or colour == "error"):
        raise InputError(f"{colour or what} needs train features for KNN to learn from")
    limit, everything = options.pop("limit", None), options.pop("all", False)
    scorecard.check_options(**options)
    test, fitted = scorecard.open_features(features, train, limit)
    parts = {"test": test} if fitted is None else {"test": test, "train": fitted}
    if test.labels is None and (what == "confusion" or colour in ("class", "error")):
        raise InputError(f"{features}: no labels to test against")
    if what == "map" and len(test) < 4:
        raise InputError(f"a map of {len(test)} images: give 4 test images or more")
    if what == "map" and colour in (None, "class") and test.labels is not None:
        result = {"model": scorecard.named(test), "test": {"data": str(features)}}  # no score shows
    else:
        names = str(features), str(train)
        result = scorecard.score_opened(test, fitted, *names, all=everything, **options)
    _without_images(what, result, parts, path, map, colour, options.get("seed", 0))


def _check(what: str, path: Path, method: str, colour: str | None) -> None:
    for name, value, known in (
        ("figure", what, FIGURES),
        ("map", method, PROJECTIONS),
        ("colour", colour, (None, *COLOURS)),
    ):
        if value not in known:
            raise InputError(f"{name} {value!r}: choose one of {', '.join(filter(None, known))}")
    if colour and what != "map":
        raise InputError(f"colour {colour}: only a map is coloured by choice")
    plots.check_figure(path)


def _without_images(
    what: str,
    result: dict[str, Any],
    parts: dict[str, Features],
    path: Path,
    method: str,
    colour: str | None,
    seed: int,
) -> None:
    from kfeat.serving.report import MAP_LIMIT, assign

    test = parts["test"]
    if what == "confusion":
        classes = result["classes"] | {"names": test.names(result["classes"]["labels"])}
        accuracy = f"KNN accuracy {result['classification']['accuracy']:.4f}"
        plots.plot_confusion(classes, f"{_title(result)}: {accuracy}", path)
        return
    rows = spread(len(test), MAP_LIMIT)
    colour = colour or ("cluster" if test.labels is None else "class")
    names: list[str]
    if colour == "class":
        assert test.labels is not None
        labels, groups = np.unique(test.labels[rows], return_inverse=True)
        names = test.names(labels.tolist())
    else:
        clusters, predicted = assign(result, parts, seed, rows)
        groups = clusters[rows]
        names = [f"cluster {n + 1}" for n in range(result["clustering"]["k"])]
        if colour == "error":
            assert test.labels is not None
            # Colours far apart: the first, and the fourth.
            groups = np.where(predicted == test.labels[rows], 0, 3)
            names = ["KNN is right", "", "", "KNN is wrong"]
    how = {"umap": "UMAP", "tsne": "t-SNE"}[method]
    log.info("%s of %d images", how, len(rows))
    plane = project(test.features[rows], method, seed)
    plots.plot_map(plane, groups, names, f"{_title(result)}: {how} of {len(rows):,} images", path)


def _with_images(
    what: str,
    result: dict[str, Any],
    parts: dict[str, Features],
    path: Path,
    seed: int,
    data_dir: str | Path | None,
) -> None:
    from kfeat.serving.report import (
        assign,
        chosen_rows,
        cluster_sheets,
        strip_neighbours,
        thumbnails,
    )

    test = parts["test"]
    every = np.arange(len(test))
    clusters, predicted = assign(result, parts, seed, every)
    needed: dict[str, list[int]] = {"test": [], "train": []}
    rows: list[tuple[str, list[tuple[str, int]]]] = []
    if what == "clusters":
        sheets = cluster_sheets(test.features, clusters, every, _SHEET_IMAGES)
        for cluster, size, typical in sheets[: plots.ROWS]:
            rows.append((f"cluster {cluster + 1}: {size:,} images", [("test", n) for n in typical]))
        which = "each cluster"
        if len(sheets) > len(rows):
            which = f"the {len(rows)} largest of {len(sheets)} clusters"
            log.warning("the figure has room for %s only", which)
        title = f"{_title(result)}: images nearest to the centre of {which}"
    else:
        chosen = chosen_rows(predicted, test)
        near, bank = strip_neighbours(result, parts, every, chosen)
        for n, line in zip(chosen, near.tolist(), strict=True):
            rows.append((_verdict(n, test, predicted), [("test", n), *((bank, m) for m in line)]))
        title = f"{_title(result)}: test images and the {bank} images nearest to them"
    for _, places in rows:
        for part, n in places:
            needed[part].append(n)
    images: list[np.ndarray] = []
    place: dict[tuple[str, int], int] = {}
    for part, about in (("test", result["test"]), ("train", result["train"])):
        wanted = np.unique(needed[part]).astype(int)
        if len(wanted):
            place |= {(part, int(n)): len(place) + at for at, n in enumerate(wanted)}
            images.append(thumbnails(about, parts[part], wanted, plots.CELL, data_dir))
    lines = [(words, [place[key] for key in places]) for words, places in rows]
    apart = what == "neighbours"
    plots.plot_rows(lines, np.concatenate(images), title, path, apart=apart)


def _verdict(n: int, test: Features, predicted: np.ndarray | None) -> str:
    """What a test image is, and what KNN takes it for."""
    if test.labels is None or predicted is None:
        name = on_one_line(str(test.ids[n])) if test.ids is not None else str(n)
        return name if len(name) <= plots.LABEL else f"…{name[1 - plots.LABEL :]}"
    true, given = (plots.short(name, 24) for name in test.names([test.labels[n], predicted[n]]))
    return f"{true}: right" if test.labels[n] == predicted[n] else f"{true}: taken for {given}"


def _title(result: dict[str, Any]) -> str:
    test = result["test"]
    data = " ".join(str(test[key]) for key in ("data", "split") if test.get(key))
    return f"{result.get('model') or 'features'} on {data}"
