import gzip
import io
import logging
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kfeat.data import binaries
from kfeat.data.catalog import open_source
from kfeat.errors import InputError

COUNTS = {
    "stl10": {"train": 10, "test": 20, "unlabelled": 30},
    "cifar10": {"train": 25, "test": 15},
}


@pytest.fixture(scope="module")
def originals(photographs) -> dict:
    """Small copies of the data sets: for each split, images and labels."""
    images = photographs[0]
    small = np.stack([np.asarray(Image.fromarray(image).resize((32, 32))) for image in images])
    copies: dict = {}
    for name, pixels in {"stl10": images, "cifar10": small}.items():
        start, copies[name] = 0, {}
        for split, count in COUNTS[name].items():
            labels = None if split == "unlabelled" else np.arange(count) % 10
            copies[name][split] = (pixels[start : start + count], labels)
            start += count
    return copies


def files_of(name: str, splits: dict) -> dict[str, bytes]:
    """The files that the authors of a data set would make of these images."""
    if name == "stl10":
        files = {"class_names.txt": "\n".join(binaries.ARCHIVES[name].class_names).encode()}
        for split, (images, labels) in splits.items():
            stem = "unlabeled" if split == "unlabelled" else split
            # Each image is stored channel by channel, and each channel column by column.
            files[f"{stem}_X.bin"] = b"".join(
                image[:, column, channel].tobytes()
                for image in images
                for channel in range(3)
                for column in range(96)
            )
            if labels is not None:
                files[f"{stem}_y.bin"] = bytes(int(label) + 1 for label in labels)
        return files
    files = {}
    records = {
        split: [
            bytes([label]) + b"".join(image[..., channel].tobytes() for channel in range(3))
            for image, label in zip(images, labels, strict=True)
        ]
        for split, (images, labels) in splits.items()
    }
    for n in range(5):
        files[f"data_batch_{n + 1}.bin"] = b"".join(records["train"][n * 5 : n * 5 + 5])
    files["test_batch.bin"] = b"".join(records["test"])
    files["batches.meta.txt"] = "\n".join([*binaries.ARCHIVES[name].class_names, "\n"]).encode()
    return files


