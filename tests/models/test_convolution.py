import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kfeat.models import processor, winograd
from kfeat.models.convolution import convolve
from kfeat.models.layers import Conv2D, Conv2DTranspose


def outputs_and_gradients(function, x, w):
    """Of a sum in which every output has another weight."""
    with tf.GradientTape() as tape:
        tape.watch([x, w])
        y = function(x, w)
        weights = tf.cos(tf.range(tf.size(y), dtype=tf.float32))
        loss = tf.reduce_sum(tf.reshape(y, [-1]) * tf.cast(weights, y.dtype))
    return [y, *tape.gradient(loss, [x, w])]


@settings(max_examples=60, deadline=None)
@given(
    sides=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.sampled_from(["valid", "same"]),
    seed=st.integers(0, 2**16),
)
def test_equals_tensorflow_in_outputs_and_gradients(sides, kernel, strides, padding, seed):
    if padding == "valid":
        kernel = tuple(map(min, kernel, sides))
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(2, *sides, 3)), rng.normal(size=(*kernel, 3, 4))
    # In float64, which TensorFlow computes itself: oneDNN's float32 gradient of a 1x1 kernel with
    # strides, of fewer than 8 channels, writes beyond its memory on processors without AVX-512.
    theirs = outputs_and_gradients(
        lambda *a: tf.nn.conv2d(*a, strides, padding.upper()), tf.constant(x), tf.constant(w)
    )
    ours = outputs_and_gradients(
        lambda *a: convolve(*a, strides, padding), *(tf.constant(v, tf.float32) for v in (x, w))
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(sides=st.tuples(st.integers(1, 14), st.integers(1, 14)), seed=st.integers(0, 2**16))
def test_winograd_is_a_convolution_to_float32s_precision(sides, seed):
    assert_is_a_convolution(
        functools.partial(outputs_and_gradients, winograd.convolve), sides, seed
    )


@pytest.mark.parametrize("sides", [(1, 4), (3, 3), (5, 8), (13, 7)])
@pytest.mark.parametrize("compiled", [True, False])
def test_so_it_is_in_a_graph_by_compiled_loops_on_avx2(sides, compiled, monkeypatch):
    monkeypatch.setattr(winograd, "LEAST_TO_COMPILE", 0)
    monkeypatch.setattr(processor, "flags", lambda: {"avx2"} if compiled else set())

    @tf.function(input_signature=[tf.TensorSpec([None, *sides, 8]), tf.TensorSpec([3, 3, 8, 6])])
    def computed(x, w):
        return outputs_and_gradients(winograd.convolve, x, w)

    assert_is_a_convolution(computed, sides, 0)
    functions = computed.get_concrete_function().graph.as_graph_def().library.function
    by_xla = [f for f in functions if f.attr["_XlaMustCompile"].b]
    # Rows and columns: of inputs and outputs, of both for the maps' gradient, for the kernel's.
    assert sum("row" in f.signature.name for f in by_xla) == (5 if compiled else 0)
    assert sum("column" in f.signature.name for f in by_xla) == (5 if compiled else 0)


def assert_is_a_convolution(computed, sides, seed):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(2, *sides, 8)), rng.normal(size=(3, 3, 8, 6))
    exact = outputs_and_gradients(
        lambda *a: tf.nn.conv2d(*a, 1, "SAME"), tf.constant(x), tf.constant(w)
    )
    ours = computed(tf.constant(x, tf.float32), tf.constant(w, tf.float32))
    for a, b in zip(ours, exact, strict=True):
        assert np.linalg.norm(np.asarray(a) - b) < 1e-5 * np.linalg.norm(b)


@pytest.mark.parametrize("after", ["gather", "random_crop"])
def test_winograds_gradients_that_come_as_slices_or_of_unknown_shape(after):
    kernel, found = tf.random.normal([3, 3, 8, 6]), []
    for convolve_by in (winograd.convolve, lambda *a: tf.nn.conv2d(*a, 1, "SAME")):

        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 8])])
        def gradient(maps, convolve_by=convolve_by):
            outputs = convolve_by(maps, kernel)
            if after == "gather":
                seen = tf.gather(outputs, [1, 3])
            else:
                seen = tf.image.random_crop(outputs, [4, 8, 8, 6])
            return tf.gradients(seen**2, maps)[0]

        found.append(gradient(tf.ones([4, 8, 8, 8])))
    np.testing.assert_allclose(*found, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("tile", winograd.TILES)
def test_winograds_combinations_are_exact(tile):
    """Of whole numbers, all that is computed is a whole number or a small fraction."""
    rng = np.random.default_rng(tile)
    pixels, weights = rng.integers(-9, 9, tile + 2), rng.integers(-9, 9, 3)
    for_outputs, for_inputs, for_kernel = winograd.transforms(tile)
    outputs = for_outputs @ ((for_kernel @ weights) * (for_inputs @ pixels))
    np.testing.assert_allclose(outputs, np.correlate(pixels, weights), atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 2e-2)])
