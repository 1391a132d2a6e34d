"""What leaves for inference computes what was trained, in either precision, by either engine."""

import gc
import logging
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from kfeat import build, export
from kfeat.errors import InputError
from kfeat.models import catalog
from kfeat.serving import encoder
from kfeat.serving import export as exports
from kfeat.serving.folding import folded

SIZE = 64


def moved(model):
    """A model whose weights and batch-norm statistics are those of no fresh one."""
    rng = np.random.default_rng(0)
    for layer in all_layers(model):
        if isinstance(layer, layers.BatchNormalization):
            shapes = [w.shape for w in layer.get_weights()]
            values = [rng.uniform(0.5, 1.5, shape) for shape in shapes]
            values[-2] = rng.normal(0, 0.5, shapes[-2])  # the moving mean
            layer.set_weights(values)
    return model


@pytest.fixture(scope="module")
def images(photographs):
    return np.ascontiguousarray(photographs[0][:24, :SIZE, :SIZE])


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.xdist_group(name))
        for name in catalog.ENCODERS
        if name != "resnet34"  # more of the blocks that resnet18 has
    ],
)
def trained(request, tmp_path_factory, images):
    """The path of an encoder, and its features by Keras."""
    model = moved(build(request.param, SIZE))
    path = tmp_path_factory.mktemp("trained") / f"{request.param}.keras"
    model.save(path)
    return path, np.asarray(model(images.astype("float32"), training=False))


def export_of(path, precision):
    """An export that is made once, beside its model."""
    return export(path, name=precision, precision=precision, reuse=True, home=path.parent)


def features(loaded, images):
    return np.concatenate(list(encoder.embed(loaded, [images[:10], images[10:17], images[17:]])))


def agree(ours, theirs, precision):
    if precision == "float32":
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())
        return
    cosine = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosine.min() > 0.999
    assert np.abs(ours - theirs).max() > 1e-5 * np.abs(theirs).max()  # it did compute in bfloat16


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_export_computes_what_was_trained(trained, precision, images):
    path, expected = trained
    exported = export_of(path, precision)
    graph = tf.saved_model.load(exported).signatures["serving_default"].graph
    operations = {operation.type for operation in graph.get_operations()}
    assert not {"FusedBatchNormV3", "ReadVariableOp", "IdentityN"} & operations
    for source in (exported, path):
        loaded = encoder.load(source, "tensorflow", precision)
        assert (loaded.engine, loaded.precision) == ("tensorflow", precision)
        agree(features(loaded, images), expected, precision)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_openvino_computes_what_was_trained(trained, precision, images):
    pytest.importorskip("openvino", reason="OpenVINO is an optional engine")
    path, expected = trained
    try:
        trained_one = encoder.load(path, "openvino", precision)
    except InputError as error:
        assert precision == "bfloat16" and "on this processor" in str(error)
        pytest.skip("this processor does not compute in bfloat16")
    for loaded in (
        trained_one,
        encoder.load(export_of(path, "float32"), "openvino", precision),
        encoder.load(export_of(path, precision), "openvino"),
    ):
        assert (loaded.engine, loaded.precision) == ("openvino", precision)
        agree(features(loaded, images), expected, precision)
        one, other = (encoder.embed(loaded, [images] * 4) for _ in range(2))
        for ours, theirs in zip(one, other, strict=True):  # one run goes on during the other
            agree(ours, expected, precision)
            agree(theirs, expected, precision)


def test_an_engine_keeps_to_the_models_own_precision(images, tmp_path):
    path = tmp_path / "mine.keras"
    moved(build("resnet18", SIZE)).save(path)
    exported = export(path, precision="bfloat16", home=tmp_path)
    assert encoder.load(exported, "tensorflow").precision == "bfloat16"
    assert sum(f.stat().st_size for f in exported.rglob("*")) < 0.6 * path.stat().st_size
    with pytest.raises(InputError, match="computes in bfloat16, which TensorFlow cannot change"):
        encoder.load(exported, "tensorflow", "float32")
    again = export(path, precision="bfloat16", reuse=True, home=tmp_path)
    assert again == exported
    assert export(path, precision="float32", reuse=True, home=tmp_path) != exported