def as_folder(files: dict[str, bytes], folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def as_archive(files: dict[str, bytes], path: Path, folder: str, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:
        directory = tarfile.TarInfo(folder)
        directory.type = tarfile.DIRTYPE
        tar.addfile(directory)
        for name, content in sorted(files.items(), reverse=True):
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def archive(originals, tmp_path) -> Path:
    return as_archive(
        files_of("stl10", originals["stl10"]), tmp_path / "stl10_binary.tar.gz", "stl10_binary"
    )


def left_in(folder: Path) -> list[Path]:
    return list(folder.rglob("*")) if folder.exists() else []


@pytest.mark.parametrize("form", ["archive", "plain tar", "folder", "folder around it"])
@pytest.mark.parametrize("name", ["stl10", "cifar10"])
def test_round_trip(originals, tmp_path, name, form, caplog):
    files, packed = files_of(name, originals[name]), binaries.ARCHIVES[name]
    if form == "folder":
        path = as_folder(files, tmp_path / "unpacked")
    elif form == "folder around it":
        path = as_folder(files, tmp_path / "around" / packed.folder).parent
    else:
        mode = "w:gz" if form == "archive" else "w"
        path = as_archive(files, tmp_path / packed.file, packed.folder, mode)
    data_dir = tmp_path / "data"
    with caplog.at_level(logging.INFO, "kfeat"):
        assert binaries.add(name, path, data_dir) == data_dir / name / packed.version
    for split, count in COUNTS[name].items():
        original = packed.counts[split]
        assert f"{name} {split}: {count} images, where the original has {original:,}" in caplog.text
    assert sorted(p.name for p in data_dir.iterdir()) == [name]

    source = open_source(name, data_dir=data_dir)
    assert source.splits == COUNTS[name]
    assert source.labelled == {"train", "test"}
    assert source.class_names == packed.class_names
    for split, (images, labels) in originals[name].items():
        elements = list(source.dataset(split).as_numpy_iterator())
        read = {element["image"].tobytes(): element.get("label") for element in elements}
        assert len(elements) == len(images)
        for n, image in enumerate(images):
            assert read[image.tobytes()] == (None if labels is None else labels[n])


def test_tfds_reads_it_too(originals, archive, tmp_path):
    """With TFDS's own names: -1 for no label, `id` in CIFAR-10."""
    import tensorflow_datasets as tfds

    cifar10 = as_folder(files_of("cifar10", originals["cifar10"]), tmp_path / "cifar")
    data_dir = tmp_path / "data"
    binaries.add("stl10", archive, data_dir)
    binaries.add("cifar10", cifar10, data_dir)

    splits, info = tfds.load("stl10", data_dir=data_dir, download=False, with_info=True)
    assert set(splits) == {"train", "test", "unlabelled"}
    assert info.features["label"].names == list(binaries.ARCHIVES["stl10"].class_names)
    assert {int(e["label"]) for e in splits["unlabelled"]} == {-1}

    train = tfds.load("cifar10", split="train", data_dir=data_dir, download=False)
    ids = {e["id"].decode(): e for e in train.as_numpy_iterator()}
    assert sorted(ids) == [f"train_{n:05d}" for n in range(25)]
    images, labels = originals["cifar10"]["train"]
    np.testing.assert_array_equal(ids["train_00007"]["image"], images[7])
    assert ids["train_00007"]["label"] == labels[7]


@pytest.mark.parametrize(
    ("name", "file", "change", "message"),
    [
        (
            "stl10",
            "train_X.bin",
            lambda b: b[:-1],
            r"train_X\.bin is truncated: its 276,479 bytes are 9 whole images of 27,648 bytes "
            "and 27,647 bytes more",
        ),
        (
            "stl10",
            "train_X.bin",
            lambda b: b[:-27648],
            r"train_y\.bin has 10 bytes.* train_X\.bin has 9 images \(248,832 bytes\)",
        ),
        ("stl10", "test_y.bin", lambda b: b[:7], r"test_y\.bin has 7 bytes.* has 20 images"),
        ("stl10", "test_y.bin", lambda b: b"\x0b" * 20, r"test_y\.bin.* is 11, not in 1\.\.10"),
        ("stl10", "train_y.bin", lambda b: b"\0" + b[1:], r"train_y\.bin.* is 0, not in 1\.\.10"),
        ("stl10", "unlabeled_X.bin", lambda b: b"", r"unlabeled_X\.bin is truncated: its 0 bytes"),
        ("stl10", "unlabeled_X.bin", None, r"lacks unlabeled_X\.bin: give stl10_binary\.tar\.gz"),
        ("stl10", "class_names.txt", lambda b: b"cat\ndog", "names 2 classes, not 10"),
        (
            "cifar10",
            "data_batch_3.bin",
            lambda b: b[:-3],
            r"data_batch_3.* 15,362 bytes are 4 whole",
        ),
        ("cifar10", "test_batch.bin", lambda b: b"\x0a" + b[1:], r"is 10, not in 0\.\.9"),
        ("cifar10", "data_batch_5.bin", None, r"lacks data_batch_5\.bin"),
    ],
)
def test_bad_files_are_refused_and_leave_nothing(originals, tmp_path, name, file, change, message):
    files = files_of(name, originals[name])
    if change is None:
        del files[file]
    else:
        files[file] = change(files[file])
    path = as_folder(files, tmp_path / "unpacked")
    with pytest.raises(InputError, match=message) as error:
        binaries.add(name, path, tmp_path / "data")
    assert "\n" not in str(error.value)
    assert not left_in(tmp_path / "data")


@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.7, 0.999])
def test_truncated_archive_is_refused_and_leaves_nothing(archive, tmp_path, part):
    whole = archive.read_bytes()
    size = int(len(whole) * part)
    archive.write_bytes(whole[:size])
    with pytest.raises(InputError) as error:
        binaries.add("stl10", archive, tmp_path / "data")
    message = str(error.value)
    assert (f"is truncated: its {size:,} bytes end in" if size else "no tar archive") in message
    if 0.1 < part < 0.9:
        assert re.search(r"end in stl10_binary/\w+\.bin, after [\d,]+ of its [\d,]+ bytes", message)
    assert not left_in(tmp_path / "data")


