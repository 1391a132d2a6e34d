"""The study's figures: reconstructions beside the originals, and features in the plane."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from kfeat.reporting import published
from kfeat.scoring.features import load_features, spread
from kfeat.scoring.projection import project
from kfeat.study.cells import Cells
from kfeat.study.kept import kept_array

log = logging.getLogger("kfeat")

FIGURES = ("figure1", "figure2", "figure3")

TABLES = {"figure1": "table1", "figure2": "table1", "figure3": "table2"}
"""The table whose encoders a figure shows; as in the study."""

METHODS = ("tsne", "umap")
"""How features come to the plane: as in the study, and another way."""

POINTS = 2000
"""The most test images in the plane."""

PIXELS = 145_000
"""The most pixels of images in figure 1: at 2 bytes each its file stays below 300 kB."""


def reconstructions(cells: Cells, output: Path) -> dict[str, Any]:
    """Make figure 1: test images, and what each unsupervised encoder of table 1 makes of them.

    They are the first test image of each class, of as many classes as ``PIXELS`` allows, ten at
    most. MSE, PSNR and SSIM, in the label of each row, are means over all test images. All is of
    the profile's first seed. The study does not say which images it shows: these are a choice.

    Args:
        cells: the trainings and scores.
        output: the folder that gets ``figure1.png``.

    Returns:
        ``files``; ``images``: the ids of the test images; ``rows``, one an encoder: ``name``,
        ``reconstruction`` (``mse``, ``psnr`` and ``ssim``) or None, ``failed``, or None.
    """
    from kfeat.reporting.study_figures import draw_reconstructions

    seed = cells.profile.seeds[0]
    found = {name: cells.entry("table1", name, seed) for name in published.UNSUPERVISED}
    side = max((score["card"]["image_size"] for score, _ in found.values() if score), default=0)
    rows: list[dict[str, Any]] = []
    originals, drawn, ids = None, [], []
    for name, (score, reason) in found.items():
        images = None
        if score:
            try:
                chosen = _of_each_class(score, side)
                images = _reconstructed(cells, score, chosen)
                if originals is None:
                    originals = _test_images(cells, score, chosen, side)
                    ids = _test(score).ids[chosen].tolist()  # type: ignore[index]
            except Exception as error:  # the other rows still come
                reason = cells.fail(f"figure1 {name}", error)
        reconstruction = score["reconstruction"] if score and images is not None else None
        rows.append({"name": name, "reconstruction": reconstruction, "failed": reason})
        drawn.append(images)
    draw_reconstructions(originals, rows, drawn, output / "figure1.png")
    return {"files": ["figure1.png"], "images": ids, "rows": rows}


def planes(cells: Cells, figure: str, output: Path) -> dict[str, Any]:
    """Make figure 2 or 3: the test features of a table's encoders in the plane, by class.

    One panel an encoder; by t-SNE, as in the study, and by UMAP. Each shows the same images, at
    most ``POINTS``, evenly spaced over the test images. Trainings and projections are of the
    profile's first seed. The study does not say which images it shows: these are a choice.

    Args:
        cells: the trainings and scores.
        figure: ``"figure2"`` or ``"figure3"``; see `TABLES`.
        output: the folder that gets ``<figure>-tsne.png`` and ``<figure>-umap.png``.

    Returns:
        ``files``; ``points``: how many images a panel shows; ``seed``; ``panels``: for each of
        ``METHODS`` one dictionary an encoder: ``name``; ``failed``, the reason or None.
    """
    from kfeat.reporting.study_figures import draw_planes

    seed = cells.profile.seeds[0]
    table = TABLES[figure]
    names = list(published.tables()[table])
    found = {name: cells.entry(table, name, seed) for name in names}
    classes = cells.source(cells.profile.test).class_names
    about: dict[str, Any] = {"files": [], "points": 0, "seed": seed, "panels": {}}
    for method in METHODS:
        panels = []
        for name, (score, reason) in found.items():
            plane = labels = None
            if score:
                try:
                    plane, labels = plane_of(score, method, seed)
                    about["points"] = len(plane)
                except Exception as error:  # the other panels still come
                    reason = cells.fail(f"{figure} {method} {name}", error)
            panels.append({"name": name, "failed": reason, "plane": plane, "labels": labels})
        file = f"{figure}-{method}.png"
        draw_planes(panels, classes, output / file)
        about["files"].append(file)
        about["panels"][method] = [
            {key: panel[key] for key in ("name", "failed")} for panel in panels
        ]
    return about


def plane_of(score: dict[str, Any], method: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The plane of an encoder's test features, float32 [N, 2], and the labels, [N].

    They are of ``POINTS`` test images, or of all; see `kfeat.scoring.features.spread`.
    """
    test = _test(score)
    rows = spread(len(test), POINTS)
    file = Path(score["features"]) / f"{method}-seed{seed}-{len(rows)}.npy"

    def make() -> np.ndarray:
        log.info("%s of %d features of %s", method, len(rows), score["training"])
        return project(test.features[rows], method, seed)

    assert test.labels is not None
    return kept_array(file, make), test.labels[rows]


def _of_each_class(score: dict[str, Any], side: int) -> np.ndarray:
    """The first test image of each class, as rows of the features."""
    _, first = np.unique(_test(score).labels, return_index=True)  # type: ignore[call-overload]
    return first[: max(1, min(10, PIXELS // (side**2 * (1 + len(published.UNSUPERVISED)))))]


def _reconstructed(cells: Cells, score: dict[str, Any], rows: np.ndarray) -> np.ndarray:
    """What an encoder and its decoder make of some test images: uint8 [N, S, S, 3]."""
    from kfeat.training.reconstruction import reconstruct

    def make() -> np.ndarray:
        images = _test_images(cells, score, rows, score["card"]["image_size"])
        return next(reconstruct(score["run"], [images]))

    return kept_array(Path(score["features"]) / f"reconstructions-{len(rows)}.npy", make)


def _test_images(cells: Cells, score: dict[str, Any], rows: np.ndarray, side: int) -> np.ndarray:
    """Some test images: uint8 [N, side, side, 3]."""
    images: dict[int, np.ndarray] = {}
    start = 0
    for batch in cells.test_images(score["card"]["test"]["split"], side):
        images |= {n: batch[n - start] for n in rows.tolist() if start <= n < start + len(batch)}
        start += len(batch)
        if len(images) == len(rows):
            break
    return np.stack([images[n] for n in rows.tolist()])


def _test(score: dict[str, Any]) -> Any:
    return load_features(Path(score["features"]) / "test.npz")
