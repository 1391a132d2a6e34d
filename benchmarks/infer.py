#!/usr/bin/env python3
"""How fast does an exported encoder run, beside PyTorch, bare OpenVINO and stock Keras?

    python benchmarks/infer.py [--json]
    python benchmarks/infer.py --arch resnet50 --size 224

kfeat's sides load what `kfeat export` wrote, as `kfeat score` does, and run it on decoded images,
uint8 [N, S, S, 3], batch by batch, until the vectors lie in memory: `kfeat` with TensorFlow (an
export in the precision), `kfeat openvino` with OpenVINO. Weights are random, and batch-norm
statistics too: fresh ones fold to biases of zero, which TensorFlow drops, so that each ReLU is a
pass of its own, as in no encoder that has learnt. PyTorch's side is the same network under
`inference_mode` and autocast, channels last; `openvino` is that network converted and run
asynchronously, as its own guide says; both take floats that lie ready. `keras` is
`keras.applications.ResNet50` with a dense layer of 128, `mixed_bfloat16` in bfloat16, through
`predict_on_batch`; Keras ships no smaller ResNet. Prints the median images per second of each
and the median ratios of rounds that alternate: the TensorFlow engine against PyTorch, the
OpenVINO engine against bare OpenVINO.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from rounds import PRECISIONS, arguments, compare, ratio, serve

ARCHS = ("resnet18", "resnet34", "resnet50")


def kfeat(path: str, engine: str, size: int, batch: int, steps: int, **_) -> Callable[[], int]:
    import numpy as np

    from kfeat.serving import encoder

    loaded = encoder.load(Path(path), engine)
    shape = (batch, size, size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    def run() -> int:
        return sum(map(len, encoder.embed(loaded, (images for _ in range(steps)))))

    return run


def torch(arch: str, precision: str, size: int, batch: int, steps: int, **_) -> Callable[[], int]:
    import torch
    from torch_peers import resnet

    net = resnet(arch).eval().to(memory_format=torch.channels_last)
    images = torch.rand(batch, 3, size, size).to(memory_format=torch.channels_last)

    def run() -> int:
        low = torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16")
        with torch.inference_mode(), low:
            return sum(len(net(images)) for _ in range(steps))

    return run


def openvino(
    arch: str, precision: str, size: int, batch: int, steps: int, **_
) -> Callable[[], int]:
    import openvino as ov
    import torch
    from torch_peers import resnet

    images = torch.rand(batch, 3, size, size)
    graph = ov.convert_model(resnet(arch).eval(), example_input=images)
    options = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
        "PERFORMANCE_HINT": "THROUGHPUT",
    }
    queue = ov.AsyncInferQueue(ov.Core().compile_model(graph, "CPU", options))

    def run() -> int:
        for _ in range(steps):
            queue.start_async({0: images.numpy()})
        queue.wait_all()
        return steps * batch

    return run


def keras(arch: str, precision: str, size: int, batch: int, steps: int, **_) -> Callable[[], int]:
    import keras
    import numpy as np

    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else precision)
    body = keras.applications.ResNet50(
        include_top=False, weights=None, input_shape=(size, size, 3), pooling="avg"
    )
    features = keras.layers.Dense(128, dtype="float32")(body.output)
    model = keras.Model(body.input, features)
    images = np.random.default_rng(0).random((batch, size, size, 3), np.float32)

    def run() -> int:
        return sum(len(model.predict_on_batch(images)) for _ in range(steps))

    return run


def exported(arch: str, size: int, folder: Path) -> dict[str, str]:
    """Export an encoder with random weights; by precision, the SavedModel."""
    import keras
    import numpy as np

    from kfeat import build, export

    encoder = build(arch, size)
    rng = np.random.default_rng(0)
    for layer in encoder.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            for weight in (layer.beta, layer.moving_mean):
                weight.assign(rng.normal(0, 0.1, weight.shape))
    encoder.save(folder / f"{arch}.keras")
    return {
        precision: str(export(folder / f"{arch}.keras", arch, precision=precision, home=folder))
        for precision in PRECISIONS
    }


def main() -> None:
    a = arguments(__doc__, ARCHS, steps=16).parse_args()
    if a.rival:
        case = json.loads(a.rival)
        sides = {"kfeat": kfeat, "torch": torch, "openvino": openvino, "keras": keras}
        serve(sides[case.pop("side")](**case))
        return
    for arch in a.arch:
        with tempfile.TemporaryDirectory() as folder:
            paths = exported(arch, a.size, Path(folder))
            for precision in a.precision:
                one(a, arch, precision, paths[precision])


def one(a: argparse.Namespace, arch: str, precision: str, path: str) -> None:
    case = {"arch": arch, "precision": precision, "size": a.size, "batch": a.batch}
    common = {**case, "steps": a.steps}
    sides = {
        "kfeat": {"side": "kfeat", "engine": "tensorflow", "path": path, **common},
        "torch": {"side": "torch", **common},
        "kfeat openvino": {"side": "kfeat", "engine": "openvino", "path": path, **common},
        "openvino": {"side": "openvino", **common},
    }
    if arch == "resnet50":
        sides["keras"] = {"side": "keras", **common}
    # It does not compute in bfloat16 on every processor.
    rates = compare(sides, a.rounds, optional=("kfeat openvino", "openvino"))
    for ours, peer in (("kfeat", "torch"), ("kfeat openvino", "openvino"), ("kfeat", "keras")):
        if ours not in rates or peer not in rates:
            continue
        line = {
            **case,
            "engine": "openvino" if ours.endswith("openvino") else "tensorflow",
            "kfeat": round(statistics.median(rates[ours]), 1),
            "peer_name": peer,
            "peer": round(statistics.median(rates[peer]), 1),
            "ratio": round(ratio(rates, ours, peer), 3),
        }
        if a.json:
            print(json.dumps(line), flush=True)
        else:
            print(
                f"{arch:9} {precision:9} kfeat, {line['engine']:10} {line['kfeat']:8.1f}   "
                f"{peer:9} {line['peer']:8.1f}   ratio {line['ratio']:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