def test_truncated_plain_tar_is_refused(archive, tmp_path):
    plain = tmp_path / "stl10_binary.tar"
    plain.write_bytes(gzip.decompress(archive.read_bytes())[:200_000])
    with pytest.raises(InputError, match=r"its 200,000 bytes end in .* of its 829,440 bytes"):
        binaries.add("stl10", plain, tmp_path / "data")


def test_damaged_archive_is_refused(archive, tmp_path):
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(InputError, match=r"is (damaged|truncated).* fetch it again"):
        binaries.add("stl10", archive, tmp_path / "data")
    assert not left_in(tmp_path / "data")


@pytest.mark.parametrize("target", ["../elsewhere/train_X.bin", "train_X.bin"])
def test_links_in_an_archive_are_no_files(archive, tmp_path, target):
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "whole", filter="data")
    file = tmp_path / "whole" / "stl10_binary" / "train_X.bin"
    file.unlink()
    file.symlink_to(target)
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(file.parent, "stl10_binary")
    with pytest.raises(InputError, match=r"lacks train_X.bin: give stl10_binary\.tar\.gz or"):
        binaries.add("stl10", archive, tmp_path / "data")


def test_interruption_leaves_nothing(archive, tmp_path, monkeypatch):
    def interrupted(*_):
        yield 0, {"image": np.zeros((96, 96, 3), np.uint8), "label": 0}
        assert [p.name[:8] for p in (tmp_path / "data").iterdir()] == [".adding-"]
        raise KeyboardInterrupt

    monkeypatch.setattr(binaries, "_examples", lambda *_: (example for _, example in interrupted()))
    with pytest.raises(KeyboardInterrupt):
        binaries.add("stl10", archive, tmp_path / "data")
    assert not left_in(tmp_path / "data")


def test_prepared_data_are_not_overwritten(archive, tmp_path):
    target = tmp_path / "data" / "stl10" / "1.0.0"
    target.mkdir(parents=True)
    with pytest.raises(InputError, match=rf"{target} is there already: delete it"):
        binaries.add("stl10", archive, tmp_path / "data")
    with pytest.raises(InputError, match=r"cannot be written \(File exists\): choose another"):
        binaries.add("stl10", archive, archive)


@pytest.mark.parametrize(
    ("name", "path", "message"),
    [
        ("stl1", "x", r"'stl1' cannot be added, only stl10 and cifar10; did you mean 'stl10'\?"),
        ("stl10", "nowhere.tar.gz", r"nowhere\.tar\.gz: no such file or folder"),
        ("stl10", __file__, r"is no tar archive: give stl10_binary\.tar\.gz"),
    ],
)
def test_what_cannot_be_added(tmp_path, name, path, message):
    with pytest.raises(InputError, match=message):
        binaries.add(name, path, tmp_path / "data")


def test_stl10_sample_round_trip(shared, tmp_path):
    """Genuine STL-10 images in the layout of the original."""
    sample = shared / "stl10_sample"

    def pixels(file):
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB"))

    classes = binaries.ARCHIVES["stl10"].class_names
    labelled = np.stack([pixels(next((sample / "labelled" / c).iterdir())) for c in classes])
    unlabelled = np.stack([pixels(f) for f in sorted((sample / "unlabelled").iterdir())])
    splits = {
        "train": (labelled, np.arange(10)),
        "test": (labelled[::-1], np.arange(10)[::-1]),
        "unlabelled": (unlabelled, None),
    }
    path = as_archive(files_of("stl10", splits), tmp_path / "stl10_binary.tar.gz", "stl10_binary")
    binaries.add("stl10", path, tmp_path / "data")
    source = open_source("stl10", data_dir=tmp_path / "data")
    read = [e["image"].tobytes() for e in source.dataset("unlabelled").as_numpy_iterator()]
    assert sorted(read) == sorted(image.tobytes() for image in unlabelled)
