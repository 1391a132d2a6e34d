"""Single figures as PNG or SVG files; the same arguments give the same bytes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kfeat.errors import InputError, on_one_line
from kfeat.files import check_writable, written
from kfeat.reporting.page import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg")

MARKERS = "oDs^P*"
"""The shapes of `kfeat.reporting.page.SYMBOLS`."""

DPI = 150

CELL = 64
"""The side in pixels of an image."""

_GAP = 5  # pixels between two images
_LEGEND = len(PALETTE) * len(MARKERS)  # groups that a legend names: others look like these
_LINES = 25  # of a legend, side by side where there are more
_COUNTS = 25  # classes up to which a confusion matrix shows its counts
_NAMES = 60  # and its names

ROWS = 50
"""The most rows of images in a figure."""

LABEL = 60
"""The most characters on their left."""


def check_figure(path: Path) -> None:
    """Raise `InputError` where no figure can lie at ``path``; cheap, so ask it before the work."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: give a name that ends in {' or '.join(SUFFIXES)}")
    check_writable(path)


def plot_map(
    plane: np.ndarray, groups: np.ndarray, names: Sequence[str], title: str, path: Path
) -> None:
    """Draw a map of features, a colour and a shape for each group.

    Args:
        plane: float32 [N, 2].
        groups: int [N], in 0 .. G - 1.
        names: those of the groups [G]; the first 42 are named in a legend, as many as look
            different.
        title: of the figure.
        path: the file; its suffix says whether PNG or SVG. An existing one is replaced.

    Raises:
        InputError: the file cannot be written.
    """
    from matplotlib.lines import Line2D

    size = 18 if len(plane) <= 1000 else 9 if len(plane) <= 3000 else 4
    present = np.unique(groups)
    # A label that starts with an underscore would be left out of the legend.
    labels = [f"\N{ZERO WIDTH SPACE}{short(names[group])}" for group in present[:_LEGEND]]
    if len(present) > _LEGEND:
        labels.append(f"and {len(present) - _LEGEND:,} more")
    columns = math.ceil(len(labels) / _LINES)
    wide = columns * (0.45 + 0.075 * max(map(len, labels)))  # inches, about
    with _figure(max(7.2, 5.0 + wide), 5.4, title, path) as axes:
        marks = []
        for group in present:
            points = plane[groups == group]
            marker = MARKERS[group // len(PALETTE) % len(MARKERS)]
            place = (points[:, 0], points[:, 1], size, PALETTE[group % len(PALETTE)])
            marks.append(axes.scatter(*place, marker=marker, alpha=0.85, linewidths=0))
        axes.set_axis_off()
        nothing = Line2D([], [], linestyle="none")
        axes.legend(
            [*marks[:_LEGEND], nothing][: len(labels)],
            labels,
            loc="center left",
            bbox_to_anchor=(1, 0.5),
            ncols=columns,
            fontsize=8,
            markerscale=math.sqrt(30 / size),
            frameon=False,
        )


def plot_confusion(classes: dict[str, Any], title: str, path: Path) -> None:
    """Draw a confusion matrix, coloured by the share of the true class.

    Args:
        classes: what `kfeat.scoring.classification.per_class` returns, and ``"names"``.
        title: of the figure.
        path: as in `plot_map`.

    Raises:
        InputError: more classes than have a matrix; the file cannot be written.
    """
    if classes["confusion"] is None:
        raise InputError(f"{len(classes['names'])} classes are too many for a confusion matrix")
    counts = np.array(classes["confusion"])
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    count = len(counts)
    side = min(14.0, 3.2 + 0.42 * count)
    with _figure(side + 0.9, side, title, path) as axes:
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        bar = axes.figure.colorbar(image, ax=axes, fraction=0.04)
        bar.set_label("share of the true class", fontsize=8)
        bar.ax.tick_params(labelsize=7)
        if count <= _NAMES:
            names = [short(name) for name in classes["names"]]
            axes.set_xticks(range(count), names, rotation=45, ha="right", rotation_mode="anchor")
            axes.set_yticks(range(count), names)
        axes.tick_params(labelsize=8)
        if count <= _COUNTS:
            for (row, column), number in np.ndenumerate(counts):
                ink = "white" if shares[row, column] > 0.5 else "black"
                axes.annotate(
                    str(number), (column, row), ha="center", va="center", fontsize=7, color=ink
                )
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")


def plot_rows(
    rows: Sequence[tuple[str, Sequence[int]]],
    thumbnails: np.ndarray,
    title: str,
    path: Path,
    *,
    apart: bool = False,
) -> None:
    """Draw rows of images, each with words on its left; the first 50 rows at most.

    Args:
        rows: (words, places in ``thumbnails``).
        thumbnails: uint8 [T, 64, 64, 3].
        title: of the figure.
        path: as in `plot_map`.
        apart: whether the first image of each row stands apart from the others.

    Raises:
        InputError: the file cannot be written.
    """
    rows = rows[:ROWS]
    labels = [short(words, LABEL) for words, _ in rows]
    step, offset = CELL + _GAP, 3 * _GAP * apart
    columns = max(len(places) for _, places in rows)
    canvas = np.full((len(rows) * step, columns * step + offset, 3), 255, np.uint8)
    for y, (_, places) in enumerate(rows):
        for x, place in enumerate(places):
            left = x * step + (offset if x else 0)
            canvas[y * step : y * step + CELL, left : left + CELL] = thumbnails[place]
    height, width = (pixels / 100 for pixels in canvas.shape[:2])
    margin = 0.6 + 0.075 * max(24, *map(len, labels))
    with _figure(width + margin, height + 0.7, title, path) as axes:
        axes.imshow(canvas, interpolation="none")  # an SVG file holds it pixel by pixel
        middles = [y * step + CELL / 2 for y in range(len(rows))]
        axes.set_yticks(middles, labels, fontsize=8)
        axes.set_xticks([])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)


def short(name: str, length: int = 30) -> str:
    """A name, of which no more than so many characters are left: its beginning and its end."""
    name = on_one_line(name)  # a folder may be called anything
    if len(name) <= length:
        return name
    end = (length - 1) // 2
    return f"{name[: length - 1 - end]}…{name[len(name) - end :]}"


@contextmanager
def own_style() -> Iterator[None]:
    """Have Matplotlib draw as it does by itself, whatever the user's matplotlibrc says."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a box stands for what the font has not
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.hashsalt": "kfeat", "text.parse_math": False})
        yield


@contextmanager
def _figure(width: float, height: float, title: str, path: Path) -> Iterator[Axes]:
    """Give the axes of a figure so many inches large, and write it."""
    from matplotlib.figure import Figure

    kind = path.suffix.lower().removeprefix(".")
    metadata = {"Date": None} if kind == "svg" else None
    with own_style():
        figure = Figure((width, height), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(short(title, 120), fontsize=10, loc="left")
        yield axes
        with written(path) as unfinished:
            figure.savefig(unfinished, format=kind, metadata=metadata, bbox_inches="tight")
