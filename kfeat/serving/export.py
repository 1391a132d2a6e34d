"""An encoder leaves as a SavedModel, in the layout that TF Serving watches."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from kfeat.errors import InputError

if TYPE_CHECKING:
    import keras


def saved_models(home: str | Path | None = None) -> Path:
    """The folder of exported encoders: ``saved_models`` in ``home``.

    ``home`` is ``$KFEAT_HOME`` or the working directory where it is not given.
    """
    return Path(home or os.environ.get("KFEAT_HOME") or ".").expanduser() / "saved_models"


def versions(folder: Path) -> list[Path]:
    """The numbered SavedModels in a folder, the oldest first."""
    numbered = [f.parent for f in folder.glob("*/saved_model.pb") if f.parent.name.isdecimal()]
    return sorted(numbered, key=lambda folder: int(folder.name))


def load_keras(path: Path) -> keras.Model:
    """Load a ``.keras`` file in Keras's safe mode: no code from the file is run.

    Raises:
        InputError: it cannot be read as one.
    """
    import keras

    import kfeat.models.layers  # noqa: F401  registers the layers that the file may name

    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a damaged file makes the loader stumble in any way
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} cannot be loaded as a Keras model: {reason[:300]}") from None


def export(path: str | Path, name: str | None = None, *, home: str | Path | None = None) -> Path:
    """Export a trained encoder as the next version of ``name``.

    The SavedModel has the signature ``serving_default``: ``images`` float32 [N, S, S, 3] in
    [0, 255] -> ``features`` float32 [N, 128]. It is written under a temporary name and then
    renamed, so that a server that watches the folder never sees half of it.

    Args:
        path: a run, or a ``.keras`` file of one input and one output.
        name: what it is served as; None for the name of the model.
        home: see `saved_models`.

    Returns:
        The folder of the new version.

    Raises:
        InputError: there is no encoder at ``path``, or the name cannot be a folder's.
    """
    path = Path(path).expanduser()
    file = path if path.suffix == ".keras" else path / "model.keras"
    if not file.is_file():
        raise InputError(f"{path} is no complete run and no .keras file")
    import tensorflow as tf

    encoder = load_keras(file)
    if len(encoder.inputs) != 1 or len(encoder.outputs) != 1:
        raise InputError(f"{file} must have one input and one output to be exported")
    name = encoder.name if name is None else name
    if not name or name.startswith(".") or Path(name).name != name:
        raise InputError(f"name {name!r} cannot be a folder's: give --name of letters and digits")
    shape = encoder.inputs[0].shape

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name="images")])
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"features": encoder(images, training=False)}

    root = saved_models(home) / name
    root.mkdir(parents=True, exist_ok=True)
    temporary = root / f".new-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    module = tf.Module()
    module.encoder, module.serve = encoder, serve
    try:
        tf.saved_model.save(module, temporary, signatures={"serving_default": serve})
        while True:
            taken = [int(f.name) for f in root.iterdir() if f.name.isdecimal()]
            version = root / str(max(taken, default=0) + 1)
            try:
                return temporary.rename(version)
            except OSError:
                if not version.exists():
                    raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