@pytest.mark.parametrize(
    ("size", "channels", "options"),
    [
        (6, 256, {"filters": 128, "kernel_size": 3, "padding": "same", "use_bias": False}),
        (6, 256, {"filters": 256, "kernel_size": 3, "padding": "same", "use_bias": False}),
        (3, 128, {"filters": 256, "kernel_size": 3, "padding": "same", "use_bias": False}),
        (8, 256, {"filters": 256, "kernel_size": 3, "strides": 2, "activation": "relu"}),
        (5, 24, {"filters": 16, "kernel_size": 1, "strides": 2, "use_bias": False}),
    ],
)
def test_layer_learns_by_products_what_keras_learns(size, channels, options, dtype, tolerance):
    """Keras's layer is in float32: in bfloat16 its own gradients are off on some processors."""
    rng = np.random.default_rng(0)
    low = keras.dtype_policies.get(dtype).compute_dtype
    x = tf.constant(rng.normal(size=(4, size, size, channels)), tf.float32)
    x = tf.cast(tf.cast(x, low), tf.float32)
    results, operations = [], []
    for kind, kind_dtype in ((keras.layers.Conv2D, "float32"), (Conv2D, dtype)):
        keras.utils.set_random_seed(1)
        layer = kind(dtype=kind_dtype, **options)
        layer.build(x.shape)
        layer.kernel.assign(tf.cast(tf.cast(layer.kernel.value, low), tf.float32))
        compute = tf.cast(x, layer.compute_dtype)
        variables = [v.value for v in layer.trainable_variables]

        @tf.function
        def step(layer=layer, compute=compute, variables=variables):
            with tf.GradientTape() as tape:
                tape.watch(compute)
                y = layer(compute, training=True)
                loss = tf.reduce_sum(tf.square(tf.cast(y, tf.float32)))
            return [y, *tape.gradient(loss, [compute, *variables])]

        graph = step.get_concrete_function().graph
        operations.append([operation.type for operation in graph.get_operations()])
        results.append(step())
    assert "Conv2DBackpropFilter" in operations[0]
    assert "Conv2DBackpropFilter" not in operations[1]
    for theirs, ours in zip(*results, strict=True):
        theirs, ours = (np.asarray(tf.cast(t, tf.float32)) for t in (theirs, ours))
        assert np.abs(ours - theirs).max() < tolerance * np.abs(theirs).max()


def test_inference_leaves_keras_its_graph():
    layer = Conv2D(8, 1)
    layer.build((None, 4, 4, 8))
    infer = tf.function(lambda x: layer(x, training=False))
    graph = infer.get_concrete_function(tf.TensorSpec((None, 4, 4, 8))).graph
    assert "IdentityN" not in [operation.type for operation in graph.get_operations()]


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="not emulated on a GPU")
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Conv2D, {"kernel_size": 3, "padding": "same", "use_bias": False}),  # not by products
        (Conv2D, {"kernel_size": 1, "activation": "relu"}),
        (Conv2DTranspose, {"kernel_size": 2, "strides": 2, "activation": "relu"}),
        (Conv2DTranspose, {"kernel_size": 3, "strides": 2, "padding": "same", "use_bias": False}),
    ],
)
def test_bfloat16_is_emulated_by_float32_where_no_instruction_multiplies_it(
    kind, options, monkeypatch
):
    rng = np.random.default_rng(0)
    x = tf.cast(tf.constant(rng.normal(size=(2, 6, 5, 8)), tf.float32), tf.bfloat16)
    keras.utils.set_random_seed(1)
    theirs = getattr(keras.layers, kind.__name__)(filters=8, **options)
    theirs.build(x.shape)
    theirs.kernel.assign(tf.cast(tf.cast(theirs.kernel.value, tf.bfloat16), tf.float32))
    ours = kind(filters=8, dtype="mixed_bfloat16", **options)
    ours.build(x.shape)
    ours.set_weights(theirs.get_weights())

    def step(layer, x):
        variables = [v.value for v in layer.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            loss = tf.reduce_sum(tf.square(tf.cast(y, tf.float32)))
        return [y, *tape.gradient(loss, [x, *variables])]

    expected = step(theirs, tf.cast(x, tf.float32))
    for flags in ({"avx2"}, {"avx2", "avx512_bf16"}):
        monkeypatch.setattr(processor, "flags", lambda flags=flags: flags)
        graph = tf.function(lambda x: step(ours, x)).get_concrete_function(x).graph
        products = [op for op in graph.get_operations() if op.type.startswith(("Conv", "MatMul"))]
        emulated = {op.inputs[-1].dtype for op in products} == {tf.float32}
        assert emulated == ("avx512_bf16" not in flags)
        if emulated:  # else TensorFlow's own gradients are off on some processors
            found = step(ours, x)
            assert found[0].dtype == found[1].dtype == tf.bfloat16
            for a, b in zip(found, expected, strict=True):
                a, b = (np.asarray(tf.cast(t, tf.float32)) for t in (a, b))
                assert np.abs(a - b).max() < 1e-2 * np.abs(b).max()
