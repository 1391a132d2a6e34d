import hashlib
import shutil
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from kfeat import build, export
from kfeat.errors import InputError
from kfeat.serving import encoder
from kfeat.serving import export as exports


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A .keras encoder whose batch-norm statistics have moved."""
    path = tmp_path_factory.mktemp("trained") / "mine.keras"
    model = build("resnet18", 32)
    rng = np.random.default_rng(0)
    model.set_weights(
        [w + rng.uniform(0, 0.05, w.shape).astype("float32") for w in model.get_weights()]
    )
    model.save(path)
    return path


def keras_features(path, images):
    return np.asarray(exports.load_keras(path)(images.astype("float32"), training=False))


def test_exported_features_are_the_trained_ones(trained, photographs, tmp_path):
    images = photographs[0][:8, 10:42, 10:42]
    first = export(trained, home=tmp_path)
    assert first == tmp_path / "saved_models" / "resnet18" / "1"
    assert export(trained, home=tmp_path).name == "2"
    assert export(trained, "mine", home=tmp_path).parent.name == "mine"
    assert encoder.locate("resnet18", tmp_path).name == "2"
    (tmp_path / "saved_models" / "resnet18" / "10").mkdir()
    assert encoder.locate("resnet18", tmp_path).name == "2"  # 10 holds no model
    expected = keras_features(trained, images)
    for path in (first, trained):
        features = embed(encoder.load(path), images)
        assert features.dtype == np.float32 and features.shape == (8, 128)
        np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
    assert not [f for f in first.parent.iterdir() if f.name.startswith(".")]


def test_tensorflow_alone_serves_an_export(trained, photographs, tmp_path):
    images = photographs[0][:3, :32, :32].astype("float32")
    np.save(tmp_path / "images.npy", images)
    code = """if True:
        import sys, numpy as np, tensorflow as tf
        path, home = sys.argv[1:]
        serve = tf.saved_model.load(path).signatures["serving_default"]
        (name, spec), = serve.structured_input_signature[1].items()
        assert name == "images" and spec.shape.as_list() == [None, 32, 32, 3], (name, spec)
        assert spec.dtype == tf.float32 and list(serve.structured_outputs) == ["features"]
        out = serve(images=tf.constant(np.load(home + "/images.npy")))["features"]
        np.save(home + "/features.npy", out)
        assert "kfeat" not in sys.modules
    """
    path = export(trained, home=tmp_path)
    subprocess.run([sys.executable, "-c", code, str(path), str(tmp_path)], check=True)
    np.testing.assert_allclose(
        np.load(tmp_path / "features.npy"), keras_features(trained, images), rtol=1e-4, atol=1e-5
    )


def embed(loaded, images):
    (vectors,) = encoder.embed(loaded, [images])
    return vectors


def save(module, path, **signatures):
    tf.saved_model.save(module, str(path), signatures=signatures)
    return path


def module(spec, function):
    made = tf.Module()
    made.run = tf.function(function, input_signature=[spec])
    return made


IMAGES = tf.TensorSpec([None, 8, 8, 3], tf.float32, "x")


@pytest.mark.parametrize(
    "shape, dtype",
    [([None, 8, 8, 3], tf.float32), ([5, 8, 8, 3], tf.float16), ([None, None, None, 3], tf.uint8)],
)
def test_anybodys_saved_model(shape, dtype, tmp_path):
    """Another signature name, an own output name, a fixed batch, other types and any size."""
    made = module(
        tf.TensorSpec(shape, dtype, "x"),
        lambda x: {"pooled": tf.reduce_mean(tf.cast(x, tf.float32), (1, 2))},
    )
    loaded = encoder.load(save(made, tmp_path / "model", embed=made.run))
    assert (loaded.image_size, loaded.batch_size) == (shape[1], shape[0])
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    np.testing.assert_allclose(embed(loaded, images), images.mean((1, 2)), rtol=1e-3)


def test_a_digest_is_of_all_that_an_encoder_holds(trained, tmp_path):
    expected = hashlib.sha256(trained.read_bytes()).hexdigest()
    assert encoder.digest(trained) == expected
    model = tmp_path / "model"
    shutil.copytree(export(trained, home=tmp_path), model)
    (model / "back").symlink_to(model)
    before = encoder.digest(model)
    (model / "variables").mkdir(exist_ok=True)
    (model / "variables").rename(tmp_path / "elsewhere")
    (model / "variables").symlink_to(tmp_path / "elsewhere")
    assert encoder.digest(model) == before
    (tmp_path / "elsewhere" / "more").write_text("weights")
    assert encoder.digest(model) != before


def test_a_path_is_no_name(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exported = export(trained, home=tmp_path)
    made = module(IMAGES, lambda x: tf.reduce_mean(x, (1, 2)))
    own = save(made, tmp_path / "resnet18")
    assert encoder.locate("resnet18", tmp_path) == exported
    assert encoder.locate("./resnet18", tmp_path).resolve() == own
    save(made, tmp_path / "theirs.keras", embed=made.run)  # a folder, whatever it is called
    assert encoder.load(encoder.locate("theirs.keras", tmp_path)).image_size == 8


@pytest.mark.parametrize(
    "spec, function, words",
    [
        (IMAGES, lambda x: {"maps": x}, r"returns \[2, 8, 8, 3\] for 2 images"),
        (IMAGES, lambda x: {}, "returns nothing: its signature must give vectors"),
        (IMAGES, lambda x: {"a": x, "b": x}, "returns a, b: one must be called features"),
        (
            tf.TensorSpec([None], tf.string, "x"),
            lambda x: {"features": tf.strings.length(x)},
            r"takes string \(None,\), not a batch of square RGB images",
        ),
        (IMAGES, lambda x: {"names": tf.as_string(x[:, 0, 0])}, "returns string, not numbers"),
        (
            tf.TensorSpec([None, 8, 8, 3], tf.int8, "x"),
            lambda x: {"features": tf.cast(x[:, 0, 0], tf.float32)},
            r"takes int8 .*, not a batch of square RGB images \[N, S, S, 3\] in \[0, 255\]",
        ),
        (
            tf.TensorSpec([None, 3, 8, 8], tf.float32, "x"),
            lambda x: {"features": x[:, 0, 0]},
            "not a batch of square RGB images",
        ),
    ],
)
def test_a_saved_model_that_is_no_encoder_is_refused(spec, function, words, tmp_path):
    made = module(spec, function)
    path = save(made, tmp_path / "model", serving_default=made.run)
    with pytest.raises(InputError, match=words):
        embed(encoder.load(path), np.zeros([2, 8, 8, 3], np.uint8))


def test_a_keras_file_with_code_in_it_is_refused(tmp_path):
    class Mine(keras.layers.Layer):
        def call(self, images):
            return 2 * images

    images = keras.Input((8, 8, 3))
    vectors = keras.layers.Lambda(lambda x: x[:, 0, 0])(Mine()(images))
    keras.Model(images, vectors).save(tmp_path / "code.keras")
    with pytest.raises(InputError, match=r"code\.keras holds Lambda, Mine, .*give a SavedModel"):
        encoder.load(tmp_path / "code.keras")
    with zipfile.ZipFile(tmp_path / "bad.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", 100 * "config")
    damaged = bytearray((tmp_path / "bad.keras").read_bytes())
    damaged[42:46] = b"\xff\xff\xff\xff"
    (tmp_path / "bad.keras").write_bytes(damaged)
    with pytest.raises(InputError, match=r"bad\.keras cannot be loaded as a Keras model"):
        encoder.load(tmp_path / "bad.keras")


def test_what_cannot_be_found_or_read_is_named(trained, tmp_path):
    with pytest.raises(InputError, match="unknown model 'cea1'.*did you mean 'cae1'"):
        encoder.locate("cea1", tmp_path)
    with pytest.raises(InputError, match="cae1 is not in .*: train it first"):
        encoder.locate("cae1", tmp_path)
    with pytest.raises(InputError, match="no such file or folder"):
        encoder.locate(str(tmp_path / "nothing"), tmp_path)
    with pytest.raises(InputError, match="is no run, no .keras file and no SavedModel"):
        encoder.locate(str(tmp_path), tmp_path)
    (tmp_path / "broken.keras").write_bytes(trained.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"broken\.keras is damaged, or no \.keras file"):
        encoder.load(tmp_path / "broken.keras")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "saved_model.pb").write_bytes(b"half")
    with pytest.raises(InputError, match="half cannot be loaded as a SavedModel"):
        encoder.load(tmp_path / "half")
    cut = export(trained, "cut", home=tmp_path)
    data = cut / "saved_model.pb"
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot be loaded as a SavedModel"):
        encoder.load(cut)
    with pytest.raises(InputError, match="cannot be a folder's"):
        export(trained, "../up", home=tmp_path)
    for name in ("~me", "x" * 300):
        with pytest.raises(InputError, match="cannot be a folder's: give --name of letters"):
            export(trained, name, home=tmp_path)
    with pytest.raises(InputError, match="is no run and no .keras file"):
        export(tmp_path, home=tmp_path)
    shutil.rmtree(tmp_path / "half")
