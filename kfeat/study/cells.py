"""The cells of the study's tables: trainings and their scores, each kept by what it depends on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import zipfile
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from kfeat.data.catalog import open_source
from kfeat.data.source import Source
from kfeat.errors import InputError, on_one_line
from kfeat.models import catalog, weights
from kfeat.reporting import published
from kfeat.scoring.intervals import mean_interval
from kfeat.study.kept import kept_json
from kfeat.study.profile import Profile
from kfeat.training.recipe import DEFAULTS

log = logging.getLogger("kfeat")

CLUSTERS = 10
NEIGHBOURS = 5
"""k of k-means and of KNN; the study's."""

SCORES = 4
"""To be raised when what a score holds, or how it is found, changes: those kept are made anew."""


class Cells:
    """The trainings and scores of one profile, in one folder.

    A cell lies in a folder whose name ends in a digest of what it depends on: its recipe, its
    data, the cell that it starts from, and kfeat's version. One that is there is not made again,
    and one that was interrupted is gone on with; whoever changes a recipe gets another cell and
    keeps the old one.

    Attributes:
        failed: cells that could not be made, by name, with the reason.
        minutes: what each training took, by the name of its folder.
        minutes_in_all: likewise, with the trainings that it starts from.
        versions: the software that each was trained by, where that is known, by the name of its
            folder.
    """

    def __init__(self, profile: Profile, folder: Path, data_dir: str | Path | None = None) -> None:
        self.profile = profile
        self.folder = folder
        self.data_dir = data_dir
        self.failed: dict[str, str] = {}
        self.minutes: dict[str, float] = {}
        self.minutes_in_all: dict[str, float] = {}
        self.versions: dict[str, dict[str, str]] = {}
        self._sources: dict[str, Source] = {}

    def check(self, tables: Iterable[str]) -> None:
        """Find out before all work whether the data are there.

        Training data that cannot be had are warned of: their rows will fail, the others come.

        Args:
            tables: those whose rows are wanted.

        Raises:
            InputError: the test data cannot be scored on; a training is there, and its data cannot
                be opened any more: its rows would be written over as failed.
        """
        from kfeat.serving.evaluate import choose_splits

        choose_splits(
            self.profile.test,
            k=CLUSTERS,
            neighbours=NEIGHBOURS,
            needs=("classes",),
            data_dir=self.data_dir,
        )
        names = {training for table in tables for training in self.profile.tables[table].values()}
        for training in sorted(names):
            line = [training]
            while parent := self.profile.parent(line[-1]):
                line.append(parent)
            for name in line:
                data = self.profile.recipe(name, self.profile.seeds[0]).data
                try:
                    self.source(data)
                except Exception as error:
                    if any(self.folder.glob(f"runs/{name}-seed*/results.json")):
                        raise InputError(
                            f"{name} learnt from {data}, which cannot be opened any more "
                            f"({error}): give its --data-dir, or choose another --output"
                        ) from None
                    log.warning("%s will fail: %s", training, error)

    def entry(self, table: str, row: str, seed: int) -> tuple[dict[str, Any] | None, str | None]:
        """The score that stands in a row of a table, or the reason why there is none.

        What failed once is not tried again.

        Args:
            table: ``"table1"`` or ``"table2"``.
            row: its name, the study's.
            seed: of the training.

        Returns:
            What `scored` returns, and None; or None, and the reason.
        """
        training = self.profile.tables[table].get(row)
        if training is None:
            return None, f"profile {self.profile.name} has no training for it"
        cell = f"{training} seed {seed}"
        scoring = f"{cell}, scored"  # one that fails leaves what starts from the training
        for made in (cell, scoring):
            if made in self.failed:
                return None, self.failed[made]
        made = cell
        try:
            run = self.trained(training, seed)
            made = scoring
            return self.scored(training, seed, run), None
        except Exception as error:  # the other cells still come
            return None, self.fail(made, error)

    def fail(self, cell: str, error: Exception) -> str:
        """Note, and return, the reason why something could not be made."""
        self.failed[cell] = on_one_line(
            str(error) if isinstance(error, InputError) else repr(error)
        )
        log.error("%s failed: %s", cell, self.failed[cell])
        log.debug("", exc_info=error)
        return self.failed[cell]

    def trained(self, training: str, seed: int) -> Path:
        """The complete run of a training, after those that it starts from.

        Raises:
            InputError: its recipe, data or weights cannot be used; it failed already.
        """
        from kfeat.models.precision import RESOLVED, resolve
        from kfeat.training import fit

        cell = f"{training} seed {seed}"
        if cell in self.failed:
            raise InputError(self.failed[cell])
        recipe = self.profile.recipe(training, seed)
        parent = self.profile.parent(training)
        begins: Any = recipe.weights
        if not parent and begins not in ("none", "imagenet"):
            begins = weights.sha256(weights.locate(begins))
        if parent:
            try:
                start = self.trained(parent, seed)
            except Exception as error:
                if f"{parent} seed {seed}" not in self.failed:
                    self.fail(f"{parent} seed {seed}", error)
                reason = self.failed[f"{parent} seed {seed}"]
                raise InputError(f"{parent}, which it starts from, failed: {reason}") from None
            recipe = dataclasses.replace(recipe, weights=str(start.resolve()))
            begins = start.name
        source = self.source(recipe.data)
        # Without defaults, a key that recipes come to have makes no other cells.
        depends = {k: v for k, v in dataclasses.asdict(recipe).items() if v != DEFAULTS.get(k)}
        depends |= {"weights": begins, "data": described(source)}
        depends.pop("memory_limit", None)  # changes nothing that is learnt
        depends["form"] = fit.TRAININGS

        def run_in(precision: str) -> Path:
            digest = _digest(depends | {"precision": precision})
            return self.folder / "runs" / f"{training}-seed{seed}-{digest}"

        precision = resolve(recipe.precision)[0]
        run = run_in(precision)
        if recipe.precision == "auto":  # another machine may have trained in another one
            runs = [run, *(run_in(other) for other in RESOLVED)]
            run = next((there for there in runs if (there / "results.json").exists()), run)
        recipe = dataclasses.replace(recipe, precision=precision)
        if not (run / "results.json").exists():
            log.info("training %s (seed %d) in %s", training, seed, run)
            fit.train(recipe, run, resume=True, data_dir=self.data_dir, home=self.folder)
        results = fit.read_results(run)
        if "versions" in results:
            self.versions[run.name] = results["versions"]
        self.minutes[run.name] = self.minutes_in_all[run.name] = results["seconds"] / 60
        if parent:
            self.minutes_in_all[run.name] += self.minutes_in_all[start.name]
        return run

    def scored(self, training: str, seed: int, run: Path) -> dict[str, Any]:
        """The score of a training on the profile's test images.

        Args:
            training: its name.
            seed: of it.
            run: what `trained` returns of it.

        Returns:
            ``training``, ``seed``, ``run``, ``features`` (the folder of test.npz and train.npz);
            ``metrics``: `kfeat.reporting.published.METRICS` to figures; ``reconstruction``:
            ``mse``, ``psnr`` (dB) and ``ssim``, means over the test images, or None;
            ``intervals``: of each of these figures the ends of its 95 % interval, by a bootstrap
            over test images;
            ``minutes`` of the training and those that it starts from; ``card``: what `kfeat.score`
            returns.
        """
        from kfeat.serving import encoder

        depends = {
            "run": run.name,
            "model": encoder.digest(encoder.locate(str(run))),
            **self._measured_on(),
        }
        folder = self.folder / "scores" / f"{training}-seed{seed}-{_digest(depends)}"

        def make() -> dict[str, Any]:
            log.info("scoring %s (seed %d)", training, seed)
            return self._score(training, seed, run, folder)

        if not all(zipfile.is_zipfile(folder / f"{part}.npz") for part in ("test", "train")):
            (folder / "score.json").unlink(missing_ok=True)  # figures are drawn of those
        return kept_json(folder / "score.json", make) | {"run": str(run), "features": str(folder)}

    def baseline(self, name: str) -> dict[str, Any]:
        """What `kfeat.score` returns of a baseline on the profile's test images.

        Args:
            name: of those that `kfeat.models.catalog.BASELINES` names.

        Raises:
            InputError: the profile's data have too few images for it.
        """
        from kfeat.serving.evaluate import BASELINE_IMAGE_SIZE

        size = BASELINE_IMAGE_SIZE
        seed = self.profile.seeds[0]
        depends = {"image_size": size, "seed": seed, **self._measured_on()}
        folder = self.folder / "scores" / f"{name}-{_digest(depends)}"

        def make() -> dict[str, Any]:
            log.info("scoring %s at %d pixels, a baseline", name, size)
            folder.mkdir(parents=True, exist_ok=True)
            return self._evaluate(name, seed, image_size=size)

        return kept_json(folder / "score.json", make)

    def _measured_on(self) -> dict[str, Any]:
        return {
            "test": described(self.source(self.profile.test)),
            "repeats": self.profile.repeats,
            "k": [CLUSTERS, NEIGHBOURS],
            "form": SCORES,
        }

    def _evaluate(self, model: str, seed: int, **options: Any) -> dict[str, Any]:
        from kfeat.serving.evaluate import evaluate

        return evaluate(
            model,
            self.profile.test,
            k=CLUSTERS,
            neighbours=NEIGHBOURS,
            seed=seed,
            repeats=self.profile.repeats,
            data_dir=self.data_dir,
            home=self.folder,
            intervals=True,
            **options,
        )[0]

    def _score(self, training: str, seed: int, run: Path, folder: Path) -> dict[str, Any]:
        card = self._evaluate(str(run), seed, save_features=folder)
        metrics = {name: card["clustering"][name] for name in published.CLUSTERING}
        intervals = {name: card["intervals"]["clustering"][name] for name in metrics}
        metrics["knn_accuracy"] = card["classification"]["accuracy"]
        intervals["knn_accuracy"] = card["intervals"]["classification"]
        model = self.profile.recipe(training, seed).model
        reconstruction = None
        if not catalog.find(model).supervised:
            reconstruction = {}
            for name, values in self._likenesses(run, card).items():
                reconstruction[name] = float(np.mean(values))
                intervals[name] = list(mean_interval(values, seed=seed))
        return {
            "training": training,
            "seed": seed,
            "model": model,
            "metrics": metrics,
            "reconstruction": reconstruction,
            "intervals": intervals,
            "minutes": self.minutes_in_all[run.name],
            "card": card,
        }

    def _likenesses(self, run: Path, card: dict[str, Any]) -> dict[str, list[float]]:
        """How like each test image its reconstruction is; see `likeness`."""
        from kfeat.training.reconstruction import reconstruct

        found: dict[str, list[float]] = {"mse": [], "psnr": [], "ssim": []}
        originals: list[np.ndarray] = []

        def batches() -> Iterator[np.ndarray]:
            for batch in self.test_images(card["test"]["split"], card["image_size"]):
                originals.append(batch)
                yield batch

        for images in reconstruct(run, batches()):
            for original, image in zip(originals.pop(0), images, strict=True):
                for name, value in likeness(original, image).items():
                    found[name].append(value)
        return found

    def test_images(self, split: str, image_size: int) -> Iterator[np.ndarray]:
        """The profile's test images: batches uint8 [N, S, S, 3]."""
        from kfeat.data import pipeline

        source = self.source(self.profile.test)
        batches = pipeline.resized(source.dataset(split), image_size, "crop").batch(64)
        for batch in pipeline.read(batches.prefetch(2), source):
            yield batch["image"]

    def source(self, name: str) -> Source:
        """Open a data set, once.

        Raises:
            InputError: as `kfeat.data.catalog.open_source`.
        """
        if name not in self._sources:
            self._sources[name] = open_source(name, data_dir=self.data_dir)
        return self._sources[name]


