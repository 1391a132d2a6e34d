"""A recipe: what to train and how, in one flat TOML file."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfeat.data.pipeline import RESIZES
from kfeat.errors import InputError, expand, nearest, plain, spelled
from kfeat.files import from_toml
from kfeat.models import catalog, weights
from kfeat.models.precision import PRECISIONS


@dataclass(frozen=True)
class Recipe:
    """What to train and how; the keys of a recipe file are these names.

    Attributes:
        model: name of the encoder.
        data: name or path of the data set.
        split: its split to learn from; empty for the usual one of the data set.
        image_size: side of the images in pixels.
        resize: how images come to that size: ``"crop"`` (scale the shorter side, cut out
            the centre) or ``"stretch"``.
        early_image_size: side of the images in the first ``early_epochs``, smaller; ResNets only
            (progressive resizing: Howard, Training ImageNet in 18 minutes, 2018; Tan and Le,
            EfficientNetV2, 2021, section 4). Shifts and squares are smaller in proportion.
        early_epochs: epochs of that size, less than ``epochs``; none of them is exported.
        limit: learn from at most so many images; 0 for all.
        validation: fraction of the images held out, by which the best epoch is chosen.
        epochs: passes over the images.
        batch_size: images a step.
        seed: decides initial weights, held-out images, order and augmentation.
        flip: mirror each image in every second epoch, half of them in the first.
        shift: move each image by up to so many pixels at random.
        crop_area: cut each image down to a random part of at least this share of its area, and
            scale that up again; 1 for none.
        erase: paint over a random square of so many pixels a side in each image, with its mean
            colour (cutout); 0 for none; classification only.
        optimizer: ``"sgd"`` (Nesterov momentum 0.9), ``"muon"`` (0.8; ResNets only; see
            `kfeat.training.optimizers.Muon`), ``"adam"`` or ``"adamw"``.
        learning_rate: its highest value; for Muon, a kernel's step in lengths that it starts with.
        schedule: ``"cosine"`` (down to 0 at the end) or ``"constant"``.
        warmup_epochs: epochs in which the learning rate rises linearly from 0.
        weight_decay: decoupled weight decay, on kernels only (SGD and AdamW), with Muon on
            those of dense layers only.
        label_smoothing: of the cross-entropy; classification only.
        weights: what to start from: ``"none"`` (random weights), ``"imagenet"``, or the path of
            a run, of a ``.keras``, ``.safetensors`` or ``.pth`` file.
        features: ``"keep"`` the feature layer that the weights bring, or ``"renew"`` it: start
            it at random. ImageNet's and torchvision's weights bring none.
        zero_init_residual: ResNets with random weights only: residual blocks start by passing on
            what they get; see `kfeat.models.resnet.zero_residuals`.
        freeze_batch_norm: batch normalisation whose weights were brought keeps them all, its
            moving statistics and its scale and offset, and normalises by them in training too.
        backbone_multiplier: the layers whose weights were brought learn at so many times
            ``learning_rate`` (and its schedule); the others, new ones, at ``learning_rate``.
        precision: what layers compute in (weights stay float32): ``"float32"``, ``"bfloat16"``
            or ``"auto"``; see `kfeat.models.precision.resolve`.
        memory_limit: GiB of decoded images held in memory; more go to a file in the run.
    """

    model: str
    data: str
    image_size: int
    epochs: int
    batch_size: int
    learning_rate: float
    split: str = ""
    resize: str = "crop"
    limit: int = 0
    validation: float = 0.05
    seed: int = 0
    early_image_size: int = 0
    early_epochs: int = 0
    flip: bool = False
    shift: int = 0
    crop_area: float = 1.0
    erase: int = 0
    optimizer: str = "adamw"
    schedule: str = "cosine"
    warmup_epochs: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    weights: str = "none"
    features: str = "keep"
    zero_init_residual: bool = False
    freeze_batch_norm: bool = False
    backbone_multiplier: float = 1.0
    precision: str = "auto"
    memory_limit: float = 4.0


FIELDS = {field.name: field for field in dataclasses.fields(Recipe)}
DEFAULTS = {
    name: field.default
    for name, field in FIELDS.items()
    if field.default is not dataclasses.MISSING
}
_TYPES: dict[str, tuple[Any, str]] = {
    "str": (str, "a text"),
    "int": (int, "a whole number"),
    "float": (float, "a number"),
    "bool": (bool, "true or false"),
}
_CHOICES = {
    "resize": RESIZES,
    "optimizer": ("sgd", "muon", "adam", "adamw"),
    "schedule": ("cosine", "constant"),
    "features": ("keep", "renew"),
    "precision": PRECISIONS,
}
_BOUNDS = {
    "image_size": (1, catalog.LARGEST),
    "early_image_size": (0, catalog.LARGEST),
    "early_epochs": (0, 999_998),
    "limit": (0, math.inf),
    "validation": (0, 0.9),
    "epochs": (1, 999_999),
    "batch_size": (1, math.inf),
    "seed": (0, 2**32 - 1),
    "shift": (0, 4095),
    "crop_area": (0.01, 1),
    "erase": (0, 4095),
    "learning_rate": (1e-12, 1e3),
    "warmup_epochs": (0, 1e6),
    "weight_decay": (0, 1e3),
    "label_smoothing": (0, 0.99),
    "backbone_multiplier": (0, 1e3),
    "memory_limit": (0, 1e6),
}


def folder() -> Path:
    """Where the recipes are that come with kfeat."""
    package = Path(__file__).parents[1]
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def shipped() -> dict[str, Path]:
    """The recipes that come with kfeat, by name."""
    return {file.stem: file for file in sorted(folder().glob("*.toml"))}


def read(path: Path, origin: str | None = None) -> dict[str, Any]:
    """Read a recipe file.

    Raises:
        InputError: it cannot be read, is no TOML, or has an unknown key or a wrong value.
    """
    origin = origin or str(path)
    try:
        values = from_toml(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(
            f"recipe {origin} cannot be read ({error.strerror}): give a file, or the name of one "
            f"that comes with kfeat{nearest(origin, shipped())}"
        ) from None
    except ValueError as error:
        raise InputError(f"recipe {origin} is not valid TOML: {error}") from None
    return checked(values, f"recipe {origin}")


def find(name: str) -> dict[str, Any]:
    """Read a recipe that comes with kfeat, by its name, or a file.

    Raises:
        InputError: as `read`.
    """
    there = shipped()
    return read(there[name], name) if name in there else read(expand(name))


def checked(values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Return recipe values, whole numbers made floats where floats are meant.

    Raises:
        InputError: an unknown key, or a value of the wrong type or out of its range.
    """
    out: dict[str, Any] = {}
    for key, value in values.items():
        if key not in FIELDS:
            known = f"known keys are {', '.join(FIELDS)}"
            raise InputError(f"{origin}: unknown key {key!r}{nearest(key, FIELDS) or '; ' + known}")
        value = plain(value)
        expected, words = _TYPES[str(FIELDS[key].type)]
        if expected is float and isinstance(value, int) and not isinstance(value, bool):
            with contextlib.suppress(OverflowError):  # then it is no number that could be meant
                value = float(value)
        if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
            raise InputError(f"{origin}: {key} must be {words}, not {value!r}")
        if isinstance(value, str) and not encodable(value):
            raise InputError(f"{origin}: {key} {value!r} is not UTF-8: rename it")
        if key in _CHOICES and value not in _CHOICES[key]:
            raise InputError(
                f"{origin}: {key} must be one of {', '.join(_CHOICES[key])}, not {value!r}"
                + nearest(value, _CHOICES[key])
            )
        if key in _BOUNDS:
            low, high = _BOUNDS[key]
            if not low <= value <= high:
                limits = f"{low:g} or more" if high == math.inf else f"from {low:g} to {high:g}"
                raise InputError(f"{origin}: {key} must be {limits}, not {value!r}")
        out[key] = value
    return out


