#!/usr/bin/env python3
"""How fast do the auto-encoders learn, beside stock Keras layers and PyTorch?

    python benchmarks/cae.py [--json]

kfeat's side is what `kfeat train` runs; see `train.py`. `keras` fits the same graph made of
Keras's own layers, with Keras's own AdamW and mean squared error, on batches that lie ready,
neither shuffled nor mirrored, without XLA (which is slower still on processors). PyTorch's side is
the same network in `torch_peers`, with AdamW, on one batch that lies ready in memory. Prints the
median images per second of each, and the median ratios of rounds that alternate.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from rounds import arguments, compare, report, serve
from train import kfeat

ARCHS = ("cae1", "unet")


def torch(arch: str, precision: str, size: int, batch: int, steps: int) -> Callable[[], int]:
    import torch
    from torch_peers import training

    def optimizer(parameters):
        return torch.optim.AdamW(parameters, 2e-3, weight_decay=1e-4)

    return training(arch, precision == "bfloat16", size, batch, steps, optimizer)


def stock(arch: str, precision: str, size: int, batch: int, steps: int) -> Callable[[], int]:
    import keras
    import numpy as np
    import tensorflow as tf

    from kfeat.models import catalog
    from kfeat.training.fit import portable

    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else precision)
    graph = portable(catalog.build_graph(arch, size))
    model = keras.Model(graph.inputs[0], graph.get_layer("reconstruction").output)
    assert {type(layer).__module__.split(".")[0] for layer in model.layers} == {"keras"}
    optimizer = keras.optimizers.AdamW(2e-3, weight_decay=1e-4)
    model.compile(optimizer, "mean_squared_error", jit_compile=False)
    shape = (steps * batch, size, size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    batches = tf.data.Dataset.from_tensor_slices((images, images)).batch(batch, True).prefetch(4)
    options = tf.data.Options()
    options.autotune.enabled = False
    batches = batches.with_options(options)

    def run() -> int:
        model.fit(batches, verbose=0)
        return len(images)

    return run


def main() -> None:
    a = arguments(__doc__, ARCHS, steps=12).parse_args()
    if a.rival:
        case = json.loads(a.rival)
        serve({"kfeat": kfeat, "keras": stock, "torch": torch}[case.pop("side")](**case))
        return
    for arch in a.arch:
        for precision in a.precision:
            case = {"arch": arch, "precision": precision, "size": a.size, "batch": a.batch}
            sides = {
                side: {"side": side, "steps": a.steps, **case}
                for side in ("kfeat", "keras", "torch")
            }
            report(case, compare(sides, a.rounds), "kfeat", a.json)


if __name__ == "__main__":
    main()
