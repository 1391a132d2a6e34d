"""An encoder leaves as a SavedModel, in the layout that TF Serving watches."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import shutil
import tempfile
import uuid
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kfeat.errors import InputError, expand
from kfeat.files import flush, from_json
from kfeat.models.catalog import BASELINES
from kfeat.models.precision import resolve
from kfeat.models.weights import load_keras
from kfeat.serving.folding import convolves, folded

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

log = logging.getLogger("kfeat")

MANIFEST = "assets.extra/kfeat.json"
"""Where a SavedModel says what it was made from; TF Serving leaves that folder alone."""

_TOLD = ("name", "location", "version", "split", "state")
"""What is told of data that an encoder learnt from."""


def saved_models(home: str | Path | None = None) -> Path:
    """The folder of exported encoders: ``saved_models`` in ``home``.

    ``home`` is ``$KFEAT_HOME`` or the working directory where it is not given.
    """
    return expand(home or os.environ.get("KFEAT_HOME") or ".") / "saved_models"


def versions(folder: Path) -> list[Path]:
    """The numbered SavedModels in a folder, the oldest first."""
    numbered = [f.parent for f in folder.glob("*/saved_model.pb") if f.parent.name.isdecimal()]
    return sorted(numbered, key=lambda folder: int(folder.name))


def software() -> dict[str, str]:
    """The versions of what results depend on."""
    import tensorflow as tf

    installed = {name: version(name) for name in ("kfeat", "keras", "numpy", "scikit-learn")}
    return {"python": platform.python_version(), **installed, "tensorflow": tf.__version__}


def weights_digest(model: keras.Model) -> str:
    """The SHA-256, in hexadecimal, of a model's weights: shapes, types and values, in order."""
    found = hashlib.sha256()
    for weight in model.get_weights():
        found.update(f"{weight.dtype} {weight.shape}".encode())
        found.update(weight.tobytes())
    return found.hexdigest()


def export(
    path: str | Path,
    name: str | None = None,
    *,
    precision: str = "float32",
    reuse: bool = False,
    home: str | Path | None = None,
    learnt: list[dict[str, Any]] | None = None,
) -> Path:
    """Export a trained encoder as the next version of ``name``.

    The SavedModel has the signature ``serving_default``: ``images`` float32 [N, S, S, 3] in
    [0, 255] -> ``features`` float32 [N, 128]. Batch normalisation is folded into the convolutions
    (`kfeat.serving.folding.folded`) and the weights are constants of the graph, which lets the
    engine lay them out once and for all. It is written under a temporary name and then
    renamed, so that a server that watches the folder never sees half of it.

    Args:
        path: a run, or a ``.keras`` file of one input and one output.
        name: what it is served as; None for the name of the model.
        precision: what the SavedModel computes in: ``"float32"``, ``"bfloat16"`` (half of the
            size), or ``"auto"``; see `kfeat.models.precision.resolve`.
        reuse: make no new version where the newest one has the same weights, image size and
            precision.
        home: see `saved_models`.
        learnt: what it learnt from, for the manifest; None for what is told beside ``path``, see
            `learnt_from`.

    Returns:
        The folder of the version.

    Raises:
        InputError: there is no encoder at ``path``, it does not turn images into vectors or has
            nothing that could compute in this precision, the name cannot be a folder's or is a
            baseline's, no such precision, or nothing can be written in ``home``.
    """
    path = expand(path)
    file = path / "model.keras" if path.is_dir() else path
    if not file.is_file() or file.suffix != ".keras":
        if (path / "recipe.toml").is_file():
            raise InputError(f"{path} is a run that is not complete: finish it with --resume")
        raise InputError(f"{path} is no run and no .keras file: give one")
    import tensorflow as tf

    encoder = load_keras(file)
    name = encoder.name if name is None else name
    odd = not name or name.startswith((".", "~")) or not name.isprintable()
    if odd or Path(name).name != name or len(os.fsencode(name)) > 255:
        raise InputError(
            f"name {name[:60]!r} cannot be a folder's: give --name of letters and digits"
        )
    if name in BASELINES:
        raise InputError(f"name {name!r} is that of a baseline in kfeat score: give another --name")
    asked, (precision, why) = precision, resolve(precision)
    shape, vectors = encoder.inputs[0].shape, encoder.outputs[0].shape
    check_images(path, shape, tf.as_dtype(encoder.inputs[0].dtype))
    if len(vectors) != 2:
        raise InputError(f"{path} returns {vectors}, not one vector an image [N, D]")
    if precision == "bfloat16" and not convolves(encoder):
        if asked != "auto":
            raise InputError(
                f"{path} has no convolutions that could compute in bfloat16: export it in float32"
            )
        precision, why = "float32", "nothing in it convolves"
    if asked == "auto":
        log.info("precision %s: %s", precision, why)
    lean = folded(encoder, precision)
    weights = [
        [variable.numpy() for variable in variables]
        for variables in (lean.trainable_variables, lean.non_trainable_variables)
    ]

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name="images")])
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        constants = [[tf.constant(value) for value in values] for values in weights]
        outputs, _ = lean.stateless_call(*constants, images, training=False)
        (features,) = tf.nest.flatten(outputs)
        return {"features": tf.cast(features, tf.float32)}

    root = writable(home, name)
    try:
        root.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{str(root)[:200]} cannot be made ({error.strerror}): choose another --name"
        ) from None
    made_from = {
        "name": encoder.name,
        "image_size": shape[1],
        "precision": precision,
        "weights_sha256": weights_digest(encoder),
    }
    newest = versions(root)[-1:]
    if reuse and newest:
        before = manifest(newest[0])
        if all(before.get(key) == made_from[key] for key in made_from):
            return newest[0]
    made_from["learnt_from"] = learnt_from(file) if learnt is None else learnt
    made_from["versions"] = software()
    temporary = root / f".new-{uuid.uuid4().hex}"
    module = tf.Module()
    module.serve = serve
    try:
        tf.saved_model.save(module, temporary, signatures={"serving_default": serve})
        (temporary / MANIFEST).parent.mkdir()
        (temporary / MANIFEST).write_text(json.dumps(made_from, indent=2) + "\n", "utf-8")
        flush(temporary)
        while True:
            taken = [int(f.name) for f in root.iterdir() if f.name.isdecimal()]
            numbered = root / str(max(taken, default=0) + 1)
            try:
                return temporary.rename(numbered)
            except OSError:
                if not numbered.exists():
                    raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_images(path: Path, shape: Sequence[int | None], dtype: tf.DType) -> None:
    """Raise `InputError` where what a model takes are not images."""
    holds_pixels = dtype.is_floating or (dtype.is_integer and dtype.max >= 255)
    if len(shape) != 4 or shape[3] not in (3, None) or shape[1] != shape[2] or not holds_pixels:
        raise InputError(
            f"{path} takes {dtype.name} {shape}, not a batch of square RGB images [N, S, S, 3] in "
            "[0, 255]"
        )


