import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kfeat.models import processor
from kfeat.models.layers import Add, BatchNormalization, ReLU
from kfeat.models.normalization import Normalization

SIDES = st.integers(1, 12)


@settings(max_examples=6, deadline=None)
@given(batch=st.integers(1, 5), height=SIDES, width=SIDES, channels=st.integers(1, 9))
def test_equals_the_formula_in_float64(batch, height, width, channels):
    """Alone; with a ReLU after it; with other maps added in between."""
    rng = np.random.default_rng(0)
    maps = rng.normal(5, 2, (batch, height, width, channels))
    upstream, other = rng.normal(0, 1, (2, *maps.shape))
    gamma, beta = rng.uniform(0.5, 2, (2, channels))
    epsilon = 1e-3

    n = batch * height * width
    mean, variance = maps.mean((0, 1, 2)), maps.var((0, 1, 2))
    normal = (maps - mean) / np.sqrt(variance + epsilon)

    def expected(added, rectify):
        outputs = gamma * normal + beta + added
        passed = upstream * (outputs > 0) if rectify else upstream
        for_beta, for_gamma = passed.sum((0, 1, 2)), (passed * normal).sum((0, 1, 2))
        for_maps = gamma / np.sqrt(variance + epsilon)
        for_maps = for_maps * (passed - for_beta / n - normal * for_gamma / n)
        outputs = np.maximum(outputs, 0) if rectify else outputs
        for_added = passed if added is other else None
        return [mean, variance, outputs, for_maps, for_gamma, for_beta, for_added]

    inputs = [tf.constant(value, tf.float32) for value in (maps, gamma, beta, other)]
    for compute, right in (
        (lambda normalization: normalization.outputs(), expected(0, False)),
        (lambda normalization: normalization.rectified(), expected(0, True)),
        (lambda normalization: normalization.rectified_with(inputs[3]), expected(other, True)),
    ):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            normalization = Normalization.of(*inputs[:3], epsilon)
            outputs = compute(normalization)
        found = tape.gradient(outputs, inputs, tf.constant(upstream, tf.float32))
        found = [normalization.mean, normalization.variance, outputs, *found]
        for value, wanted in zip(found, right, strict=True):
            if wanted is None:
                assert value is None
            else:
                near = 1e-4 * max(1, abs(wanted).max())
                np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=near)


def test_a_mean_far_from_zero_costs_no_digits_of_the_variance():
    """As the difference of two mean squares it would come out as 0, or below."""
    x = np.random.default_rng(0).normal(10_000, 1, (8, 16, 16, 32)).astype("float32")
    normalization = Normalization.of(tf.constant(x), tf.ones(32), tf.zeros(32), 1e-3)
    variance = x.astype("float64").var((0, 1, 2))
    np.testing.assert_allclose(normalization.variance, variance, rtol=1e-3)


def test_what_is_not_a_number_is_not_rectified_away():
    """Else a training that diverges would go on as if nothing had happened."""
    maps = np.random.default_rng(0).normal(size=(4, 8, 8, 16)).astype("float32")
    maps[1, 2, 3, 5] = np.nan
    normalization = Normalization.of(tf.constant(maps), tf.ones(16), tf.zeros(16), 1e-3)
    for outputs in (
        normalization.outputs(),
        normalization.rectified(),
        normalization.rectified_with(tf.ones(maps.shape)),
    ):
        lost = np.isnan(outputs)
        assert lost[..., 5].all() and lost.sum() == lost[..., 5].size


def test_gradients_of_its_gradients_are_refused():
    """The statistics are constants to its gradients, whose own would lack what goes by these."""
    maps = tf.random.normal([4, 8, 8, 16])
    with tf.GradientTape() as outer:
        outer.watch(maps)
        with tf.GradientTape() as tape:
            tape.watch(maps)
            cubes = Normalization.of(maps, tf.ones(16), tf.zeros(16), 1e-3).outputs() ** 3
        gradient = tape.gradient(cubes, maps)
    with pytest.raises(LookupError, match="second derivatives"):
        outer.gradient(gradient, maps)


