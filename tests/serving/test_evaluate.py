"""The scorecard of an encoder: which images it is fitted to, and which it is judged on."""

import json
import os
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

import kfeat
from kfeat.data import pipeline
from kfeat.data.source import Source
from kfeat.errors import InputError
from kfeat.scoring.features import load_features
from kfeat.serving.evaluate import _seen_in_training, score_models
from kfeat.serving.export import learnt_from


@pytest.mark.parametrize("model", ["pixels", "pca128"])
def test_baselines_equal_scikit_learn_on_the_pixels(model, tmp_path):
    """Fitted to train, judged on test: a mix-up of the two would be seen."""
    source = kfeat.open_source("photos")
    x, y = [], []
    for split in ("train", "test"):
        data = pipeline.load(source, split, 32, limit=300)
        x.append(data.images.reshape(300, -1) / np.float32(255))
        y.append(data.labels)
    if model == "pca128":
        pca = PCA(128, svd_solver="full").fit(x[0])
        x = [pca.transform(points) for points in x]
    expected = KNeighborsClassifier(5).fit(x[0], y[0]).score(x[1], y[1])
    card = kfeat.score(model, "photos", image_size=32, limit=300, save_features=tmp_path)
    assert card["classification"]["accuracy"] == pytest.approx(expected, abs=0.02)
    assert card["test"]["count"] == card["train"]["count"] == 300
    swapped = KNeighborsClassifier(5).fit(x[1], y[1]).score(x[0], y[0])
    assert abs(swapped - expected) > 0.02
    if model == "pixels":
        for file, points, labels in zip(("train.npz", "test.npz"), x, y, strict=True):
            kept = load_features(tmp_path / file)
            np.testing.assert_array_equal(kept.features, points)
            np.testing.assert_array_equal(kept.labels, labels)


def saved_encoder(path):
    """A SavedModel: the mean colour of an image."""
    images = keras.Input((32, 32, 3))
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))
    model.export(path, verbose=False)
    return str(path)


def test_an_encoder_is_fitted_to_train_and_judged_on_test(folder, tmp_path):
    path = saved_encoder(tmp_path / "mean")
    source = kfeat.open_source(str(folder))
    options = {"k": 3, "save_features": tmp_path / "kept"}
    card = kfeat.score(path, str(folder), **options)
    x, y, ids = {}, {}, {}
    for split in ("train", "test"):
        data = pipeline.load(source, split, 32)
        x[split], y[split] = data.images.mean((1, 2)), data.labels
        ids[split] = [e["id"].decode() for e in source.dataset(split).as_numpy_iterator()]
    for fit, judge in (("train", "test"), ("test", "train")):
        expected = KNeighborsClassifier(5).fit(x[fit], y[fit]).score(x[judge], y[judge])
        card = kfeat.score(path, str(folder), test_split=judge, train_split=fit, **options)
        assert card["classification"]["accuracy"] == pytest.approx(expected)
        assert card["train"]["split"] == fit and card["test"]["split"] == judge
        kept = load_features(tmp_path / "kept" / "test.npz")
        np.testing.assert_allclose(kept.features, x[judge], rtol=1e-5)
        assert kept.ids.tolist() == ids[judge]
        assert all((folder / name).is_file() for name in ids[judge])
        assert kept.manifest["data"]["location"] == str(folder)
        assert kept.manifest["data"]["split"] == judge
        assert kept.manifest["encoder"] == card["encoder"]
        again = kfeat.score_features(
            tmp_path / "kept" / "test.npz", tmp_path / "kept" / "train.npz", k=3
        )
        for part in ("clustering", "classification", "features", "leaks"):
            assert again[part] == card[part]
        same = [tmp_path / "kept" / name for name in ("test.npz", "copy.npz")]
        shutil.copyfile(*same)
        for train in same:
            with pytest.raises(InputError, match=r"holds images of .*each the nearest to itself"):
                kfeat.score_features(same[0], train, k=3)
        assert json.loads(json.dumps(card)) == card


