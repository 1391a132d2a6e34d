"""The study's tables as it published them."""

from __future__ import annotations

import tomllib
from pathlib import Path

CLUSTERING = ("pairwise_f", "bcubed_f", "nmi")
METRICS = (*CLUSTERING, "knn_accuracy")
"""The columns of its tables, in its order. All lie in 0 .. 1, higher is better."""

UNSUPERVISED = ("CAEv1", "CAEv2", "CAEv3", "UNet")
SUPERVISED = ("ResNet18", "ResNet34", "ResNet50")
CROSSED = tuple(f"{name} crossed" for name in SUPERVISED)
"""The encoders as it names them. Names of one network stand at the same place."""

COMPARED = {
    "best unsupervised of table 1": (UNSUPERVISED, max),
    "worst supervised of table 1": (SUPERVISED, min),
}
"""The rows above table 2: whose figures each has, and which of them, metric by metric."""

ENCODERS = {
    "cae1": "CAEv1",
    "cae2": "CAEv2",
    "cae3": "CAEv3",
    "unet": "UNet",
    "resnet18": "ResNet18",
    "resnet34": "ResNet34",
    "resnet50": "ResNet50",
}
"""What it calls the encoders of `kfeat.models.catalog`."""


def tables() -> dict[str, dict[str, dict[str, float]]]:
    """Its two tables: for ``table1`` and ``table2``, name of the encoder to metric to figure."""
    text = (Path(__file__).parent / "published.toml").read_text("utf-8")
    return {
        table: {name: dict(zip(METRICS, row, strict=True)) for name, row in rows.items()}
        for table, rows in tomllib.loads(text).items()
    }
