"""Data sets of TensorFlow Datasets (TFDS), read from their prepared form."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kfeat.data.binaries import ARCHIVES
from kfeat.data.source import UNLABELLED, Source
from kfeat.errors import InputError, expand, first_line
from kfeat.files import from_json

if TYPE_CHECKING:
    import tensorflow as tf

INFO = "dataset_info.json"
"""The file that makes a folder a prepared data set."""

_NOT_BUILDERS = ("core", "dataset_collections", "datasets", "scripts", "testing")
_OTHER_BASES = ("Config", "DoFn", "Enum", "Exception", "Iterable", "object")


def find_prepared(data_dir: Path, name: str) -> Path | None:
    """Find ``name`` under ``data_dir``: its folder of the highest version, or None.

    ``name`` is a data set's name as TFDS writes it: ``NAME``, ``NAME/CONFIG``,
    ``NAME:VERSION``. Nothing is imported or fetched.

    Raises:
        InputError: ``NAME`` is prepared in several configurations.
    """
    base, _, version = name.partition(":")
    return prepared_in(data_dir / base, version)


def prepared_in(folder: Path, version: str = "") -> Path | None:
    """Find the data set prepared in ``folder``: where its ``dataset_info.json`` lies, or None.

    That is ``folder`` itself, else its subfolder of the highest version (or of
    ``version``), else the same in the one configuration that is there.

    Raises:
        InputError: the folder holds several data sets or configurations, or may not be entered.
    """
    folder = expand(folder)
    if (folder / INFO).is_file():
        return folder
    for pattern in ("*", "*/*"):
        found = [info.parent for info in folder.glob(f"{pattern}/{INFO}")]
        if version:
            found = [prepared for prepared in found if prepared.name == version]
        parents = {prepared.parent for prepared in found}
        if len(parents) > 1:
            names = ", ".join(sorted(parent.name for parent in parents))
            raise InputError(f"{folder} holds several data sets: give one of {names} in it")
        if found:
            return max(found, key=lambda p: [int(n) for n in re.findall(r"\d+", p.name)])
    return None


def prepared_names(data_dir: Path) -> dict[str, dict[str, int]]:
    """List what is prepared under ``data_dir``: names, each with its splits and their sizes.

    A name is one that `find_prepared` finds: ``NAME`` or ``NAME/CONFIG``. Nothing is
    imported; a folder whose ``dataset_info.json`` cannot be read is left out.
    """
    found: dict[str, dict[str, int]] = {}
    for depth in (1, 2):
        for info in sorted(data_dir.glob(f"{'*/' * depth}*/{INFO}")):
            name = info.parent.parent.relative_to(data_dir).as_posix()
            if name.startswith(".") or find_prepared(data_dir, name) != info.parent:
                continue
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                splits = from_json(info.read_text("utf-8"))["splits"]
                found[name] = {
                    _spelt(split["name"]): sum(map(int, split["shardLengths"])) for split in splits
                }
    return found


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
    for file in package.glob("*/**/*.py"):
        if file.relative_to(package).parts[0] in _NOT_BUILDERS or file.stem.endswith("_test"):
            continue
        classes = re.findall(r"^class (\w+)\(\s*([\w.]+)", file.read_text("utf-8"), re.MULTILINE)
        names.update(_snake_case(name) for name, base in classes if not base.endswith(_OTHER_BASES))
    return frozenset(names)


def _snake_case(name: str) -> str:
    name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()


def known(name: str) -> bool:
    """Whether the installed TFDS has code for ``NAME``, ``NAME/CONFIG`` or ``NAME:VERSION``."""
    return re.split("[/:]", name)[0] in known_names()


def prepared_source(name: str, folder: Path) -> Source:
    """Open a prepared data set by its folder, the one that holds ``dataset_info.json``.

    Raises:
        InputError: the folder cannot be read, or has no images.
    """
    try:
        from_json((folder / INFO).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}/{INFO} cannot be read: {error}") from None
    import tensorflow_datasets as tfds

    try:
        with _own_features_only(folder):
            builder = tfds.builder_from_directory(folder)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{folder} is no data set that TFDS can read: {first_line(error)}"
        ) from None
    return _from_builder(name, builder)


@contextlib.contextmanager
def _own_features_only(folder: Path) -> Iterator[None]:
    """Have TFDS refuse classes of features that are not its own.

    A prepared data set names the classes of its features, and TFDS imports their modules,
    whatever they are: code of anybody's would run.
    """
    import tensorflow_datasets as tfds

    connector = tfds.features.FeatureConnector
    replaced = vars(connector)["cls_from_name"]
    resolve = connector.cls_from_name

    def own(cls: Any, name: str) -> Any:
        if not name.startswith("tensorflow_datasets."):
            raise InputError(
                f"{folder} names {name}, which is no part of TFDS: its module is not run"
            )
        return resolve(name)

    connector.cls_from_name = classmethod(own)
    try:
        yield
    finally:
        connector.cls_from_name = replaced


def fetched_source(name: str, data_dir: Path) -> Source:
    """Let TFDS download and prepare a data set that it knows.

    Raises:
        InputError: it has no images, or the data cannot be fetched.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except Exception as error:
        raise InputError(f"TFDS cannot make {name!r}: {first_line(error)}") from None
    _image_key(name, builder.info)
    own = f", or add your own copy: kfeat data add {name} PATH" if name in ARCHIVES else ""
    mend = f"give --data-dir where it is{own}"
    try:
        _reach(builder.url_infos)
        with contextlib.redirect_stdout(sys.stderr):
            builder.download_and_prepare()
    except Exception as error:
        raise InputError(
            f"{name} is not prepared in {data_dir} and cannot be fetched "
            f"({first_line(error)}): {mend}"
        ) from None
    return _from_builder(name, builder)


