"""Single figures: what they show, read back from the files."""

import base64
import io
import os
import re
import shutil

import matplotlib
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

import kfeat
from kfeat.cli import commands
from kfeat.errors import InputError
from kfeat.reporting import plots, study_figures
from kfeat.scoring.features import Features, load_features
from kfeat.serving import plot as serving_plot

OPTIONS = {"k": 4, "image_size": 16}


@pytest.fixture(scope="module")
def kept(folder, tmp_path_factory):
    """The features of the folder: test and train."""
    path = tmp_path_factory.mktemp("kept")
    kfeat.score("pixels", str(folder), save_features=path, **OPTIONS)
    return path


def words(path):
    """The texts of an SVG figure, which matplotlib repeats as comments."""
    return re.findall(r"<!-- (.*?) -->", path.read_text("utf-8"))


def picture(path):
    """The image that an SVG figure holds."""
    data = re.search(r'data:image/png;base64,\s*([^"]+)"', path.read_text("utf-8"))
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data[1]))).convert("RGB"))


def marks(path):
    """The places of the marks of an SVG map, sorted; those of the legend are not among them."""
    axes = path.read_text("utf-8").split('<g id="legend_1">')[0]
    groups = re.findall(r'<g id="PathCollection_\d+">(.*?)\n   </g>', axes, re.DOTALL)
    places = [re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"', group) for group in groups]
    return sorted((float(x), float(y)) for group in places for x, y in group)


def test_a_map_has_a_mark_for_each_image_and_the_same_seed_the_same_bytes(folder, kept, tmp_path):
    arguments = ["plot", "map", "--model", "pixels", "--test", str(folder), "--map", "tsne"]
    arguments += ["--k", "4", "--image-size", "16", "--output"]
    names = {"class": None, "cluster": "cluster 4", "error": "KNN is wrong", "again": None}
    files = {name: tmp_path / f"{name}.svg" for name in names}
    for name, path in files.items():
        colour = ["--colour", name] if name != "again" else []
        done = CliRunner().invoke(commands, [*arguments, str(path), *colour])
        assert done.exit_code == 0 and done.stdout.strip() == str(path), done.output
        texts = [text.strip("\N{ZERO WIDTH SPACE}") for text in words(path)]
        assert "t-SNE of 40 images" in texts[0]
        assert names[name] is None or names[name] in texts
        assert len(set(marks(path))) == 40
    contents = {name: path.read_bytes() for name, path in files.items()}
    png = tmp_path / "map.png"
    assert contents["again"] == contents["class"]
    assert len(set(contents.values())) == 3
    kfeat.plot_features("map", kept / "test.npz", tmp_path / "kept.svg", map="tsne", k=50)
    assert len(marks(tmp_path / "kept.svg")) == 40  # by class: fewer images than clusters do
    with pytest.raises(InputError, match="k 50: more clusters than the 40 test samples"):
        kfeat.plot_features("map", kept / "test.npz", png, colour="cluster", k=50)
    seen = set()
    for _ in range(2):
        kfeat.plot("map", "pixels", str(folder), png, map="tsne", **OPTIONS)
        seen.add(png.read_bytes())
    assert len(seen) == 1
    colours = np.unique(np.asarray(Image.open(png).convert("RGB")).reshape(-1, 3), axis=0)
    for colour in ("#0072B2", "#E69F00"):  # blended with white, at 85 %
        wanted = np.array([int(colour[n : n + 2], 16) for n in (1, 3, 5)]) * 0.85 + 255 * 0.15
        assert np.abs(colours - wanted).max(axis=1).min() <= 2


def test_a_map_of_many_classes_has_room_beside_its_legend(tmp_path):
    labels = np.repeat(
        [f"{n:02d} of the Great Blue Herons (white form, {n:02d})" for n in range(45)], 2
    )
    np.savez(
        tmp_path / "x.npz", features=np.random.default_rng(0).normal(size=(90, 4)), labels=labels
    )
    kfeat.plot_features("map", tmp_path / "x.npz", tmp_path / "x.svg", map="tsne")
    texts = words(tmp_path / "x.svg")
    assert "and 3 more" in texts and sum("Great" in text for text in texts) == 42
    assert len({text for text in texts if "form, " in text}) == 42  # cut in the middle
    across = [x for x, _ in marks(tmp_path / "x.svg")]
    assert max(across) - min(across) > 200  # points of 1/72 inch: some 3 of the 5 inches


def test_a_confusion_matrix_counts_as_scikit_learn_does(folder, kept, tmp_path):
    test, train = (load_features(kept / f"{part}.npz") for part in ("test", "train"))
    knn = KNeighborsClassifier(3).fit(train.features, train.labels)
    right = int((knn.predict(test.features) == test.labels).sum())
    classes = test.manifest["data"]["classes"]
    kfeat.plot("confusion", "pixels", str(folder), tmp_path / "a.svg", neighbours=3, **OPTIONS)
    files = kept / "test.npz", tmp_path / "b.svg"
    kfeat.plot_features("confusion", *files, train=kept / "train.npz", k=4, neighbours=3)
    for path in (tmp_path / "a.svg", tmp_path / "b.svg"):
        texts = words(path)
        present = [name for name in classes if name in texts]
        counts = np.array([int(text) for text in texts if text.isdigit()])
        matrix = counts.reshape(len(present), len(present))
        assert matrix.sum() == 40
        assert matrix.trace() == right
        assert f"{right / 40:.4f}" in " ".join(texts)


def test_a_class_may_be_called_anything(photographs, tmp_path, recwarn):
    names = [b"caf\xe9", "two\nlines \N{ROCKET}".encode()]
    for n, image in enumerate(photographs[0][:24]):
        split = os.fsencode(tmp_path / "data" / ("train" if n < 12 else "test"))
        os.makedirs(split + b"/" + names[n % 2], exist_ok=True)
        Image.fromarray(image).save(os.fsdecode(split + b"/" + names[n % 2]) + f"/{n}.png")
    options = {"k": 2, "neighbours": 1, "image_size": 16}
    for what in ("confusion", "neighbours"):
        path = tmp_path / f"{what}.svg"
        kfeat.plot(what, "pixels", str(tmp_path / "data"), path, **options)
        assert any(r"caf\udce9" in text for text in words(path))
        kfeat.plot(what, "pixels", str(tmp_path / "data"), path.with_suffix(".png"), **options)
    assert not [w for w in recwarn if "Glyph" in str(w.message)]


def test_a_figure_is_drawn_as_kfeat_draws_it_whatever_the_users_settings(tmp_path):
    plane, groups = np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) % 3
    drawn = []
    for settings in ({}, {"text.usetex": True, "font.size": 20, "axes.facecolor": "black"}):
        with matplotlib.rc_context(settings):
            plots.plot_map(plane, groups, ["a", "b", "c"], "title", tmp_path / "map.svg")
            panel = {"name": "a", "plane": plane, "labels": groups, "failed": None}
            study_figures.draw_planes([panel], None, tmp_path / "planes.png")
        drawn.append([(tmp_path / name).read_bytes() for name in ("map.svg", "planes.png")])
    assert drawn[0] == drawn[1]


