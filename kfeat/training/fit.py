"""One training, from a recipe to an exported encoder."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import errno
import fcntl
import importlib
import json
import logging
import math
import os
import random
import shutil
import time
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.contrib.logging import logging_redirect_tqdm

from kfeat.data import pipeline
from kfeat.data.catalog import EMBEDDED, default_split, open_source
from kfeat.data.source import Source
from kfeat.errors import InputError, expand, first_line
from kfeat.files import check_writable, flush, from_json, remove_unfinished, write_text, written
from kfeat.models import catalog, weights
from kfeat.models.precision import resolve
from kfeat.progress import progress
from kfeat.training import finetune, memory
from kfeat.training import recipe as recipes
from kfeat.training.recipe import Recipe

if TYPE_CHECKING:
    import keras
    from tqdm import tqdm

log = logging.getLogger("kfeat")

UNDECAYED = ["gamma", "beta", "bias"]
"""Names of the variables that have no weight decay."""

WRITTEN = ("recipe.toml", "history.csv", "best.weights.h5", "model.keras", "results.json")
"""Files of a run that are written under another name first."""

TRAININGS = 4
"""To be raised when a recipe comes to teach something else, by other augmentation or another
default, say."""


def train(
    recipe: Recipe,
    output: str | Path,
    *,
    resume: bool = False,
    data_dir: str | Path | None = None,
    strict: bool = False,
    home: str | Path | None = None,
) -> dict[str, Any]:
    """Train an encoder and export it.

    The run, a folder, holds ``recipe.toml`` as used, ``train.log``, ``history.csv``,
    ``tensorboard/``, ``checkpoints/`` (the last epoch's and the best one's), ``model.keras``
    (the encoder of the best epoch) and ``results.json``. The encoder is exported to
    ``saved_models/<model>/<next version>/``.

    The same recipe gives the same weights on the same machine, to the last bit, whether or
    not the training was interrupted and resumed. For that, TensorFlow is told to compute
    deterministically, and its seed set; both stay for the process.

    Args:
        recipe: what to train and how; see `kfeat.training.recipe.compose`.
        output: the run's folder; made here.
        resume: go on with the run in ``output`` after its last whole epoch.
        data_dir: where TFDS keeps prepared data.
        strict: stop at the first unreadable image instead of passing over it.
        home: the folder that holds ``saved_models``; None for ``$KFEAT_HOME``, else the
            working directory.

    Returns:
        What ``results.json`` holds.

    Raises:
        InputError: the data, the recipe or the folder cannot be used.
    """
    from kfeat.serving import export

    if not isinstance(recipe, Recipe):
        raise InputError(f"recipe of type {type(recipe).__name__}: make it by kfeat.compose")
    recipes.check(recipe)
    output = expand(output)
    if not recipes.encodable(str(output)):
        raise InputError(f"{str(output)!r} is not UTF-8: choose another --output")
    _check_run(output, recipe, resume, unknown=("split", "precision"))  # before data are fetched
    if recipe.weights not in ("none", "imagenet") and not _begun(output):
        weights.locate(recipe.weights)
    source = open_source(recipe.data, data_dir=data_dir, strict=strict)
    supervised = catalog.find(recipe.model).supervised
    split = recipe.split or default_split(source, labelled=supervised)
    split = source.require(split)
    if supervised and split not in source.labelled:
        raise InputError(
            f"{recipe.model} learns from labels, which {source.name} {split} has not: "
            f"choose another split or an unsupervised model"
        )
    if supervised and len(source.class_names or ()) < 2:
        raise InputError(
            f"{recipe.model} learns to tell classes apart, and {source.name} has only one: give "
            f"images of two or more, or choose an unsupervised model"
        )
    exports = export.writable(home, recipe.model)
    if exports.exists() and not exports.is_dir():
        raise InputError(f"{exports} is a file where the export would go: move it away")
    precision, why = resolve(recipe.precision)
    recipe = dataclasses.replace(recipe, split=split, precision=precision)
    with _locked(output):
        begun = (output / "recipe.toml").exists()
        finished = _open_run(output, recipe, resume)
        if finished:
            log.info("%s is complete already", output)
            exported = Path(finished["saved_model"])
            made_from = export.manifest(exported).get("weights_sha256")
            if exported.parent != exports or made_from != finished.get("weights_sha256"):
                exported = export.export(output / "model.keras", reuse=True, home=home)
                finished["saved_model"] = str(exported)
                write_text(output / "results.json", json.dumps(finished, indent=2) + "\n")
            return finished
        try:
            return _train_and_export(recipe, source, output, home, f"precision {precision}: {why}")
        except InputError:
            if not begun and not (output / "checkpoints").exists():  # nothing was learnt
                for name in ("recipe.toml", "train.log"):
                    (output / name).unlink(missing_ok=True)
                shutil.rmtree(output / "cache", ignore_errors=True)
            raise


def _train_and_export(
    recipe: Recipe, source: Source, output: Path, home: str | Path | None, precision: str
) -> dict[str, Any]:
    from kfeat.serving import export

    handler = logging.FileHandler(output / "train.log", encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.addHandler(handler)
    level = log.level
    log.setLevel(min(log.getEffectiveLevel(), logging.INFO))
    log.info(precision)
    try:
        results = _train(recipe, source, output)
        exported = export.export(
            output / "model.keras", reuse=True, home=home, learnt=export.learnt(results)
        )
        results["saved_model"] = str(exported)
        results["weights_sha256"] = export.manifest(exported)["weights_sha256"]
        log.info("exported to %s", exported)
        write_text(output / "results.json", json.dumps(results, indent=2) + "\n")
        shutil.rmtree(output / "cache", ignore_errors=True)
    finally:
        memory.give_back()
        log.setLevel(level)
        log.removeHandler(handler)
        with contextlib.suppress(OSError):  # what it holds back goes to a full disk
            handler.close()
    return results


def default_output(model: str, resume: bool) -> Path:
    """The run's folder where the user names none: ``runs/<model>/<n>``.

    n is the next number, or the last one to resume. The folder of a next one is made, so that
    trainings started at once get one each.
    """
    folder = Path("runs") / model
    taken = [int(f.name) for f in folder.glob("*") if f.name.isdecimal()]
    last = max(taken, default=0)
    if resume and last:
        return folder / str(last)
    while True:
        last += 1
        output = folder / str(last)
        try:
            output.mkdir(parents=True)
            return output
        except FileExistsError:  # another training took it
            continue
        except OSError as error:
            raise InputError(
                f"{output} cannot be written ({error.strerror}): choose another --output"
            ) from None


@contextlib.contextmanager
def _locked(output: Path) -> Iterator[None]:
    """Hold the folder of a run, made where it is missing, against other processes.

    A folder that was made here and stayed empty is removed again.
    """
    made = not output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
        folder = os.open(output, os.O_RDONLY)
    except OSError as error:
        raise InputError(
            f"{output} cannot be written ({error.strerror}): choose another --output"
        ) from None
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{output} is being trained by another process: wait for it, or choose another "
                "--output"
            ) from None
        except OSError:
            log.warning("%s cannot be locked there: let no other process train it", output)
        yield
    finally:
        os.close(folder)
        if made:
            with contextlib.suppress(OSError):
                output.rmdir()


def _check_run(output: Path, recipe: Recipe, resume: bool, unknown: Sequence[str] = ()) -> None:
    """Raise `InputError` where a folder holds no run, or none that can be resumed so.

    Args:
        output: the folder.
        recipe: what is to be trained.
        resume: whether a run may be there.
        unknown: keys of the recipe that only the data decide.
    """
    toml = output / "recipe.toml"
    if output.exists() and not output.is_dir():
        raise InputError(
            f"{output} is a file where the run's folder would go: choose another --output"
        )
    if not toml.exists():
        files = output.iterdir() if output.is_dir() else ()
        if any(not file.match(f".*.{toml.name}") for file in files):  # killed at once
            raise InputError(f"{output} exists and is no run: choose another --output")
        return
    if not resume:
        raise InputError(f"{output} is a run already: add --resume or choose another --output")
    before = recipes.DEFAULTS | recipes.read(toml)
    now = dataclasses.asdict(recipe)
    del now["memory_limit"]  # changes nothing that is learnt
    changed = [k for k, v in now.items() if before.get(k) != v and k not in unknown]
    if "weights" in changed and _one_path(before.get("weights", "none"), recipe.weights, output):
        changed.remove("weights")
    if "data" in changed and _moved(before.get("data", ""), recipe.data):
        changed.remove("data")
    if changed:
        key = changed[0]
        raise InputError(
            f"{output} cannot be resumed with another {key} "
            f"({getattr(recipe, key)!r}; the run has {before.get(key)!r}): ask for the run's, or "
            "choose another --output"
        )


def _open_run(output: Path, recipe: Recipe, resume: bool) -> dict[str, Any] | None:
    """Start a run in an empty folder, or check the one to resume; its results if complete."""
    _check_run(output, recipe, resume)
    remove_unfinished(output, WRITTEN)
    remove_unfinished(output / "checkpoints", WRITTEN)
    toml = output / "recipe.toml"
    if not toml.exists():
        if resume:
            log.info("%s: nothing to resume, starting anew", output)
        write_text(toml, recipes.to_toml(recipe))
        return None
    finished = (output / "results.json").exists()
    encoder = output / "model.keras"
    if finished and zipfile.is_zipfile(encoder):
        return read_results(output)
    check_writable(output / "train.log")
    if finished:
        what = "damaged" if encoder.exists() else "missing"
        if not _has_epoch(output):
            raise InputError(
                f"{encoder} is {what}, and so are the run's checkpoints: choose another --output"
            )
        log.warning("%s is %s: it is made again from the checkpoints", encoder, what)
    return None


def read_results(run: Path) -> dict[str, Any]:
    """What `train` returned of a complete run.

    Raises:
        InputError: its ``results.json`` is damaged.
    """
    results = run / "results.json"
    try:
        return from_json(results.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{results} is damaged ({first_line(error)}): delete it") from None


def _one_path(before: str, now: str, output: Path) -> bool:
    """Whether weights are one file or folder, spelled differently; none need be there any more.

    Or those beside the run, which moved together with it.
    """
    if {before, now} & {"none", "imagenet"}:
        return False
    old, new = expand(before).resolve(), expand(now).resolve()
    moved = old.name == new.name and new.parent == output.resolve().parent and not old.exists()
    return old == new or moved


def _moved(before: str, now: str) -> bool:
    """Whether a folder of data is spelled differently, or is elsewhere now.

    A name may be that of a data set, so that it stands for no folder that is spelled as a path. The
    images are compared with those of the epochs that are done when these are restored.
    """
    old, new = expand(before), expand(now)
    names = [
        Path(text).name == text.rstrip(os.sep) and text[:1] not in ".~" for text in (before, now)
    ]
    if names[0] != names[1] or {before, now} & {*EMBEDDED} or not new.is_dir():
        return False
    moved = not names[0] and old.name == new.name and not old.exists()
    return moved or old.resolve() == new.resolve()


def _begun(output: Path) -> bool:
    """Whether a run has learnt anything: it needs no weights to start from any more."""
    return (output / "results.json").exists() or _has_epoch(output)


def _has_epoch(output: Path) -> bool:
    """Whether a run has a checkpoint to go on from."""
    return any((output / "checkpoints").glob("epoch-*"))


def _train(recipe: Recipe, source: Source, output: Path) -> dict[str, Any]:
    import keras

    from kfeat.serving import export

    for limit in ("max_epochs", "max_steps_per_epoch"):
        if getattr(keras.config, limit)() is not None:
            raise InputError(
                f"Keras is told to stop early: unset KERAS_{limit.upper()}, or call "
                f"keras.config.set_{limit}(None); --epochs and --limit make a shorter training"
            )
    started = time.perf_counter()
    pretrained, origin = (None, {}) if _begun(output) else finetune.start(recipe)
    data = _load(recipe, source, output)
    if not catalog.find(recipe.model).supervised:
        data.labels = None
    elif data.labels is not None and len(np.unique(data.labels)) < 2:
        raise InputError(
            f"{recipe.model} learns to tell classes apart, and the {len(data)} readable images of "
            f"{source.name} {recipe.split} are all of one: give images of two or more"
        )
    shuffled = pipeline.random(recipe.seed, pipeline.HELD_OUT).permutation(len(data))
    held_out = round(recipe.validation * len(data))
    if recipe.validation:
        held_out = min(max(held_out, 1), len(data) - 1)
    validation, training = np.sort(shuffled[:held_out]), shuffled[held_out:]
    batch_size = min(recipe.batch_size, len(training))
    if batch_size < recipe.batch_size:
        log.info("batch size %d: there are no more images to learn from", batch_size)
    steps = len(training) // batch_size
    log.info(
        "%s learns from %d images of %s %s, %d held out; epochs: %d, steps in each: %d",
        recipe.model,
        len(training),
        source.name,
        recipe.split,
        len(validation),
        recipe.epochs,
        steps,
    )

    if recipe.warmup_epochs >= recipe.epochs:
        log.warning(
            "the learning rate rises to the end and does not get beyond %g: epochs is %d and "
            "warmup_epochs %g, lower it",
            recipe.learning_rate * recipe.epochs / recipe.warmup_epochs,
            *(recipe.epochs, recipe.warmup_epochs),
        )
    classes = source.class_names if data.labels is not None else None
    checkpoints = Checkpoints(output, "val_loss" if held_out else "loss", data, classes)
    checkpoints.weights, checkpoints.unranked = origin, recipe.early_epochs
    first_epoch = checkpoints.begin()
    if first_epoch:
        log.info("resuming after epoch %d", first_epoch)
    checkpoints.started = started - checkpoints.seconds
    for stage, stop in stages(recipe):
        if first_epoch >= stop and stage is not recipe:
            continue
        if recipe.early_epochs:
            log.info("images of %d pixels up to epoch %d", stage.image_size, stop)
        graph, model = compiled(stage, len(classes or ()), steps, pretrained)
        checkpoints.restore(model)
        seen = data if stage is recipe else _load(stage, source, output, data)
        batches = pipeline.training_batches(
            seen,
            training,
            batch_size=batch_size,
            epochs=range(first_epoch, stop),
            seed=recipe.seed,
            flip=recipe.flip,
            shift=stage.shift,
            crop_area=recipe.crop_area,
            erase=stage.erase,
        )
        work = steps * batch_size
        bar = progress(
            desc=recipe.model,
            total=round(work * passes(recipe, recipe.epochs, stage.image_size)),
            initial=round(work * passes(recipe, first_epoch, stage.image_size)),
            unit="img",
            unit_scale=True,
            delay=0,
        )
        with bar, logging_redirect_tqdm([log]):
            model.fit(
                batches,
                steps_per_epoch=steps,
                initial_epoch=first_epoch,
                epochs=stop,
                validation_data=pipeline.validation_batches(seen, validation, batch_size)
                if held_out
                else None,
                shuffle=False,
                verbose=0,
                callbacks=[
                    checkpoints.callback(model),
                    progress_callback(bar, recipe.epochs, batch_size),
                    keras.callbacks.TensorBoard(output / "tensorboard", write_graph=False),
                ],
            )
        first_epoch, pretrained = stop, None  # the next stage goes on from the checkpoint
    best = checkpoints.load_best(model)
    with written(output / "model.keras") as unfinished:
        portable(catalog.cut(graph), dtype="float32", trainable=True).save(unfinished)
    return {
        "model": recipe.model,
        "data": {
            "name": source.name,
            "location": source.location,
            "version": source.version,
            "split": recipe.split,
            "state": source.state() if source.cut and source.state else None,
            "count": len(training),
            "validation": len(validation),
            "unreadable": data.unreadable,
        },
        "weights": checkpoints.weights,
        "epochs": recipe.epochs,
        "best": best,
        "parameters": graph.count_params(),
        "seconds": round(time.perf_counter() - checkpoints.started, 1),
        "versions": export.software(),
    }


def stages(recipe: Recipe) -> list[tuple[Recipe, int]]:
    """Split a training by the size of its images.

    Returns:
        Of each stage the recipe, its shifts and squares in proportion to the images, and the
        number of epochs that are done at its end.
    """
    whole = (recipe, recipe.epochs)
    if not recipe.early_epochs:
        return [whole]
    scale = recipe.early_image_size / recipe.image_size
    early = dataclasses.replace(
        recipe,
        image_size=recipe.early_image_size,
        shift=round(scale * recipe.shift),
        erase=round(scale * recipe.erase),
    )
    return [(early, recipe.early_epochs), whole]


def passes(recipe: Recipe, epochs: int, image_size: int) -> float:
    """What the first ``epochs`` of a training cost, in passes over images of one size.

    The cost of an image is taken as that of its pixels. A bar that counts so has the right rate and
    time left at each size.
    """
    early = min(epochs, recipe.early_epochs)
    pixels = early * recipe.early_image_size**2 + (epochs - early) * recipe.image_size**2
    return pixels / image_size**2


def _load(
    recipe: Recipe, source: Source, output: Path, known: pipeline.Images | None = None
) -> pipeline.Images:
    """Decode the images of a recipe at its size; ``known`` are the same ones at another."""
    (output / "cache").mkdir(exist_ok=True)
    taken = 0 if known is None or isinstance(known.images, np.memmap) else known.images.nbytes
    found = pipeline.load(
        source,
        recipe.split,
        recipe.image_size,
        resize=recipe.resize,
        limit=recipe.limit or None,
        memory_limit=max(recipe.memory_limit - taken / 2**30, 0),
        cache_dir=output / "cache",
    )
    if known is None:
        return found
    if len(found) != len(known):
        raise InputError(
            f"{source.name} {recipe.split} had {len(known)} readable images and now has "
            f"{len(found)}: resume when its files stay as they are"
        )
    return dataclasses.replace(known, images=found.images)


def compiled(
    recipe: Recipe, class_count: int, steps: int, pretrained: keras.Model | None = None
) -> tuple[keras.Model, keras.Model]:
    """Make what a training fits, from the recipe's seed on.

    Args:
        recipe: the recipe.
        class_count: classes of the data set; 0 without labels.
        steps: steps an epoch.
        pretrained: the encoder to start from; None for random weights.

    Returns:
        The whole graph of the encoder, and the compiled model that trains it, its optimiser
        built.
    """
    import keras
    import tensorflow as tf

    from kfeat.models.resnet import zero_residuals

    memory.keep_freed()
    tf.config.experimental.enable_op_determinism()
    precision, _ = resolve(recipe.precision)
    policy = {"float32": "float32", "bfloat16": "mixed_bfloat16"}[precision]
    with _seeded(recipe.seed):
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(policy)
        try:
            graph = catalog.build_graph(recipe.model, recipe.image_size)
            if recipe.zero_init_residual:
                zero_residuals(graph)
        finally:
            keras.config.set_dtype_policy(before)
        objective = importlib.import_module(
            f"kfeat.training.{catalog.find(recipe.model).objective}"
        )
        model, compilation = objective.prepare(graph, class_count, recipe.label_smoothing)
    made = optimizer(recipe, steps)
    finetune.prepare(graph, recipe, pretrained, made, UNDECAYED)
    model.compile(optimizer=made, jit_compile=False, **compilation)
    model.optimizer.build(model.trainable_variables)
    if "metrics" in compilation:
        # Metrics that make their variables in the first step let TensorFlow trace it twice.
        model.compute_metrics(None, tf.zeros([1], tf.int64), tf.zeros([1, class_count]))
        model.reset_metrics()
    return graph, model


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Have Keras draw by a seed; Python's and NumPy's generators go on as if it had not."""
    import keras

    states = random.getstate(), np.random.get_state()
    keras.utils.set_random_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def portable(model: keras.Model, **changes: Any) -> keras.Model:
    """Copy a model with Keras's own layers in place of kfeat's, so that Keras alone loads it.

    Args:
        model: a functional model.
        changes: to the configuration of the layers that have such a key: ``dtype``, say.
    """
    import keras

    from kfeat.models import layers

    own = {
        getattr(layers, name): getattr(keras.layers, name)
        for name in ("Add", "BatchNormalization", "Conv2D", "Conv2DTranspose", "ReLU", "Rescaling")
    }

    def plain(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        config |= {key: value for key, value in changes.items() if key in config}
        return own.get(type(layer), type(layer)).from_config(config)

    copy = keras.models.clone_model(model, clone_function=plain)
    copy.set_weights(model.get_weights())
    return copy


def optimizer(recipe: Recipe, steps: int) -> keras.optimizers.Optimizer:
    """Make a recipe's optimiser, its learning-rate schedule included.

    Args:
        recipe: the recipe.
        steps: steps an epoch.
    """
    import keras

    from kfeat.training import optimizers

    rate: Any = recipe.learning_rate
    warmup = round(recipe.warmup_epochs * steps)
    decay = max(recipe.epochs * steps - warmup, 1)
    if recipe.schedule == "cosine" or warmup:
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else recipe.learning_rate,
            decay,
            alpha=0.0 if recipe.schedule == "cosine" else 1.0,
            warmup_target=recipe.learning_rate if warmup else None,
            warmup_steps=warmup,
        )
    decay_rate = recipe.weight_decay or None
    match recipe.optimizer:
        case "sgd":
            made = optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=decay_rate)
        case "muon":
            made = optimizers.Muon(rate, momentum=0.8, nesterov=True, weight_decay=decay_rate)
        case "adam":
            made = optimizers.Adam(rate)
        case "adamw":
            made = optimizers.AdamW(rate, weight_decay=recipe.weight_decay)
    if decay_rate and recipe.optimizer != "adam":
        made.exclude_from_weight_decay(var_names=UNDECAYED)
    return made