def test_openvino_says_what_it_cannot_run(tmp_path, images, caplog):
    pytest.importorskip("openvino", reason="OpenVINO is an optional engine")
    made = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None, SIZE, SIZE, 3], tf.float32)])
    def run(x):
        texts = tf.strings.as_string(x[:, 0, 0])
        return {"features": tf.strings.to_number(texts)}

    made.run = run
    tf.saved_model.save(made, str(tmp_path / "odd"), signatures=run)
    root = logging.getLogger()
    before = root.level, root.filters[:], root.handlers[:]
    with pytest.raises(InputError, match="OpenVINO cannot run it.*AsString.*--engine tensorflow"):
        encoder.load(tmp_path / "odd", "openvino")
    assert (root.level, root.filters, root.handlers) == before  # the converter is not so careful
    with caplog.at_level("INFO", logger="kfeat"):
        loaded = encoder.load(tmp_path / "odd")
    assert loaded.engine == "tensorflow" and "AsString" in caplog.text
    np.testing.assert_allclose(features(loaded, images), images[:, 0, 0], rtol=1e-5)


def test_openvino_tells_nobody_and_gives_way_to_ctrl_c(tmp_path, monkeypatch):
    ov = pytest.importorskip("openvino", reason="OpenVINO is an optional engine")
    path = tmp_path / "mine.keras"
    build("resnet18", 32).save(path)
    assert encoder.load(path, "openvino").engine == "openvino"
    telemetry = sys.modules["openvino.tools.ovc.telemetry_utils"].tm
    assert telemetry.__name__ == "openvino.tools.ovc.telemetry_stub"

    def interrupted(*arguments, **options):  # as the converter treats what Python raises
        try:
            signal.getsignal(signal.SIGINT)(signal.SIGINT, None)  # as Python calls it
        except KeyboardInterrupt:
            raise RuntimeError("no such node") from None

    monkeypatch.setattr(ov, "convert_model", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a worker has another
    try:
        with pytest.raises(KeyboardInterrupt):
            encoder.load(path)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_after_openvino_is_no_crash(tmp_path):
    pytest.importorskip("openvino", reason="OpenVINO is an optional engine")
    build("cae1", 32).save(tmp_path / "mine.keras")
    code = """if True:
        import gc, pathlib, signal, sys
        from kfeat.serving import encoder
        # A shell's background jobs ignore Ctrl-C, and so do their children.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        loaded = [encoder.load(pathlib.Path(sys.argv[1]), "openvino") for _ in range(2)]
        loaded.pop(0)
        gc.collect()
        loaded.clear()
        gc.collect()
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            print("interrupted")
    """
    command = [sys.executable, "-c", code, str(tmp_path / "mine.keras")]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "interrupted\n"


def test_statistics_that_a_layer_has_learnt_are_kept():
    images = np.random.default_rng(0).uniform(0, 255, (5, 8, 8, 3)).astype("float32")
    inputs = keras.Input((8, 8, 3))
    learnt = layers.Normalization()
    learnt.adapt(images)
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(learnt(inputs)))
    np.testing.assert_allclose(folded(model)(images), model(images), rtol=1e-5, atol=1e-6)


def test_a_normalisation_called_by_keyword_is_folded():
    inputs = keras.Input((12, 12, 3))
    model = moved(
        keras.Model(inputs, layers.BatchNormalization()(inputs=layers.Conv2D(4, 3)(inputs)))
    )
    x = np.random.default_rng(0).normal(size=(3, 12, 12, 3)).astype("float32")
    lean = folded(model)
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in lean.layers)
    np.testing.assert_allclose(lean(x), model(x), rtol=1e-4, atol=1e-5)


