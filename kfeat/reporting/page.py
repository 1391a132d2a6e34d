"""The report: results, images and maps of features as one page that needs no network."""

from __future__ import annotations

import base64
import io
import json
import os
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kfeat.files import check_writable, write_text
from kfeat.reporting import published
from kfeat.reporting.table import CLUSTERING, MORE

COLUMNS = CLUSTERING | {"KNN accuracy": "knn_accuracy"}

MATRIX_CLASSES = 40
"""Up to so many classes a confusion matrix stands on the page."""

# Okabe and Ito's palette, safe for colour-blind eyes; further groups take other shapes.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#B8A90A")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star")
SIGNS = "●◆■▲✚★"

_SHEET = 32  # thumbnails along a side of a sprite sheet


@dataclass
class View:
    """One model's features, ready to draw; N test images.

    Attributes:
        plane: float32 [N, 2], the map.
        clusters: int [N].
        predicted: int [N], the classes that KNN gives; None where nothing was classified.
        neighbours: int [N, K], the nearest other test images.
        strips: rows (test image, its nearest images of ``strips_from``), in places of
            ``Material.thumbnails``.
        sheets: for each cluster, largest first: (cluster, its size, images near its centre).
        manifest: what made the features.
    """

    plane: np.ndarray
    clusters: np.ndarray
    predicted: np.ndarray | None
    neighbours: np.ndarray
    strips: list[tuple[int, list[int]]]
    strips_from: str
    sheets: list[tuple[int, int, list[int]]]
    manifest: dict[str, Any]


@dataclass
class Material:
    """What a page shows beside the results.

    Attributes:
        thumbnails: uint8 [T, S, S, 3]; the first N are the test images of the map.
        labels: int [T], or [N] where the train images have none, or None.
        ids: the names of the images [T].
        classes: the names of the classes, or None.
        views: one a result.
        map: how the maps were made.
        seed: what they and the clusters were made with.
        baselines: results that stand in the scorecard only, by name, or why there is none.
        leaks: images of the test and of the train split that are all but identical, in places
            of ``thumbnails``, with the bits of their hashes that differ.
        command: the command line, where there was one.
        study: what to show of the study; see `kfeat.reporting.study.sections`.
    """

    thumbnails: np.ndarray
    labels: np.ndarray | None
    ids: list[str]
    classes: list[str] | None
    views: list[View]
    map: str
    seed: int
    baselines: dict[str, dict[str, Any] | str] = field(default_factory=dict)
    leaks: list[tuple[int, int, int]] = field(default_factory=list)
    command: str | None = None
    study: dict[str, Any] | None = None


def write_page(results: list[dict[str, Any]], material: Material, path: str | Path) -> None:
    """Write a page of HTML that holds all that it shows.

    Args:
        results: dictionaries of `kfeat.score`, all on the same test images.
        material: the images and maps, with one view a result.
        path: the file; an existing one is replaced, once the new one is complete.

    Raises:
        InputError: the file cannot be written.
    """
    import jinja2
    import markupsafe
    from plotly.offline import get_plotlyjs

    path = Path(path)
    check_writable(path)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kfeat.reporting", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    folder = resources.files("kfeat.reporting") / "templates"
    sheets = _sprites(material.thumbnails)
    baselines = [result for result in material.baselines.values() if isinstance(result, dict)]
    text = environment.get_template("report.html").render(
        results=results,
        baselines=baselines,
        columns=COLUMNS,
        rows=[(result, scores(result), intervals(result)) for result in results + baselines],
        study=[study_row(str(result.get("model"))) for result in results],
        more=MORE,
        leaks=next((result["leaks"] for result in results if result.get("leaks")), None),
        matrix_classes=MATRIX_CLASSES,
        material=material,
        sprites=[markupsafe.Markup(sheet) for sheet in sheets],
        tile=lambda n: markupsafe.Markup(tile(n)),
        caption=lambda n: caption(material, n),
        data=markupsafe.Markup(_json(_map_data(results, material))),
        css=markupsafe.Markup((folder / "report.css").read_text("utf-8")),
        script=markupsafe.Markup((folder / "report.js").read_text("utf-8")),
        plotly=markupsafe.Markup(get_plotlyjs().replace("</script", "<\\/script")),
    )
    write_text(path, text)


