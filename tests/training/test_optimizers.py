import keras
import numpy as np
import pytest

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


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_configuration_goes_round(name):
    optimizer = getattr(optimizers, name)(0.1, weight_decay=0.2)
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(copy) is type(optimizer)
    assert copy.get_config() == optimizer.get_config()
