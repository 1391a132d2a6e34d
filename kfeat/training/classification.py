"""Learning with labels: a linear layer on the features tells the class."""

from __future__ import annotations

from typing import Any

import keras

LOSS = "cross-entropy"


def prepare(
    graph: keras.Model, class_count: int, label_smoothing: float
) -> tuple[keras.Model, dict[str, Any]]:
    """Return the model to fit, images -> logits, and what to compile it with.

    The loss is the study's: cross-entropy.
    """
    features = graph.get_layer("features").output
    logits = keras.layers.Dense(class_count, dtype="float32", name="logits")(features)
    model = keras.Model(graph.inputs[0], logits, name=graph.name)

    def cross_entropy(labels: Any, logits: Any) -> Any:
        targets = keras.ops.one_hot(labels, class_count)
        return keras.losses.categorical_crossentropy(
            targets, logits, from_logits=True, label_smoothing=label_smoothing
        )

    return model, {"loss": cross_entropy, "metrics": ["accuracy"]}
