"""Weights for an encoder: published ones, a file's, or those that kfeat trained.

Two kinds of source are told apart by name alone (`named_as_torchvision`):

* Tensors named as in torchvision's published state dicts (``conv1.weight``,
  ``layer1.0.bn1.running_mean``, ``layer2.0.downsample.0.weight``): ``"imagenet"``,
  ``FILE.safetensors``, ``FILE.pth``. They hold a ResNet up to its pooled features. Its
  1000-class head ``fc`` is not used, and the 128-d feature layer is not among them.
* An encoder of kfeat's own, a run or a ``.keras`` file: every layer, the feature layer included.

``"imagenet"`` means timm's copies of torchvision's IMAGENET1K_V1 weights, fetched by
huggingface_hub at a fixed commit and compared with a fixed SHA-256.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kfeat.errors import InputError, expand, first_line
from kfeat.files import from_json

if TYPE_CHECKING:
    import keras
    import numpy as np

log = logging.getLogger("kfeat")

IMAGENET = {
    "resnet18": (
        "bbd144b3e5565108aad885f145491d11bc6ce807",
        "694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81",
    ),
    "resnet34": (
        "1b7b21cca82ff974d341713f777bf740c2db38c4",
        "0bb82595a564991a9d424708b33f5d843f5aaed7f6c0886ff10849ff97022235",
    ),
    "resnet50": (
        "78f3ecfdb38e06d9b8397f662e7ab8fee96026fa",
        "5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888",
    ),
}
"""Commit and SHA-256 of ``model.safetensors`` in the hub's ``timm/<model>.tv_in1k``.

They are those that other public code pins; docs/models.md says how well each is attested.
"""

TORCHVISION_SUFFIXES = (".safetensors", ".pth", ".pt")


def named_as_torchvision(weights: str) -> bool:
    """Whether a source holds torchvision's names, and so no feature layer."""
    if weights == "imagenet":
        return True
    return Path(weights).suffix in TORCHVISION_SUFFIXES and not expand(weights).is_dir()


def check(weights: str, model: str) -> None:
    """Raise `InputError` where a source cannot be one for ``model``, whatever it holds."""
    if named_as_torchvision(weights) and model not in IMAGENET:
        raise InputError(
            f"weights {weights}: only {', '.join(IMAGENET)} take ImageNet or torchvision "
            f"weights; give none, or a run or .keras file of {model}"
        )


def load(encoder: keras.Model, weights: str, without: Collection[str] = ()) -> dict[str, str]:
    """Set the weights of an encoder.

    Args:
        encoder: what `kfeat.models.catalog.build` returns; its name says which model it is.
        weights: ``"imagenet"``, or the path of a run, of a ``.keras`` file of the same model
            (trained at any image size), of a ``.safetensors`` file, or of a ``.pth`` or ``.pt``
            file, which only PyTorch can read.
        without: the names of layers that keep the weights that they have, though a run or a
            ``.keras`` file bring some.

    Returns:
        Where they came from: ``source`` as given, ``file``, its ``sha256``, and of published
        ones the ``repository`` and ``revision``.

    Raises:
        InputError: they cannot be had or read, or are not those of such an encoder.
    """
    check(weights, encoder.name)
    published = {}
    if weights == "imagenet":
        repository, revision = f"timm/{encoder.name}.tv_in1k", IMAGENET[encoder.name][0]
        published = {"repository": repository, "revision": revision}
        file = fetch(encoder.name)
    else:
        file = locate(weights)
    if named_as_torchvision(weights):
        set_torchvision(encoder, read_tensors(file), str(file))
        log.info("weights %s: the feature layer is not among them, it starts at random", weights)
    else:
        set_own(encoder, load_keras(file), str(file), without)
        log.info("weights %s", file)
    return {"source": weights, "file": str(file), "sha256": sha256(file), **published}


def locate(weights: str) -> Path:
    """Find the file of weights that are given by their path.

    Raises:
        InputError: there is none, or it is of no kind that kfeat reads.
    """
    path = expand(weights)
    if (path / "recipe.toml").is_file():
        if (path / "model.keras").is_file() and (path / "results.json").is_file():
            return path / "model.keras"
        raise InputError(f"weights {weights}: the run is not complete: finish it with --resume")
    kinds = "imagenet, none, a run, or a .keras, .safetensors, .pth or .pt file"
    if path.is_dir():
        raise InputError(f"weights {weights}: the folder is no run: give {kinds}")
    if not path.is_file():
        raise InputError(f"weights {weights}: no such file or folder: give {kinds}")
    if path.suffix not in (".keras", *TORCHVISION_SUFFIXES):
        raise InputError(f"weights {weights}: unknown kind of file: give {kinds}")
    return path


