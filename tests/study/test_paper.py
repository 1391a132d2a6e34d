"""The paper profile from end to end: STL-10 and CIFAR-10 as their authors pack them, in small."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
from huggingface_hub import constants
from PIL import Image
from safetensors.numpy import save_file

from kfeat import build
from kfeat.cli.reproduce import WHAT
from kfeat.data import binaries
from kfeat.models import weights
from kfeat.reporting import published
from kfeat.study import profile
from kfeat.study.reproduce import reproduce
from tests.data.test_binaries import as_archive, as_folder, files_of

SMALL = {"epochs": 1, "image_size": 32, "batch_size": 8}
"""What is smaller than in the paper profile; all else is as it stands."""

LEFT_OUT = ("ResNet34 crossed", "ResNet50 crossed")
"""Trained as ResNet18 crossed is, and by recipes that are tried on STL-10."""


@pytest.fixture(scope="module")
def data_dir(photographs, tmp_path_factory):
    """STL-10 and CIFAR-10, prepared from the files that their authors would give."""
    root = tmp_path_factory.mktemp("paper")
    images, labels, _ = photographs
    small = np.stack([np.asarray(Image.fromarray(image).resize((32, 32))) for image in images])
    whole = {
        "train": (images[:30], labels[:30]),
        "test": (images[30:60], labels[30:60]),
        "unlabelled": (images[60:100], None),
    }
    crossed = {"train": (small[:25], labels[:25]), "test": (small[25:40], labels[25:40])}
    stl10 = as_archive(files_of("stl10", whole), root / "stl10_binary.tar.gz", "stl10_binary")
    cifar10 = as_folder(files_of("cifar10", crossed), root / "cifar-10-batches-bin")
    binaries.add("stl10", stl10, root / "data")
    binaries.add("cifar10", cifar10, root / "data")
    return root / "data"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub's cache with ImageNet weights of the published names, and random values."""
    for model, (revision, _) in list(weights.IMAGENET.items()):
        folder = tmp_path / f"models--timm--{model}.tv_in1k" / "snapshots" / revision
        folder.mkdir(parents=True)
        targets, _ = weights.torchvision_targets(build(model, 32))
        state = {}
        for name, variable in targets.items():
            value = variable.numpy()
            state[name] = value.transpose(3, 2, 0, 1).copy() if value.ndim == 4 else value
        save_file(state, folder / "model.safetensors")
        pin = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        monkeypatch.setitem(weights.IMAGENET, model, (revision, pin))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_the_paper_profile_makes_all_of_the_study(data_dir, hub, tmp_path):
    paper = profile.read("paper")
    trainings = {
        name: {**changes, **SMALL, **({"shift": 4} if name.startswith("resnet") else {})}
        for name, changes in paper.trainings.items()
    }
    tables = {
        table: {row: name for row, name in rows.items() if row not in LEFT_OUT}
        for table, rows in paper.tables.items()
    }
    small = dataclasses.replace(paper, trainings=trainings, tables=tables)
    for name in paper.trainings:
        whole, part = (vars(one.recipe(name, 0)) for one in (paper, small))
        assert {key for key in whole if whole[key] != part[key]} <= {*SMALL, "shift"}
        assert part["data"] == ("cifar10" if name.endswith("crossed") else "stl10")
        assert part["weights"] == ("imagenet" if name.startswith("resnet") else "none")

    results = reproduce(small, WHAT, tmp_path / "out", data_dir=data_dir)
    assert results["failed"] == {}
    rows = {row["name"]: row for table in results["tables"].values() for row in table}
    assert {name for name, row in rows.items() if row["metrics"]} == rows.keys() - {*LEFT_OUT}
    assert all(rows[name]["reconstruction"] for name in published.UNSUPERVISED)
    assert [finding["missing"] for finding in results["findings"][:2]] == [[], []]
    assert results["report"] == "report.html"
    for training in set(small.tables["table1"].values()):
        (run,) = (tmp_path / "out" / "runs").glob(f"{training}-seed0-*")
        learnt = json.loads((run / "results.json").read_text())
        supervised = training.startswith("resnet")
        assert learnt["weights"]["source"] == ("imagenet" if supervised else "none")
        assert learnt["data"]["split"] == ("train" if supervised else "unlabelled")
