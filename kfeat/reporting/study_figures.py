"""The study's figures, drawn: reconstructions beside the originals, features in the plane."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kfeat.errors import on_one_line
from kfeat.files import written
from kfeat.reporting.plots import own_style, short

COLOURS = (
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"),
    *("#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"),
)
"""Ten that also colour-blind eyes tell apart (Petroff 2021, arXiv 2107.02270)."""

MARKERS = "oDs^Pv"
"""Further classes take another shape in the same colours."""

_GAP = 4
_LEAST = 64  # smaller images are drawn larger, by a whole factor
_LABEL = 110  # pixels
_NAMED = 14  # classes in a legend


def draw_reconstructions(
    originals: np.ndarray | None,
    rows: Sequence[dict[str, Any]],
    images: Sequence[np.ndarray | None],
    path: Path,
) -> None:
    """Write figure 1 as a PNG file: the originals, and a row of reconstructions each encoder.

    Images of 64 pixels or more are drawn pixel by pixel, smaller ones larger by a whole factor.

    Args:
        originals: uint8 [N, S, S, 3]; None where no encoder has a row.
        rows: one an encoder: ``name``, ``reconstruction`` (mean ``mse``, ``psnr``, ``ssim``) or
            None, ``failed``, the reason, or None.
        images: for each row uint8 [N, S', S', 3], or None where it failed.
        path: the file; an existing one is replaced, once the new one is complete.
    """
    known = [part for part in (originals, *images) if part is not None]
    count = len(known[0]) if known else 5
    cell = max([_LEAST, *(part.shape[1] * _scale(part) for part in known)])
    step = cell + _GAP
    size = (_LABEL + count * step + _GAP, (1 + len(rows)) * step + _GAP)
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(12)
    labels = ["original"]
    for row in rows:
        lines = [row["name"]]
        if found := row["reconstruction"]:
            lines += [f"MSE {found['mse']:.4f}", f"PSNR {found['psnr']:.2f} dB"]
            lines += [f"SSIM {found['ssim']:.3f}"]
        labels.append("\n".join(lines))
    for y, (label, part) in enumerate(zip(labels, [originals, *images], strict=True)):
        middle = _GAP + y * step + cell // 2
        draw.text((_GAP, middle), label, "black", font, anchor="lm")
        if part is None:
            reason = rows[y - 1]["failed"] if y else "no encoder reconstructs"
            width = max(20, count * step // 7)
            text = "\n".join(textwrap.wrap(f"failed: {reason}", width, max_lines=cell // 16))
            draw.text((_LABEL + _GAP, middle), text, "#a00000", font, anchor="lm")
            continue
        factor = _scale(part)
        for x, pixels in enumerate(part.repeat(factor, axis=1).repeat(factor, axis=2)):
            margin = (cell - len(pixels)) // 2
            corner = (_LABEL + x * step + margin, _GAP + y * step + margin)
            canvas.paste(Image.fromarray(pixels), corner)
    with written(path) as unfinished:
        canvas.save(unfinished, "PNG", optimize=True)


def _scale(images: np.ndarray) -> int:
    return -(-_LEAST // images.shape[1])


@own_style()
def draw_planes(
    panels: Sequence[dict[str, Any]], classes: Sequence[str] | None, path: Path
) -> None:
    """Write figure 2 or 3 as a PNG file: one panel an encoder, one look a class.

    Args:
        panels: one an encoder: ``name``; ``plane``, float32 [N, 2]; ``labels``, int [N], indices
            into ``classes``; or, without those two, ``failed``, the reason.
        classes: their names; None for the labels themselves.
        path: the file; an existing one is replaced, once the new one is complete.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    columns = min(4, len(panels))
    lines = -(-(len(panels) + 1) // columns)  # one place is the legend's
    figure = Figure(figsize=(2.5 * columns, 2.7 * lines), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    present: set[int] = set()
    for panel, axis in zip(panels, axes, strict=False):
        axis.set_title(panel["name"], fontsize=10)
        axis.set_xticks([])
        axis.set_yticks([])
        if panel["plane"] is None:
            text = textwrap.fill(f"failed: {on_one_line(panel['failed'])}", 30, max_lines=10)
            place = {"ha": "center", "va": "center", "transform": axis.transAxes}
            axis.text(0.5, 0.5, text, color="#a00000", fontsize=7, **place)
            continue
        for label in np.unique(panel["labels"]).tolist():
            present.add(label)
            points = panel["plane"][panel["labels"] == label]
            colour, marker = _look(label)
            axis.scatter(*points.T, s=4, c=colour, marker=marker, linewidths=0)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    named = sorted(present)[:_NAMED]
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="none", markersize=5)
        for colour, marker in map(_look, named)
    ]
    names = [short(str(classes[label] if classes else label)) for label in named]
    if more := len(present) - len(named):
        handles.append(Line2D([], [], linestyle="none"))
        names.append(f"and {more} more")
    axes[len(panels)].legend(handles, names, loc="center", fontsize=8, frameon=False)
    with written(path) as unfinished:
        figure.savefig(unfinished, format="png", metadata={"Software": None})


def _look(label: int) -> tuple[str, str]:
    return COLOURS[label % len(COLOURS)], MARKERS[label // len(COLOURS) % len(MARKERS)]