def fetch(model: str) -> Path:
    """Download the published ImageNet weights of ``model``, or find them in the hub's cache.

    ``HF_HOME``, ``HF_HUB_OFFLINE`` and huggingface_hub's other settings apply.

    Raises:
        InputError: they cannot be had, or are not the file that is pinned.
    """
    from huggingface_hub import hf_hub_download

    repository, (revision, pinned) = f"timm/{model}.tv_in1k", IMAGENET[model]
    mend = (
        f"or download https://huggingface.co/{repository}/resolve/{revision}/model.safetensors "
        "by hand and give --weights FILE.safetensors"
    )
    try:
        file = Path(hf_hub_download(repository, "model.safetensors", revision=revision))
    except Exception as error:  # what it raises depends on its version and on the network
        raise InputError(
            f"the ImageNet weights of {model} are not in the cache and cannot be fetched "
            f"({first_line(error)}): try again with a network, {mend}"
        ) from None
    found = sha256(file)
    if found != pinned:
        raise InputError(
            f"{file.resolve()} has the SHA-256 {found}, not {pinned} of {repository}: delete it "
            f"and try again, {mend}"
        )
    return file


def sha256(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def read_tensors(file: Path) -> dict[str, np.ndarray]:
    """Read a state dict from a ``.safetensors`` file, or from a ``.pth`` one by PyTorch.

    No code from the file is run: a ``.pth`` file is a pickle, of which PyTorch's weights_only
    loader takes tensors and nothing else.

    Raises:
        InputError: it cannot be read, or PyTorch is needed and is not there.
    """
    if file.suffix == ".safetensors":
        from safetensors.numpy import load_file

        try:
            tensors = load_file(file)
        except Exception as error:  # a damaged file makes the loader stumble in any way
            raise InputError(
                f"{file} cannot be read as safetensors ({first_line(error)}): get it again"
            ) from None
        import numpy as np

        return {  # NumPy does not know bfloat16 for a floating-point type
            name: tensor.astype(np.float32) if tensor.dtype.name == "bfloat16" else tensor
            for name, tensor in tensors.items()
        }
    convert = f"convert {file} to .safetensors, or pip install 'kfeat[torch]'"
    try:
        import torch
    except ImportError:
        raise InputError(f"{file.suffix} files are read by PyTorch, not there: {convert}") from None
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):  # CVE-2025-32434
        raise InputError(
            f"PyTorch {torch.__version__} cannot read untrusted files safely: {convert}"
        )
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(
            f"{file} cannot be read as tensors alone ({first_line(error)}): get it again, or "
            "convert it to .safetensors"
        ) from None
    if not isinstance(state, Mapping) or not all(map(torch.is_tensor, state.values())):
        raise InputError(f"{file} is no state dict of tensors: save model.state_dict() alone")
    try:
        return {name: tensor.detach().float().numpy() for name, tensor in state.items()}
    except (RuntimeError, TypeError) as error:  # sparse ones, or ones without values
        raise InputError(
            f"{file} holds other than plain tensors ({first_line(error)}): get it again"
        ) from None


def set_torchvision(encoder: keras.Model, tensors: Mapping[str, np.ndarray], origin: str) -> None:
    """Set the weights of a ResNet from tensors with torchvision's names, exactly.

    Kernels come as [out, in, height, width] and are stored as [height, width, in, out]. ``fc``
    and ``num_batches_tracked`` may be there and are not used; the feature layer stays as it is.

    Args:
        encoder: a ResNet of `kfeat.models.resnet`.
        tensors: the state dict.
        origin: where it came from, for errors.

    Raises:
        InputError: a tensor is missing, surplus, of another shape, or holds other than finite
            numbers.
    """
    import numpy as np

    targets, unused = torchvision_targets(encoder)
    problems = [f"no {name}" for name in targets if name not in tensors]
    problems += [f"surplus {name}" for name in tensors if name not in {*targets, *unused}]
    values = {}
    for name in targets.keys() & tensors.keys():
        value = np.asarray(tensors[name])
        if value.ndim == 4:
            value = value.transpose(2, 3, 1, 0)
        if value.shape != tuple(targets[name].shape):
            needed = list(targets[name].shape)
            needed = [needed[3], needed[2], *needed[:2]] if len(needed) == 4 else needed
            problems.append(f"{name} is {list(tensors[name].shape)}, not {needed}")
        elif not np.issubdtype(value.dtype, np.floating) or not np.isfinite(value).all():
            problems.append(f"{name} ({value.dtype}) is not of finite floating-point numbers")
        values[name] = value
    _raise(problems, origin, f"the state dict of torchvision's {encoder.name}")
    for name, variable in targets.items():
        variable.assign(values[name])


def torchvision_targets(encoder: keras.Model) -> tuple[dict[str, keras.Variable], set[str]]:
    """The variable for each tensor of torchvision's, and the names that have none."""
    import keras

    targets, unused = {}, {"fc.weight", "fc.bias"}
    for layer in encoder.layers:
        if isinstance(layer, keras.layers.Conv2D):
            targets[f"{torchvision_name(layer.name)}.weight"] = layer.kernel
        elif isinstance(layer, keras.layers.BatchNormalization):
            name = torchvision_name(layer.name)
            targets[f"{name}.weight"] = layer.gamma
            targets[f"{name}.bias"] = layer.beta
            targets[f"{name}.running_mean"] = layer.moving_mean
            targets[f"{name}.running_var"] = layer.moving_variance
            unused.add(f"{name}.num_batches_tracked")
    return targets, unused