def test_splits_that_share_images_or_classes_that_differ_are_refused(folder, tmp_path):
    path = saved_encoder(tmp_path / "mean")
    for test_split, train_split in (("test", "test"), ("train", "train")):
        with pytest.raises(InputError, match="have no image in common"):
            kfeat.score(path, str(folder), test_split=test_split, train_split=train_split)
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(InputError, match="have no image in common"):
        kfeat.score(path, str(folder), train=str(link), train_split="test")
    for split in ("train", "test"):
        shutil.copytree(folder / split, tmp_path / "links" / split, copy_function=os.symlink)
    with pytest.raises(InputError, match="have no image in common"):
        kfeat.score(path, str(folder), train=str(tmp_path / "links"), train_split="test")
    within, options = str(folder / "train"), {"train": str(folder), "k": 3}
    with pytest.raises(InputError, match="have no image in common"):
        kfeat.score(path, within, train_split="train", **options)
    card = kfeat.score(path, within, train_split="test", **options)
    assert card["classification"]["accuracy"] is not None
    other = tmp_path / "other"
    shutil.copytree(folder / "train", other / "train")
    (other / "train" / "coffee").rename(other / "train" / "tea")
    with pytest.raises(InputError, match="have different classes"):
        kfeat.score(path, str(folder), train=str(other), k=3)
    (other / "train").rename(other / "more")
    with pytest.raises(InputError, match="no labelled train images for KNN.*give --train-split"):
        kfeat.score(path, str(folder), train=str(other), k=3)
    with pytest.raises(InputError, match="save_features goes with one model only"):
        score_models([path, path], str(folder), save_features=tmp_path / "features")
    for option in ({"engine": "onnx"}, {"precision": "int4"}):
        with pytest.raises(InputError, match=f"{next(iter(option))} .*choose one of"):
            kfeat.score("pixels", str(folder), k=3, **option)
    for option in ({"k": 0}, {"neighbours": 0}, {"repeats": 0}, {"seed": -1}, {"limit": 0}):
        with pytest.raises(InputError, match=next(iter(option))):
            kfeat.score(path, "no such data", **option)


def test_images_that_an_encoder_learnt_from_are_told(folder, tmp_path, caplog):
    options = {"image_size": 32, "epochs": 1, "split": "train", "limit": 32}
    first, second = (str(tmp_path / name) for name in ("first", "second"))
    kfeat.train(kfeat.compose("cae3", data=str(folder), **options), first, home=tmp_path)
    recipe = kfeat.compose("cae3", data="digits", weights=first, **options)
    kfeat.train(recipe, second, home=tmp_path)
    shutil.copytree(folder, tmp_path / "links", copy_function=os.symlink)
    shutil.copyfile(tmp_path / "first" / "model.keras", tmp_path / "alone.keras")

    def seen(model, data, test, train):
        caplog.clear()
        splits = {"test_split": test, "train_split": train}
        card = kfeat.score(str(model), str(data), k=3, limit=40, home=tmp_path, **splits)
        told = card["test"]["seen_in_training"]
        assert ("the images of the test or some of them" in caplog.text) == (told is True)
        return told, card["encoder"]["learnt_from"]

    own = {"name": str(folder), "location": str(folder), "version": None, "split": "train"}
    own["state"] = None
    exported = tmp_path / "saved_models" / "cae3" / "1"
    for model in (first, exported):
        assert seen(model, folder, "train", "test") == (True, [own])
        assert seen(model, folder, "test", "train") == (False, [own])
    told, data = seen(second, tmp_path / "links", "train", "test")  # by what it started from
    assert told is True and [one["name"] for one in data] == [str(folder), "digits"]
    assert seen(second, folder, "test", "train")[0] is False
    assert seen(tmp_path / "alone.keras", folder, "train", "test") == (None, None)

    cut = shutil.copytree(folder / "train", tmp_path / "cut")
    about = own | {"location": str(cut), "state": kfeat.open_source(cut).state()}
    results = tmp_path / "first" / "results.json"
    results.write_text(json.dumps({"weights": {"source": "none"}, "data": about}))
    assert seen(first, cut, "test", "train") == (False, [about])
    assert seen(first, cut, "all", None)[0] is True
    next(cut.glob("*/*.png")).unlink()  # and what it learnt from may be in the test by now
    assert seen(first, cut, "test", "train") == (None, [about])
    moved = shutil.move(cut, tmp_path / "moved")
    assert seen(first, moved, "test", "train") == (None, [about])
    os.link(next((folder / "train").glob("*/*.png")), tmp_path / "link.png")
    for split in ("train", "test"):
        (tmp_path / "divided" / split / "coffee").mkdir(parents=True)
        os.link(tmp_path / "link.png", tmp_path / "divided" / split / "coffee" / "one.png")
    about = own | {"location": str(tmp_path / "divided")}
    results.write_text(json.dumps({"weights": {"source": "none"}, "data": about}))
    divided = kfeat.open_source(tmp_path / "divided")
    assert _seen_in_training(learnt_from(tmp_path / "first" / "model.keras"), divided, "test")
    for odd in ('{"weights": {"source": "none"}, "data": null}', '{"data": 5}', "[]", "{"):
        results.write_text(odd)
        assert learnt_from(tmp_path / "first" / "model.keras") is None