def likeness(original: np.ndarray, image: np.ndarray) -> dict[str, float]:
    """How like a reconstruction is to its original, by scikit-image.

    Args:
        original: uint8 [S, S, 3], S 7 or more.
        image: the same.

    Returns:
        ``mse``: mean squared error of values in [0, 1]; ``psnr``: peak signal-to-noise ratio in
        dB, 100 where nothing differs; ``ssim``: structural similarity (Wang et al. 2004),
        the mean of the three channels, in windows of 7 pixels.
    """
    from skimage import metrics

    mse = float(metrics.mean_squared_error(original / 255, image / 255))
    psnr = metrics.peak_signal_noise_ratio(original, image, data_range=255) if mse else 100.0
    ssim = metrics.structural_similarity(original, image, data_range=255, channel_axis=2)
    return {"mse": mse, "psnr": float(psnr), "ssim": float(ssim)}


def described(source: Source) -> dict[str, Any]:
    """What identifies a data set, wherever it lies.

    A folder of images has no version: it is known by the state of its files. What TFDS prepared is
    known by its ``dataset_info.json`` too, which says how many bytes each split has.
    """
    about: dict[str, Any] = {
        "name": Path(source.name).name,
        "version": source.version,
        "splits": source.splits,
    }
    return about | {"state": source.state()} if source.state else about


def _digest(depends: dict[str, Any]) -> str:
    text = json.dumps({**depends, "kfeat": version("kfeat")}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
