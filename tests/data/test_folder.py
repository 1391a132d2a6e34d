import logging
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kfeat.data import folder, pipeline
from kfeat.data.catalog import open_source
from kfeat.errors import InputError


@pytest.fixture
def rgb(photographs) -> np.ndarray:
    """A real image, not square: uint8 [80, 96, 3]."""
    return photographs[0][0][:80]


def write(path: Path, image: np.ndarray | None = None) -> Path:
    """Write an image, small and grey unless it is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 5), 9, np.uint8) if image is None else image).save(path)
    return path


def opened(root: Path, **options) -> folder.Source:
    return folder.source(root, name="pictures", **options)


def read(source, split):
    return list(pipeline.read(source.dataset(split), source))


def grey_as_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=-1)


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp", "PNG"])
def test_lossless_formats(rgb, tmp_path, suffix):
    file = tmp_path / f"image.{suffix}"
    Image.fromarray(rgb).save(file, **({"lossless": True} if suffix == "webp" else {}))
    pixels = folder.decode(str(file))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, rgb)


def test_jpeg(rgb, tmp_path):
    file = tmp_path / "image.JPEG"
    Image.fromarray(rgb).save(file, quality=95)
    with Image.open(file) as image:
        np.testing.assert_array_equal(folder.decode(str(file)), np.asarray(image))
    assert np.abs(folder.decode(str(file)).astype(int) - rgb).mean() < 4


def test_grey_and_one_bit(rgb, tmp_path):
    grey = rgb[..., 1]
    np.testing.assert_array_equal(
        folder.decode(str(write(tmp_path / "grey.png", grey))), grey_as_rgb(grey)
    )
    bits = grey > 127
    np.testing.assert_array_equal(
        folder.decode(str(write(tmp_path / "bits.png", bits))),
        grey_as_rgb(bits * np.uint8(255)),
    )


def test_sixteen_bits_keep_the_upper_eight(rgb, tmp_path):
    deep = rgb[..., 0].astype(np.uint16) * 256 + rgb[..., 1]
    np.testing.assert_array_equal(
        folder.decode(str(write(tmp_path / "deep.png", deep))), grey_as_rgb(rgb[..., 0])
    )


def test_sixteen_bits_that_pillow_widens_to_32(rgb):
    wide = Image.fromarray(rgb[..., 0].astype(np.int32) * 256 + 255)
    assert wide.mode == "I"
    np.testing.assert_array_equal(np.asarray(folder._rgb(wide)), grey_as_rgb(rgb[..., 0]))


def test_alpha_is_dropped(rgb, tmp_path):
    alpha = rgb[..., 2:]
    np.testing.assert_array_equal(
        folder.decode(str(write(tmp_path / "rgba.png", np.concatenate([rgb, alpha], -1)))), rgb
    )
    both = Image.merge("LA", [Image.fromarray(rgb[..., 0]), Image.fromarray(alpha[..., 0])])
    both.save(tmp_path / "la.png")
    np.testing.assert_array_equal(folder.decode(str(tmp_path / "la.png")), grey_as_rgb(rgb[..., 0]))


@pytest.mark.parametrize(
    ("suffix", "transparency"),
    [("png", None), ("png", 3), ("png", bytes(range(64))), ("gif", None), ("gif", 3)],
)
def test_palette(rgb, tmp_path, suffix, transparency):
    image = Image.fromarray(rgb).quantize(64)
    expected = np.asarray(image.convert("RGB"))
    options = {} if transparency is None else {"transparency": transparency}
    image.save(tmp_path / f"image.{suffix}", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened(tmp_path)
        np.testing.assert_array_equal(folder.decode(str(tmp_path / f"image.{suffix}")), expected)


def test_first_frame_of_an_animation(rgb, tmp_path):
    first, second = (Image.fromarray(frame).quantize(64) for frame in (rgb, rgb[::-1]))
    first.save(tmp_path / "film.gif", save_all=True, append_images=[second])
    np.testing.assert_array_equal(
        folder.decode(str(tmp_path / "film.gif")), np.asarray(first.convert("RGB"))
    )


def test_cmyk(rgb, tmp_path):
    Image.fromarray(rgb).convert("CMYK").save(tmp_path / "print.jpg", quality=100)
    pixels = folder.decode(str(tmp_path / "print.jpg"))
    assert pixels.shape == rgb.shape
    assert np.abs(pixels.astype(int) - rgb).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_exif_orientation_is_honoured(rgb, tmp_path, orientation, suffix):
    """The stored image is the upright one, turned as a camera held so would store it."""
    stored = {
        1: rgb,
        2: rgb[:, ::-1],
        3: rgb[::-1, ::-1],
        4: rgb[::-1],
        5: rgb.swapaxes(0, 1),
        6: np.rot90(rgb, 1),
        7: np.rot90(rgb, 2).swapaxes(0, 1),
        8: np.rot90(rgb, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / f"image.{suffix}"
    image = Image.fromarray(np.ascontiguousarray(stored))
    image.save(file, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(folder.decode(str(file)), rgb)


def test_damaged_exif_does_not_make_an_image_unreadable(rgb, tmp_path):
    Image.fromarray(rgb).save(tmp_path / "image.jpg", exif=b"Exif\0\0nonsense of 20 bytes")
    assert folder.decode(str(tmp_path / "image.jpg")).shape == rgb.shape


def png_header(width: int, height: int) -> bytes:
    """A PNG file that claims a size and holds no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