def test_bfloat16_is_not_said_of_what_stays_in_float32(tmp_path, images, monkeypatch):
    pixels = keras.Input([SIZE, SIZE, 3])
    vectors = layers.Dense(8)(layers.GlobalAveragePooling2D()(pixels))
    keras.Model(pixels, vectors).save(tmp_path / "dense.keras")
    with pytest.raises(InputError, match="has no convolutions that could compute in bfloat16"):
        encoder.load(tmp_path / "dense.keras", "tensorflow", "bfloat16")
    monkeypatch.setattr(encoder, "resolve", lambda precision: ("bfloat16", "as a test wants"))
    assert encoder.load(tmp_path / "dense.keras", "tensorflow", "auto").precision == "float32"


def test_layers_that_compute_in_their_own_way_are_not_folded():
    class Halved(layers.Dense):
        def call(self, x):
            return super().call(x) / tf.reduce_max(tf.abs(self.kernel))

    class Doubled(layers.BatchNormalization):
        def call(self, x, training=None):
            return 2 * super().call(x, training=training)

    inputs = keras.Input((6,))
    x = layers.BatchNormalization()(Halved(4)(inputs))
    model = moved(keras.Model(inputs, Doubled()(layers.Dense(3)(x))))
    x = np.random.default_rng(0).normal(size=(3, 6)).astype("float32")
    np.testing.assert_allclose(folded(model)(x), model(x), rtol=1e-5)


def test_layers_with_weights_of_more_kinds_are_not_folded():
    inputs = keras.Input((6,))
    dense = layers.Dense(4)
    model = moved(keras.Model(inputs, layers.BatchNormalization()(dense(inputs))))
    dense.enable_lora(2)
    x = np.random.default_rng(0).normal(size=(3, 6)).astype("float32")
    np.testing.assert_allclose(folded(model)(x), model(x), rtol=1e-5)


def test_folding_leaves_alone_what_it_must():
    """Shared layers, a convolution seen by two, an activation in between, other axes."""
    inputs = keras.Input((12, 12, 3))
    shared = layers.Conv2D(4, 3, padding="same", name="shared")
    x = layers.BatchNormalization(name="own", renorm=True)(
        layers.Conv2D(4, 3, 2, name="folds")(inputs)
    )
    y = layers.BatchNormalization(name="early")(inputs)
    y = layers.BatchNormalization(name="after_shared")(shared(shared(layers.Conv2D(4, 1)(y))))
    seen = layers.Conv2DTranspose(4, 2, 2, name="seen_by_two")(x)
    z = layers.Add()([seen, layers.BatchNormalization(name="beside")(seen)])
    z = layers.Conv2D(4, 3, activation="relu", name="activated")(z)
    z = layers.BatchNormalization(name="after_relu")(z)
    z = layers.BatchNormalization(scale=False, name="unscaled")(layers.Conv2DTranspose(5, 3)(z))
    pooled = [layers.GlobalAveragePooling2D()(t) for t in (x, y, z)]
    w = layers.BatchNormalization(center=False)(
        layers.Dense(6, name="dense")(layers.concatenate(pooled))
    )
    model = moved(keras.Model(inputs, w))
    lean = folded(model)
    left = {layer.name for layer in lean.layers if isinstance(layer, layers.BatchNormalization)}
    assert left == {"early", "after_shared", "beside", "after_relu"}
    images = np.random.default_rng(0).normal(size=(3, 12, 12, 3)).astype("float32")
    expected = np.asarray(model(images, training=False))
    np.testing.assert_allclose(lean(images, training=False), expected, rtol=1e-4, atol=1e-5)
    low = folded(model, "bfloat16")(images, training=False)
    np.testing.assert_allclose(low, expected, atol=0.05 * np.abs(expected).max())


def test_what_there_is_not_is_refused(images, tmp_path):
    path = tmp_path / "mine.keras"
    build("cae3", 32).save(path)
    with pytest.raises(InputError, match="precision 'bf16': choose one of auto, float32"):
        export(path, precision="bf16", home=tmp_path)
    with pytest.raises(InputError, match="name 'pixels' is that of a baseline.*another --name"):
        export(path, name="pixels", home=tmp_path)
    with pytest.raises(InputError, match="engine 'onnx': choose one of auto, tensorflow"):
        encoder.load(path, "onnx")
    with pytest.raises(InputError, match=r"mine.keras.saved_models cannot be written \(Not a dir"):
        export(path, home=path)


