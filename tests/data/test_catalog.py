import json
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from kfeat.data import pipeline, tfds_source
from kfeat.data.catalog import default_split, listing, open_source, show
from kfeat.errors import InputError
from kfeat.reporting import sheet
from kfeat.reporting.sheet import contact_sheet
from kfeat.serving.evaluate import evaluate
from kfeat.serving.report import thumbnails


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data_dir with small data sets that TFDS wrote: grey, 16-bit, alpha, two of words."""
    import tensorflow_datasets as tfds

    data_dir = tmp_path_factory.mktemp("tensorflow_datasets")
    features = tfds.features

    def write(name, image, examples, version="1.0.0", config=None, **others):
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version=version,
            config=config,
            data_dir=data_dir,
            features=features.FeaturesDict({"image": image, **others} if image else others),
            split_datasets={s: list(enumerate(rows)) for s, rows in examples.items()},
            disable_shuffling=True,
        )

    grey = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    label = features.ClassLabel(names=["cat", "dog"])
    one = features.Image(shape=(4, 4, 1))
    write("grey", one, {"train": [{"image": grey, "label": 1}]}, label=label)
    write("grey", one, {"train": [{"image": grey, "label": 1}] * 3}, "1.10.0", label=label)
    write("grey", one, {"train": [{"image": grey, "label": 1}] * 2}, "1.9.0", label=label)
    deep = features.Image(shape=(4, 4, 1), dtype=np.uint16)
    write("deep", deep, {"train": [{"image": grey.astype(np.uint16) << 8}]})
    alpha = features.Image(shape=(None, None, 4))
    write("alpha", alpha, {"train": [{"image": np.repeat(grey, 4, axis=-1)}]})
    write(
        "spelt",
        one,
        {
            "unlabeled": [{"image": grey, "label": -1}],
            "test": [{"image": grey, "label": -1}],
            "train": [{"image": grey, "label": 0}],
        },
        label=label,
    )
    sorted_by_class = [{"image": grey, "label": n // 8} for n in range(16)]
    write("sorted", one, {"train": sorted_by_class}, label=label)
    for config in ("small", "large"):
        write("sizes", one, {"train": [{"image": grey}]}, config=config)
    write("words", None, {"train": [{"text": "no image"}]}, text=features.Text())
    return data_dir


GREY = np.repeat(np.arange(16, dtype=np.uint8).reshape(4, 4, 1), 3, axis=-1)


def test_data_of_the_same_name_and_version_have_a_state_of_their_own(prepared, tmp_path):
    import tensorflow_datasets as tfds

    there = shutil.copytree(prepared / "grey", tmp_path / "there" / "grey").parent
    label = tfds.features.ClassLabel(names=["cat", "dog"])
    noise = np.random.default_rng(0).integers(0, 256, (4, 4, 1), np.uint8)
    tfds.dataset_builders.store_as_tfds_dataset(
        name="grey",
        version="1.10.0",
        data_dir=tmp_path / "other",
        features=tfds.features.FeaturesDict(
            {"image": tfds.features.Image(shape=(4, 4, 1)), "label": label}
        ),
        split_datasets={"train": list(enumerate([{"image": noise, "label": 1}] * 3))},
        disable_shuffling=True,
    )
    sources = [open_source("grey", data_dir=d) for d in (prepared, there, tmp_path / "other")]
    assert len({str(source.splits) + str(source.version) for source in sources}) == 1
    here, moved, other = (source.state() for source in sources)
    assert here == moved != other


@pytest.mark.parametrize("name", ["grey", "deep", "alpha"])
def test_all_kinds_of_images_become_rgb(prepared, name):
    source = open_source(name, data_dir=prepared)
    (*_, element) = source.dataset("train").as_numpy_iterator()
    assert element["image"].dtype == np.uint8
    np.testing.assert_array_equal(element["image"], GREY)
    assert source.image_shape == (None if name == "alpha" else (4, 4))


def test_highest_version_unless_one_is_named(prepared):
    assert open_source("grey", data_dir=prepared).splits == {"train": 3}
    assert open_source("grey:1.9.0", data_dir=prepared).splits == {"train": 2}


@pytest.mark.parametrize("inside", ["", "1.9.0"])
def test_prepared_data_by_their_path(prepared, inside):
    source = open_source(str(prepared / "grey" / inside))
    assert source.splits == {"train": 2 if inside else 3}
    assert source.class_names == ("cat", "dog")


def test_prepared_data_by_a_path_from_here(prepared, monkeypatch):
    monkeypatch.chdir(prepared)
    for name in ("grey", "./grey", "grey/1.10.0"):
        assert open_source(name, data_dir="/nowhere").splits == {"train": 3}
    monkeypatch.chdir(prepared / "grey" / "1.9.0")
    assert open_source(".").splits == {"train": 2}


def test_configurations(prepared):
    assert open_source("sizes/small", data_dir=prepared).splits == {"train": 1}
    with pytest.raises(InputError, match="sizes holds several data sets: give one of large, small"):
        open_source("sizes", data_dir=prepared)
    with pytest.raises(InputError, match="several data sets: give one of alpha, deep, grey"):
        open_source(str(prepared))


def test_splits_without_labels(prepared):
    source = open_source("spelt", data_dir=prepared)
    assert set(source.splits) == {"unlabelled", "test", "train"}
    assert source.labelled == {"train"}
    assert set(next(iter(source.dataset("unlabelled")))) == {"id", "image"}
    assert default_split(source, labelled=False) == "unlabelled"
    assert default_split(source, labelled=True) == "train"


@pytest.mark.parametrize("limit", [1, 3, 5, 16, 20])
def test_a_limit_takes_a_fair_sample_of_data_in_the_order_of_their_classes(prepared, limit):
    source = open_source("sorted", data_dir=prepared)
    labels = [e["label"] for e in source.dataset("train", limit).as_numpy_iterator()]
    assert len(labels) == min(limit, 16) == source.count("train", limit)
    assert abs(2 * sum(labels) - len(labels)) <= 1


def test_modules_that_a_folder_names_are_not_run(prepared, tmp_path):
    folder = shutil.copytree(prepared / "grey" / "1.9.0", tmp_path / "stranger")
    text = (folder / "features.json").read_text()
    own = "tensorflow_datasets.core.features.image_feature.Image"
    assert own in text
    outer = "tensorflow_datasets.core.features.features_dict.FeaturesDict"
    stranger = {"image": {"type": "antigravity.Image", "content": {}}}
    for changed in (
        text.replace(own, "antigravity.Image"),
        text.replace("pythonClassName", "python_class_name").replace(own, "antigravity.Image"),
        json.dumps({"pythonClassName": outer, "jsonFeature": {"json": json.dumps(stranger)}}),
    ):
        (folder / "features.json").write_text(changed)
        with pytest.raises(InputError, match=r"names antigravity.Image, which is no part of TFDS"):
            open_source(str(folder))
        assert "antigravity" not in sys.modules
    (folder / "features.json").write_text(text)
    assert open_source(str(folder)).splits == {"train": 2}


def test_data_without_images_are_refused(prepared):
    with pytest.raises(InputError, match="words is no data set of images: its features are text"):
        open_source("words", data_dir=prepared)
    with pytest.raises(InputError, match="imdb_reviews is no data set of images"):
        open_source("imdb_reviews", data_dir=prepared)


def test_incomplete_data_are_refused(prepared, tmp_path):
    shutil.copytree(prepared / "deep", tmp_path / "deep")
    (record,) = (tmp_path / "deep").rglob("*.tfrecord*")
    shutil.copytree(prepared / "sorted", tmp_path / "sorted")
    for name, words in (("deep", "deep is damaged"), ("sorted", "sorted train cannot be read")):
        (file,) = (tmp_path / name).rglob("*.tfrecord*")
        file.write_bytes(file.read_bytes()[:20])
        with pytest.raises(InputError, match=rf"{words} \(.*\): prepare it again"):
            pipeline.load(open_source(name, data_dir=tmp_path), "train", 4)
    info = next((tmp_path / "deep").rglob("dataset_info.json"))
    told = info.read_text()
    shutil.copyfile(next((prepared / "deep").rglob("*.tfrecord*")), record)
    info.write_text(re.sub(r'("shardLengths": \[\s*)"\d+"', r'\1"9"', told))
    assert info.read_text() != told
    with pytest.raises(InputError, match=r"deep has not the .* it should \(.*\): prepare it again"):
        pipeline.load(open_source("deep", data_dir=tmp_path), "train", 4)
    record.unlink()
    with pytest.raises(InputError, match=rf"deep is incomplete: .*{record.name} is missing"):
        open_source("deep", data_dir=tmp_path)
    (tmp_path / "deep" / "1.0.0" / "dataset_info.json").write_text("{")
    with pytest.raises(InputError, match=r"dataset_info\.json cannot be read"):
        open_source("deep", data_dir=tmp_path)


def test_a_damaged_image_and_a_format_that_tf_data_lacks_are_refused(prepared, tmp_path):
    def spoil(name, file, old, new):
        shutil.copytree(prepared / name, tmp_path / name)
        (file,) = (tmp_path / name).rglob(file)
        assert old in file.read_bytes()
        file.write_bytes(file.read_bytes().replace(old, new))

    spoil("deep", "dataset_info.json", b'"tfrecord"', b'"array_record"')
    with pytest.raises(InputError, match="deep is prepared as array_record, .* file_format='tfr"):
        open_source("deep", data_dir=tmp_path)

    import tensorflow_datasets as tfds

    (tmp_path / "broken.png").write_bytes(b"no image")  # which TFDS takes as it is
    tfds.dataset_builders.store_as_tfds_dataset(
        name="broken",
        version="1.0.0",
        data_dir=tmp_path,
        features=tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(4, 4, 3))}),
        split_datasets={"train": [(0, {"image": str(tmp_path / "broken.png")})]},
        disable_shuffling=True,
    )
    source = open_source("broken", data_dir=tmp_path)
    with pytest.raises(InputError, match="broken holds an image that cannot be read"):
        pipeline.load(source, "train", 4)
    with pytest.raises(InputError, match="gs://bucket/x is no folder of this machine"):
        open_source("broken", data_dir="gs://bucket/x")


def test_listing_of_prepared_data(prepared):
    names = tfds_source.prepared_names(prepared)
    assert names["grey"] == {"train": 3}
    assert names["spelt"] == {"unlabelled": 1, "test": 1, "train": 1}
    assert {"sizes/large", "sizes/small"} < set(names)
    for name, splits in names.items():
        if name != "words":
            assert open_source(name, data_dir=prepared).splits == splits
    with pytest.raises(InputError, match="nope is no folder: give the one where TFDS keeps"):
        listing(prepared / "nope")


def test_folder_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "holiday").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "holiday" / "1.png")
    for name in ("holiday", "./holiday", str(tmp_path / "holiday"), "../" + tmp_path.name):
        source = open_source(name, data_dir=tmp_path / "none")
        assert source.name == name
        assert sum(source.splits.values()) >= 1


BAD_NAMES = {
    "cifar100000": r"'cifar100000' is no data set .* no folder; did you mean 'cifar100'\?",
    "photo": r"did you mean 'photos'\?",
    "greys": r"did you mean 'grey'\?",
    "./nowhere": r"\./nowhere: no such file or folder",
    "nowhere/at/all": r"nowhere/at/all: no such file or folder",
    "/nowhere": "/nowhere: no such file or folder",
    "": "the data set has no name",
    __file__: "is a file: give the folder",
}


def test_bad_names_are_told_without_tensorflow(prepared):
    program = f"""if True:
        import json, sys
        from kfeat.data.catalog import open_source
        from kfeat.errors import InputError
        messages = {{}}
        for name in {list(BAD_NAMES)!r}:
            try:
                open_source(name, data_dir={str(prepared)!r})
            except InputError as error:
                messages[name] = str(error)
        assert "tensorflow" not in sys.modules and "tensorflow_datasets" not in sys.modules
        print(json.dumps(messages))
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    messages = json.loads(done.stdout)
    for name, expected in BAD_NAMES.items():
        assert re.search(expected, messages[name]), messages[name]
        assert "\n" not in messages[name]


