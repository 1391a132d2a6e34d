"""An encoder made lean for inference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras


HALF = ("float16", "bfloat16")


def folded(model: keras.Model, precision: str = "float32") -> keras.Model:
    """Copy a functional model, batch normalisation folded into the layers before it.

    What follows a linear layer with kernel W and bias b, gamma (W x + b - mean) /
    sqrt(variance + epsilon) + beta, is itself linear in x: W and b take the factors in, and the
    normalisation disappears. Convolutions, transposed convolutions and dense layers are folded.
    Source: Jacob et al. 2018, "Quantization and training of neural networks for efficient
    integer-arithmetic-only inference", CVPR, arXiv 1712.05877, equation 14.

    Args:
        model: a functional or sequential model; a layer that is used twice stays as it is. Models
            within it, as of a backbone under a new head, are copied likewise, each by itself.
        precision: ``"float32"`` or ``"bfloat16"``. In bfloat16, weights included, is what lies
            between the first and the last convolution of a model; the normalisation of the images
            and what reads features off the last maps are float32, whatever they were trained in.

    Returns:
        A model of the same inputs and types; the same outputs but for rounding.
    """
    return _folded(model, precision, within=False)


def convolves(model: keras.Model) -> bool:
    """Whether a model has a convolution, without which `folded` leaves it in float32."""
    return any(
        _is_convolution(layer) or (_is_graph(layer) and convolves(layer)) for layer in model.layers
    )


def _folded(model: keras.Model, precision: str, within: bool) -> keras.Model:
    """As `folded`; what a model ``within`` another one takes is float32."""
    import keras

    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs, name=model.name)
    uses = _uses(model)
    after = _foldable(model, uses)
    dropped = set(after.values())
    low = _convolving(model, uses) if precision == "bfloat16" else set()

    def clone(layer: keras.Operation) -> keras.Operation:
        if _is_graph(layer):
            return _folded(layer, precision, within=True)
        config = layer.get_config()
        if isinstance(layer, keras.layers.InputLayer) or not isinstance(layer, keras.layers.Layer):
            return type(layer).from_config(config)  # no weights, no type of its own
        if layer.name in after:
            config["use_bias"] = True
        if layer.name in low:
            config["dtype"] = precision
        elif layer.compute_dtype in HALF:
            config["dtype"] = "float32"
        config |= {key: "zeros" for key in config if key.endswith("_initializer")}  # in no time
        return type(layer).from_config(config)

    def call(layer: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        if layer.name in dropped:
            return args[0] if args else kwargs["inputs"]
        return layer(*args, **kwargs)

    def take(tensor: keras.KerasTensor) -> keras.KerasTensor:
        dtype = "float32" if within and tensor.dtype in HALF else tensor.dtype
        return keras.Input(batch_shape=tensor.shape, dtype=dtype)

    copy = keras.models.clone_model(
        model,
        input_tensors=keras.tree.map_structure(take, model.input) if within else None,
        clone_function=clone,
        call_function=call,
    )
    for layer in copy.layers:
        if not layer.weights or _is_graph(layer):  # an input may have got another name
            continue
        original = model.get_layer(layer.name)
        if layer.name in after:
            layer.set_weights(_fold(original, model.get_layer(after[layer.name])))
        else:
            layer.set_weights(original.get_weights())
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it computes with what it derives from its weights
    return copy


def _is_graph(layer: keras.Operation) -> bool:
    """Whether a layer is a model that can be copied layer by layer."""
    import keras

    return isinstance(layer, keras.Sequential) or (
        isinstance(layer, keras.Model) and {"layers", "input_layers"} <= layer.get_config().keys()
    )


def _is_convolution(layer: keras.Operation) -> bool:
    from keras import layers

    return isinstance(layer, (layers.Conv2D, layers.Conv2DTranspose))


@dataclass
class _Uses:
    """How a layer or operation is used: how often, what makes its inputs, what takes its output."""

    calls: int = 0
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)


def _uses(model: keras.Model) -> dict[str, _Uses]:
    """The edges of a model's graph, by the names of its layers, in the order of its calls.

    ``x / 255`` and the functions of `keras.ops` are in the graph too, as operations that are no
    layers.
    """
    import keras

    config = model.get_config()
    uses = {layer["name"]: _Uses() for layer in config["layers"]}
    for layer in config["layers"]:
        for node in layer["inbound_nodes"]:
            uses[layer["name"]].calls += 1
            for maker in _makers(node):
                uses[layer["name"]].before.append(maker)
                uses[maker].after.append(layer["name"])
    for maker in keras.tree.flatten(config["output_layers"]):  # names, each with two numbers
        if isinstance(maker, str):
            uses[maker].after.append("")  # an output of the model is a use too
    return uses


def _makers(of: Any) -> Iterator[str]:
    """The names of the layers whose tensors stand in the configuration of a call."""
    match of:
        case {"class_name": "__keras_tensor__", "config": {"keras_history": history}}:
            yield history[0]
        case dict() | list() | tuple():
            for part in of.values() if isinstance(of, dict) else of:
                yield from _makers(part)


def _foldable(model: keras.Model, uses: dict[str, _Uses]) -> dict[str, str]:
    """By the name of a layer, that of the batch normalisation that can be folded into it."""
    from keras import activations, layers

    found = {}
    layers_by_name = {layer.name: layer for layer in model.layers}
    for layer in model.layers:
        use = uses[layer.name]
        if not isinstance(layer, layers.BatchNormalization) or use.calls != 1:
            continue
        if len(use.before) != 1 or not _is_known(layer):  # with a mask, say
            continue
        (name,) = use.before
        before = layers_by_name.get(name)
        if (
            isinstance(before, (layers.Conv2D, layers.Conv2DTranspose, layers.Dense))
            and _is_known(before)
            and before.activation is activations.linear
            and len(before.weights) == 1 + before.use_bias  # no others, of LoRA say
            and uses[name].calls == len(uses[name].after) == 1
            and getattr(before, "data_format", "channels_last") == "channels_last"
            and layer.axis in (-1, len(layer.input.shape) - 1)
        ):
            found[name] = layer.name
    return found


def _is_known(layer: keras.Operation) -> bool:
    """Whether a layer is Keras's or kfeat's: what computes otherwise may not be changed."""
    return type(layer).__module__.partition(".")[0] in ("keras", "kfeat")


def _convolving(model: keras.Model, uses: dict[str, _Uses]) -> set[str]:
    """The layers on the way from a convolution to another one, both included."""
    convolutions = {layer.name for layer in model.layers if _is_convolution(layer)}

    def reached(way: str) -> set[str]:
        found, front = set(convolutions), list(convolutions)
        while front:
            new = {name for name in getattr(uses[front.pop()], way) if name} - found
            found |= new
            front += new
        return found

    return reached("before") & reached("after")


def _fold(layer: keras.layers.Layer, normalisation: keras.layers.Layer) -> list[np.ndarray]:
    """The kernel and bias of a layer that take in the normalisation after it."""
    from keras import layers

    def value(variable: keras.Variable) -> np.ndarray:
        return np.asarray(variable.numpy(), np.float64)

    kernel, *bias = (np.asarray(weight, np.float64) for weight in layer.get_weights())
    gamma = value(normalisation.gamma) if normalisation.scale else 1.0
    beta = value(normalisation.beta) if normalisation.center else 0.0
    factor = gamma / np.sqrt(value(normalisation.moving_variance) + normalisation.epsilon)
    offset = beta + ((bias[0] if bias else 0.0) - value(normalisation.moving_mean)) * factor
    if isinstance(layer, layers.Conv2DTranspose):  # [height, width, filters, channels]
        return [kernel * factor[:, np.newaxis], offset]
    return [kernel * factor, offset]
