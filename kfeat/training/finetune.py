"""Starting from weights instead of at random, and learning gently where they came in."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kfeat.models import catalog, weights

if TYPE_CHECKING:
    import keras

    from kfeat.training.recipe import Recipe

log = logging.getLogger("kfeat")


def start(recipe: Recipe) -> tuple[keras.Model | None, dict[str, Any]]:
    """Build the encoder that a recipe starts from; None where it starts at random.

    Returns:
        The encoder, and where its weights came from, see `kfeat.models.weights.load`, with what
        they had learnt from, ``learnt_from``, where that is known; see
        `kfeat.serving.export.learnt`.

    Raises:
        InputError: the weights cannot be had, read or fitted in.
    """
    from kfeat.serving.export import learnt_from

    if recipe.weights == "none":
        log.info("weights none: %s starts from random weights", recipe.model)
        idle = ["freeze_batch_norm"] * recipe.freeze_batch_norm
        idle += ["backbone_multiplier"] * (recipe.backbone_multiplier != 1)
        if idle:
            log.info("the recipe's %s: no layer to act on", " and ".join(idle))
        return None, {"source": "none"}
    encoder = catalog.build(recipe.model, recipe.image_size)
    renewed = ("features",) if recipe.features == "renew" else ()
    origin: dict[str, Any] = {**weights.load(encoder, recipe.weights, renewed)}
    if (data := learnt_from(Path(origin["file"]))) is not None:
        origin["learnt_from"] = data
    if renewed and not encoder.get_layer("features").weights:
        log.info("features renew: the feature layer of %s has no weights", recipe.model)
    elif renewed and not weights.named_as_torchvision(recipe.weights):
        log.info("features renew: the feature layer starts at random")
    if not catalog.find(recipe.model).supervised:
        log.info("the decoder starts at random: an encoder's weights have none")
    return encoder, origin


def prepare(
    graph: keras.Model,
    recipe: Recipe,
    pretrained: keras.Model | None,
    optimizer: keras.optimizers.Optimizer,
    undecayed: list[str],
) -> None:
    """Make a graph start from ``pretrained``, and fine-tune as the recipe says.

    Args:
        graph: the graph to be trained.
        recipe: says which layers are kept, and how these learn.
        pretrained: the encoder to start from; None where a checkpoint brings all weights.
        optimizer: not built yet.
        undecayed: names of variables that have no weight decay.
    """
    layers = backbone(graph, recipe)
    if pretrained is not None:
        for layer in layers:
            layer.set_weights(pretrained.get_layer(layer.name).get_weights())
    if recipe.freeze_batch_norm:
        freeze_batch_norm(layers)
    if recipe.backbone_multiplier != 1:
        slow_down(optimizer, layers, recipe.backbone_multiplier, undecayed)


def backbone(graph: keras.Model, recipe: Recipe) -> list[keras.layers.Layer]:
    """The layers of a graph whose weights a recipe brings: of the encoder, never of a decoder."""
    if recipe.weights == "none":
        return []
    renewed = recipe.features == "renew" or weights.named_as_torchvision(recipe.weights)
    encoder = catalog.cut(graph)
    return [x for x in encoder.layers if x.weights and not (renewed and x.name == "features")]


def freeze_batch_norm(layers: list[keras.layers.Layer]) -> None:
    """Make batch normalisation keep its statistics, scale and offset, and normalise by them."""
    import keras

    for layer in layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def slow_down(
    optimizer: keras.optimizers.Optimizer,
    layers: list[keras.layers.Layer],
    multiplier: float,
    undecayed: list[str],
) -> None:
    """Make an optimiser, not built yet, update some layers at ``multiplier`` times its rate.

    Keras's optimisers apply weight decay to all variables at the one learning rate, so that of
    these layers moves into their update.

    Args:
        optimizer: any that computes its update in ``update_step``, as Keras's own do.
        layers: the layers.
        multiplier: of the learning rate.
        undecayed: names of variables that have no weight decay.
    """
    variables = [v for layer in layers for v in layer.trainable_variables]
    optimizer.exclude_from_weight_decay(var_names=undecayed)
    decays = {v.value.ref(): optimizer._use_weight_decay(v) for v in variables}
    update, decay = optimizer.update_step, optimizer.weight_decay or 0.0

    def update_step(gradient: Any, variable: Any, learning_rate: Any) -> None:
        if variable.ref() in decays:
            learning_rate = learning_rate * multiplier
            if decay and decays[variable.ref()]:
                variable.assign(variable * (1 - decay * learning_rate))
        update(gradient, variable, learning_rate)

    optimizer.update_step = update_step
    optimizer.exclude_from_weight_decay(var_list=variables, var_names=undecayed)