UNREADABLE = {
    *("cut.png", "cut.jpg", "empty.gif", "text.webp", "bomb.png", "large.png", "just_so.png"),
    *("nowhere.jpg", "itself.jpg"),
}


@pytest.fixture
def damaged(rgb, tmp_path) -> Path:
    """Three good images, and one of each kind that cannot be read."""
    for n in range(3):
        write(tmp_path / f"good{n}.png", rgb)
    whole = (tmp_path / "good0.png").read_bytes()
    Image.fromarray(rgb).save(tmp_path / "good.jpg")
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "good.jpg").read_bytes()[:900])
    (tmp_path / "good.jpg").unlink()
    (tmp_path / "empty.gif").touch()
    (tmp_path / "text.webp").write_text("no image")
    (tmp_path / "bomb.png").write_bytes(png_header(60_000, 60_000))
    (tmp_path / "large.png").write_bytes(png_header(10_000, 5_001))
    (tmp_path / "just_so.png").write_bytes(png_header(10_000, 5_000))
    (tmp_path / "nowhere.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "itself.jpg").symlink_to(tmp_path / "itself.jpg")
    return tmp_path


def test_unreadable_images_are_passed_over_and_named(damaged, rgb, recwarn, capfd):
    source = opened(damaged)
    assert source.splits == {"unlabelled": 12}
    for _ in range(2):
        images = [element["image"] for element in read(source, "unlabelled")]
        np.testing.assert_array_equal(images, [rgb] * 3)
        reasons = {Path(path).name: reason for path, reason in source.unreadable.items()}
        assert set(reasons) == UNREADABLE
    assert "truncated" in reasons["cut.jpg"]
    assert "empty" in reasons["empty.gif"]
    assert "50,000,000 pixels" in reasons["bomb.png"]
    assert reasons["large.png"] == "10000x5001 is more than 50,000,000 pixels"
    assert "pixels" not in reasons["just_so.png"]
    assert "No such file" in reasons["nowhere.jpg"]
    loaded = [pipeline.load(source, "unlabelled", 32).unreadable for _ in range(3)]
    assert [list(found) for found in loaded] == [sorted(source.unreadable)] * 3
    assert not [w for w in recwarn if "pixels" in str(w.message)]
    assert "Warning" not in capfd.readouterr().err


def test_strict_stops_at_an_unreadable_image(damaged):
    source = opened(damaged, strict=True)
    with pytest.raises(InputError, match=r"(cut|empty|text|bomb|large|just_so|nowhere|itself)\."):
        read(source, "unlabelled")
    assert len(source.unreadable) == 1


def test_strict_reads_good_images(rgb, tmp_path):
    write(tmp_path / "good.png", rgb)
    source = opened(tmp_path, strict=True)
    assert len(read(source, "unlabelled")) == 1
    assert not source.unreadable


def test_all_images_unreadable_is_an_error_that_names_one(tmp_path, caplog):
    (tmp_path / "empty.png").touch()
    with pytest.raises(InputError, match=r"no readable image .*empty\.png: empty file"):
        pipeline.load(opened(tmp_path), "unlabelled", 8)
    assert not caplog.records


def test_layout_of_classes(tmp_path, caplog):
    for label, count in {"cat": 11, "dog": 5, "eel": 1, "train": 2}.items():
        for n in range(count):
            write(tmp_path / label / f"{n}.png")
    write(tmp_path / "cat" / "more" / "deep.PNG")
    for ignored in (".DS_Store/1.png", "__MACOSX/1.png", "cat/.hidden.png"):
        write(tmp_path / ignored)
    (tmp_path / "cat" / "Thumbs.db").touch()
    (tmp_path / "empty").mkdir()

    with caplog.at_level(logging.INFO, "kfeat"):
        source = opened(tmp_path)
    assert "has no folders of splits: a fifth of each class is its test split" in caplog.text
    assert source.class_names == ("cat", "dog", "eel", "train")
    assert source.splits == {"train": 9 + 4 + 1 + 1, "test": 3 + 1 + 1, "all": 20}
    assert source.labelled == {"train", "test", "all"}
    counts = {
        split: np.bincount([e["label"] for e in read(source, split)], minlength=4).tolist()
        for split in source.splits
    }
    assert counts == {"train": [9, 4, 1, 1], "test": [3, 1, 0, 1], "all": [12, 5, 1, 2]}


def test_layout_of_splits(tmp_path):
    for file in ("Train/cat/1.png", "Train/dog/1.png", "val/cat/1.png", "val/emu/1.png"):
        write(tmp_path / file)
    for n in range(3):
        write(tmp_path / "unlabeled" / "anywhere" / f"{n}.png")
    write(tmp_path / "extra" / "1.png")
    source = opened(tmp_path)
    assert source.splits == {"train": 2, "val": 2, "unlabelled": 3, "extra": 1}
    assert source.class_names == ("cat", "dog", "emu")
    assert source.labelled == {"train", "val"}
    assert {int(e["label"]) for e in read(source, "val")} == {0, 2}
    assert set(read(source, "unlabelled")[0]) == {"id", "image"}


def test_layout_of_splits_with_other_names(tmp_path):
    for file in ("day/cat/1.png", "day/dog/1.png", "night/cat/1.png"):
        write(tmp_path / file)
    assert opened(tmp_path).splits == {"day": 2, "night": 1}


def test_a_class_that_unicode_spells_in_two_ways_is_one(tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"  # the second as a Mac writes it
    for file in (f"train/{composed}/1.png", "train/dog/1.png", f"test/{decomposed}/1.png"):
        write(tmp_path / file)
    source = opened(tmp_path)
    assert source.class_names == (composed, "dog")
    (element,) = read(source, "test")
    assert element["label"] == 0 and element["id"].decode() == f"test/{decomposed}/1.png"


def test_layout_of_tiny_imagenet(tmp_path):
    for file in ("train/n1/images/1.png", "train/n2/images/1.png", "val/images/1.png"):
        write(tmp_path / file)
    write(tmp_path / "test" / "images" / "1.png")
    source = opened(tmp_path)
    assert (source.class_names, source.labelled) == (("n1", "n2"), {"train"})
    assert source.splits == {"train": 2, "val": 1, "test": 1}


def test_classes_whose_images_lie_in_a_folder_of_one_name_each(tmp_path):
    for file in ("n1/images/1.png", "n1/images/2.png", "n2/images/1.png", "n2/images/2.png"):
        write(tmp_path / file)
    source = opened(tmp_path)
    assert source.class_names == ("n1", "n2")
    assert source.splits == {"train": 2, "test": 2, "all": 4}


def test_layout_of_splits_whose_one_class_is_called_images(tmp_path):
    for file in ("train/images/1.png", "test/images/1.png"):
        write(tmp_path / file)
    source = opened(tmp_path)
    assert (source.class_names, source.labelled) == (("images",), {"train", "test"})


def test_layout_of_splits_without_classes(tmp_path):
    for file in ("train/1.png", "train/2.png", "test/1.png"):
        write(tmp_path / file)
    source = opened(tmp_path)
    assert (source.splits, source.class_names) == ({"train": 2, "test": 1}, None)


@pytest.mark.parametrize("inner", [("train", "test"), ("train",)])
def test_splits_one_folder_deeper_are_refused(inner, tmp_path):
    for split in inner:
        for name in ("cats", "dogs"):
            write(tmp_path / "pictures" / split / name / "1.png")
    with pytest.raises(InputError, match=r"holds splits \(.*train\) one folder deeper: give pict"):
        opened(tmp_path)
    assert set(opened(tmp_path / "pictures").splits) == {*inner}


def test_images_of_other_formats_are_counted_and_named(rgb, tmp_path, caplog):
    for name in ("a/1.jpg", "b/4.png"):
        write(tmp_path / name, rgb)
    for name in ("a/2.JFIF", "a/3.jpe"):
        Image.fromarray(rgb).save(tmp_path / name, "JPEG")
    for name in ("a/5.tif", "a/6.TIFF", "c/7.heic", "c/deeper/8.tif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert opened(tmp_path).splits["all"] == 4
    assert "passed over 4 images of formats that kfeat does not read (.heic, .tif, .tiff)" in (
        caplog.text
    )
    assert len(read(opened(tmp_path), "all")) == 4


def test_layout_of_images_alone(tmp_path):
    for file in ("1.png", "2.jpg", "2019/3.png", "2019/May/4.gif"):
        write(tmp_path / file)
    source = opened(tmp_path)
    assert source.splits == {"unlabelled": 4}
    assert source.class_names is None
    assert not source.labelled


def test_images_beside_splits_are_refused(tmp_path):
    for file in ("train/cat/1.png", "test/cat/1.png", "cover.png"):
        write(tmp_path / file)
    with pytest.raises(InputError, match=r"cover\.png.*beside splits \(test, train\)"):
        opened(tmp_path)


def test_images_beside_classes_are_refused(tmp_path):
    for file in ("train/cat/1.png", "train/stray.png"):
        write(tmp_path / file)
    with pytest.raises(InputError, match=r"stray\.png.*cat"):
        opened(tmp_path)


def test_folder_without_images_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"pictures holds no images.*\.webp"):
        opened(tmp_path)


def test_loops_of_links_end(tmp_path):
    write(tmp_path / "cat" / "1.png")
    write(tmp_path / "dog" / "1.png")
    (tmp_path / "cat" / "up").symlink_to(tmp_path)
    (tmp_path / "dog" / "other").symlink_to(tmp_path / "cat")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    assert opened(tmp_path).class_names == ("cat", "dog")


def test_a_folder_under_two_names_is_said(tmp_path, caplog):
    write(tmp_path / "cats" / "1.png")
    (tmp_path / "best").symlink_to("cats")
    assert opened(tmp_path).splits["all"] == 2
    assert "are one folder: its images count more than once" in caplog.text


def test_split_follows_from_the_paths_alone(tmp_path):
    """SHA-256 of the path decides, so that every machine cuts a folder alike."""
    for n in range(10):
        write(tmp_path / "here" / "cat" / f"{n}.png", np.full((2, 2), n, np.uint8))
        write(tmp_path / "there" / "cat" / f"{9 - n}.png", np.full((2, 2), 9 - n, np.uint8))
    for root in ("here", "there"):
        source = opened(tmp_path / root)
        assert [int(e["image"][0, 0, 0]) for e in read(source, "test")] == [8, 0]
        assert [int(e["image"][0, 0, 0]) for e in read(source, "train")] == [7, 5, 3, 1, 2, 9, 6, 4]


@given(st.dictionaries(st.sampled_from("abcde"), st.integers(1, 40), min_size=1))
def test_stratified_fifth(counts):
    tree = folder._Tree(
        folders={c: folder._Tree([f"{n}.png" for n in range(count)]) for c, count in counts.items()}
    )
    splits = folder._splits(tree, "pictures")
    train, test = splits["train"], splits.get("test", {})
    assert not train.keys() & test.keys()
    assert train | test == splits["all"]
    for label, count in counts.items():
        in_test = list(test.values()).count(label)
        assert in_test == (0 if count == 1 else -(-count // 5))
        assert in_test + list(train.values()).count(label) == count


def test_names_that_are_no_utf8(rgb, tmp_path):
    file = os.fsencode(tmp_path) + b"/caf\xe9.png"
    with open(file, "wb") as stream:
        Image.fromarray(rgb).save(stream, "PNG")
    np.testing.assert_array_equal(read(opened(tmp_path), "unlabelled")[0]["image"], rgb)


def test_sample_of_stl10(shared):
    source = open_source(str(shared / "stl10_sample"))
    assert source.splits == {"labelled": 10, "unlabelled": 246}
    assert source.labelled == {"labelled"}
    assert len(source.class_names) == 10
    images = pipeline.load(source, "labelled", 96)
    assert sorted(images.labels) == list(range(10))
    assert not images.unreadable