STL10 = {"name": "stl10", "location": "/a/stl10/1.0.0", "version": "1.0.0", "split": "train"}
PHOTOS = {"name": "photos", "location": None, "version": None, "split": "train"}


@pytest.mark.parametrize(
    ("learnt", "name", "location", "version", "split", "expected"),
    [
        (STL10, "stl10", "/a/stl10/1.0.0", "1.0.0", "train", True),
        (STL10, "stl10", "/a/stl10/1.0.0", "1.0.0", "test", False),
        (STL10, "stl10", "/b/stl10/1.0.0", "1.0.0", "train", True),
        (STL10, "/b/stl10", "/b/stl10/1.0.0", "1.0.0", "train", None),
        (STL10, "cifar10", "/a/cifar10/3.0.2", "3.0.2", "train", False),
        (STL10, "/pictures", "/pictures", None, "train", False),
        (STL10, "photos", None, None, "train", False),
        (PHOTOS, "photos", None, None, "train", True),
        (PHOTOS, "photos", None, None, "test", False),
        (PHOTOS, "digits", None, None, "train", False),
        (PHOTOS, "/pictures", "/pictures", None, "train", False),
        (dict.fromkeys(STL10) | {"name": "imagenet"}, "photos", None, None, "train", None),
        ({"name": [], "location": 5, "split": "train"}, "photos", None, None, "train", None),
        (STL10 | {"location": "\0"}, "/b", "/b", None, "train", None),
        (STL10 | {"split": {}}, "stl10", "/a/stl10/1.0.0", "1.0.0", "train", None),
    ],
)
def test_data_are_known_by_place_name_and_version(learnt, name, location, version, split, expected):
    splits = {"train": 1, "test": 1}
    source = Source(name, None, splits, frozenset(), None, location=location, version=version)
    assert _seen_in_training([learnt], source, split) is expected


