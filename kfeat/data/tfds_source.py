"""Data sets of TensorFlow Datasets (TFDS), read from their prepared form."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kfeat.data.source import Source
from kfeat.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf

_UNLABELLED_SPELLINGS = ("unlabelled", "unlabeled")


def find_prepared(data_dir: Path, name: str) -> Path | None:
    """Find ``name`` under ``data_dir``: its folder of the highest version, or None.

    ``name`` is a data set's name as TFDS writes it: ``NAME``, ``NAME/CONFIG``,
    ``NAME:VERSION``. Nothing is imported or fetched.
    """
    base, _, version = name.partition(":")
    root = data_dir / base
    if (root / "dataset_info.json").is_file():
        return root
    found = [
        info.parent
        for depth in ("*", "*/*")
        for info in sorted(root.glob(f"{depth}/dataset_info.json"))
        if not version or info.parent.name == version
    ]
    if not found:
        return None
    return max(found, key=lambda folder: [int(n) for n in re.findall(r"\d+", folder.name)])


@functools.cache
def known_names() -> frozenset[str]:
    """The names of all data sets that the installed TFDS has code for.

    They are read off its source files: importing TFDS takes seconds and loads TensorFlow.
    """
    spec = importlib.util.find_spec("tensorflow_datasets")
    if spec is None or spec.origin is None:
        return frozenset()
    package = Path(spec.origin).parent
    names = {builder.parent.name for builder in package.glob("datasets/*/*_builder.py")}
    for file in package.rglob("*.py"):
        if "dataset_builders" in file.parts or file.name.endswith("_test.py"):
            continue
        for class_name in re.findall(r"^class (\w+)\(", file.read_text("utf-8"), re.MULTILINE):
            names.add(_snake_case(class_name))
    return frozenset(names)


def _snake_case(name: str) -> str:
    name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()


def known(name: str) -> bool:
    """Whether the installed TFDS has code for the data set ``name``."""
    return name in known_names()


def prepared_source(name: str, folder: Path) -> Source:
    """Open a prepared data set by its folder, the one that holds ``dataset_info.json``.

    Raises:
        InputError: the folder cannot be read, or has no images.
    """
    try:
        json.loads((folder / "dataset_info.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}/dataset_info.json cannot be read: {error}") from None
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(folder)
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{folder} is no data set that TFDS can read: {reason}") from None
    return _from_builder(name, builder)


def fetched_source(name: str, data_dir: Path) -> Source:
    """Let TFDS download and prepare a data set that it knows.

    Raises:
        InputError: the data cannot be fetched.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
        builder.download_and_prepare()
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        own = f", or add your own copy: kfeat data add {name} PATH" if name in _ADDABLE else ""
        raise InputError(
            f"{name} is not prepared in {data_dir} and cannot be fetched "
            f"({type(error).__name__}: {reason[:200]}): give --data-dir where it is{own}"
        ) from None
    return _from_builder(name, builder)


_ADDABLE = ("stl10", "cifar10")


def _from_builder(name: str, builder: Any) -> Source:
    import tensorflow_datasets as tfds

    info = builder.info
    image_key, label_key = info.supervised_keys or ("image", "label")
    features = dict(info.features) if hasattr(info.features, "keys") else {}
    if not isinstance(features.get(image_key), tfds.features.Image):
        raise InputError(f"{name} is no image data set: it has no feature {image_key!r}")
    label = features.get(label_key)
    if not isinstance(label, tfds.features.ClassLabel):
        label = None
    own_names = {
        ("unlabelled" if split in _UNLABELLED_SPELLINGS else split): split
        for split in info.splits
    }
    splits = {split: info.splits[own].num_examples for split, own in own_names.items()}
    labelled = frozenset(s for s in splits if label is not None and s != "unlabelled")

    def read(split: str) -> tf.data.Dataset:
        import tensorflow as tf

        dataset = builder.as_dataset(
            split=own_names[split],
            shuffle_files=False,
            read_config=tfds.ReadConfig(try_autocache=False, add_tfds_id=False),
        )

        def example(element: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            image = element[image_key]
            if image.dtype == tf.uint16:
                image = tf.bitwise.right_shift(image, 8)
            image = tf.cast(image, tf.uint8)
            channels = image.shape[-1]
            if channels == 1:
                image = tf.image.grayscale_to_rgb(image)
            out = {"image": image[..., :3]}
            if split in labelled:
                out["label"] = tf.cast(element[label_key], tf.int64)
            return out

        return dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    shape = features[image_key].shape[:2]
    return Source(
        name=name,
        class_names=tuple(label.names) if label is not None else None,
        splits=splits,
        labelled=labelled,
        read=read,
        image_shape=shape if None not in shape else None,
    )