def torchvision_name(layer: str) -> str:
    """Translate the name of a layer: ``stage4_block1_2_bn`` is ``layer4.0.bn2``."""
    if layer.startswith("stem_"):
        return layer.removeprefix("stem_") + "1"
    stage, block, part, kind = re.findall(r"stage(\d)_block(\d)_(\w+)_(conv|bn)", layer)[0]
    place = f"downsample.{('conv', 'bn').index(kind)}" if part == "shortcut" else f"{kind}{part}"
    return f"layer{stage}.{int(block) - 1}.{place}"


def load_keras(path: Path) -> keras.Model:
    """Load a ``.keras`` file in Keras's safe mode: no code from the file is run.

    Raises:
        InputError: it cannot be read as one, or has not one input and one output.
    """
    import keras

    import kfeat.models.layers  # noqa: F401  registers the layers that the file may name

    if path.is_file() and not zipfile.is_zipfile(path):
        raise InputError(f"{path} is damaged, or no .keras file: save it again")
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a damaged file makes the loader stumble in any way
        if foreign := _foreign(path):
            raise InputError(
                f"{path} holds {', '.join(foreign)}, whose code is not Keras's and is run from no "
                "file: give a SavedModel of it, as model.export(FOLDER) writes it"
            ) from None
        raise InputError(f"{path} cannot be loaded as a Keras model: {first_line(error)}") from None
    if len(_tensors(model, "inputs")) != 1 or len(_tensors(model, "outputs")) != 1:
        raise InputError(
            f"{path} is no model of one input and one output: build it with keras.Model(images, "
            "features)"
        )
    return model


def _foreign(path: Path) -> list[str]:
    """The classes that a ``.keras`` file names and Keras has not, and its Lambda layers."""
    found = set()

    def look(value: Any) -> None:
        if isinstance(value, dict):
            package = str(value.get("module", "keras")).partition(".")[0]
            ours = str(value.get("registered_name")).startswith("kfeat>")
            if (
                not (ours or package in ("keras", "builtins", "kfeat"))
                or value.get("class_name") == "Lambda"
            ):
                found.add(str(value.get("class_name")))
        for part in value.values() if isinstance(value, dict) else value:
            if isinstance(part, dict | list):
                look(part)

    with (
        contextlib.suppress(Exception),  # a damaged file makes the reader stumble in any way
        zipfile.ZipFile(path) as archive,
        archive.open("config.json") as file,
    ):
        whole = from_json(file.read(2**26).decode())
        look([{key: value for key, value in whole.items() if key != "compile_config"}])
    return sorted(found)


def set_own(
    encoder: keras.Model, trained: keras.Model, origin: str, without: Collection[str] = ()
) -> None:
    """Set the weights of an encoder from another one of the same model, layer by layer.

    Args:
        encoder: the encoder to set.
        trained: the encoder to copy; its image size may be another.
        origin: where it came from, for errors.
        without: the names of layers that keep the weights that they have.

    Raises:
        InputError: it is another model, a layer's weights depend on the image size, or they are
            not finite numbers.
    """
    import numpy as np

    if trained.name != encoder.name:
        raise InputError(f"{origin} is a {trained.name}: give weights of a {encoder.name}")
    given, wanted = (
        {layer.name: layer for layer in model.layers if layer.weights and layer.name not in without}
        for model in (trained, encoder)
    )
    problems = [f"no layer {name}" for name in wanted if name not in given]
    problems += [f"surplus layer {name}" for name in given if name not in wanted]
    for name in [name for name in wanted if name in given]:
        shapes = [[list(w.shape) for w in layers[name].weights] for layers in (given, wanted)]
        if shapes[0] != shapes[1]:
            problems.append(f"layer {name} has weights of {shapes[0]}, not {shapes[1]}")
        elif not all(np.isfinite(weight).all() for weight in given[name].get_weights()):
            problems.append(f"layer {name} has weights that are no finite numbers")
    side = encoder.inputs[0].shape[1]
    _raise(problems, origin, f"a {encoder.name} for images of {side} pixels")
    for name, layer in wanted.items():
        layer.set_weights(given[name].get_weights())


def _tensors(model: keras.Model, which: str) -> list[Any]:
    try:
        return getattr(model, which) or []
    except (AttributeError, ValueError):  # a subclassed or unbuilt model has none
        return []


def _raise(problems: list[str], origin: str, needed: str) -> None:
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise InputError(f"{origin} does not fit: {'; '.join(problems[:3])}{more}; give {needed}")
