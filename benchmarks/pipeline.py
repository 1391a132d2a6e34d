#!/usr/bin/env python3
"""Does training ever wait for its images?

    python benchmarks/pipeline.py [--model cae1] [--data FOLDER] [--json]

Trains the same model from the same weights twice, alternating: on image files through
kfeat's pipeline (decode, resize, keep; then shuffle, augment and gather batches), and on the
very same batches, made beforehand and lying in memory. Prints the median rate of
`model.fit` in both, and their ratio: 1.00 says that the pipeline costs nothing. The ratio
`with_decoding` charges the pipeline with reading and decoding every file as well, spread over
the epochs. Without --data, 2,000 of the embedded photographs' crops are written as JPEG files.
"""

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def write_files(folder: Path) -> Path:
    from PIL import Image

    from kfeat import open_source

    for n, element in enumerate(open_source("photos").dataset("train").as_numpy_iterator()):
        path = folder / "train" / str(element["label"]) / f"{n}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(element["image"]).save(path, quality=90)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="cae1")
    parser.add_argument("--recipe", help="whose precision and optimiser to take")
    parser.add_argument("--data", help="a folder of images")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON line")
    a = parser.parse_args()
    logging.getLogger("kfeat").setLevel(logging.ERROR)

    import numpy as np
    import tensorflow as tf

    from kfeat import compose, open_source
    from kfeat.data import pipeline
    from kfeat.data.catalog import default_split
    from kfeat.models import catalog
    from kfeat.training.fit import compiled

    recipe = compose(
        a.model,
        a.recipe,
        image_size=a.image_size,
        batch_size=a.batch_size,
        epochs=a.epochs,
        flip=True,
        shift=4,
        data=a.data or "photos",
    )
    encoder = catalog.find(a.model)
    with tempfile.TemporaryDirectory() as temporary:
        folder = a.data or str(write_files(Path(temporary)))
        source = open_source(folder)
        split = default_split(source, labelled=encoder.supervised)

        def batches():
            start = time.perf_counter()
            data = pipeline.load(source, split, a.image_size)
            decoding = time.perf_counter() - start
            if not encoder.supervised:
                data.labels = None
            made = pipeline.training_batches(
                data,
                np.arange(len(data)),
                batch_size=a.batch_size,
                epochs=range(a.epochs),
                seed=0,
                flip=recipe.flip,
                shift=recipe.shift,
                crop_area=recipe.crop_area,
                erase=recipe.erase,
            )
            return made, len(data) // a.batch_size, decoding

        files, steps, _ = batches()
        images, targets = zip(*files, strict=True)
        memory = tf.data.Dataset.from_tensor_slices((tf.stack(images), tf.stack(targets)))
        memory = memory.with_options(files.options())

        _, model = compiled(recipe, len(source.class_names or ()), steps)
        initial = model.get_weights()

        def fit(dataset):
            model.set_weights(initial)
            start = time.perf_counter()
            model.fit(dataset, steps_per_epoch=steps, epochs=a.epochs, verbose=0, shuffle=False)
            return time.perf_counter() - start

        fit(memory)
        seconds: dict[str, list[float]] = {"files": [], "memory": [], "decoding": []}
        for _ in range(a.rounds):
            seconds["memory"].append(fit(memory))
            files, _, decoding = batches()
            seconds["decoding"].append(decoding)
            seconds["files"].append(fit(files))

    count = a.epochs * steps * a.batch_size
    pairs = list(zip(seconds["memory"], seconds["files"], seconds["decoding"], strict=True))
    result = {
        "model": a.model,
        "precision": recipe.precision,
        "image_size": a.image_size,
        "batch_size": a.batch_size,
        "epochs": a.epochs,
        "images_per_second": {
            "files": round(count / statistics.median(seconds["files"]), 1),
            "memory": round(count / statistics.median(seconds["memory"]), 1),
            "decoding": round(steps * a.batch_size / statistics.median(seconds["decoding"]), 1),
        },
        "ratio": round(statistics.median(m / f for m, f, _ in pairs), 3),
        "with_decoding": round(statistics.median(m / (f + d) for m, f, d in pairs), 3),
    }
    if a.json:
        print(json.dumps(result))
    else:
        rates = result["images_per_second"]
        print(f"{a.model} in {recipe.precision}, {a.image_size} pixels, batch {a.batch_size}")
        print(f"fit on batches in memory  {rates['memory']:8.1f} images/s")
        print(f"fit on files              {rates['files']:8.1f} images/s")
        print(f"decoding                  {rates['decoding']:8.1f} images/s")
        print(f"ratio files / memory      {result['ratio']:8.3f}")
        print(f"... decoding included     {result['with_decoding']:8.3f}")


if __name__ == "__main__":
    main()
