"""What a page, a projector or a figure takes from images and features."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from kfeat.data import pipeline
from kfeat.data.catalog import open_source
from kfeat.data.source import Source
from kfeat.files import check_writable
from kfeat.reporting import projector
from kfeat.reporting.page import Material, View, thumbnail_size, write_page
from kfeat.scoring.clustering import kmeans
from kfeat.scoring.features import Features, spread
from kfeat.scoring.neighbours import knn_predict, nearest, nearest_others
from kfeat.scoring.projection import project
from kfeat.scoring.scale import scaled

log = logging.getLogger("kfeat")

MAP_LIMIT = 10_000
"""The most test images on a map; a page with more would not stay smooth, nor under 15 MB."""

STRIPS = 6
STRIP_IMAGES = 20
SHEET_IMAGES = 18


def write_report(
    results: list[dict[str, Any]],
    features: list[dict[str, Features]],
    path: str | Path,
    *,
    baselines: dict[str, dict[str, Any] | str] | None = None,
    method: str = "umap",
    seed: int = 0,
    command: str | None = None,
    data_dir: str | Path | None = None,
    limit: int = MAP_LIMIT,
    study: dict[str, Any] | None = None,
    planes: list[np.ndarray] | None = None,
) -> None:
    """Write the page of one or more scores on the same test images.

    Args:
        results: dictionaries of `kfeat.score`.
        features: for each its ``"test"`` and, where there are any, ``"train"`` features.
        path: the HTML file; see `kfeat.reporting.page.write_page`.
        baselines: results to stand beside them in the scorecard, by name, or why there is none.
        method: ``"umap"`` or ``"tsne"``; see `kfeat.scoring.projection.project`.
        seed: of k-means, as in the scores, and of the map.
        command: the command line to show.
        data_dir: where TFDS keeps prepared data.
        limit: the most test images on the map; several models want fewer.
        study: what to show of the study above the scorecard; see
            `kfeat.reporting.study.sections`.
        planes: the maps, if they are there already: for each score float32 [N, 2], made by
            ``method`` with ``seed`` of the test images that `kfeat.scoring.features.spread`
            chooses of ``limit``.

    Raises:
        InputError: the page cannot be written, or there are fewer than 4 test images.
    """
    check_writable(Path(path))
    rows = spread(len(features[0]["test"]), limit)
    test = features[0]["test"].take(rows)
    shown = len(rows)
    size = thumbnail_size(shown)
    wanted: dict[int, int] = {}  # a train image's row to its place among the train thumbnails
    views = []
    for n, (result, parts) in enumerate(zip(results, features, strict=True)):
        x = parts["test"].features
        clusters, predicted = assign(result, parts, seed, rows)
        chosen = chosen_rows(predicted, test)
        near, bank = strip_neighbours(result, parts, rows, chosen)
        log.info("the map of %s", result["model"])
        views.append(
            View(
                plane=planes[n] if planes else project(x[rows], method, seed),
                clusters=clusters[rows],
                predicted=predicted,
                neighbours=nearest_others(x[rows], min(5, shown - 1)),
                strips=[
                    (place, [_place(int(row), bank, shown, wanted) for row in line])
                    for place, line in zip(chosen, near, strict=True)
                ],
                strips_from=bank,
                sheets=cluster_sheets(x, clusters, rows, SHEET_IMAGES),
                manifest=parts["test"].manifest,
            )
        )
    leaks = _leak_pairs(results, features, test, wanted)
    ids = [str(name) for name in test.ids]  # type: ignore[union-attr]
    labels = test.labels
    images = thumbnails(results[0]["test"], test, rows, size, data_dir)
    if wanted:
        first = next(n for n, parts in enumerate(features) if "train" in parts)
        train, fetched = features[first]["train"], np.array(list(wanted))
        more = thumbnails(results[first]["train"], train, fetched, size, data_dir)
        images = np.concatenate([images, more])
        ids += [str(name) for name in train.ids[fetched]]  # type: ignore[index]
        if labels is not None and train.labels is not None:
            labels = np.concatenate([labels, train.labels[fetched]])
    classes = test.manifest["data"]["classes"]
    material = Material(
        thumbnails=images,
        labels=labels,
        ids=ids,
        classes=list(classes) if classes else None,
        views=views,
        map={"umap": "UMAP", "tsne": "t-SNE"}[method],
        seed=seed,
        baselines=baselines or {},
        leaks=leaks,
        command=command,
        study=study,
    )
    write_page(results, material, path)


def write_projector(
    results: list[dict[str, Any]],
    features: list[dict[str, Features]],
    folder: Path,
    *,
    seed: int = 0,
    data_dir: str | Path | None = None,
) -> None:
    """Write one or more scores on the same test images for TensorBoard's Embedding Projector.

    Args:
        results: dictionaries of `kfeat.score`.
        features: for each its ``"test"`` and, where there are any, ``"train"`` features.
        folder: where to; see `kfeat.reporting.projector.write_set`.
        seed: of k-means, as in the scores.
        data_dir: where TFDS keeps prepared data.

    Raises:
        InputError: it cannot be written.
    """
    count = len(features[0]["test"])
    rows = spread(count, projector.LIMIT)
    test = features[0]["test"].take(rows)
    if len(rows) < count:
        log.warning("projector: %d of %d images, evenly spaced: all that fit", len(rows), count)
    classes = test.manifest["data"]["classes"]

    def named(labels: np.ndarray) -> list[str]:
        return [classes[label] if classes else str(label) for label in labels]

    embeddings = []
    for result, parts in zip(results, features, strict=True):
        clusters, predicted = assign(result, parts, seed, rows)
        columns = {} if test.labels is None else {"class": named(test.labels)}
        columns["id"] = [str(name) for name in test.ids]  # type: ignore[union-attr]
        columns["cluster"] = [f"cluster {cluster + 1}" for cluster in clusters[rows]]
        if predicted is not None:
            columns["predicted"] = named(predicted)
        embeddings.append((result["model"], parts["test"].features[rows], columns))
    size = projector.thumbnail_size(len(rows))
    images = thumbnails(results[0]["test"], test, rows, size, data_dir)
    projector.write_set(embeddings, images, folder)


def assign(
    result: dict[str, Any], parts: dict[str, Features], seed: int, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """The cluster of each test image, and the class that KNN gives to each of some rows of them.

    They are those of the score: its first run of k-means, its number of votes and its search for
    them. The classes are None where the score has none.
    """
    test, train = parts["test"], parts.get("train")
    clusters = kmeans(test.features, result["clustering"]["k"], seed)
    if result["classification"]["accuracy"] is None or train is None or train.labels is None:
        return clusters, None
    chosen = test.features[rows]
    votes, search = (result["classification"][key] for key in ("k", "search"))
    return clusters, knn_predict(train.features, train.labels, chosen, votes, search=search)


def chosen_rows(predicted: np.ndarray | None, shown: Features) -> list[int]:
    """Those of the shown images that get a strip: the first that KNN gets wrong, and right."""
    if predicted is None or shown.labels is None:
        return list(range(min(STRIPS, len(shown))))
    right = predicted == shown.labels
    return [int(n) for hit in (False, True) for n in np.flatnonzero(right == hit)[:STRIPS]]


def strip_neighbours(
    result: dict[str, Any], parts: dict[str, Features], rows: np.ndarray, chosen: list[int]
) -> tuple[np.ndarray, str]:
    """The nearest images to some of the test images shown, [R, K], and the part they are of.

    They are the train images that vote, `STRIP_IMAGES` of them at most, as rows of their
    features, or else the nearest others of the test images shown, as places in ``rows``.
    """
    x = parts["test"].features[rows]
    if result["classification"]["accuracy"] is None:
        return nearest_others(x, min(5, len(x) - 1), np.array(chosen)), "test"
    votes, search = (result["classification"][key] for key in ("k", "search"))
    shown = min(votes, STRIP_IMAGES)
    return nearest(parts["train"].features, x[chosen], shown, search=search)[0], "train"


def cluster_sheets(
    x: np.ndarray, clusters: np.ndarray, rows: np.ndarray, count: int
) -> list[tuple[int, int, list[int]]]:
    """For each cluster, largest first: (cluster, its size, ``count`` images near its centre).

    The images are places in ``rows``, the test images shown.
    """
    (x,) = scaled(x)
    sheets = []
    for cluster in np.argsort(-np.bincount(clusters), kind="stable"):
        members = clusters == cluster
        if not members.any():
            continue
        on_page = np.flatnonzero(members[rows])
        centre = x[members].mean(0, np.float64)
        distances = np.linalg.norm(x[rows[on_page]] - centre, axis=1)
        typical = on_page[np.argsort(distances, kind="stable")[:count]]
        sheets.append((int(cluster), int(members.sum()), typical.tolist()))
    return sheets


def _place(row: int, part: str, shown: int, wanted: dict[int, int]) -> int:
    """The place of an image among the thumbnails: test images first, then wanted train images."""
    return row if part == "test" else shown + wanted.setdefault(row, len(wanted))


def _leak_pairs(
    results: list[dict[str, Any]],
    features: list[dict[str, Features]],
    shown: Features,
    wanted: dict[int, int],
) -> list[tuple[int, int, int]]:
    """The leaks that are named, of the test images shown: (test, train image, bits that differ)."""
    found = zip(results, features, strict=True)
    leaks, parts = next(
        ((result["leaks"], parts) for result, parts in found if result.get("leaks")), (None, {})
    )
    if not leaks:
        return []
    places = [
        {str(name): n for n, name in enumerate(part.ids)}  # type: ignore[arg-type]
        for part in (shown, parts["train"])
    ]
    return [
        (
            places[0][pair["test"]],
            _place(places[1][pair["train"]], "train", len(shown), wanted),
            pair["bits"],
        )
        for pair in leaks["pairs"]
        if pair["test"] in places[0]
    ]


def thumbnails(
    about: dict[str, Any],
    features: Features,
    rows: np.ndarray,
    size: int,
    data_dir: str | Path | None,
) -> np.ndarray:
    """Read the images of some rows of features.

    Args:
        about: ``{"data", "split"}`` of a result.
        features: what was made of that split.
        rows: int [R], in the order wanted.
        size: their side in pixels.
        data_dir: where TFDS keeps prepared data.

    Returns:
        uint8 [R, size, size, 3].
    """
    source: Source = open_source(about["data"], data_dir=data_dir)
    places = {int(row): place for place, row in enumerate(rows)}
    images = np.zeros((len(rows), size, size, 3), np.uint8)
    made = features.manifest
    images_of_rows = source.dataset(about["split"], made.get("limit"))
    dataset = pipeline.resized(images_of_rows, size, made["resize"])
    missing = len(places)
    for n, element in enumerate(pipeline.read(dataset, source)):
        if n in places:
            images[places[n]] = element["image"]
            missing -= 1
        if not missing:
            break
    return images