def encodable(text: str) -> bool:
    """Whether a text can be written; a path on the command line may hold other bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """Parse ``key=value`` texts; a value is TOML, or else a plain text.

    Raises:
        InputError: no ``=``, an unknown key or a wrong value.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise InputError(f"--set {setting}: write it as key=value")
        try:
            value = from_toml(f"value = {text.strip()}")["value"]
        except ValueError:
            value = text.strip()
        if key.strip() == "model":
            raise InputError(f"--set {setting}: the model is the argument of kfeat train")
        values |= checked({key.strip(): value}, f"--set {setting}")
    return values


def compose(model: str, file: str | None = None, **changes: Any) -> Recipe:
    """Make the recipe of a training: a file's values, changed by the caller's.

    Args:
        model: name of the encoder.
        file: path of a recipe, or the name of one that comes with kfeat; None for the
            recipe that is called like the model.
        changes: values that replace the file's. With another ``data`` than the file's, the
            file's ``split`` no longer counts.

    Raises:
        InputError: unknown model, a file that cannot be used, a recipe of another model, or
            an image size that the model cannot take.
    """
    model = spelled("model", model)
    catalog.find(model)
    name = spelled("recipe", file or model)
    values = find(name)
    if values.setdefault("model", model) != model:
        raise InputError(f"recipe {name} is for the model {values['model']!r}, not {model!r}")
    changes = checked(changes, "options")
    if changes.get("data", values.get("data")) != values.get("data"):
        values.pop("split", None)
    values |= changes
    missing = [key for key in FIELDS if key not in DEFAULTS | values]
    if missing:
        raise InputError(f"recipe {name} lacks {', '.join(missing)}")
    recipe = Recipe(**values)
    check(recipe)
    return recipe


