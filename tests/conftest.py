"""What the tests share: real photographs as a folder, and the development data if present."""

from __future__ import annotations

import os
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    # Its threads wait for each other busily, while another worker has their core.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

import kfeat  # noqa: F401  # before TensorFlow, which reads what it sets in the environment

settings.register_profile("kfeat", deadline=None)  # the machines are noisy
settings.load_profile("kfeat")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of development data, which is not part of the project."""
    folder = Path(os.environ.get("KFEAT_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "tensorflow_datasets").is_dir():
        pytest.skip(f"no development data in {folder} (set KFEAT_SHARED)")
    return folder


@pytest.fixture(scope="session")
def photographs() -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The first 120 training crops of the embedded photographs: images, labels, classes."""
    from kfeat import open_source

    source = open_source("photos")
    elements = list(source.dataset("train").take(120).as_numpy_iterator())
    assert source.class_names
    return (
        np.stack([e["image"] for e in elements]),
        np.array([e["label"] for e in elements]),
        source.class_names,
    )


@pytest.fixture(scope="session")
def folder(photographs, tmp_path_factory) -> Path:
    """A folder ROOT/<split>/<class>/*.png: 80 images to learn from, 40 to test on."""
    root = tmp_path_factory.mktemp("photographs")
    images, labels, classes = photographs
    for n, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = root / ("train" if n < 80 else "test") / classes[label] / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return root
