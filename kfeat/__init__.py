"""How good are the features of this image encoder, and how do I put it into production?

The public names, each loaded when it is first used; importing kfeat costs milliseconds:

* `train`: train an encoder from a recipe (`compose`) and export it.
* `score`, `score_features`: the scorecard of an encoder, or of features.
* `plot`, `plot_features`: one figure of it.
* `export`: an encoder becomes a SavedModel that TF Serving loads.
* `open_source`: images under a name or a path.
* `build`: an encoder as a Keras model.
* `InputError`: raised where input cannot be used.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from kfeat.errors import InputError

# Before Keras is imported: it would take the backend of ~/.keras/keras.json.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# Before TensorFlow is: it computes by oneDNN of itself only where a processor has instructions for
# neural networks, and without them oneDNN is the faster one too.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# Before scikit-learn is: threads that wait for one another by spinning take the cores away from
# those that they wait for, wherever something else runs too (docs/performance.md).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Before OpenVINO is: it would tell its makers of every conversion, over the network, unasked.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

if TYPE_CHECKING:
    from kfeat.data.catalog import open_source
    from kfeat.models.catalog import build
    from kfeat.scoring.scorecard import score_features
    from kfeat.serving.evaluate import score
    from kfeat.serving.export import export
    from kfeat.serving.plot import plot, plot_features
    from kfeat.training.fit import train
    from kfeat.training.recipe import compose

_HOMES = {
    "build": "kfeat.models.catalog",
    "compose": "kfeat.training.recipe",
    "export": "kfeat.serving.export",
    "open_source": "kfeat.data.catalog",
    "plot": "kfeat.serving.plot",
    "plot_features": "kfeat.serving.plot",
    "score": "kfeat.serving.evaluate",
    "score_features": "kfeat.scoring.scorecard",
    "train": "kfeat.training.fit",
}

__all__ = [
    "InputError",
    "build",
    "compose",
    "export",
    "open_source",
    "plot",
    "plot_features",
    "score",
    "score_features",
    "train",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("kfeat")
    raise AttributeError(f"module 'kfeat' has no attribute {name!r}")