def check(recipe: Recipe) -> None:
    """Raise `InputError` where a recipe's values are wrong, alone or together."""
    checked(dataclasses.asdict(recipe), "recipe")
    model = recipe.model
    encoder = catalog.find(model)
    catalog.check_image_size(model, recipe.image_size)
    if recipe.shift >= recipe.image_size:
        raise InputError(f"shift must be less than image_size, {recipe.image_size} pixels")
    if recipe.erase >= recipe.image_size:
        raise InputError(f"erase must be less than image_size, {recipe.image_size} pixels")
    _check_early(recipe, encoder.supervised)
    if recipe.weight_decay and recipe.optimizer == "adam":
        raise InputError(
            "weight_decay does not apply to the optimizer adam: take adamw, or weight_decay=0"
        )
    if recipe.optimizer == "muon" and recipe.freeze_batch_norm:
        raise InputError(
            "optimizer muon does not apply with freeze_batch_norm: it leaves the length of kernels "
            "to batch normalisation; take sgd, or freeze_batch_norm=false"
        )
    if recipe.optimizer == "muon" and not encoder.supervised:
        raise InputError(
            f"optimizer muon does not apply to {model}: batch normalisation has to follow each "
            "convolution, as in a ResNet; take adamw"
        )
    if recipe.zero_init_residual and not encoder.supervised:
        raise InputError(
            f"zero_init_residual does not apply to {model}, which has no residual blocks"
        )
    if recipe.zero_init_residual and recipe.weights != "none":
        raise InputError(
            f"zero_init_residual applies to random weights only, not to weights {recipe.weights}: "
            "take zero_init_residual=false"
        )
    weights.check(recipe.weights, model)
    if encoder.supervised:
        return
    if recipe.label_smoothing:
        raise InputError(f"label_smoothing does not apply to {model}, which knows no labels")
    if recipe.erase:
        raise InputError(f"erase does not apply to {model}, which would learn to paint the squares")


def _check_early(recipe: Recipe, supervised: bool) -> None:
    size, epochs = recipe.early_image_size, recipe.early_epochs
    if bool(size) != bool(epochs):
        here, lacking = ("early_image_size", "early_epochs")[:: 1 if size else -1]
        raise InputError(f"{here} does nothing without {lacking}: give both, or neither")
    if not epochs:
        return
    if not supervised:
        raise InputError(
            f"early_epochs does not apply to {recipe.model}, whose weights are of one image size"
        )
    catalog.check_image_size(recipe.model, size)
    if size >= recipe.image_size:
        raise InputError(
            f"early_image_size must be less than image_size, {recipe.image_size} pixels"
        )
    if epochs >= recipe.epochs:
        raise InputError(
            f"early_epochs, {epochs}, must be less than epochs, {recipe.epochs}: what is exported "
            "learns from images of image_size last"
        )


def to_toml(recipe: Recipe) -> str:
    """Write a recipe as TOML text, every key included."""
    lines = []
    for key, value in dataclasses.asdict(recipe).items():
        # But for one character, a JSON text, number or truth value is a TOML one too.
        text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        lines.append(f"{key} = {text}\n")
    return "".join(lines)
