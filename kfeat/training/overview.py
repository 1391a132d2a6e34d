"""Every encoder at a glance: what it is, what it costs and what it learns by."""

from __future__ import annotations

import importlib
from typing import Any

from kfeat.models import catalog
from kfeat.models.cost import multiply_adds
from kfeat.training import recipe


def overview() -> list[dict[str, Any]]:
    """Describe every encoder, at the image size of its recipe.

    Returns:
        For each encoder ``model`` (its name), ``kind`` ("supervised" or "unsupervised"),
        ``image_size`` in pixels, ``parameters`` and ``multiply_adds`` (for one image) of the
        encoder, ``decoder`` (the same two of what training adds to it for the reconstruction;
        None where it reconstructs nothing), ``feature_size``, ``loss`` and ``source``.
    """
    listed = []
    for name, known in catalog.ENCODERS.items():
        objective = importlib.import_module(f"kfeat.training.{known.objective}")
        image_size = recipe.compose(name).image_size
        graph = catalog.build_graph(name, image_size)
        encoder = catalog.cut(graph)
        whole, part = (
            {"parameters": model.count_params(), "multiply_adds": multiply_adds(model)}
            for model in (graph, encoder)
        )
        decoder = {key: whole[key] - part[key] for key in whole}
        listed.append(
            {
                "model": name,
                "kind": "supervised" if known.supervised else "unsupervised",
                "image_size": image_size,
                **part,
                "decoder": decoder if len(graph.layers) > len(encoder.layers) else None,
                "feature_size": encoder.output.shape[-1],
                "loss": objective.LOSS,
                "source": known.source,
            }
        )
    return listed
