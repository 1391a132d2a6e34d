"""The Embedding Projector's set, read by TensorBoard itself."""

import io
import json
import math
import os
import urllib.parse
import urllib.request

import numpy as np
import pytest
from PIL import Image

import kfeat
from kfeat.errors import InputError
from kfeat.reporting import projector
from kfeat.scoring.clustering import kmeans
from kfeat.scoring.features import load_features
from kfeat.serving.evaluate import score_models


@pytest.fixture(scope="module")
def written(folder, tmp_path_factory):
    """A set of one encoder twice, and the features that it is made of."""
    root = tmp_path_factory.mktemp("projector")
    options = {"k": 3, "image_size": 16, "seed": 2}
    score_models(["pixels"] * 2, str(folder), projector=root / "new" / "set", **options)
    score_models(["pixels"], str(folder), save_features=root / "features", **options)
    return root / "new" / "set", load_features(root / "features" / "test.npz")


@pytest.fixture(scope="module")
def ask(written):
    """Ask the Projector of a running TensorBoard."""
    default = pytest.importorskip("tensorboard.default")
    program = pytest.importorskip("tensorboard.program")
    board = program.TensorBoard(plugins=default.get_plugins())
    board.configure(
        logdir=str(written[0]), port=0, host="127.0.0.1", load_fast="false", reload_interval=0
    )
    address = board.launch()

    def get(route, **parameters):
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{address}data/plugin/projector/{route}?{query}") as answer:
            return answer.read()

    return get


def test_tensorboard_loads_vectors_metadata_and_images(written, ask, folder):
    path, features = written
    assert json.loads(ask("runs")) == ["."]
    embeddings = json.loads(ask("info", run="."))["embeddings"]
    assert [e["tensorShape"] for e in embeddings] == [[40, 768]] * 2
    names = [e["tensorName"] for e in embeddings]
    assert names == ["pixels", "pixels-2"]
    clusters = kmeans(features.features, 3, 2)
    for name in names:
        vectors = np.frombuffer(ask("tensor", run=".", name=name), np.float32).reshape(40, 768)
        np.testing.assert_array_equal(vectors, features.features)
        lines = ask("metadata", run=".", name=name).decode().splitlines()
        assert lines[0] == "class\tid\tcluster\tpredicted" and len(lines) == 41
        classes = features.manifest["data"]["classes"]
        for line, cluster, label, image in zip(
            lines[1:], clusters, features.labels, features.ids, strict=True
        ):
            cells = line.split("\t")
            assert cells[:3] == [classes[label], " ".join(image.split()), f"cluster {cluster + 1}"]
            assert cells[3] in classes
    image = ask("sprite_image", run=".", name="pixels")
    sprite = np.asarray(Image.open(io.BytesIO(image)))
    size = embeddings[0]["sprite"]["singleImageDim"][0]
    assert sprite.shape == (7 * size, 7 * size, 3)  # a square that holds 40
    assert size == 96
    first = np.asarray(Image.open(folder / features.ids[0]))  # the photographs' own size
    np.testing.assert_array_equal(sprite[:size, :size], first)
    assert not sprite[-size:, size * 5 :].any() and sprite[-size * 2 : -size].any()
    assert not [name for name in os.listdir(path) if name.startswith(".")]


@pytest.mark.parametrize("count", [1, 2, 4, 7000, 10_000, 16_385, projector.LIMIT])
def test_thumbnails_fit_the_largest_sprite(count):
    size, side = projector.thumbnail_size(count), math.ceil(math.sqrt(count))
    assert size * side <= 8192 and size >= 32
    assert size == 96 or (size + 1) * side > 8192


def test_a_folder_that_cannot_be_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(InputError, match="file is a file: give the name of a folder"):
        kfeat.score("pixels", "nowhere", projector=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"
