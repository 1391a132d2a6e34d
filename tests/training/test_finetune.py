import hashlib
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save_file

from kfeat import build, compose, train
from kfeat.errors import InputError
from kfeat.models import catalog
from kfeat.models.weights import load_keras, torchvision_targets
from kfeat.serving.export import learnt
from kfeat.training import finetune, fit

pytestmark = pytest.mark.xdist_group("finetune")  # one worker makes the fixture


def weights(model, kind=keras.layers.Layer):
    return {x.name: x.get_weights() for x in model.layers if isinstance(x, kind) and x.weights}


def equal(one, other):
    return all(map(np.array_equal, one, other))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An encoder for 64 pixels, each weight its own: as a .keras and as a .safetensors file."""
    encoder, rng = build("resnet18", 64), np.random.default_rng(0)
    encoder.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in encoder.get_weights()])
    folder = tmp_path_factory.mktemp("trained")
    encoder.save(folder / "mine.keras")
    tensors = {name: v.numpy() for name, v in torchvision_targets(encoder)[0].items()}
    kernels = {
        name: np.ascontiguousarray(v.transpose(3, 2, 0, 1))
        for name, v in tensors.items()
        if v.ndim == 4
    }
    save_file(tensors | kernels, folder / "published.safetensors")
    return folder


@pytest.mark.parametrize(
    "file, features, kept",
    [
        ("mine.keras", "keep", True),
        ("mine.keras", "renew", False),
        ("published.safetensors", "keep", False),
    ],
)
def test_the_feature_layer_is_kept_or_renewed(file, features, kept, trained, caplog):
    recipe = compose(
        "resnet18",
        **{"data": "photos", "image_size": 32, "weights": f"{trained}/{file}"},
        **{"features": features, "freeze_batch_norm": True},
    )
    caplog.set_level("INFO", "kfeat")
    graph = catalog.build_graph("resnet18", 32)
    pretrained, origin = finetune.start(recipe)
    assert origin["sha256"] == hashlib.sha256((trained / file).read_bytes()).hexdigest()
    finetune.prepare(graph, recipe, pretrained, fit.optimizer(recipe, 1), fit.UNDECAYED)
    given, found = weights(load_keras(trained / "mine.keras")), weights(graph)
    assert given.keys() == found.keys()
    assert {name for name in given if not equal(given[name], found[name])} == (
        set() if kept else {"features"}
    )
    assert ("starts at random" in caplog.text) != kept
    frozen = {layer.name for layer in graph.layers if layer.weights and not layer.trainable}
    assert frozen == weights(graph, keras.layers.BatchNormalization).keys()
    assert {x.name for x in finetune.backbone(graph, recipe)} == given.keys() - (
        set() if kept else {"features"}
    )


def test_a_feature_layer_that_is_renewed_need_not_fit(tmp_path):
    build("cae2", 32).save(tmp_path / "small.keras")
    options = {"data": "photos", "image_size": 64, "weights": str(tmp_path / "small.keras")}
    with pytest.raises(InputError, match="layer features has weights of"):
        finetune.start(compose("cae2", **options))
    recipe = compose("cae2", features="renew", **options)
    graph, (pretrained, _) = catalog.build_graph("cae2", 64), finetune.start(recipe)
    finetune.prepare(graph, recipe, pretrained, fit.optimizer(recipe, 1), fit.UNDECAYED)
    given, found = weights(load_keras(tmp_path / "small.keras")), weights(catalog.cut(graph))
    assert [name for name in given if not equal(given[name], found[name])] == ["features"]


def test_a_feature_layer_without_weights_is_not_said_to_be_renewed(tmp_path, caplog):
    build("cae3", 32).save(tmp_path / "mine.keras")
    options = {"data": "photos", "image_size": 32, "weights": str(tmp_path / "mine.keras")}
    caplog.set_level("INFO", "kfeat")
    finetune.start(compose("cae3", features="renew", **options))
    assert "the feature layer of cae3 has no weights" in caplog.text
    assert "feature layer starts at random" not in caplog.text


@pytest.mark.parametrize("optimizer", ["sgd", "muon", "adam", "adamw"])
def test_backbone_multiplier_is_a_learning_rate_of_its_own(optimizer):
    """Two optimisers, one a rate, give what one optimiser with a multiplier gives."""
    recipe = {"data": "photos", "epochs": 3, "warmup_epochs": 1.0, "optimizer": optimizer}
    recipe["weight_decay"] = 0.0 if optimizer == "adam" else 0.3

    def learn(rate, multiplier=1.0):
        keras.utils.set_random_seed(0)
        stack = [keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization()]
        stack += [keras.layers.Dense(3), keras.layers.Dense(2)]
        variables = keras.Sequential([keras.Input((5, 5, 3)), *stack]).trainable_variables
        made = fit.optimizer(compose("resnet18", **recipe, learning_rate=rate), 2)
        if multiplier != 1:
            finetune.slow_down(made, stack[:3], multiplier, fit.UNDECAYED)
        made.build(variables)
        step = tf.function(lambda gradients: made.apply(gradients, variables))
        rng = np.random.default_rng(1)
        for _ in range(6):
            step([tf.constant(rng.normal(size=v.shape), "float32") for v in variables])
        return [layer.get_weights() for layer in stack]

    slow, fast, both = learn(0.01), learn(0.1), learn(0.1, multiplier=0.1)
    assert not np.allclose(slow[0][0], fast[0][0], rtol=1e-3)
    for expected, found in zip([*slow[:3], fast[3]], both, strict=True):
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-7)


def test_pre_trained_interrupted_and_resumed_without_the_weights(folder, tmp_path, monkeypatch):
    """A run is a source for another image size; --resume needs it no more, to the bit."""
    options = {"data": str(folder), "batch_size": 16, "learning_rate": 1e-2}
    first = train(
        compose("cae1", **options, image_size=64, epochs=1), tmp_path / "a", home=tmp_path
    )
    assert first["weights"] == {"source": "none"}
    assert "cae1 starts from random weights" in (tmp_path / "a" / "train.log").read_text()

    source = tmp_path / "a" / "model.keras"
    options |= {"weights": str(tmp_path / "a"), "image_size": 32, "epochs": 2}
    options |= {"freeze_batch_norm": True, "backbone_multiplier": 0.1}
    whole = train(compose("cae1", **options), tmp_path / "whole", home=tmp_path)
    assert whole["weights"] == {
        "source": str(tmp_path / "a"),
        "file": str(source),
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "learnt_from": learnt(first),
    }
    assert [data["split"] for data in learnt(whole)] == ["train", "train"]
    log = (tmp_path / "whole" / "train.log").read_text()
    assert f"weights {source}" in log and "the decoder starts at random" in log
    before, after = (weights(load_keras(x)) for x in (source, tmp_path / "whole" / "model.keras"))
    still = {name for name in before if equal(before[name], after[name])}
    assert still == weights(load_keras(source), keras.layers.BatchNormalization).keys()

    cut = tmp_path / "cut"

    save = fit.Checkpoints.save

    def save_and_interrupt(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(fit.Checkpoints, "save", save_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(compose("cae1", **options), cut, home=tmp_path)
    monkeypatch.undo()
    assert not (cut / "results.json").exists()
    source.unlink()
    (tmp_path / "a" / "recipe.toml").unlink()
    resumed = train(compose("cae1", **options), cut, resume=True, home=tmp_path)
    assert resumed["weights"] == whole["weights"] and resumed["best"] == whole["best"]
    again = weights(load_keras(cut / "model.keras"))
    assert all(equal(after[name], again[name]) for name in after)
    assert json.loads((cut / "results.json").read_text()) == resumed
    with pytest.raises(InputError, match=r"weights .*/a: the folder is no run"):
        train(compose("cae1", **options), tmp_path / "anew", home=tmp_path)
    assert not (tmp_path / "anew").exists()