def test_what_is_no_encoder_of_images_is_not_exported(tmp_path, monkeypatch):
    vectors, images = keras.Input((10,)), keras.Input((16, 16, 3))
    patches = layers.Reshape((-1, 12))(images)
    for name, model, said in (
        ("vectors", keras.Model(vectors, layers.Dense(3)(vectors)), r"takes float32 \(None, 10\)"),
        ("maps", keras.Model(images, layers.Conv2D(3, 3)(images)), "not one vector an image"),
        (
            "patches",
            keras.Model(images, layers.GlobalAveragePooling1D()(layers.Dense(8)(patches))),
            "no convolutions that could compute in bfloat16: export it in float32",
        ),
    ):
        model.save(tmp_path / f"{name}.keras")
        with pytest.raises(InputError, match=said):
            export(tmp_path / f"{name}.keras", precision="bfloat16", home=tmp_path)
    monkeypatch.setattr(exports, "resolve", lambda precision: ("bfloat16", "as a test wants"))
    exported = export(tmp_path / "patches.keras", precision="auto", home=tmp_path)
    assert exports.manifest(exported)["precision"] == "float32"


def test_auto_is_the_precision_that_an_export_has(images, tmp_path):
    path = tmp_path / "mine.keras"
    build("cae3", 32).save(path)
    for precision in ("float32", "bfloat16"):
        exported = export(path, precision=precision, home=tmp_path)
        assert encoder.load(exported, "tensorflow", "auto").precision == precision


def test_an_export_of_another_image_size_is_another_one(tmp_path):
    small, large = build("resnet18", 32), build("resnet18", 64)
    large.set_weights(small.get_weights())
    small.save(tmp_path / "small.keras")
    large.save(tmp_path / "large.keras")
    first, second = (
        export(tmp_path / f"{size}.keras", reuse=True, home=tmp_path) for size in ("small", "large")
    )
    assert first != second
    assert export(tmp_path / "large.keras", reuse=True, home=tmp_path) == second


