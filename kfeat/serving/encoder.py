"""Any encoder, kfeat's own or anybody's, loaded from where it lies and run on images."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kfeat.data import pipeline
from kfeat.data.source import Source
from kfeat.errors import InputError, expand, first_line, nearest
from kfeat.files import from_toml
from kfeat.models import catalog
from kfeat.models.precision import resolve
from kfeat.models.weights import load_keras, sha256
from kfeat.progress import progress
from kfeat.scoring.features import Features
from kfeat.serving import engines, export
from kfeat.serving.engines import Run
from kfeat.serving.folding import convolves, folded

if TYPE_CHECKING:
    import tensorflow as tf

log = logging.getLogger("kfeat")

BATCH_SIZE = 64


@dataclass
class Encoder:
    """An encoder ready to run.

    Attributes:
        path: where it was loaded from; None for a baseline.
        run: what runs it.
        image_size: the side S of its images, or None for any.
        batch_size: how many it takes at a time, or None for any number.
        engine: what runs it, ``"tensorflow"`` or ``"openvino"``.
        precision: what it computes in, ``"float32"`` or ``"bfloat16"``; None where only its
            maker knows.
    """

    path: Path | None
    run: Run
    image_size: int | None
    batch_size: int | None
    engine: str = "tensorflow"
    precision: str | None = "float32"


@dataclass
class _Loaded:
    """An encoder in TensorFlow.

    ``call`` takes a batch of images of ``shape`` and ``dtype``. ``graph`` makes what OpenVINO
    converts, ``output`` is the name of what it looks for there. ``precision`` is None where only
    the maker knows.
    """

    call: Callable[[tf.Tensor], tf.Tensor]
    shape: tuple[int | None, ...]
    dtype: tf.DType
    graph: Callable[[], Any]
    output: str | None
    precision: str | None


def locate(model: str, home: str | Path | None = None) -> Path:
    """Find an encoder by name or path, without loading it.

    Args:
        model: the name of an exported encoder, of which the newest version is taken; or the
            path of a run, of a ``.keras`` file, of a SavedModel, or of a folder of its
            numbered versions. What starts with ``.``, ``~`` or ``/`` is a path.
        home: see `kfeat.serving.export.saved_models`.

    Returns:
        A ``.keras`` file or the folder of a SavedModel.

    Raises:
        InputError: there is none.
    """
    folder, path = export.saved_models(home), expand(model)
    is_name = len(path.parts) == 1 and not model.startswith((".", "~"))
    if is_name and (exported := export.versions(folder / model)):
        return exported[-1]
    if (path.suffix == ".keras" and path.is_file()) or (path / "saved_model.pb").is_file():
        return path
    if (path / "recipe.toml").is_file():
        if (path / "model.keras").is_file() and (path / "results.json").is_file():
            return path / "model.keras"
        raise InputError(f"{model} is a run that is not complete: finish it with --resume")
    if numbered := export.versions(path):
        return numbered[-1]
    if path.exists():
        raise InputError(f"{model} is no run, no .keras file and no SavedModel")
    if model in catalog.ENCODERS:
        raise InputError(f"{model} is not in {folder}: train it first, with kfeat train {model}")
    if len(path.parts) > 1 or path.suffix:
        raise InputError(f"{model}: no such file or folder")
    known = [*catalog.BASELINES, *catalog.ENCODERS]
    known += [
        f.name for f in sorted(folder.glob("*")) if f.name not in known and export.versions(f)
    ]
    raise InputError(
        f"unknown model {model!r}: give {', '.join(known)}, or the path of a run, of a .keras "
        f"file or of a SavedModel{nearest(model, known)}"
    )


def pixels(engine: str = "auto", precision: str | None = None) -> Encoder:
    """The encoder that has to be beaten: the pixels themselves, in [0, 1].

    It is run by TensorFlow in float32, whatever the others are run by.

    Raises:
        InputError: no encoder could be run by this engine or in this precision.
    """
    import tensorflow as tf

    engines.choose(engine)
    if precision:
        resolve(precision)

    def call(images: tf.Tensor) -> tf.Tensor:
        return tf.reshape(images, (tf.shape(images)[0], -1)) / 255

    run = engines.tensorflow(call, tf.float32)
    return Encoder(None, run, image_size=None, batch_size=None)


def told_size(path: Path) -> int | None:
    """The side of an encoder's images, where it is told beside it; None where it has to be loaded.

    A run's recipe tells it, and the manifest of what kfeat exported.
    """
    if path.is_dir():
        size = export.manifest(path).get("image_size")
    else:
        try:
            recipe = from_toml((path.parent / "recipe.toml").read_text("utf-8"))
        except (OSError, ValueError):
            return None
        size = recipe.get("image_size") if path.name == "model.keras" else None
    return size if isinstance(size, int) else None


def check_size(encoder: Encoder, image_size: int) -> None:
    """Raise `InputError` where an encoder of images of any size cannot take those of one."""
    image = np.zeros((encoder.batch_size or 1, image_size, image_size, 3), np.uint8)
    try:
        list(embed(encoder, [image]))
    except InputError:
        raise
    except Exception as error:  # its layers do not fit together, in any way
        log.debug("", exc_info=error)
        raise InputError(
            f"{encoder.path} cannot take images of {image_size} pixels: give another --image-size"
        ) from None


def digest(path: Path) -> str:
    """The SHA-256, in hexadecimal, of a ``.keras`` file.

    Of the folder of a SavedModel, that of the names of all files in it, each with its SHA-256.
    """
    if path.is_file():
        return sha256(path)
    files: list[str] = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(path, followlinks=True):
        if (place := os.path.realpath(folder)) in seen:  # a link back
            folders.clear()
            continue
        seen.add(place)
        files += [os.path.relpath(os.path.join(folder, name), path) for name in names]
    found = hashlib.sha256()
    for file in sorted(files):
        if (path / file).is_file():
            found.update(os.fsencode(file) + b"\0" + bytes.fromhex(sha256(path / file)))
    return found.hexdigest()


def load(path: Path, engine: str = "auto", precision: str | None = None) -> Encoder:
    """Load a ``.keras`` file or a SavedModel.

    Of a SavedModel the signature ``serving_default`` counts, or its only one; of several
    outputs, the one called ``features``. Images come in as [N, S, S, 3] with values in
    [0, 255], vectors must come out, [N, D].

    Args:
        path: where it is.
        engine: what is to run it, one of `kfeat.serving.engines.ENGINES`. ``"auto"`` takes
            OpenVINO where it is installed and can run the encoder, else TensorFlow.
        precision: ``"auto"``, ``"float32"`` or ``"bfloat16"``; None for that of a SavedModel of
            kfeat's, else for float32 (where TensorFlow runs anybody's SavedModel, for its own).

    Raises:
        InputError: it cannot be loaded, does not turn images into vectors, or cannot be run
            by this engine in this precision.
    """
    chosen = engines.choose(engine)
    wanted = resolve(precision)[0] if precision else None
    is_keras = path.suffix == ".keras" and path.is_file()
    loaded = _keras(path, wanted) if is_keras else _saved_model(path)
    shape, dtype = loaded.shape, loaded.dtype
    export.check_images(path, shape, dtype)
    batch_size, image_size = shape[:2]
    if chosen == "openvino":
        try:
            found = wanted or loaded.precision or "float32"
            run = engines.openvino(loaded.graph(), loaded.output, shape, found)
            return Encoder(path, run, image_size, batch_size, chosen, found)
        except InputError as error:
            if engine == "openvino":
                raise InputError(f"{path}: {error}: use --engine tensorflow") from None
            log.info("%s runs by TensorFlow: %s", path, error)
    if precision == "auto":
        wanted = loaded.precision
    if wanted == "bfloat16" and is_keras and loaded.precision == "float32":
        raise InputError(
            f"{path} has no convolutions that could compute in bfloat16: use --precision float32"
        )
    if wanted not in (None, loaded.precision):
        raise InputError(
            f"{path} {_own(loaded.precision)}, which TensorFlow cannot change to {wanted}: give a "
            f"run or a .keras file, export it with --precision {wanted}, or use --engine openvino"
        )
    run = engines.tensorflow(loaded.call, dtype)
    return Encoder(path, run, image_size, batch_size, "tensorflow", loaded.precision)


def _keras(path: Path, precision: str | None) -> _Loaded:
    import tensorflow as tf

    model = load_keras(path)
    images = model.inputs[0]

    @functools.cache  # folded once for both engines, and not before one runs it
    def compiled(precision: str) -> Any:
        lean = folded(model, precision)

        @tf.function(reduce_retracing=True)
        def call(batch: tf.Tensor) -> tf.Tensor:
            (vectors,) = tf.nest.flatten(lean(batch, training=False))
            return vectors

        return call

    def graph() -> Any:  # OpenVINO chooses the precision itself
        call = compiled("float32")
        concrete = call.get_concrete_function(tf.TensorSpec(images.shape, images.dtype))
        concrete.keeps = call  # of its variables it has weak references only
        return concrete

    precision = precision if precision and convolves(model) else "float32"
    shape, dtype = tuple(images.shape), tf.as_dtype(images.dtype)

    def call(batch: tf.Tensor) -> tf.Tensor:
        return compiled(precision)(batch)

    return _Loaded(call, shape, dtype, graph, None, precision)


def _saved_model(path: Path) -> _Loaded:
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as error:  # a damaged file makes the loader stumble in any way
        raise InputError(f"{path} cannot be loaded as a SavedModel: {first_line(error)}") from None
    signatures = dict(loaded.signatures)
    if "serving_default" in signatures:
        signature = signatures["serving_default"]
    elif len(signatures) == 1:
        (signature,) = signatures.values()
    else:
        raise InputError(f"{path} has no signature serving_default (it has {_names(signatures)})")
    inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
    if len(inputs) != 1:
        raise InputError(f"{path} must take one input to be scored, not {_names(inputs)}")
    ((keyword, images),) = inputs.items()
    if not outputs:
        raise InputError(f"{path} returns nothing: its signature must give vectors [N, D]")
    output = "features" if "features" in outputs else next(iter(outputs))
    if len(outputs) > 1 and output != "features":
        raise InputError(f"{path} returns {_names(outputs)}: one must be called features")
    returned = outputs[output].dtype
    if not (returned.is_floating or returned.is_integer):
        raise InputError(f"{path} returns {returned.name}, not numbers")

    def call(batch: tf.Tensor, loaded: object = loaded) -> tf.Tensor:  # keeps `loaded` alive
        return signature(**{keyword: batch})[output]

    shape = images.shape
    return _Loaded(
        call,
        tuple(shape) if shape.rank is not None else (None,) * 4,
        images.dtype,
        # OpenVINO reads bfloat16 weights from a file only, and of signatures the default one.
        lambda: str(path) if "serving_default" in signatures else signature,
        output,
        export.manifest(path).get("precision"),
    )


def _own(precision: str | None) -> str:
    return f"computes in {precision}" if precision else "has a precision of its own"


def _names(things: Iterable[str]) -> str:
    return ", ".join(sorted(things)) or "none"


def embed(encoder: Encoder, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Run an encoder on batches of images.

    Args:
        encoder: the encoder.
        batches: uint8 [N, S, S, 3] each; N may differ, and is at most the encoder's
            ``batch_size`` where it has one.

    Returns:
        For each batch, in order, its vectors, float32 [N, D].

    Raises:
        InputError: it does not return one vector an image.
    """
    counts: deque[int] = deque()

    def padded() -> Iterator[np.ndarray]:
        for images in batches:
            counts.append(len(images))
            missing = (encoder.batch_size or 0) - len(images)
            if missing > 0:
                images = np.concatenate([images, np.repeat(images[-1:], missing, 0)])
            yield images

    for vectors in encoder.run(padded()):
        count = counts.popleft()
        if vectors.ndim != 2 or len(vectors) != (encoder.batch_size or count):
            raise InputError(
                f"{encoder.path} returns {list(vectors.shape)} for "
                f"{encoder.batch_size or count} images, not one vector an image [N, D]"
            )
        yield vectors[:count]