@pytest.mark.parametrize("after", ["gather", "random_crop"])
def test_gradients_that_come_as_slices_or_of_unknown_shape(after):
    inputs = tf.random.normal([6, 4, 4, 96])

    def loss(outputs):
        if after == "gather":
            return tf.reduce_sum(tf.square(tf.gather(outputs, [1, 3])))
        return tf.reduce_sum(tf.square(tf.image.random_crop(outputs, [6, 4, 4, 96])))

    @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 96])])
    def gradient(maps):
        outputs = Normalization.of(maps, tf.ones(96), tf.zeros(96), 1e-3).outputs()
        return tf.gradients(loss(outputs), maps)[0]

    with tf.GradientTape() as tape:
        tape.watch(inputs)
        expected = loss(keras.layers.BatchNormalization()(inputs, training=True))
    expected = tape.gradient(expected, inputs)
    np.testing.assert_allclose(gradient(inputs), expected, atol=1e-4)


def computed(graph):
    """The names of the compiled functions that a graph calls for its outputs and variables."""
    compiled = {f.signature.name for f in graph.as_graph_def().library.function}
    front, seen = [t.op for t in graph.outputs] + graph.control_outputs, set()
    while front:
        op = front.pop()
        if op not in seen:
            seen.add(op)
            front += [t.op for t in op.inputs] + list(op.control_inputs)
    called = [op.get_attr("f").name for op in seen if "PartitionedCall" in op.type]
    assert set(called) <= compiled
    return sorted(re.sub(r"^_*(inference|forward)_+|_\d+$", "", name).strip("_") for name in called)


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="not used on a GPU")
@pytest.mark.parametrize(
    ("shape", "dtype", "flags", "compiled"),
    [
        ((24, 24, 64), "float32", {"avx2"}, True),
        ((3, 3, 2048), "float32", {"avx2"}, True),
        ((24, 24, 64), "bfloat16", {"avx2"}, False),
        ((16, 16, 64), "float32", {"avx2"}, False),  # small
        ((48, 48, 8), "float32", {"avx2"}, False),  # of few channels
        ((11, 11, 256), "float32", {"avx2"}, False),  # without slices of equal size
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
    assert len(by_xla) == (3 if compiled else 0)  # statistics, forward, backward
    fused = {node.op for node in graph.node} & {"FusedBatchNormV3", "FusedBatchNormGradV3"}
    assert len(fused) == (0 if compiled else 2)


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="not used on a GPU")
def test_layers_that_follow_are_computed_with_it(monkeypatch):
    monkeypatch.setattr(processor, "flags", lambda: frozenset({"avx2"}))
    kinds = {"ours": (BatchNormalization, ReLU, Add)}
    kinds["theirs"] = tuple(getattr(keras.layers, kind.__name__) for kind in kinds["ours"])
    results = {}
    maps, upstream = tf.random.stateless_normal([2, 3, 24, 24, 64], [0, 1])
    for whose, (normalisation, relu, add) in kinds.items():
        images = keras.Input((24, 24, 64))
        x = normalisation(name="a")(images)
        y = relu()(x)
        z = relu()(add()([y, normalisation(name="b", beta_initializer="ones")(y)]))
        alone = normalisation(name="c")(z)
        clipped = relu(max_value=1.0)(normalisation(name="d")(z))
        doubled = normalisation(name="e")(z)
        model = keras.Model(images, [add()([doubled, doubled, z]), alone, clipped])

        @tf.function
        def step(maps, model=model):
            with tf.GradientTape() as tape:
                outputs = model(maps, training=True)
                loss = tf.add_n([tf.reduce_sum(output * upstream) for output in outputs])
            return outputs, tape.gradient(loss, model.trainable_variables)

        results[whose] = [*tf.nest.flatten(step(maps)), *model.get_weights()]
        functions = computed(step.get_concrete_function(maps).graph)
        if whose == "ours":
            forward = ["normal"] * 3 + ["rectified", "rectified_sum"] + ["statistics"] * 5
            backward = ["backward"] * 4 + ["backward_of_rectified"]
            assert functions == sorted(forward + backward)
        else:
            assert functions == []
    for ours, theirs in zip(results["ours"], results["theirs"], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).max())
