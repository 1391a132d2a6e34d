#!/usr/bin/env python3
"""How fast do the ResNets learn, beside PyTorch?

    python benchmarks/train.py [--json]
    python benchmarks/train.py --arch resnet18 --precision bfloat16 --size 64
    python benchmarks/train.py --arch resnet18 --batch 256 --optimizer muon --peer sgd

kfeat's side is what `kfeat train` runs: the model, optimiser and settings that its recipe makes,
`model.fit` on batches that the pipeline shuffles, mirrors and gathers, at the default recipe but
for size, batch, precision and ``--optimizer``; the values of its weights are random, what is done
with them is not: layers that ImageNet's would come into learn at a rate of their own. What an epoch
ends with (held-out images, a checkpoint) and the progress bar are left out. PyTorch's side is the
same network in `torch_peers`, with SGD and momentum, on one batch that lies ready in memory; or, by
``--peer sgd``, kfeat with SGD, which tells what another optimiser costs. Prints the median images
per second of each, and the median ratio of rounds that alternate.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from rounds import arguments, compare, report, serve

ARCHS = ("resnet18", "resnet34", "resnet50")


def kfeat(arch: str, precision: str, size: int, batch: int, steps: int, **changes) -> Callable:
    """Return what trains for ``steps`` steps, as `kfeat train` does, on `photos`."""
    import logging

    import numpy as np

    from kfeat import compose, open_source
    from kfeat.data import pipeline
    from kfeat.models import catalog
    from kfeat.training.fit import compiled

    logging.getLogger("kfeat").setLevel(logging.ERROR)
    recipe = compose(
        arch,
        None,
        data="photos",
        image_size=size,
        batch_size=batch,
        precision=precision,
        epochs=1000,
        **changes,
    )
    source = open_source("photos")
    data = pipeline.load(source, "train", size, limit=steps * batch)
    if not catalog.find(arch).supervised:
        data.labels = None
    _, model = compiled(recipe, len(source.class_names or ()), steps)
    epochs = iter(range(recipe.epochs))

    def run() -> int:
        epoch = next(epochs)
        batches = pipeline.training_batches(
            data,
            np.arange(steps * batch) % len(data),
            batch_size=batch,
            epochs=range(epoch, epoch + 1),
            seed=0,
            flip=recipe.flip,
            shift=recipe.shift,
            crop_area=recipe.crop_area,
            erase=recipe.erase,
        )
        model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)
        return steps * batch

    return run


def torch(arch: str, precision: str, size: int, batch: int, steps: int) -> Callable:
    import torch
    from torch_peers import training

    def optimizer(parameters):
        return torch.optim.SGD(parameters, 1e-3, momentum=0.9)

    return training(arch, precision == "bfloat16", size, batch, steps, optimizer)


def main() -> None:
    parser = arguments(__doc__, ARCHS, steps=8)
    parser.add_argument("--optimizer", choices=("sgd", "muon"), default="sgd")
    parser.add_argument("--peer", choices=("torch", "sgd"), default="torch")
    a = parser.parse_args()
    if a.rival:
        case = json.loads(a.rival)
        serve({"kfeat": kfeat, "torch": torch}[case.pop("side")](**case))
        return
    for arch in a.arch:
        for precision in a.precision:
            case = {"arch": arch, "precision": precision, "size": a.size, "batch": a.batch}
            ours = {"side": "kfeat", "steps": a.steps, **case}
            peer = {"side": "torch"} if a.peer == "torch" else {"optimizer": a.peer}
            sides = {"kfeat": ours | {"optimizer": a.optimizer}, a.peer: ours | peer}
            report(case | {"optimizer": a.optimizer}, compare(sides, a.rounds), "kfeat", a.json)


if __name__ == "__main__":
    main()