def test_missing_data_offline_say_what_to_do(tmp_path, monkeypatch):
    """Whether its name is not resolved or nobody answers, the server is soon given up."""
    import socket

    def offline(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    start = time.monotonic()
    with pytest.raises(InputError, match=r"stl10 is not prepared in .*Name or service") as error:
        open_source("stl10", data_dir=tmp_path)
    assert "--data-dir" in str(error.value)
    assert "kfeat data add stl10 PATH" in str(error.value)
    with pytest.raises(InputError, match="mnist is not prepared") as error:
        open_source("mnist", data_dir=tmp_path)
    assert "data add" not in str(error.value)
    assert time.monotonic() - start < 15
    assert not list(tmp_path.iterdir())


def test_silent_server_is_given_up(tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/data.tar.gz"
        with pytest.raises(OSError, match="timed out"):
            tfds_source._reach({url: None}, timeout=0.2)


def test_known_names_are_those_of_tfds():
    import tensorflow_datasets as tfds

    builders = set(tfds.list_builders(with_community_datasets=False))
    assert len(builders) > 300
    assert builders <= tfds_source.known_names()
    assert len(tfds_source.known_names()) < len(builders) + 20


def test_development_data(shared):
    data_dir = shared / "tensorflow_datasets"
    cifar10 = open_source("cifar10", data_dir=data_dir)
    assert cifar10.splits == {"train": 50_000, "test": 10_000}
    assert cifar10.labelled == {"train", "test"}
    assert cifar10.class_names[3] == "cat"
    mnist = open_source("mnist", data_dir=data_dir)
    assert mnist.splits == {"test": 10_000}
    assert next(iter(mnist.dataset("test")))["image"].shape == (28, 28, 3)
    tiny = open_source(str(data_dir / "tiny_imagenet"))
    assert (tiny.splits["train"], len(tiny.class_names)) == (40_000, 200)


def test_contact_sheet(folder, tmp_path, photographs):
    images, labels, classes = photographs
    output = tmp_path / "sheet.png"
    output.write_text("an older one")
    contact_sheet(open_source(str(folder)), output, "test")
    shown = show(open_source(str(folder)))
    assert shown["splits"]["test"] == {"images": 40, "labelled": True}
    assert shown["classes"] == sorted(classes)
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]
    with Image.open(output) as sheet:
        assert sheet.format == "PNG"
        pixels = np.asarray(sheet)
    in_test = labels[80:]
    assert pixels.shape[0] == 4 + 10 * 100
    assert pixels.shape[1] > 4 + np.bincount(in_test).max() * 100
    for row, name in enumerate(sorted(classes)):
        of_class = images[80:][in_test == classes.index(name)]
        drawn = pixels[4 + row * 100 :][:96, -100 * np.bincount(in_test).max() :][:, :96]
        assert any(np.array_equal(drawn, image) for image in of_class)


def test_pictures_of_a_limited_score_are_of_the_images_scored(tmp_path):
    """Of data in the order of their classes, the limit takes every so-many-th image."""
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(4, 4, 3)),
            "label": tfds.features.ClassLabel(num_classes=3),
        }
    )
    images = [np.full((4, 4, 3), 10 * n, np.uint8) for n in range(24)]
    tfds.dataset_builders.store_as_tfds_dataset(
        name="ordered",
        version="1.0.0",
        data_dir=tmp_path,
        features=features,
        split_datasets={"test": [(n, {"image": i, "label": n // 8}) for n, i in enumerate(images)]},
        disable_shuffling=True,
    )
    result, parts = evaluate("pixels", "ordered", k=3, limit=6, data_dir=tmp_path)
    rows = np.array([5, 0, 3])
    shown = thumbnails(result["test"], parts["test"], rows, 4, tmp_path)
    pixels = parts["test"].features[rows].reshape(3, 4, 4, 3) * 255
    np.testing.assert_array_equal(shown, pixels.round())
    assert len(np.unique(parts["test"].labels)) == 3


def test_contact_sheet_keeps_images_as_small_as_they_are_shown(tmp_path, monkeypatch):
    for n in range(3):
        Image.new("RGB", (800, 1200 + n), "red").save(tmp_path / f"{n}.png")
    drawn = []
    draw = sheet._draw
    monkeypatch.setattr(sheet, "_draw", lambda grid, *rest: drawn.extend(grid) or draw(grid, *rest))
    Image.new("RGB", (1000, 1), "red").save(tmp_path / "line.png")
    contact_sheet(open_source(str(tmp_path)), tmp_path / "sheet.png")
    sizes = sorted(image.size for row in drawn for image in row)
    assert sizes == [(64, 96)] * 3 + [(96, 1)]


def test_an_embedded_name_is_not_a_folders(tmp_path, monkeypatch, caplog):
    (tmp_path / "digits").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "digits" / "1.png")
    monkeypatch.chdir(tmp_path)
    assert "train" in open_source("digits").splits
    assert "write ./digits for the folder" in caplog.text
    assert open_source("./digits").splits == {"unlabelled": 1}


def test_contact_sheet_that_cannot_be_written(folder, tmp_path):
    for output in (tmp_path, tmp_path / "no" / "sheet.png"):
        with pytest.raises(InputError, match="cannot be written"):
            contact_sheet(open_source(str(folder)), output)
    with pytest.raises(InputError, match=r"sheet.jpg: the contact sheet is a PNG file"):
        contact_sheet(open_source(str(folder)), tmp_path / "sheet.jpg")
    with pytest.raises(InputError, match=r"no split 'tset'.*did you mean 'test'"):
        contact_sheet(open_source(str(folder)), tmp_path / "sheet.png", "tset")
    assert not list(tmp_path.iterdir())
