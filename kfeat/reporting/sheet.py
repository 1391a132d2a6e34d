"""A contact sheet: the first images of a split on one page."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from kfeat.data import pipeline
from kfeat.data.source import Source
from kfeat.errors import InputError, expand
from kfeat.files import check_writable, written
from kfeat.progress import progress

log = logging.getLogger("kfeat")

_GAP = 4


def contact_sheet(
    source: Source,
    path: str | Path,
    split: str | None = None,
    columns: int = 10,
    rows: int = 10,
    cell: int = 96,
) -> None:
    """Write a PNG file with the first images of a split.

    A split with labels gets a row for each of the first ``rows`` classes, with the class's
    name beside it and its first ``columns`` images; another gets its first
    ``rows * columns`` images. Images keep their aspect.

    Args:
        source: where the images are.
        path: the file to write; an existing one is replaced, once the new one is complete.
        split: one of its splits; None for the first.
        columns: images in a row.
        rows: rows at most.
        cell: side in pixels of the square that an image is fitted into.

    Raises:
        InputError: no such split, no readable image, or the file cannot be written.
    """
    path = checked(path)
    split = source.require(split or next(iter(source.splits)))
    grid = _grid(source, split, columns, rows, cell)
    for file, reason in source.unreadable.items():
        log.warning("passed over %s: %s", file, reason)
    if not any(grid):
        raise InputError(f"{source.name} has no readable image in its split {split!r}")
    names: Iterable[str] = ()
    if split in source.labelled:
        names = (source.class_names or ())[:rows]
    with written(path) as unfinished:
        _draw(grid, list(names), cell).save(unfinished, "PNG")


def checked(path: str | Path) -> Path:
    """Return the path of a contact sheet; cheap, so ask it before the data are fetched.

    Raises:
        InputError: no contact sheet can lie there.
    """
    path = expand(path)
    check_writable(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: the contact sheet is a PNG file, give a name that ends in .png")
    return path


def _grid(
    source: Source, split: str, columns: int, rows: int, cell: int
) -> list[list[Image.Image]]:
    """Read the images of each row, until all rows are full, each fitted into its cell."""
    labelled = split in source.labelled
    grid: list[list[Image.Image]] = [[] for _ in range(rows)]
    if labelled:
        grid = grid[: len(source.class_names or ())]
    missing = len(grid) * columns
    with progress(total=source.count(split), unit="img", desc=f"reading {split}") as bar:
        for element in pipeline.read(source.dataset(split), source):
            bar.update()
            row = int(element["label"]) if labelled else (rows * columns - missing) // columns
            if row < len(grid) and len(grid[row]) < columns:
                pixels = Image.fromarray(element["image"])
                grid[row].append(_contained(pixels, cell))
                missing -= 1
            if not missing:
                break
    return [row for row in grid if row] if not labelled else grid


def _contained(image: Image.Image, cell: int) -> Image.Image:
    """An image at the largest size that fits into a cell, a pixel wide at least."""
    longest = max(image.size)
    return image.resize([max(1, round(cell * side / longest)) for side in image.size])


def _draw(grid: list[list[Image.Image]], names: list[str], cell: int) -> Image.Image:
    font = ImageFont.load_default(max(10, cell // 7))
    margin = max((int(font.getlength(name)) + 2 * _GAP for name in names), default=0)
    step = cell + _GAP
    columns = max(map(len, grid))
    sheet = Image.new("RGB", (margin + columns * step + _GAP, len(grid) * step + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for y, row in enumerate(grid):
        top = _GAP + y * step
        if names:
            draw.text((_GAP, top + cell // 2), names[y], "black", font, anchor="lm")
        for x, image in enumerate(row):
            left = margin + _GAP + x * step
            corner = (left + (cell - image.width) // 2, top + (cell - image.height) // 2)
            sheet.paste(image, corner)
    return sheet
