"""The page of a score: what it takes from images and features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kfeat.data import pipeline
from kfeat.data.catalog import open_source
from kfeat.data.source import Source
from kfeat.reporting.page import Material, View, check_writable, thumbnail_size, write_page
from kfeat.scoring.clustering import kmeans
from kfeat.scoring.features import Features
from kfeat.scoring.neighbours import knn_predict, nearest, nearest_others
from kfeat.scoring.projection import project

MAP_LIMIT = 10_000
"""The most test images on a map; a page with more would not stay smooth, nor under 15 MB."""

_STRIPS = 6
_SHEET_IMAGES = 18


def write_report(
    results: list[dict[str, Any]],
    features: list[dict[str, Features]],
    path: str | Path,
    *,
    method: str = "umap",
    seed: int = 0,
    command: str | None = None,
    data_dir: str | Path | None = None,
    limit: int = MAP_LIMIT,
    study: dict[str, Any] | None = None,
) -> None:
    """Write the page of one or more scores on the same test images.

    Args:
        results: dictionaries of `kfeat.score`.
        features: for each its ``"test"`` and, where there are any, ``"train"`` features.
        path: the HTML file; see `kfeat.reporting.page.write_page`.
        method: ``"umap"`` or ``"tsne"``; see `kfeat.scoring.projection.project`.
        seed: of k-means, as in the scores, and of the map.
        command: the command line to show.
        data_dir: where TFDS keeps prepared data.
        limit: the most test images on the map; several models want fewer.
        study: what to show of the study above the scorecard; see
            `kfeat.reporting.study.sections`.

    Raises:
        InputError: the page cannot be written, or there are fewer than 4 test images.
    """
    check_writable(Path(path))
    test = features[0]["test"]
    shown = min(len(test), limit)
    size, resize = thumbnail_size(shown), test.manifest["resize"]
    wanted: dict[int, int] = {}  # a train image's row to its place among the thumbnails
    views = [
        _view(result, parts, shown, method, seed, wanted)
        for result, parts in zip(results, features, strict=True)
    ]
    source = open_source(results[0]["test"]["data"], data_dir=data_dir)
    rows = np.arange(shown)
    images = [_thumbnails(source, results[0]["test"]["split"], rows, size, resize)]
    ids, labels = [list(test.ids[:shown])], [test.labels]  # type: ignore[index]
    if labels[0] is not None:
        labels = [labels[0][:shown]]
    if wanted:
        train, chosen = features[0]["train"], np.array(list(wanted))
        about = results[0]["train"]
        if about["data"] != source.name:
            source = open_source(about["data"], data_dir=data_dir)
        images.append(_thumbnails(source, about["split"], chosen, size, resize))
        ids.append(list(train.ids[chosen]))  # type: ignore[index]
        labels.append(train.labels[chosen])  # type: ignore[index]
    classes = test.manifest["data"]["classes"]
    material = Material(
        thumbnails=np.concatenate(images),
        labels=None if labels[0] is None else np.concatenate(labels),  # type: ignore[arg-type]
        ids=[str(name) for part in ids for name in part],
        classes=list(classes) if classes else None,
        views=views,
        map={"umap": "UMAP", "tsne": "t-SNE"}[method],
        seed=seed,
        command=command,
        study=study,
    )
    write_page(results, material, path)


def _view(
    result: dict[str, Any],
    parts: dict[str, Features],
    shown: int,
    method: str,
    seed: int,
    wanted: dict[int, int],
) -> View:
    test, train = parts["test"], parts.get("train")
    x = test.features
    clusters = kmeans(x, result["clustering"]["k"], seed)
    predicted = strips_bank = None
    if result["classification"]["accuracy"] is not None and train is not None:
        votes = result["classification"]["k"]
        predicted = knn_predict(train.features, train.labels, x[:shown], votes)  # type: ignore[arg-type]
        strips_bank = train.features
    near = nearest_others(x[:shown], min(5, shown - 1))
    strips: list[tuple[int, list[int]]]
    if strips_bank is None:
        strips = [(n, near[n].tolist()) for n in range(min(_STRIPS, shown))]
    else:
        right = predicted == test.labels[:shown]  # type: ignore[index]
        chosen = [n for hit in (False, True) for n in np.flatnonzero(right == hit)[:_STRIPS]]
        found, _ = nearest(strips_bank, x[chosen], votes)
        strips = [
            (int(n), [shown + wanted.setdefault(int(row), len(wanted)) for row in rows])
            for n, rows in zip(chosen, found, strict=True)
        ]
    sheets = []
    for cluster in np.argsort(-np.bincount(clusters), kind="stable"):
        members = np.flatnonzero(clusters == cluster)
        on_page = members[members < shown]
        distances = np.linalg.norm(x[on_page] - x[members].mean(0), axis=1)
        typical = on_page[np.argsort(distances, kind="stable")[:_SHEET_IMAGES]]
        sheets.append((int(cluster), len(members), typical.tolist()))
    return View(
        plane=project(x[:shown], method, seed),
        clusters=clusters[:shown],
        predicted=predicted,
        neighbours=near,
        strips=strips,
        strips_from="test" if strips_bank is None else "train",
        sheets=sheets,
        manifest=test.manifest,
    )


def _thumbnails(source: Source, split: str, rows: np.ndarray, size: int, resize: str) -> np.ndarray:
    """Read the images of some rows of the features, in their order."""
    places = {int(row): place for place, row in enumerate(rows)}
    images = np.zeros((len(rows), size, size, 3), np.uint8)
    dataset = pipeline.resized(source.dataset(split), size, resize)
    missing = len(places)
    for n, element in enumerate(pipeline.read(dataset, source)):
        if n in places:
            images[places[n]] = element["image"]
            missing -= 1
        if not missing:
            break
    return images