def embed_split(
    encoder: Encoder,
    source: Source,
    split: str,
    image_size: int,
    *,
    resize: str = "crop",
    limit: int | None = None,
    look: Callable[[np.ndarray], None] | None = None,
) -> Features:
    """Run an encoder on a split of a source, batch by batch as they are read.

    Args:
        encoder: the encoder.
        source: where the images are.
        split: one of its splits.
        image_size: the side to which they are brought.
        resize: see `kfeat.data.pipeline.resized`.
        limit: at most so many images; None for all.
        look: called with each batch of images, uint8 [N, S, S, 3], as the encoder gets them.

    Returns:
        Features float32 [N, D] with the images' ids, and their labels int64 [N] where the
        split has any. The manifest says what images they are of; whoever knows the encoder
        adds what it is.

    Raises:
        InputError: no such split, no image in it that can be read, or one without a label
            beside others that have one.
    """
    import tensorflow as tf

    dataset, total = source.dataset(split, limit), source.count(split, limit)
    batches = pipeline.resized(dataset, image_size, resize)
    batches = batches.batch(encoder.batch_size or BATCH_SIZE).prefetch(tf.data.AUTOTUNE)
    features = np.empty((0, 0), np.float32)
    ids: list[str] = []
    labels: list[np.ndarray] = []
    before = len(source.unreadable)

    def images() -> Iterator[np.ndarray]:
        for batch in pipeline.read(batches, source):
            ids.extend(os.fsdecode(name) for name in batch["id"])
            if split in source.labelled:
                labels.append(batch["label"])
            if look:
                look(batch["image"])
            yield batch["image"]

    done = 0
    with progress(total=total, unit="img", desc=f"features of {source.name} {split}") as bar:
        for vectors in embed(encoder, images()):
            if not done:
                features = np.empty((total, vectors.shape[1]), np.float32)
            features[done : done + len(vectors)] = vectors
            done += len(vectors)
            bar.update(len(vectors))
    unreadable = pipeline.passed_over(source, split, len(ids), before)
    manifest = {
        "data": {
            "name": source.name,
            "location": source.location,
            "version": source.version,
            "split": split,
            "count": len(ids),
            "unreadable": unreadable,
            "classes": source.class_names,
        },
        "image_size": image_size,
        "resize": resize,
        "limit": limit,
        "engine": encoder.engine,
        "precision": encoder.precision,
        "versions": export.software(),
    }
    found = np.concatenate(labels) if labels else None
    if found is not None:
        pipeline.check_labels(found, source, split)
    return Features(features[: len(ids)], found, np.array(ids), manifest)