def test_an_openvino_that_cannot_be_imported_is_done_without(tmp_path, monkeypatch, caplog):
    (tmp_path / "openvino.py").write_text("raise ImportError('libopenvino.so is missing')")
    for name in [name for name in sys.modules if name.split(".")[0] == "openvino"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "mine.keras"
    build("cae3", 32).save(path)
    with caplog.at_level("INFO", logger="kfeat"):
        assert encoder.load(path).engine == "tensorflow"
    assert "libopenvino.so is missing" in caplog.text
    with pytest.raises(InputError, match="libopenvino.so is missing.*--engine tensorflow"):
        encoder.load(path, "openvino")


def anybodys(kind):
    """Models that Keras users have, with what stands in the way of folding: (model, low layers)."""
    inputs = keras.Input((16, 16, 3), name="images")
    convolution = layers.Conv2D(6, 3, name="convolution")
    normalisation = layers.BatchNormalization(name="normalisation")
    pool = layers.GlobalAveragePooling2D()
    if kind == "sequential":
        return keras.Sequential(
            [inputs, layers.Rescaling(1 / 255), convolution, normalisation, pool]
        )
    if kind == "nested":
        maps = normalisation(convolution(layers.Rescaling(1 / 255)(inputs)))
        backbone = keras.Model(inputs, layers.Conv2D(5, 3)(maps), name="backbone")
        images = keras.Input((16, 16, 3))
        head = keras.Sequential([layers.Dense(4), layers.BatchNormalization(name="reduction")])
        return keras.Model(images, head(pool(backbone(images))))
    if kind == "operations":
        x = convolution(inputs / 255.0)
        outputs = pool(keras.ops.relu(normalisation(x)))
    elif kind == "operation beside":  # which takes what the convolution gives: no folding
        x = convolution(inputs / 255.0)
        outputs = pool(normalisation(x) + x)
    else:
        x = layers.Rescaling(1 / 255)(inputs)
        outputs = {
            "emb": layers.Activation("linear", dtype="float32")(pool(normalisation(convolution(x))))
        }
    return keras.Model(inputs, outputs)


KINDS = ["sequential", "operations", "operation beside", "dictionary", "nested"]


def all_layers(model):
    """The layers of a model, and of the models in it."""
    for layer in model.layers:
        yield layer
        yield from all_layers(layer) if isinstance(layer, keras.Model) else ()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_anybodys_models_are_folded_exported_and_run(tmp_path, images, kind, policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = moved(anybodys(kind))
    finally:
        keras.config.set_dtype_policy("float32")
    path = tmp_path / "theirs.keras"
    model.save(path)
    small = images[:, :16, :16]
    lean = folded(model)
    names = {layer.name for layer in all_layers(lean)}
    assert ("normalisation" in names) == (kind == "operation beside")
    assert "reduction" not in names
    single = [layer for layer in all_layers(lean) if not isinstance(layer, keras.Model)]
    assert {layer.compute_dtype for layer in single} == {"float32"}
    low = folded(model, "bfloat16")
    computed = {layer.name: layer.compute_dtype for layer in all_layers(low)}
    assert computed["convolution"] == "bfloat16"
    exact = anybodys(kind)  # in float32
    exact.set_weights(model.get_weights())
    (expected,) = keras.tree.flatten(exact(small.astype("float32"), training=False))
    for engine in ("tensorflow", "openvino"):
        if engine == "openvino":
            pytest.importorskip("openvino")
        loaded = encoder.load(path, engine, "float32")
        agree(features(loaded, small), np.asarray(expected), "float32")
    exported = encoder.load(export(path, home=tmp_path), "tensorflow")
    agree(features(exported, small), np.asarray(expected), "float32")


@pytest.mark.parametrize("family", ["gated convolutions", "attention"])
def test_families_that_kfeat_does_not_train_are_computed_alike(family, images, tmp_path):
    pixels = keras.Input([SIZE, SIZE, 3])
    x = layers.Rescaling(1 / 127.5, offset=-1)(pixels)
    x = layers.Conv2D(32, 8, strides=8, activation="swish")(x)
    if family == "attention":
        x = layers.LayerNormalization()(layers.Reshape([-1, 32])(x))
        x = layers.Add()([x, layers.MultiHeadAttention(4, 8)(x, x)])
        x = layers.GlobalAveragePooling1D()(layers.Dense(24, activation="gelu")(x))
    else:
        x = layers.DepthwiseConv2D(3, padding="same")(x)
        x = layers.Activation("hard_swish")(layers.GroupNormalization(8)(x))
        gate = layers.Dense(32, activation="sigmoid")(layers.GlobalAveragePooling2D()(x))
        x = layers.Multiply()([x, layers.Reshape([1, 1, 32])(gate)])
        x = layers.GlobalAveragePooling2D()(layers.UnitNormalization()(x))
    model = moved(keras.Model(pixels, x))
    model.save(tmp_path / "mine.keras")
    expected = np.asarray(model(images.astype("float32"), training=False))
    exported = encoder.load(export(tmp_path / "mine.keras", home=tmp_path), "tensorflow")
    agree(features(exported, images), expected, "float32")
    pytest.importorskip("openvino", reason="OpenVINO is an optional engine")
    loaded = encoder.load(tmp_path / "mine.keras", "openvino", "float32")
    agree(features(loaded, images), expected, "float32")


def test_weights_live_until_openvino_has_read_them(tmp_path, images, monkeypatch):
    pytest.importorskip("openvino")
    read = encoder.engines.openvino

    def later(*arguments):
        gc.collect()
        return read(*arguments)

    monkeypatch.setattr(encoder.engines, "openvino", later)
    model = build("cae3", SIZE)
    model.save(tmp_path / "cae3.keras")
    found = features(encoder.load(tmp_path / "cae3.keras", "openvino", "float32"), images)
    agree(found, np.asarray(model(images.astype("float32"))), "float32")