def test_a_test_split_with_labels_comes_first(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(folder / "train", tmp_path / "pictures" / "train")
    shutil.copytree(folder / "test", tmp_path / "pictures" / "val")
    (tmp_path / "pictures" / "test").mkdir()
    for file in (folder / "test").rglob("*.png"):
        shutil.copy(file, tmp_path / "pictures" / "test")
    options = {"k": 3, "image_size": 32, "report": "~/page.html", "report_map": "tsne"}
    card = kfeat.score("pixels", str(tmp_path / "pictures"), **options)
    assert card["test"]["split"] == "val" and card["classification"]["accuracy"] is not None
    assert (tmp_path / "page.html").exists()
    card = kfeat.score("pixels", str(tmp_path / "pictures"), test_split="test", k=3, image_size=32)
    assert card["test"]["split"] == "test" and card["clustering"]["nmi"] is None


def test_pca128_learns_from_images_without_labels(photographs, tmp_path):
    root = tmp_path / "pictures"
    for n, image in enumerate(np.concatenate([photographs[0], photographs[0][:, ::-1]])):
        place = root / ("val" if n % 6 == 0 else "unlabelled")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{n}.png")
    card = kfeat.score("pca128", str(root), k=3)
    assert (card["test"]["split"], card["train"]["split"]) == ("val", "unlabelled")
    assert card["features"] == {"count": 40, "dim": 128}
    assert card["classification"]["accuracy"] is None
    with pytest.raises(InputError, match="fitted to other images than those of the test"):
        kfeat.score("pca128", str(root / "val"), k=3)


def test_two_folders_of_classes_are_tested_and_learnt_from_whole(folder, tmp_path):
    options = {"k": 3, "image_size": 16}
    card = kfeat.score("pixels", str(folder / "test"), train=str(folder / "train"), **options)
    assert (card["test"]["split"], card["train"]["split"]) == ("all", "all")
    assert (card["test"]["count"], card["train"]["count"]) == (40, 80)
    card = kfeat.score("pixels", str(folder / "test"), **options)
    assert (card["test"]["split"], card["train"]["split"]) == ("test", "train")
    card = kfeat.score(
        "pixels", str(folder / "test"), train=str(folder / "train"), test_split="train", **options
    )
    assert (card["test"]["split"], card["train"]["split"]) == ("train", "all")


def test_a_baseline_learns_classes_from_no_other_images_than_an_encoder(photographs, tmp_path):
    for n, image in enumerate(photographs[0]):
        place = tmp_path / ("test" if n < 20 else "val") / "ab"[n % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{n}.png")
    with pytest.raises(InputError, match="100 train images have fewer than 128"):  # those of val
        kfeat.score("pca128", str(tmp_path), k=2, image_size=8)
    for n, image in enumerate(photographs[0]):
        Image.fromarray(image[::-1]).save(tmp_path / "val" / "ab"[n % 2] / f"{n}-down.png")
    cards = score_models(["pca128", "pixels"], str(tmp_path), k=2, image_size=8)
    assert cards[0]["train"]["split"] == "val" and cards[1]["train"] is None
    assert [card["classification"]["accuracy"] for card in cards] == [None, None]
    card = kfeat.score("pca128", str(tmp_path), k=2, image_size=8, train_split="val")
    assert card["classification"]["accuracy"] is not None


def test_an_image_size_that_an_encoder_cannot_take_is_refused_before_the_work(
    folder, tmp_path, monkeypatch
):
    images = keras.Input((None, None, 3))
    halved = keras.layers.UpSampling2D()(keras.layers.MaxPooling2D()(images))
    joined = keras.layers.Concatenate()([images, halved])
    keras.Model(images, keras.layers.GlobalAveragePooling2D()(joined)).save(tmp_path / "any.keras")
    monkeypatch.setattr(kfeat.serving.encoder, "embed_split", lambda *args, **options: 1 / 0)
    for engine in ("tensorflow", "auto"):
        with pytest.raises(InputError, match=r"any.keras cannot take images of 51 pixels: give an"):
            kfeat.score(tmp_path / "any.keras", folder, k=3, image_size=51, engine=engine)
    exported = kfeat.export(keras_of_size(32, tmp_path), home=tmp_path)
    with pytest.raises(InputError, match=r"1 takes images of 32 pixels only"):
        score_models([tmp_path / "any.keras", exported], folder, k=3, image_size=64)
    (tmp_path / "kept" / "train.npz").mkdir(parents=True)
    with pytest.raises(InputError, match="train.npz cannot be written: it is a folder"):
        kfeat.score(exported, folder, k=3, save_features=tmp_path / "kept")


def keras_of_size(size, place):
    images = keras.Input((size, size, 3))
    path = place / "mine.keras"
    keras.Model(images, keras.layers.GlobalAveragePooling2D()(images), name="mine").save(path)
    return path


def test_unreadable_images_beyond_the_limit_are_not_reported(photographs, tmp_path):
    root = tmp_path / "pictures"
    root.mkdir()
    for n, image in enumerate(photographs[0][:30]):
        Image.fromarray(image).save(root / f"{n}.png")
    order = [
        e["id"].decode()
        for e in kfeat.open_source(str(root)).dataset("unlabelled").as_numpy_iterator()
    ]
    for name in (order[3], order[12]):
        (root / name).write_bytes(b"broken")
    card = kfeat.score("pixels", str(root), k=3, limit=10, image_size=16)
    assert card["test"]["count"] == 9
    assert list(card["unreadable"]) == [str(root / order[3])]


def test_a_keras_model_that_is_no_encoder_is_refused(tmp_path):
    class Own(keras.Model):
        def call(self, images):
            return images[:, 0, 0]

    images = keras.Input((32, 32, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(images)
    for name, model, words in [
        ("two", keras.Model(images, [pooled, pooled * 2]), "one input and one output"),
        ("own", Own(), "holds Own, whose code is not Keras's|one input and one output"),
        ("unbuilt", keras.Sequential([keras.layers.Flatten()]), "one input and one output"),
    ]:
        if name == "own":
            model(tf.zeros([1, 32, 32, 3]))
        path = tmp_path / f"{name}.keras"
        model.save(path)
        with pytest.raises(InputError, match=words):
            kfeat.score(str(path), "photos", limit=20)
    keras.Model(images, {"vectors": pooled}).save(tmp_path / "named.keras")
    assert kfeat.score(str(tmp_path / "named.keras"), "photos", limit=20)["features"]["dim"] == 3