class Checkpoints:
    """A run's checkpoints: the last whole epoch, and the best one.

    ``data`` are the images of the run, and ``classes`` what they are called, None where it learns
    without labels: a run goes on with the same ones only.

    ``weights`` says where the initial weights came from; ``history`` holds the figures of each
    epoch, of which the first ``unranked`` are never the best; ``started`` is when the run began on
    the clock of `time.perf_counter`, the ``seconds`` of earlier processes counted in.

    ``checkpoints/epoch-<n>/`` holds weights, the optimiser's state and the history after
    epoch n; it appears whole, by a rename. ``checkpoints/best.weights.h5`` is written before
    it, and written again to the same bits if the epoch has to be repeated.
    """

    def __init__(
        self, output: Path, monitor: str, data: pipeline.Images, classes: Sequence[str] | None
    ) -> None:
        from kfeat.serving.export import software

        self.folder = output / "checkpoints"
        self.csv = output / "history.csv"
        self.monitor = monitor
        self.data = {
            "images": len(data),
            "classes": list(classes) if classes else None,
            "digest": data.digest(),
        }
        self.versions = software() | {"form of training": str(TRAININGS)}
        self.weights: dict[str, Any] = {}
        self.history: list[dict[str, float]] = []
        self.unranked = 0
        self.seconds = 0.0
        self.started = 0.0

    def begin(self) -> int:
        """Read how far the run is; return how many epochs are done.

        Raises:
            InputError: the run learnt from other images, or other classes, than there are now;
                or the epoch is damaged.
        """
        self.folder.mkdir(exist_ok=True)
        last = self._last()
        if last is None:
            return 0
        run, anew = self.folder.parent, "start anew in another --output"
        try:
            state = from_json((last / "state.json").read_text("utf-8"))
            before, now = state["data"], self.data
            history, seconds, origin = (state[key] for key in ("history", "seconds", "weights"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{last} is damaged ({first_line(error)}): {anew}") from None
        versions = {"form of training": "1"} | state.get("versions", self.versions)
        began = {k: v for k, v in versions.items() if self.versions.get(k) != v}
        if began:
            log.warning(
                "%s was trained by %s so far: with other versions now, it ends with other weights "
                "than it would have had",
                run,
                ", ".join(f"{name} {version}" for name, version in began.items()),
            )
        if before != now:
            what = next(key for key in now if before[key] != now[key])
            said = {
                "images": f"{before['images']} images and now finds {now['images']}",
                "classes": f"the classes {before['classes']} and now finds {now['classes']}",
                "digest": "other images, or images in another order, than it now finds",
            }
            raise InputError(f"{run} learnt from {said[what]}: bring the data back, or {anew}")
        self.history, self.seconds, self.weights = history, seconds, origin
        self.write_csv()
        return len(self.history)

    def restore(self, model: keras.Model) -> None:
        """Load the last whole epoch, where there is one, into ``model``.

        Raises:
            InputError: the epoch is damaged.
        """
        last = self._last()
        if last is not None:
            self._load(model, last / "model.weights.h5")

    def _last(self) -> Path | None:
        return max(self.folder.glob("epoch-*"), default=None)

    def save(self, model: keras.Model, epoch: int, logs: dict[str, float]) -> None:
        """Keep what ``model`` is after an epoch, counted from 0."""
        figures = {k: float(v) for k, v in logs.items()}
        if not all(map(math.isfinite, figures.values())):
            raise ArithmeticError(
                f"training diverged in epoch {epoch + 1}: lower learning_rate ({figures})"
            )
        self.history.append({"epoch": epoch + 1, **figures})
        temporary = self.folder / "new"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        self._check_room(model)
        model.save_weights(temporary / "model.weights.h5")
        if len(self.history) > self.unranked and self.best() is self.history[-1]:
            with written(self.folder / "best.weights.h5") as unfinished:
                shutil.copyfile(temporary / "model.weights.h5", unfinished)
        seconds = time.perf_counter() - self.started
        state = {
            "data": self.data,
            "weights": self.weights,
            "seconds": seconds,
            "history": self.history,
            "versions": self.versions,
        }
        (temporary / "state.json").write_text(json.dumps(state))
        flush(temporary)
        before = list(self.folder.glob("epoch-*"))
        temporary.rename(self.folder / f"epoch-{epoch + 1:06d}")
        for folder in before:
            shutil.rmtree(folder)
        self.write_csv()
        log.info("epoch %d: %s", epoch + 1, ", ".join(f"{k} {v:.5g}" for k, v in figures.items()))

    def _check_room(self, model: keras.Model) -> None:
        """Raise `OSError` where the disk is too full for an epoch, and for a copy as the best one.

        A disk that is full while h5py writes may end the process by a segmentation fault.
        """
        optimizer = getattr(model, "optimizer", None)
        variables = [*model.variables, *(optimizer.variables if optimizer else ())]
        size = sum(math.prod(v.shape) * np.dtype(v.dtype).itemsize for v in variables)
        needed, disk = 2 * size + 2**21, shutil.disk_usage(self.folder)
        free = disk.free
        if disk.total and free < needed:  # some file systems tell nothing
            raise OSError(
                errno.ENOSPC,
                f"{os.strerror(errno.ENOSPC)}: {free / 2**20:.0f} MiB free where an epoch takes "
                f"{needed / 2**20:.0f} MiB",
                str(self.folder),
            )

    def write_csv(self) -> None:
        """Write the history as ``history.csv``."""
        with written(self.csv) as unfinished, open(unfinished, "w", newline="") as file:
            writer = csv.DictWriter(file, self.history[0])
            writer.writeheader()
            writer.writerows(self.history)

    def best(self) -> dict[str, float]:
        """The epoch at which the monitored quantity was lowest, the first of equals."""
        return min(self.history[self.unranked :], key=lambda epoch: epoch[self.monitor])

    def load_best(self, model: keras.Model) -> dict[str, float]:
        """Load the best epoch into ``model``; return its figures."""
        self._load(model, self.folder / "best.weights.h5")
        return self.best()

    def _load(self, model: keras.Model, file: Path) -> None:
        try:
            with warnings.catch_warnings():
                # Keras leaves an optimiser without its state, and warns.
                warnings.filterwarnings("error", "Skipping variable loading for optimizer")
                model.load_weights(file)
        except (OSError, KeyError, ValueError, UserWarning) as error:
            raise InputError(
                f"{file} is damaged ({first_line(error)}): start anew in another --output"
            ) from None

    def callback(self, model: keras.Model) -> keras.callbacks.Callback:
        """A callback that saves ``model`` at the end of every epoch."""
        import keras

        return keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: self.save(model, epoch, logs)
        )


def progress_callback(bar: tqdm, epochs: int, batch_size: int) -> keras.callbacks.Callback:
    """A callback that moves a bar over the whole training: images done, rate, time left."""
    import keras

    def begin(epoch: int, logs: Any) -> None:
        bar.set_description(f"epoch {epoch + 1}/{epochs}", refresh=False)

    def step(batch: int, logs: dict[str, float]) -> None:
        bar.set_postfix(loss=f"{float(logs['loss']):.5g}", refresh=False)
        bar.update(batch_size)

    return keras.callbacks.LambdaCallback(on_epoch_begin=begin, on_train_batch_end=step)
