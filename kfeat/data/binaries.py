"""A user's own copy of STL-10 or CIFAR-10, in its authors' binary form, prepared for TFDS.

STL-10 (``stl10_binary.tar.gz``): ``*_X.bin`` holds images of 3 channels x 96 columns x 96
rows, ``*_y.bin`` one label 1..10 an image. CIFAR-10 (``cifar-10-binary.tar.gz``): records of
one label 0..9 and an image of 3 channels x 32 rows x 32 columns. All bytes are unsigned.

Sources: https://cs.stanford.edu/~acoates/stl10/ and https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import contextlib
import io
import logging
import lzma
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from kfeat.errors import InputError, expand, nearest
from kfeat.progress import progress

log = logging.getLogger("kfeat")


@dataclass(frozen=True)
class Archive:
    """How the authors of a data set packed it.

    Attributes:
        file: the archive's name.
        folder: the folder in it.
        version: the version that TFDS gives the data set.
        side: height and width of an image in pixels.
        axes: the axes of a stored image which are its height, width and channels.
        images: the files of images of each split.
        labels: the file of labels of each split; empty where each image follows its label.
        first_label: the number of the first class in the files.
        class_file: the file of class names, one a line; it may be missing.
        class_names: what it says.
        counts: the number of images of each split.
    """

    file: str
    folder: str
    version: str
    side: int
    axes: tuple[int, int, int]
    images: dict[str, tuple[str, ...]]
    labels: dict[str, str]
    first_label: int
    class_file: str
    class_names: tuple[str, ...]
    counts: dict[str, int]

    @property
    def wanted(self) -> list[str]:
        """The files that there must be."""
        return [*sum(self.images.values(), ()), *self.labels.values()]

    @property
    def label_bytes(self) -> int:
        """Bytes of the label before each image."""
        return 0 if self.labels else 1

    @property
    def record_bytes(self) -> int:
        """Bytes of an image, with its label where that comes before it."""
        return self.label_bytes + 3 * self.side**2


ARCHIVES = {
    "stl10": Archive(
        file="stl10_binary.tar.gz",
        folder="stl10_binary",
        version="1.0.0",
        side=96,
        axes=(2, 1, 0),
        images={
            "train": ("train_X.bin",),
            "test": ("test_X.bin",),
            "unlabelled": ("unlabeled_X.bin",),
        },
        labels={"train": "train_y.bin", "test": "test_y.bin"},
        first_label=1,
        class_file="class_names.txt",
        class_names=(
            *("airplane", "bird", "car", "cat", "deer"),
            *("dog", "horse", "monkey", "ship", "truck"),
        ),
        counts={"train": 5_000, "test": 8_000, "unlabelled": 100_000},
    ),
    "cifar10": Archive(
        file="cifar-10-binary.tar.gz",
        folder="cifar-10-batches-bin",
        version="3.0.2",
        side=32,
        axes=(1, 2, 0),
        images={
            "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
            "test": ("test_batch.bin",),
        },
        labels={},
        first_label=0,
        class_file="batches.meta.txt",
        class_names=(
            *("airplane", "automobile", "bird", "cat", "deer"),
            *("dog", "frog", "horse", "ship", "truck"),
        ),
        counts={"train": 50_000, "test": 10_000},
    ),
}


def add(name: str, path: str | Path, data_dir: str | Path) -> Path:
    """Prepare a user's own copy of a data set, such that ``name`` reads it from then on.

    TFDS itself writes it, with its own names of features, splits and classes and in its own
    order, so that ``tfds.load(name)`` reads it too. The images are streamed; up to 1 GB of
    them wait in memory for being shuffled, the rest on disk. The copy may be smaller than
    the original: then a line in the log says so.

    Args:
        name: ``"stl10"`` or ``"cifar10"``.
        path: ``stl10_binary.tar.gz`` or ``cifar-10-binary.tar.gz`` as their authors give
            them, or the folder with what is in it.
        data_dir: where TFDS keeps prepared data.

    Returns:
        The folder of the prepared data set, ``data_dir/name/version``.

    Raises:
        InputError: no such data set; it is prepared already; a file is missing, truncated or
            does not fit the others. Then, as after Ctrl-C, nothing is left.
    """
    if name not in ARCHIVES:
        names = " and ".join(ARCHIVES)
        raise InputError(f"{name!r} cannot be added, only {names}{nearest(name, ARCHIVES)}")
    archive = ARCHIVES[name]
    path, data_dir = expand(path), expand(data_dir)
    target = data_dir / name / archive.version
    if target.exists():
        raise InputError(f"{target} is there already: delete it to add {name} anew")
    with _opened(path, archive) as files:
        counts = _checked_counts(files, archive, path)
        class_names = _class_names(files, archive, path)
        for split, count in counts.items():
            if count != archive.counts[split]:
                log.warning(
                    "%s %s: %s images, where the original has %s",
                    *(name, split, f"{count:,}", f"{archive.counts[split]:,}"),
                )
        made = not data_dir.exists()
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            unfinished = Path(tempfile.mkdtemp(prefix=f".adding-{name}-", dir=data_dir))
        except OSError as error:
            raise InputError(
                f"{data_dir} cannot be written ({error.strerror}): choose another --data-dir"
            ) from None
        try:
            _prepare(name, files, counts, class_names, unfinished)
            target.parent.mkdir(exist_ok=True)
            os.rename(unfinished / name / archive.version, target)
        finally:
            shutil.rmtree(unfinished)
            if made:
                with contextlib.suppress(OSError):  # something is in it now
                    data_dir.rmdir()
    return target


@dataclass(frozen=True)
class _Files:
    """The files of a data set by name: their bytes, and how to open them."""

    sizes: dict[str, int]
    open: Callable[[str], IO[bytes]]


@contextlib.contextmanager
def _opened(path: Path, archive: Archive) -> Iterator[_Files]:
    """Find the files of a data set in a folder or in a tar archive."""
    if path.is_dir():
        folder = path / archive.folder
        if not folder.is_dir():
            folder = path
        try:
            sizes = {file.name: file.stat().st_size for file in folder.iterdir() if file.is_file()}
            for name in sizes.keys() & {*archive.wanted, archive.class_file}:
                (folder / name).open("rb").close()
        except OSError as error:
            raise InputError(f"{error.filename} cannot be read: {error.strerror}") from None
        yield _Files(sizes, lambda name: (folder / name).open("rb"))
    elif path.is_file():
        _check_tar(path, archive)
        with tarfile.open(path) as tar:
            members = {PurePosixPath(member.name).name: member for member in tar if member.isreg()}
            sizes = {name: member.size for name, member in members.items()}
            yield _Files(sizes, lambda name: cast(IO[bytes], tar.extractfile(members[name])))
    else:
        raise InputError(f"{path}: no such file or folder")


def _check_tar(path: Path, archive: Archive) -> None:
    """Read a tar archive to its end, where its checksum is.

    Raises:
        InputError: it is no tar archive, truncated or damaged.
    """
    from tqdm.utils import CallbackIOWrapper

    total = path.stat().st_size
    where = "its head"
    try:
        opened = path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    with (
        opened as raw,
        progress(total=total, unit="B", unit_scale=True, desc=f"checking {path.name}") as bar,
    ):
        try:
            with tarfile.open(fileobj=CallbackIOWrapper(bar.update, raw)) as tar:
                for member in tar:
                    stream = tar.extractfile(member) if member.isreg() else None
                    if stream is None:
                        continue
                    got = 0
                    while block := stream.read(1 << 14):
                        got += len(block)
                        where = f"{member.name}, after {got:,} of its {member.size:,} bytes"
                assert tar.fileobj is not None
                while tar.fileobj.read(1 << 20):
                    pass
        except tarfile.ReadError:
            if where == "its head":
                raise InputError(
                    f"{path} is no tar archive: give {archive.file} or the folder with its files"
                ) from None
            raise InputError(_cut(path, total, where)) from None
        except EOFError:
            raise InputError(_cut(path, total, where)) from None
        except (OSError, zlib.error, lzma.LZMAError, tarfile.TarError) as error:
            raise InputError(f"{path} is damaged in {where}: {error}; fetch it again") from None


def _cut(path: Path, total: int, where: str) -> str:
    return f"{path} is truncated: its {total:,} bytes end in {where}; fetch it again"


def _checked_counts(files: _Files, archive: Archive, path: Path) -> dict[str, int]:
    """Count the images of each split by the sizes of its files.

    Raises:
        InputError: a file is missing or truncated, or does not fit the others.
    """
    missing = [name for name in archive.wanted if name not in files.sizes]
    if missing:
        raise InputError(
            f"{path} lacks {', '.join(missing)}: give {archive.file} or the folder with its files"
        )
    counts = {}
    for split, names in archive.images.items():
        counts[split] = 0
        for name in names:
            size = files.sizes[name]
            whole, rest = divmod(size, archive.record_bytes)
            if rest or not whole:
                raise InputError(
                    f"{path}: {name} is truncated: its {size:,} bytes are {whole:,} whole images "
                    f"of {archive.record_bytes:,} bytes and {rest:,} bytes more; fetch it again"
                )
            counts[split] += whole
        if split in archive.labels:
            labels = files.sizes[archive.labels[split]]
            if labels != counts[split]:
                raise InputError(
                    f"{path}: {archive.labels[split]} has {labels:,} bytes, one a label, but "
                    f"{names[0]} has {counts[split]:,} images ({files.sizes[names[0]]:,} bytes): "
                    "one of them is truncated; fetch them again"
                )
    return counts


def _class_names(files: _Files, archive: Archive, path: Path) -> list[str]:
    if archive.class_file not in files.sizes:
        return list(archive.class_names)
    with files.open(archive.class_file) as stream:
        names = stream.read(2**16).decode("utf-8", "replace").split()
    if len(names) != len(archive.class_names):
        raise InputError(
            f"{path}: {archive.class_file} names {len(names)} classes, "
            f"not {len(archive.class_names)}"
        )
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{path}: {archive.class_file} names {name} twice: fetch it again")
    return names


def _prepare(
    name: str,
    files: _Files,
    counts: dict[str, int],
    class_names: list[str],
    data_dir: Path,
) -> None:
    """Let TFDS's own builder write the images to ``data_dir/name/version``."""
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=data_dir)
    builder.info.features["label"].names = class_names
    total = sum(counts.values())
    tfds.disable_progress_bar()
    try:
        with (
            progress(total=total, unit="img", desc=f"adding {name}") as bar,
            contextlib.redirect_stdout(io.StringIO()),
        ):

            def examples(split: str) -> Iterator[tuple[int, dict[str, Any]]]:
                for index, example in enumerate(_examples(ARCHIVES[name], files, split)):
                    if "id" in builder.info.features:
                        example["id"] = f"{split}_{index:05d}"
                    yield index, example
                    bar.update()

            builder._split_generators = lambda _: {split: examples(split) for split in counts}
            builder.download_and_prepare(download_dir=data_dir / "downloads")
    finally:
        tfds.enable_progress_bar()