def writable(home: str | Path | None, name: str = "") -> Path:
    """The folder of exported encoders, made where it is missing; see `saved_models`.

    With a name, the folder of the encoder of that name in it, which need not be there.

    Raises:
        InputError: it cannot be made, or nothing be written in it.
    """
    folder = saved_models(home)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for there in filter(Path.is_dir, {folder, folder / name}):
            with tempfile.TemporaryFile(dir=there):
                pass
        return folder / name
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written ({error.strerror}): set KFEAT_HOME to a folder that can"
        ) from None


def manifest(folder: Path) -> dict:
    """What a SavedModel of kfeat's says it was made from; empty for anybody else's."""
    try:
        found = from_json((folder / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def learnt_from(path: Path) -> list[dict[str, Any]] | None:
    """What an encoder learnt from, where that is told beside it: of a run, and of its exports.

    Args:
        path: a ``.keras`` file, or the folder of a SavedModel.

    Returns:
        See `learnt`; None where nothing is told.
    """
    if path.is_dir():
        found = manifest(path).get("learnt_from")
    elif path.name == "model.keras":
        try:
            found = learnt(from_json((path.parent / "results.json").read_text("utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
    else:
        return None
    if not isinstance(found, list) or not all(isinstance(data, dict) for data in found):
        return None
    return [{key: data.get(key) for key in _TOLD} for data in found]  # anybody may have written it


def learnt(results: dict[str, Any]) -> list[dict[str, Any]]:
    """What an encoder learnt from, by the results of its training.

    Returns:
        The data, ``name``, ``location``, ``version`` and ``split`` of each, and the ``state`` of
        those that kfeat itself has split, see `kfeat.data.source.Source`. The first ones come
        first: those of the weights that it started from, then its own. Where the weights' are not
        known, the name is theirs and the split None.
    """
    weights, data = results["weights"], results["data"]
    own = {key: data.get(key) for key in _TOLD}
    if weights["source"] == "none":
        return [own]
    unknown = dict.fromkeys(_TOLD) | {"name": weights["source"]}
    return [*(weights.get("learnt_from") or [unknown]), own]
