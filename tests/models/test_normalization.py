import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kfeat.models import normalization, processor
from kfeat.models.layers import BatchNormalization

SIDES = st.integers(1, 12)


@settings(max_examples=6, deadline=None)
@given(batch=st.integers(1, 5), height=SIDES, width=SIDES, channels=st.integers(1, 9))
def test_equals_the_formula_in_float64(batch, height, width, channels):
    rng = np.random.default_rng(0)
    maps = rng.normal(5, 2, (batch, height, width, channels))
    upstream = rng.normal(0, 1, maps.shape)
    gamma, beta = rng.uniform(0.5, 2, (2, channels))
    epsilon = 1e-3

    n = batch * height * width
    mean, variance = maps.mean((0, 1, 2)), maps.var((0, 1, 2))
    normal = (maps - mean) / np.sqrt(variance + epsilon)
    for_beta, for_gamma = upstream.sum((0, 1, 2)), (upstream * normal).sum((0, 1, 2))
    for_maps = gamma / np.sqrt(variance + epsilon)
    for_maps = for_maps * (upstream - for_beta / n - normal * for_gamma / n)
    expected = [gamma * normal + beta, mean, variance, for_maps, for_gamma, for_beta]

    inputs = [tf.constant(value, tf.float32) for value in (maps, gamma, beta)]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs, *statistics = normalization.normalize(*inputs, epsilon)
    gradients = tape.gradient(outputs, inputs, tf.constant(upstream, tf.float32))
    for value, right in zip([outputs, *statistics, *gradients], expected, strict=True):
        np.testing.assert_allclose(value, right, rtol=1e-4, atol=1e-4 * max(1, abs(right).max()))


def test_a_mean_far_from_zero_costs_no_digits_of_the_variance():
    """As the difference of two mean squares it would come out as 0, or below."""
    x = np.random.default_rng(0).normal(10_000, 1, (8, 16, 16, 32)).astype("float32")
    _, _, variance = normalization.normalize(tf.constant(x), tf.ones(32), tf.zeros(32), 1e-3)
    np.testing.assert_allclose(variance, x.astype("float64").var((0, 1, 2)), rtol=1e-3)


@pytest.mark.parametrize("after", ["gather", "random_crop"])
def test_gradients_that_come_as_slices_or_of_unknown_shape(after):
    inputs = tf.random.normal([6, 4, 4, 96])

    def loss(outputs):
        if after == "gather":
            return tf.reduce_sum(tf.square(tf.gather(outputs, [1, 3])))
        return tf.reduce_sum(tf.square(tf.image.random_crop(outputs, [6, 4, 4, 96])))

    @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 96])])
    def gradient(maps):
        outputs, *_ = normalization.normalize(maps, tf.ones(96), tf.zeros(96), 1e-3)
        return tf.gradients(loss(outputs), maps)[0]

    with tf.GradientTape() as tape:
        tape.watch(inputs)
        expected = loss(keras.layers.BatchNormalization()(inputs, training=True))
    expected = tape.gradient(expected, inputs)
    np.testing.assert_allclose(gradient(inputs), expected, atol=1e-4)


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="not used on a GPU")
@pytest.mark.parametrize(
    ("shape", "dtype", "flags", "compiled"),
    [
        ((24, 24, 64), "float32", {"avx2"}, True),
        ((3, 3, 2048), "float32", {"avx2"}, True),
        ((24, 24, 64), "bfloat16", {"avx2"}, False),
        ((16, 16, 64), "float32", {"avx2"}, False),  # small
        ((48, 48, 32), "float32", {"avx2"}, False),  # of few channels
        ((11, 11, 256), "float32", {"avx2"}, False),  # without slices of equal size
        ((24, 24, 64), "float32", {"avx2", "avx512f"}, False),
        ((24, 24, 64), "float32", set(), False),
    ],
)
def test_the_layer_compiles_where_it_pays(shape, dtype, flags, compiled, monkeypatch):
    monkeypatch.setattr(processor, "flags", lambda: frozenset(flags))
    layer = BatchNormalization(dtype="mixed_bfloat16" if dtype == "bfloat16" else dtype)
    layer.build((None, *shape))

    @tf.function
    def step(maps):
        return tf.gradients(layer(maps, training=True), maps)

    graph = step.get_concrete_function(tf.TensorSpec([None, *shape], dtype)).graph.as_graph_def()
    by_xla = [f for f in graph.library.function if f.attr["_XlaMustCompile"].b]
    assert len(by_xla) == (2 if compiled else 0)  # forward and backward
    fused = {node.op for node in graph.node} & {"FusedBatchNormV3", "FusedBatchNormGradV3"}
    assert len(fused) == (0 if compiled else 2)
