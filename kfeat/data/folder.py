"""A folder of image files."""

from __future__ import annotations

import functools
import hashlib
import itertools
import logging
import os
import threading
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kfeat.data.source import UNLABELLED, Source
from kfeat.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf
    from PIL import Image

log = logging.getLogger("kfeat")

SUFFIXES = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".webp")
"""What the name of an image file ends with, in any case."""

OTHER_SUFFIXES = (
    *(".avif", ".dng", ".heic", ".heif", ".j2k", ".jp2", ".jxl", ".pbm", ".pgm", ".pnm"),
    *(".ppm", ".tga", ".tif", ".tiff"),
)
"""What the name of an image ends with whose format kfeat does not read."""

MAX_PIXELS = 50_000_000
"""An image of more pixels counts as unreadable."""

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
_SPLITS = ("train", "test", "val", "valid", "validation", "labelled", "labeled")
_UNLABELLED = ("unlabelled", "unlabeled")
_UPRIGHT = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


def source(path: Path, *, name: str, strict: bool = False) -> Source:
    """Open a folder of images, in one of three layouts.

    ``ROOT/<split>/<class>/*``: a labelled split a folder; a folder of images without
    classes is a split without labels. A folder is taken for a split, rather than for a
    class, where it is called ``unlabelled``; where a folder called like a split (``train``,
    ``test``, ``val``, ``validation``) holds classes; where all are called like splits; and
    where none holds images itself. Splits one folder deeper still are an error. A class may be
    missing in a split; where ``images`` is the only one, beside other classes in other splits, the
    split has no labels (so are the ``val`` and ``test`` of Stanford's Tiny ImageNet).

    ``ROOT/<class>/*``: the splits ``train`` and ``test`` are made by the SHA-256 of each
    file's path in ROOT: a fifth of each class, rounded up, goes to ``test``, unless it is
    the class's only image. ``all`` holds both.

    Images directly in ROOT: all images in ROOT and below are the one split ``unlabelled``;
    beside folders called like splits they are an error.

    A class is called like its folder, in Unicode's form NFC: Macs spell accents in another one.
    Within a class, folders may be nested. What is hidden, and ``__MACOSX``, is ignored. A
    split's order is that of the SHA-256 of the paths: mixed, and always the same.

    Args:
        path: the folder.
        name: what the user called it.
        strict: stop reading at the first unreadable image instead of passing over it: the
            dataset then raises one of ``tf.errors``, and `Source.unreadable` has the image.

    Raises:
        InputError: the folder cannot be read, or holds no images.
    """
    found: dict[tuple[int, int], list[str]] = {}
    tree = _scan(path, name, found)
    if others := list(tree.all_others()):
        kinds = ", ".join(sorted({os.path.splitext(file)[1].lower() for file in others}))
        log.warning(
            "%s: passed over %d images of formats that kfeat does not read (%s), %s among them: "
            "convert them to PNG",
            *(name, len(others), kinds, min(others)),
        )
    splits = _splits(tree, name)
    for places in found.values():
        if len(places) > 1:
            log.warning("%s and %s are one folder: its images count more than once", *places[:2])
            break
    if not splits:
        wanted = " ".join(f"*{suffix}" for suffix in SUFFIXES)
        raise InputError(f"{name} holds no images: kfeat looks for {wanted} in it and below")
    # Pillow warns of oddities in images that it reads all the same.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    classes = sorted({label for files in splits.values() for label in files.values() if label})
    unreadable: dict[str, str] = {}
    lock = threading.Lock()

    def readable(file: bytes) -> np.ndarray:
        """Decode an image; an empty array where it is passed over."""
        name = os.fsdecode(file)
        try:
            return decode(name)
        except UnreadableError as error:
            with lock:
                if not (strict and unreadable):
                    unreadable.setdefault(name, str(error))
            if strict:
                raise
            return np.zeros((0, 0, 3), np.uint8)

    def read(split: str, limit: int | None) -> tf.data.Dataset:
        import tensorflow as tf

        files = dict(itertools.islice(splits[split].items(), limit))
        for file in files:  # that an earlier reading found unreadable
            unreadable.pop(os.path.join(path, file), None)
        paths = [os.fsencode(os.path.join(path, file)) for file in files]
        ids = [os.fsencode(file) for file in files]
        columns = {"id": tf.constant(ids, tf.string), "image": tf.constant(paths, tf.string)}
        if split in labelled:
            index = {label: i for i, label in enumerate(classes)}
            columns["label"] = tf.constant([index[c] for c in files.values()], tf.int64)

        def element(row: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            image = tf.numpy_function(readable, [row["image"]], tf.uint8, stateful=False)
            return {**row, "image": tf.ensure_shape(image, (None, None, 3))}

        dataset = tf.data.Dataset.from_tensor_slices(columns)
        dataset = dataset.map(element, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return dataset.filter(lambda row: tf.size(row["image"]) > 0)

    def state() -> str:
        found = hashlib.sha256()
        for split, files in splits.items():
            for file, label in files.items():
                try:
                    about = os.stat(os.path.join(path, file))
                    when: tuple[int, ...] = (about.st_size, about.st_mtime_ns)
                except OSError:  # unreadable, as it will be found
                    when = ()
                found.update(os.fsencode("\0".join(map(str, (split, label, file, *when))) + "\n"))
        return found.hexdigest()

    labelled = frozenset(split for split, files in splits.items() if all(files.values()))
    return Source(
        name=name,
        class_names=tuple(classes) or None,
        splits={split: len(files) for split, files in splits.items()},
        labelled=labelled,
        read=read,
        location=os.path.abspath(path),
        state=state,
        files=splits.__getitem__,
        cut="all" in splits and not _is_split_into_folders(tree),
        unreadable=unreadable,
    )


@dataclass
class _Tree:
    """The images in a folder, by name, and the folders in it that hold images.

    ``others`` are the paths of images of formats that kfeat does not read, in the folder and in
    those below that hold nothing else.
    """

    images: list[str] = field(default_factory=list)
    folders: dict[str, _Tree] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    def all_others(self) -> Iterator[str]:
        """All ``others`` in the folder and below."""
        yield from self.others
        for folder in self.folders.values():
            yield from folder.all_others()

    def paths(self, start: str = "") -> Iterator[str]:
        """All images in the folder and below, as paths after ``start``."""
        for image in self.images:
            yield start + image
        for name, folder in self.folders.items():
            yield from folder.paths(f"{start}{name}/")


def _scan(
    path: Path | str,
    name: str,
    found: dict[tuple[int, int], list[str]],
    above: tuple[tuple[int, int], ...] = (),
) -> _Tree:
    """Find the images below a folder.

    ``found`` gets the paths of each folder, by (device, inode); ``above`` are those of the folders
    that this one is in.
    """
    tree = _Tree()
    try:
        status = os.stat(path)
        here = (status.st_dev, status.st_ino)
        if here in above:  # a link back to a folder that this one is in
            return tree
        found.setdefault(here, []).append(str(path))
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name == "__MACOSX":
                    continue
                if _is_folder(entry):
                    below = _scan(entry.path, name, found, (*above, here))
                    if below.images or below.folders:
                        tree.folders[entry.name] = below
                    else:
                        tree.others += below.others
                elif entry.name.lower().endswith(SUFFIXES) and _is_file(entry):
                    tree.images.append(entry.name)
                elif entry.name.lower().endswith(OTHER_SUFFIXES) and _is_file(entry):
                    tree.others.append(entry.path)
    except OSError as error:
        raise InputError(f"{name}: {error.filename} cannot be read: {error.strerror}") from None
    except RecursionError:
        raise InputError(f"{name}: its folders are nested too deep") from None
    return tree


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a regular file, or a link that leads nowhere: an unreadable one."""
    if entry.is_symlink():
        return os.path.isfile(entry.path) or not os.path.exists(entry.path)
    return entry.is_file()


def _splits(tree: _Tree, name: str) -> dict[str, dict[str, str]]:
    """The splits of a folder: each file's path in it, with its class or ``""``."""
    if tree.images:
        called = [folder for folder in tree.folders if folder.lower() in (*_SPLITS, *_UNLABELLED)]
        if called:
            raise InputError(
                f"{name} holds images ({min(tree.images)}) beside splits "
                f"({', '.join(sorted(called))}): move them into a split, or out of {name}"
            )
        if tree.folders:
            log.warning(
                "%s holds images (%s) beside folders (%s): all are taken for unlabelled",
                name,
                min(tree.images),
                min(tree.folders),
            )
        return {UNLABELLED: dict.fromkeys(_mixed(tree.paths()), "")}
    if not tree.folders:
        return {}
    if not _is_split_into_folders(tree):
        _say_cut(name)
        return _cut_into_splits(tree)
    for folder, below in tree.folders.items():
        inside = {name.lower() for name in below.folders}
        deeper = len(inside) > 1 or any(lowest.folders for lowest in below.folders.values())
        if inside and deeper and inside <= {*_SPLITS, *_UNLABELLED}:
            raise InputError(
                f"{name} holds splits ({', '.join(sorted(below.folders))}) one folder deeper: give "
                f"{os.path.join(name, folder)}"
            )
    labels = {_class(folder) for below in tree.folders.values() for folder in below.folders}
    splits: dict[str, dict[str, str]] = {}
    for folder, below in sorted(tree.folders.items(), key=lambda item: _rank(item[0])):
        lower = folder.lower()
        files = splits.setdefault(
            UNLABELLED if lower in _UNLABELLED else lower if lower in _SPLITS else folder, {}
        )
        no_class = list(below.folders) == ["images"] and not below.images and len(labels) > 1
        if lower in _UNLABELLED or not below.folders or no_class:
            files.update(dict.fromkeys(below.paths(f"{folder}/"), ""))
        elif below.images:
            raise InputError(
                f"{name}: {folder} holds images ({min(below.images)}) beside folders of classes "
                f"({min(below.folders)}): move them into a class, or out of it"
            )
        else:
            for inner, images in below.folders.items():
                files.update(dict.fromkeys(images.paths(f"{folder}/{inner}/"), _class(inner)))
    return {split: {file: files[file] for file in _mixed(files)} for split, files in splits.items()}


@functools.cache  # once, however often a score opens it
def _say_cut(name: str) -> None:
    log.info("%s has no folders of splits: a fifth of each class is its test split", name)


def _class(folder: str) -> str:
    """The class of a folder: its name, in one spelling of what Unicode can spell in two."""
    return unicodedata.normalize("NFC", folder)


def _rank(folder: str) -> tuple[int, str]:
    order = (*_SPLITS, *_UNLABELLED)
    lower = folder.lower()
    return (order.index(lower) if lower in order else len(order), folder)


def _is_split_into_folders(tree: _Tree) -> bool:
    """Whether the folders of a folder are its splits; otherwise they are classes."""
    names = {folder.lower(): below for folder, below in tree.folders.items()}
    return (
        any(name in names for name in _UNLABELLED)
        or any(name in names and names[name].folders for name in _SPLITS)
        or all(name in _SPLITS for name in names)
        or not (any(below.images for below in names.values()) or _is_wrapped(tree))
    )


def _is_wrapped(tree: _Tree) -> bool:
    """Whether each folder holds nothing but a folder, called alike in all: ``images``, say."""
    inner = {tuple(below.folders) for below in tree.folders.values()}
    return len(tree.folders) > 1 and len(inner) == 1 and len(min(inner)) == 1


def _cut_into_splits(tree: _Tree) -> dict[str, dict[str, str]]:
    train: dict[str, str] = {}
    test: dict[str, str] = {}
    for folder, below in tree.folders.items():
        files = _mixed(below.paths(f"{folder}/"))
        fifth = -(-len(files) // 5) if len(files) > 1 else 0
        test.update(dict.fromkeys(files[:fifth], _class(folder)))
        train.update(dict.fromkeys(files[fifth:], _class(folder)))
    splits = {"train": train, "test": test, "all": train | test}
    return {
        split: {file: files[file] for file in _mixed(files)}
        for split, files in splits.items()
        if files
    }


def _mixed(paths: Iterable[str]) -> list[str]:
    """Sort paths by their SHA-256."""
    return sorted(paths, key=lambda path: hashlib.sha256(os.fsencode(path)).digest())


class UnreadableError(Exception):
    """An image file that cannot be read; the message says why."""


def decode(file: str) -> np.ndarray:
    """Read an image file as it is meant to be seen, in RGB.

    A grey image gets three equal channels; of 16 bits the upper 8 are kept; alpha is
    dropped, as in `keras.utils.load_img`; colour profiles are ignored. EXIF orientation is
    honoured. Of an animation, the first frame is read.

    Args:
        file: a BMP, GIF, JPEG, PNG or WebP file, whatever its name says.

    Returns:
        uint8 [H, W, 3].

    Raises:
        UnreadableError: no such image, a truncated one, or one of more than `MAX_PIXELS`.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        if os.path.getsize(file) == 0:
            raise UnreadableError("empty file")
        with Image.open(file, formats=_FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise UnreadableError(f"{width}x{height} is more than {MAX_PIXELS:,} pixels")
            image.load()
            upright = _rgb(image)
            turn = _UPRIGHT.get(_orientation(image))
            if turn:
                upright = upright.transpose(Image.Transpose[turn])
            pixels = np.asarray(upright)
    except UnreadableError:
        raise
    except Image.DecompressionBombError:
        raise UnreadableError(f"more than {MAX_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise UnreadableError("damaged, or not an image of a format that kfeat reads") from None
    except Exception as error:  # broken bytes make decoders stumble in any way
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableError(reason) from None
    if not pixels.size:
        raise UnreadableError("it has no pixels")
    return pixels


def _rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits; some versions of Pillow widen them to 32
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none, or the EXIF data are damaged."""
    from PIL import ExifTags

    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1
