import keras
import numpy as np
import pytest
import tensorflow as tf

from kfeat.models.layers import BatchNormalization, Rescaling

TOLERANCE = {"float32": 2e-5, "mixed_bfloat16": 2e-2}


SMALL, LARGE = (4, 6, 5, 7), (4, 14, 12, 112)
"""Shapes of maps; by AVX2 and in float32, XLA's code normalises the large ones."""


def pair(dtype, shape=SMALL, **options):
    """Keras's layer and ours, with the same random weights."""
    rng = np.random.default_rng(0)
    layers = []
    for kind in (keras.layers.BatchNormalization, BatchNormalization):
        layer = kind(dtype=dtype, **options)
        layer.build((None, *shape[1:]))
        layers.append(layer)
    shapes = [w.shape for w in layers[0].get_weights()]
    weights = [rng.uniform(0.5, 2, shape).astype("float32") for shape in shapes]
    for layer in layers:
        layer.set_weights(weights)
    return layers


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [SMALL, LARGE])
def test_equals_keras_in_outputs_gradients_and_moving_statistics(dtype, training, shape):
    rng = np.random.default_rng(1)
    x = tf.constant(rng.normal(3, 2, shape).astype("float32"))
    upstream = tf.constant(rng.normal(0, 1, x.shape).astype("float32"))
    results = []
    for layer in pair(dtype, shape, momentum=0.7, epsilon=1e-5):
        compute = tf.cast(x, layer.compute_dtype)
        with tf.GradientTape() as tape:
            tape.watch(compute)
            y = layer(compute, training=training)
            loss = tf.reduce_sum(tf.cast(y, tf.float32) * upstream)
        variables = [layer.gamma.value, layer.beta.value]
        assert y.dtype == layer.compute_dtype
        results.append([y, *tape.gradient(loss, [compute, *variables]), *layer.get_weights()])
    for theirs, ours in zip(*results, strict=True):
        theirs, ours = (np.asarray(tf.cast(t, tf.float32)) for t in (theirs, ours))
        error = np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1)
        assert error < TOLERANCE[dtype]


def test_moving_variance_takes_the_biased_variance():
    layer = BatchNormalization(momentum=0.0)
    x = np.random.default_rng(0).normal(size=(2, 2, 1, 3)).astype("float32")
    layer(x, training=True)
    np.testing.assert_allclose(layer.moving_variance, x.var((0, 1, 2)), rtol=1e-5)


def test_frozen_layer_keeps_its_statistics():
    layer = pair("float32")[1]
    layer.trainable = False
    before = layer.get_weights()
    x = np.random.default_rng(0).normal(size=(2, 6, 5, 7)).astype("float32")
    np.testing.assert_allclose(layer(x, training=True), layer(x, training=False))
    assert all(np.array_equal(a, b) for a, b in zip(before, layer.get_weights(), strict=True))


@pytest.mark.parametrize("shape", [(8, 7), (2, 3, 4, 5, 7)])
def test_other_ranks_run_keras_own_code(shape):
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    theirs, ours = keras.layers.BatchNormalization(), BatchNormalization()
    np.testing.assert_array_equal(ours(x, training=True), theirs(x, training=True))


def test_saved_and_loaded(tmp_path):
    images = keras.Input((6, 5, 7))
    model = keras.Model(images, BatchNormalization(momentum=0.5)(images))
    x = np.random.default_rng(0).normal(2, 3, (4, 6, 5, 7)).astype("float32")
    model(x, training=True)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    assert isinstance(loaded.layers[1], BatchNormalization)
    np.testing.assert_array_equal(loaded(x), model(x))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_other_weights_run_keras_own_code(dtype):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("float32")
    theirs, ours = (
        kind(dtype=dtype)(x) for kind in (keras.layers.BatchNormalization, BatchNormalization)
    )
    np.testing.assert_array_equal(tf.cast(ours, tf.float32), tf.cast(theirs, tf.float32))


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("scale", [1 / 127.5, [0.01, 0.02, 0.03]])
def test_rescaling_is_keras_own(scale, dtype):
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3)).astype("float32")
    ours, theirs = (
        kind(scale, [-1.0, 0.5, 2.0], dtype=dtype)(images)
        for kind in (Rescaling, keras.layers.Rescaling)
    )
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(tf.cast(ours, "float32"), tf.cast(theirs, "float32"))
