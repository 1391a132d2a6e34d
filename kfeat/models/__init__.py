"""Image encoders as Keras functional models."""

from kfeat.models.catalog import build

__all__ = ["build"]