def _examples(archive: Archive, files: _Files, split: str) -> Iterator[dict[str, Any]]:
    """Read the images of a split one by one: ``image``, a PIL image, and ``label``, or -1."""
    import numpy as np
    from PIL import Image

    labels = None
    if split in archive.labels:
        with files.open(archive.labels[split]) as stream:
            labels = stream.read()
    position = 0
    for name in archive.images[split]:
        with files.open(name) as stream:
            for _ in range(files.sizes[name] // archive.record_bytes):
                record = stream.read(archive.record_bytes)
                label = -1
                if labels or archive.label_bytes:
                    number = labels[position] if labels else record[0]
                    label = number - archive.first_label
                    if not 0 <= label < len(archive.class_names):
                        last = archive.first_label + len(archive.class_names) - 1
                        raise InputError(
                            f"{archive.labels.get(split, name)} is damaged: the label of {split} "
                            f"image {position:,} is {number}, not in {archive.first_label}.."
                            f"{last}; fetch it again"
                        )
                pixels = np.frombuffer(record, np.uint8, offset=archive.label_bytes)
                pixels = pixels.reshape(3, archive.side, archive.side).transpose(archive.axes)
                yield {"image": Image.fromarray(np.ascontiguousarray(pixels)), "label": label}
                position += 1