def scores(result: dict[str, Any]) -> dict[str, float | None]:
    """The figures of a result by the keys of `COLUMNS`."""
    clustering, classification = result["clustering"], result["classification"]
    return {
        key: classification["accuracy"] if key == "knn_accuracy" else clustering[key]
        for key in COLUMNS.values()
    }


def intervals(result: dict[str, Any]) -> dict[str, list[float]]:
    """The 95 % intervals of a result, as far as there are any, by the keys of `COLUMNS`."""
    found = result.get("intervals") or {}
    known = dict(found.get("clustering") or {})
    if found.get("classification"):
        known["knn_accuracy"] = found["classification"]
    return known


def study_row(model: str) -> dict[str, Any] | None:
    """The study's figures for the encoder that a model's name or path names; None without.

    A path names it by its last part, or by the one before where versions or runs are numbered.

    >>> study_row("saved_models/cae1/1")["knn_accuracy"], study_row("pixels")
    (0.297, None)
    """
    rows = {name: row for table in published.tables().values() for name, row in table.items()}
    path = Path(os.path.abspath(model))  # "." and "1" are names too
    last = path.parent.name if path.name.isdecimal() else path.name
    name = published.ENCODERS.get(last, last)
    return {"name": name, **rows[name]} if name in rows else None


def caption(material: Material, n: int) -> str:
    """What an image is called: its class, or its name."""
    if material.labels is not None and material.classes and n < len(material.labels):
        return material.classes[int(material.labels[n])]
    return material.ids[n]


def tile(n: int) -> str:
    """The attributes of an element that shows thumbnail n.

    >>> tile(33)
    'class="t s0" style="--x: 1; --y: 1"'
    """
    sheet, place = divmod(n, _SHEET**2)
    return f'class="t s{sheet}" style="--x: {place % _SHEET}; --y: {place // _SHEET}"'


def _sprites(thumbnails: np.ndarray) -> list[str]:
    """Data URLs of WebP sheets of 32 x 32 thumbnails."""
    size = thumbnails.shape[1]
    urls = []
    for start in range(0, len(thumbnails), _SHEET**2):
        part = thumbnails[start : start + _SHEET**2]
        canvas = np.zeros((_SHEET, size, _SHEET, size, 3), np.uint8)
        for n, image in enumerate(part):
            canvas[n // _SHEET, :, n % _SHEET] = image
        file = io.BytesIO()
        side = _SHEET * size
        Image.fromarray(canvas.reshape(side, side, 3)).save(file, "WEBP", quality=75)
        urls.append(f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}")
    return urls


def _map_data(results: list[dict[str, Any]], material: Material) -> dict[str, Any]:
    count = len(material.views[0].plane)
    labels = None if material.labels is None else material.labels[:count].tolist()
    return {
        "labels": labels,
        "classes": material.classes,
        "ids": material.ids[:count],
        "palette": PALETTE,
        "symbols": SYMBOLS,
        "signs": SIGNS,
        "sheet": _SHEET,
        "views": [
            {
                "model": result.get("model"),
                "x": [round(float(x), 3) for x in view.plane[:, 0]],
                "y": [round(float(y), 3) for y in view.plane[:, 1]],
                "cluster": view.clusters.tolist(),
                "predicted": None if view.predicted is None else view.predicted.tolist(),
                "neighbours": view.neighbours.tolist(),
            }
            for result, view in zip(results, material.views, strict=True)
        ],
    }


def _json(value: Any) -> str:
    """JSON that can stand in a page: no name in it can end the element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def thumbnail_size(count: int) -> int:
    """The side in pixels at which so many thumbnails stay within a page of 15 MB."""
    return 64 if count <= 2000 else 48 if count <= 5000 else 32
