import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kfeat.training import optimizers


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", {}),
        ("SGD", {"momentum": 0.9}),
        ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
        ("Adam", {}),
        ("Adam", {"amsgrad": True}),
        ("AdamW", {"weight_decay": 0.1}),
    ],
)
def test_equals_keras_in_weights_and_state(name, options):
    x = np.random.default_rng(0).normal(size=(320, 5)).astype("float32")
    results = []
    for module in (keras.optimizers, optimizers):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(7), keras.layers.Dense(1)])
        rate = keras.optimizers.schedules.CosineDecay(0.1, 50)
        optimizer = getattr(module, name)(rate, **options)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        model.compile(optimizer, "mse")
        start = model.get_weights()
        model.fit(x, x[:, :1] ** 2, batch_size=32, epochs=3, verbose=0, shuffle=False)
        results.append([*model.get_weights(), *(np.asarray(v) for v in optimizer.variables)])
        assert not np.allclose(start[0], model.get_weights()[0], atol=0.01)
    for theirs, ours in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def polar_express(matrix):
    """The polynomials on the singular values alone, in float64."""
    left, values, right = np.linalg.svd(matrix.astype("float64"), full_matrices=False)
    values = values / np.sqrt(np.sum(values**2))
    for linear, cubic, quintic in optimizers.POLAR_EXPRESS:
        values = linear * values + cubic * values**3 + quintic * values**5
    return left * values @ right


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.floats(1e-6, 1e6), st.integers(0, 99))
def test_orthogonal_applies_the_polynomials_to_singular_values(rows, columns, scale, seed):
    matrix = np.random.default_rng(seed).normal(size=(rows, columns)).astype("float32")
    found = optimizers.orthogonal(tf.constant(matrix * np.float32(scale))).numpy()
    np.testing.assert_allclose(found, polar_express(matrix), atol=2e-3)


def test_each_polynomial_is_the_best_of_its_degree():
    """By Chebyshev's theorem: with 3 coefficients, the largest error in turns at 4 places."""
    values = np.geomspace(1 / 400, 1, 100_001)
    for linear, cubic, quintic in optimizers.POLAR_EXPRESS:
        values = np.geomspace(values.min(), values.max(), 100_001)
        values = linear * values + cubic * values**3 + quintic * values**5
        errors = values - 1
        signs = np.sign(errors[abs(errors) > abs(errors).max() - 1e-3])
        assert 1 + np.count_nonzero(np.diff(signs)) == 4


def test_orthogonal_makes_singular_values_alike():
    rng = np.random.default_rng(0)
    left, _, right = np.linalg.svd(rng.normal(size=(300, 64)), full_matrices=False)
    matrix = (left * np.geomspace(1, 1e-2, 64)) @ right
    found = optimizers.orthogonal(tf.constant(matrix, tf.float32)).numpy()
    assert np.diag(left.T @ found @ right.T).min() > 0.6
    assert np.diag(left.T @ found @ right.T).max() < 1.3
    assert not optimizers.orthogonal(tf.zeros([4, 3])).numpy().any()


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.8, True), (0.8, False), (0.0, False)])
def test_muon_moves_kernels_orthogonally_and_vectors_by_a_length(momentum, nesterov):
    """Four steps, beside the formulas in float64."""
    rng = np.random.default_rng(0)
    shapes = ((3, 3, 4, 8), (1, 1, 4, 16), (8, 5), (5,))
    start = [rng.normal(size=shape).astype("float32") for shape in shapes]
    gradients = [[rng.normal(size=v.shape).astype("float32") for v in start] for _ in range(4)]

    variables = [
        keras.Variable(value, name=name)
        for value, name in zip(start, [*3 * ["kernel"], "bias"], strict=True)
    ]
    optimizer = optimizers.Muon(0.1, weight_decay=0.5, momentum=momentum, nesterov=nesterov)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build(variables)
    learn = tf.function(lambda given: optimizer.apply(given, variables))
    for given_ in gradients:
        learn([tf.constant(g) for g in given_])
    ours = [np.asarray(v) for v in variables]

    def moves(n):
        moved = 0.0
        for given_ in gradients:
            moved = momentum * moved + given_[n].astype("float64")
            yield given_[n] + momentum * moved if nesterov else moved

    vector = start[3].astype("float64")
    for move in moves(3):
        vector = vector - 0.02 * move / np.sqrt(np.mean(move**2))
    np.testing.assert_allclose(ours[3], vector, rtol=1e-5, atol=1e-6)

    for n, values in enumerate((8, 4, 5)):  # as many singular values as the shorter side is long
        dense = start[n].ndim == 2
        kernel = start[n].reshape(-1, start[n].shape[-1]).astype("float64")
        length = np.linalg.norm(kernel)
        for move in moves(n):
            step = polar_express(move.reshape(kernel.shape))
            if dense:
                kernel *= 1 - 0.1 * 0.5
                length = np.sqrt(2 * 8 * 5 / (8 + 5))  # Glorot's: variance 2 / (8 + 5)
            kernel = kernel - 0.1 * length * step / np.sqrt(values)
            if not dense:
                kernel *= length / np.linalg.norm(kernel)
        found = ours[n].reshape(kernel.shape)
        np.testing.assert_allclose(found, kernel, rtol=2e-3, atol=2e-3)
        assert np.linalg.norm(ours[n] - start[n]) > 0.15 * length


@pytest.mark.parametrize("start", [0.0, 0.1, 10.0])
def test_a_dense_kernel_finds_its_length_by_muon_wherever_it_starts(start):
    """By steps in proportion to its own length it would shrink by 1.5 % in each, without end."""
    rng = np.random.default_rng(0)
    drawn = np.asarray(keras.initializers.GlorotUniform(seed=0)((60, 40)))
    kernel = keras.Variable(drawn * start, name="kernel")
    optimizer = optimizers.Muon(0.1, weight_decay=0.2)
    optimizer.build([kernel])
    learn = tf.function(lambda given: optimizer.apply([given], [kernel]))
    for _ in range(300):
        learn(tf.constant(rng.normal(size=(60, 40)), tf.float32))
    expected = np.sqrt(0.1 / (2 * 0.2)) * np.linalg.norm(drawn)
    assert np.linalg.norm(kernel) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("name", ["SGD", "Muon", "AdamW"])
def test_configuration_goes_round(name):
    options = {} if name == "AdamW" else {"momentum": 0.8, "nesterov": True}
    optimizer = getattr(optimizers, name)(0.1, weight_decay=0.2, **options)
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(copy) is type(optimizer)
    assert copy.get_config() == optimizer.get_config()