def _reach(urls: dict[str, Any], timeout: float = 10) -> None:
    """Raise OSError where no server of ``urls`` answers: TFDS would try for minutes."""
    hosts = {urllib.parse.urlsplit(url).netloc: url for url in urls if url.startswith("http")}
    for host, url in list(hosts.items())[:3]:
        try:
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=timeout):
                return
        except urllib.error.HTTPError:
            return
        except (OSError, ValueError) as error:
            failure = OSError(f"{host}: {getattr(error, 'reason', error)}")
    if hosts:
        raise failure


def _spelt(split: str) -> str:
    return UNLABELLED if split == "unlabeled" else split


def _image_key(name: str, info: Any) -> str:
    """The feature that holds the images: the supervised input, else the first image."""
    import tensorflow_datasets as tfds

    features = dict(info.features) if hasattr(info.features, "keys") else {}
    keys = info.supervised_keys
    first = [keys[0]] if keys and isinstance(keys[0], str) else []
    for key in [*first, "image", *features]:
        if isinstance(features.get(key), tfds.features.Image):
            dtype = np.dtype(features[key].np_dtype).name
            if dtype not in ("uint8", "uint16"):
                raise InputError(f"{name} has images of {dtype}: kfeat reads uint8 and uint16")
            return key
    there = ", ".join(features) or "none"
    raise InputError(f"{name} is no data set of images: its features are {there}")


def _label_key(info: Any) -> str | None:
    """The feature that holds the class of an image, or None."""
    import tensorflow_datasets as tfds

    keys = info.supervised_keys
    second = keys[1] if keys and isinstance(keys[1], str) else "label"
    feature = dict(info.features).get(second)
    return second if isinstance(feature, tfds.features.ClassLabel) and feature.names else None


def _from_builder(name: str, builder: Any) -> Source:
    import tensorflow as tf
    import tensorflow_datasets as tfds

    info = builder.info
    form = info.file_format
    if form and not tfds.core.file_adapters.ADAPTER_FOR_FORMAT[form].SUPPORTS_TF_DATA:
        raise InputError(
            f"{name} is prepared as {form.value}, which tf.data does not read: prepare it with "
            "file_format='tfrecord'"
        )
    image_key, label_key = _image_key(name, info), _label_key(info)
    own_names = {_spelt(split): split for split in info.splits if info.splits[split].num_examples}
    if not own_names:
        raise InputError(f"{name} is empty: {builder.data_dir} lists no image in any split")
    for own in own_names.values():
        for file in info.splits[own].filepaths:
            if not file.exists():
                raise InputError(f"{name} is incomplete: {file} is missing")

    def has_labels(split: str) -> bool:
        """TFDS gives images without a class the label -1, all of a split or none."""
        if label_key is None or split == UNLABELLED:
            return False
        first = builder.as_dataset(
            split=f"{own_names[split]}[:1]",
            shuffle_files=False,
            decoders={image_key: tfds.decode.SkipDecoding()},
        )
        try:
            return all(int(element[label_key]) >= 0 for element in first)
        except tf.errors.OpError as error:
            raise InputError(
                f"{name} {split} cannot be read ({first_line(error)}): prepare it again"
            ) from None

    def example(number: tf.Tensor, element: dict[str, Any], split: str) -> dict[str, Any]:
        image = element[image_key]
        if image.dtype == tf.uint16:
            image = tf.cast(tf.bitwise.right_shift(image, 8), tf.uint8)
        channels = image.shape[-1]
        if channels is None:
            image = tf.cond(
                tf.shape(image)[-1] < 3,
                lambda: tf.repeat(image[..., :1], 3, axis=-1),
                lambda: image[..., :3],
            )
        elif channels < 3:
            image = tf.repeat(image[..., :1], 3, axis=-1)
        image = tf.ensure_shape(image[..., :3], (*image.shape[:2], 3))
        out = {"id": tf.strings.join([split, "[", tf.strings.as_string(number), "]"])}
        out["image"] = image
        if split in labelled and label_key:
            out["label"] = tf.cast(element[label_key], tf.int64)
        return out

    def read(split: str, limit: int | None) -> tf.data.Dataset:
        dataset = builder.as_dataset(
            split=own_names[split],
            shuffle_files=False,
            read_config=tfds.ReadConfig(try_autocache=False),
        )
        numbered, count = dataset.enumerate(), info.splits[own_names[split]].num_examples
        if limit and info.disable_shuffling:  # the first of them might be all of one class
            numbered = numbered.filter(lambda n, _: n * limit // count < (n + 1) * limit // count)
        return numbered.take(limit or -1).map(
            functools.partial(example, split=split),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )

    labelled = frozenset(filter(has_labels, own_names))
    height, width = info.features[image_key].shape[:2]
    return Source(
        name=name,
        class_names=tuple(info.features[label_key].names) if label_key else None,
        splits={split: info.splits[own].num_examples for split, own in own_names.items()},
        labelled=labelled,
        read=read,
        image_shape=(height, width) if height and width else None,
        location=os.path.abspath(builder.data_dir),
        version=str(info.version),
        state=lambda: hashlib.sha256((Path(builder.data_dir) / INFO).read_bytes()).hexdigest(),
    )