def test_words_beside_images_keep_what_they_are_for(tmp_path):
    images = np.zeros((1, 64, 64, 3), np.uint8)
    long = "black-and-gold garden spider, Argiope aurantia"
    features = Features(np.eye(2), np.array([0, 1]), np.array(["x" * 90 + "/1.png", "b"]), {})
    features.manifest = {"data": {"classes": [long, "barn spider"]}}
    said = serving_plot._verdict(0, features, np.array([1, 1]))
    assert said == "black-and-go…pe aurantia: taken for barn spider"
    assert serving_plot._verdict(0, features, None).endswith("x/1.png")
    plots.plot_rows([(said, [0] * 6)] * 4, images, "title", tmp_path / "rows.png", apart=True)
    drawn = np.asarray(Image.open(tmp_path / "rows.png").convert("RGB"))
    dark = (drawn < 9).all(2).any(0)
    widths = np.diff(np.flatnonzero(np.diff(np.append(False, dark).astype(int))))[::2]
    assert widths.max() >= 64  # images are no smaller than they are


@pytest.mark.parametrize("what", ["clusters", "neighbours"])
def test_rows_show_the_images_themselves(what, folder, kept, tmp_path):
    path = tmp_path / "rows.svg"
    kfeat.plot(what, "pixels", str(folder), path, neighbours=2, **OPTIONS)
    canvas, step = picture(path), 69
    rows = canvas.shape[0] // step
    shown = [canvas[y * step : y * step + 64, :64] for y in range(rows)]
    tests = [
        np.asarray(Image.open(file).resize((64, 64), Image.Resampling.BILINEAR), float)
        for file in sorted(folder.glob("test/*/*.png"))
    ]
    for image in shown:
        differences = [np.abs(image - other).mean() for other in tests]
        assert min(differences) < 4 < np.median(differences)
    if what == "clusters":
        sizes = [int(size) for size in re.findall(r"cluster \d+: (\d+) images", str(words(path)))]
        assert sum(sizes) == 40 and sizes == sorted(sizes, reverse=True) and rows == 4
    else:
        assert canvas.shape[1] == 3 * step + 15
        kfeat.plot(what, "pixels", str(folder), path, neighbours=30, **OPTIONS)
        assert picture(path).shape[1] == 21 * step + 15  # of those that vote, the nearest 20


def test_only_what_a_figure_shows_is_embedded(folder, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(folder, data)
    next(data.glob("train/*/*.png")).write_bytes(b"no image")
    options = {"k": 4, "image_size": 8, "strict": True}
    for what, colour in (("clusters", None), ("map", "class"), ("map", "cluster")):
        path = tmp_path / f"{what}-{colour}.svg"
        kfeat.plot(what, "pixels", str(data), path, map="tsne", colour=colour, **options)
        assert path.exists()
    for what, colour in (("neighbours", None), ("confusion", None), ("map", "error")):
        with pytest.raises(InputError, match="cannot be read: damaged"):
            kfeat.plot(what, "pixels", str(data), tmp_path / "no.svg", colour=colour, **options)


def test_what_a_figure_lacks_is_said_before_the_work(folder, tmp_path):
    unlabelled = str(folder / "test" / "coffee")
    path = tmp_path / "old.svg"
    path.write_text("old")
    for what, options, reason in (
        ("neighbours", {"limit": 1, "k": 1}, "1 test image has no neighbours: give 2 or more"),
        ("map", {"colour": "class"}, "has no labels to test against"),
        ("confusion", {}, "has no labels to test against"),
        ("map", {"limit": 3, "k": 2}, "a map of 3 images: give 4"),
        ("map", {"map": "pca"}, "map 'pca': choose one of umap, tsne"),
        ("clusters", {"colour": "cluster"}, "only a map is coloured"),
    ):
        with pytest.raises(InputError, match=reason):
            kfeat.plot(what, "pixels", unlabelled, path, **options)
    assert path.read_text() == "old"
    with pytest.raises(InputError, match=r"name is too long for a file"):
        kfeat.plot("map", "pixels", str(folder), tmp_path / f"{'x' * 300}.svg")
    kfeat.plot("neighbours", "pixels", unlabelled, path, k=1, limit=2)
    assert picture(path).shape[0] == 2 * 69
