"""An encoder on trial: the features of a data set's images, and what they are worth."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kfeat.data.source import UNLABELLED
from kfeat.errors import InputError, expand, spelled, whole
from kfeat.models.catalog import BASELINES, LARGEST

if TYPE_CHECKING:
    import numpy as np

    from kfeat.data.source import Source
    from kfeat.scoring.features import Features

log = logging.getLogger("kfeat")

BASELINE_IMAGE_SIZE = 32

TEST_SPLITS = ("test", "validation", "val", "valid")
"""What a split to test on is called, the best name first."""


def score(
    model: str | os.PathLike[str],
    test: str | os.PathLike[str],
    *,
    train: str | os.PathLike[str] | None = None,
    test_split: str | None = None,
    train_split: str | None = None,
    k: int = 10,
    neighbours: int = 5,
    seed: int = 0,
    repeats: int = 1,
    search: str = "exact",
    all: bool = False,
    limit: int | None = None,
    image_size: int | None = None,
    resize: str = "crop",
    engine: str = "auto",
    precision: str | None = None,
    data_dir: str | Path | None = None,
    strict: bool = False,
    save_features: str | Path | None = None,
    report: str | Path | None = None,
    report_map: str = "umap",
    projector: str | Path | None = None,
    home: str | Path | None = None,
) -> dict[str, Any]:
    """Score the features of an encoder on a data set.

    The features of the test images are clustered by k-means; those of the train images,
    where they have labels, classify the test images by nearest neighbours.

    Args:
        model: an exported encoder's name, the path of a run, of a ``.keras`` file or of a
            SavedModel, or a baseline: ``"pixels"`` (the pixels themselves, in [0, 1]) or
            ``"pca128"`` (their 128 principal components, fitted to the train images).
        test: the data set to test on, a name or a path.
        train: the data set that KNN is fitted to; None for the same.
        test_split: None for the first that has labels, or else is there, of ``test``,
            ``validation``, ``val`` and ``valid``, else the only one with labels, else ``all``,
            else the only one; for ``all`` of a folder of class folders, where ``train`` is
            another folder.
        train_split: None for ``train``, if there is one; for ``all`` of another folder than
            the test's, where it is one of class folders. pca128 can be fitted to images of other
            splits, and without labels, too; then KNN is left out, as for encoders.
        k: clusters of k-means.
        neighbours: neighbours that vote.
        seed: of k-means, and of pca128 on large images.
        repeats: runs of k-means; mean and standard deviation are given.
        search: what finds the neighbours, ``"exact"`` or ``"faiss"``; see
            `kfeat.scoring.neighbours.nearest`.
        all: also compute the slow metrics, and look for test images in the train split.
        limit: at most so many test images, and at most so many train images.
        image_size: side of the images in pixels, for the baselines and encoders that take
            any; None for the data's own, where it is known beforehand (that of a folder of files
            is not), else 32 for the baselines.
        resize: ``"crop"`` or ``"stretch"``; see `kfeat.data.pipeline.resized`.
        engine: what runs the encoder: ``"tensorflow"``, ``"openvino"``, or ``"auto"`` for the
            fastest that is installed.
        precision: ``"float32"``, ``"bfloat16"`` or ``"auto"`` (bfloat16 where the hardware
            computes in it); None for that of a SavedModel of kfeat's, else for float32 (where
            TensorFlow runs anybody's SavedModel, for its own).
        data_dir: where TFDS keeps prepared data.
        strict: stop at the first unreadable image instead of passing over it.
        save_features: a folder to keep the features in, as ``test.npz`` and ``train.npz``; see
            `kfeat.scoring.features.save_features`.
        report: an HTML file to write: scorecard, map of the features and images on one page.
            It shows the baselines too, which are scored for it; see `score_models`.
        report_map: how its map is made, ``"umap"`` or ``"tsne"``.
        projector: a folder for a set of TensorBoard's Embedding Projector.
        home: the folder that holds ``saved_models``.

    Returns:
        What `kfeat.scoring.scorecard.score` returns, with ``model``, ``encoder`` ({"path",
        "sha256", "engine", "precision", "learnt_from"}; None for a baseline; see
        `kfeat.serving.export.learnt_from`), ``test`` and ``train`` ({"data", "split", "count"};
        train is None where the data have no such split), ``image_size``, ``unreadable`` (image to
        reason) and ``seconds["features"]``. ``test["seen_in_training"]`` says whether the encoder
        learnt from images of the test split, None where it is not told. ``intervals`` are given
        with ``all`` and with a report. With ``all``, ``leaks`` is
        {"method", "threshold", "count", "pairs"}: the number of test images that are all but
        identical to one of the train split (see `kfeat.data.leaks`), and the first ten of
        them, each {"test", "train" (ids), "bits" (that differ)}; None without ``all`` or
        without a train split.

    Raises:
        InputError: the model, the data or an option cannot be used.
    """
    return score_models(
        [model],
        test,
        train=train,
        test_split=test_split,
        train_split=train_split,
        k=k,
        neighbours=neighbours,
        seed=seed,
        repeats=repeats,
        search=search,
        all=all,
        limit=limit,
        image_size=image_size,
        resize=resize,
        engine=engine,
        precision=precision,
        data_dir=data_dir,
        strict=strict,
        save_features=save_features,
        report=report,
        report_map=report_map,
        projector=projector,
        home=home,
    )[0]


def score_models(
    models: Sequence[str | os.PathLike[str]],
    test: str | os.PathLike[str],
    *,
    report: str | Path | None = None,
    report_map: str = "umap",
    projector: str | Path | None = None,
    command: str | None = None,
    on_result: Callable[[dict[str, Any]], None] | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """Score several encoders on the same images, for one page or one projector.

    A page shows the baselines that are not among the models beside them: scored with the same
    options but for ``all``, on images of 32 pixels at most. A baseline that the data have too
    few images for is named there with the reason.

    Args:
        models: each as `score` takes it.
        test: the data set to test on.
        report: as `score`.
        report_map: as `score`.
        projector: as `score`.
        command: the command line, for the page.
        on_result: called with the result of each model as soon as it is there, whatever fails
            afterwards.
        **options: all others of `score`; ``save_features`` goes with one model only.

    Returns:
        What `score` returns, for each of the models.

    Raises:
        InputError: as `score`.
    """
    from kfeat.files import check_writable
    from kfeat.scoring.projection import PROJECTIONS
    from kfeat.serving import encoder

    names, test = [spelled("model", model) for model in models], spelled("test", test)
    for name in names:  # the last of them may be misspelled, and the first takes hours
        if name not in BASELINES:
            path = encoder.locate(name, options.get("home"))
            size, asked = encoder.told_size(path), options.get("image_size")
            if size and asked not in (None, size):
                raise InputError(f"{name} takes images of {size} pixels only")
    needs: tuple[str, ...] = ()
    if report:
        report = expand(report)
        if report.suffix.lower() not in (".html", ".htm"):
            raise InputError(f"{report}: give the page a name that ends in .html")
        check_writable(report)
        if report_map not in PROJECTIONS:
            raise InputError(f"map {report_map!r}: choose one of {', '.join(PROJECTIONS)}")
        needs = ("map",)
    if options.get("save_features") and len(names) > 1:
        raise InputError("save_features goes with one model only")
    if "pca128" in names[1:]:
        of_data = ("train", "test_split", "train_split", "limit", "data_dir", "strict")
        told = {key: options[key] for key in of_data if key in options}
        choose_splits(test, labelled=False, k=1, neighbours=1, needs=("components",), **told)
    folder = _folder(projector) if projector else None
    keep = bool(report or projector)
    results, features = [], []
    for name in names:
        result, parts = evaluate(name, test, intervals=bool(report), needs=needs, **options)
        results.append(result)
        if on_result:
            on_result(result)
        if keep:
            features.append(parts)
    if not keep:
        return results
    from kfeat.serving.report import write_projector, write_report

    chosen: dict[str, Any] = {"seed": options.get("seed", 0), "data_dir": options.get("data_dir")}
    if folder:
        write_projector(results, features, folder, **chosen)
    if report:
        baselines = _baselines(names, results[0]["image_size"], test, options)
        write_report(
            results,
            features,
            report,
            baselines=baselines,
            method=report_map,
            command=command,
            **chosen,
        )
    return results


def _baselines(
    models: Sequence[str], image_size: int, test: str, options: dict[str, Any]
) -> dict[str, dict[str, Any] | str]:
    """The results of the baselines that are not among the models, or why there are none."""
    found: dict[str, dict[str, Any] | str] = {}
    size = min(image_size, BASELINE_IMAGE_SIZE)
    changed = {"all": False, "image_size": size, "save_features": None}
    for name in BASELINES:
        if name in models:
            continue
        log.info("the page's baseline %s, at %d pixels", name, size)
        try:
            found[name] = evaluate(name, test, intervals=True, **{**options, **changed})[0]
        except InputError as error:
            log.warning("%s is left out of the page: %s", name, error)
            found[name] = str(error)
    return found


def evaluate(
    model: str | os.PathLike[str],
    test: str | os.PathLike[str],
    *,
    train: str | os.PathLike[str] | None = None,
    test_split: str | None = None,
    train_split: str | None = None,
    k: int = 10,
    neighbours: int = 5,
    seed: int = 0,
    repeats: int = 1,
    search: str = "exact",
    all: bool = False,
    limit: int | None = None,
    image_size: int | None = None,
    resize: str = "crop",
    engine: str = "auto",
    precision: str | None = None,
    data_dir: str | Path | None = None,
    strict: bool = False,
    save_features: str | Path | None = None,
    home: str | Path | None = None,
    intervals: bool = False,
    knn: bool = True,
    needs: Collection[str] = (),
) -> tuple[dict[str, Any], dict[str, Features]]:
    """Score an encoder, and return what was scored too.

    It takes the options of `score`, and three more. ``intervals`` gives the intervals without
    ``all`` too. ``knn`` False leaves KNN out, and the train images too, unless pca128 is fitted to
    them. ``needs`` names what the result is for: ``"map"`` (4 test images or more),
    ``"labels"`` (of the test images), ``"classes"`` (those, and labelled train images),
    ``"matrix"`` (of not too many classes), ``"components"`` (128 train images, for pca128),
    ``"neighbours"`` (train images to find them in, or 2 test images or more); what the data lack
    is refused before the work.

    Returns:
        The result of `score`; the ``"test"`` and, where there are any, ``"train"`` features.

    Raises:
        InputError: as `score`.
    """
    from kfeat.data import leaks
    from kfeat.files import check_writable
    from kfeat.scoring import scorecard
    from kfeat.scoring.baselines import fit_pca
    from kfeat.scoring.features import save_features as save
    from kfeat.serving import encoder, export

    model, test = spelled("model", model), spelled("test", test)
    train = train if train is None else spelled("train", train)
    k, neighbours, seed, repeats = scorecard.check_options(k, neighbours, seed, repeats, search)
    limit = limit if limit is None else whole("limit", limit, 1)
    image_size = image_size if image_size is None else whole("image_size", image_size, 1)
    if image_size and image_size > LARGEST:
        raise InputError(f"image_size {image_size}: give from 1 to {LARGEST} pixels")
    path = None if model in BASELINES else encoder.locate(model, home)
    learnt = export.learnt_from(path) if path else []
    chosen = choose_splits(
        test,
        train,
        test_split,
        train_split,
        labelled=model != "pca128",
        k=k,
        neighbours=neighbours,
        limit=limit,
        needs=(*needs, "components") if model == "pca128" else needs,
        data_dir=data_dir,
        strict=strict,
    )
    if not knn:
        train_part = chosen.train if model == "pca128" else None
        chosen = Splits(chosen.test, train_part, classify=False)
    test_source, test_split = chosen.test
    train_source, train_split = chosen.train or (test_source, None)
    classify = chosen.classify
    folder = _folder(save_features) if save_features else None
    if folder:
        for name in ("test.npz", "train.npz"):
            check_writable(folder / name)
    if folder and not chosen.train and (folder / "train.npz").exists():
        raise InputError(
            f"{folder} holds the train.npz of another score, and this one has no train images: "
            "choose another folder for the features"
        )
    if knn:
        scorecard.say_what_is_missing(test_split in test_source.labelled, classify)
    shown = _seen_in_training(learnt, test_source, test_split)
    if shown:
        log.warning(
            "%s learnt from %s %s, the images of the test or some of them: figures of images that "
            "it has not seen may be lower",
            *(model, test, test_split),
        )

    started = time.perf_counter()
    loaded = encoder.load(path, engine, precision) if path else encoder.pixels(engine, precision)
    if loaded.image_size and image_size not in (None, loaded.image_size):
        raise InputError(f"{model} takes images of {loaded.image_size} pixels only")
    image_size = loaded.image_size or image_size or _common_size(test_source)
    if image_size is None and path:
        raise InputError(f"{model} takes images of any size: give --image-size")
    if image_size and path and loaded.image_size is None:
        encoder.check_size(loaded, image_size)
    if image_size is None:
        image_size = BASELINE_IMAGE_SIZE
        log.info("%s of images of %d pixels (--image-size takes others)", model, image_size)
    splits = {"test": chosen.test}
    if chosen.train:
        splits["train"] = chosen.train
    features: dict[str, Features] = {}
    hashes: dict[str, list[np.ndarray]] = {"test": [], "train": []}
    for name, split in splits.items():

        def look(images: np.ndarray, seen: list[np.ndarray] = hashes[name]) -> None:
            seen.append(leaks.perceptual_hashes(images))

        features[name] = encoder.embed_split(
            loaded, *split, image_size, resize=resize, limit=limit, look=look if all else None
        )
    if model == "pca128":
        pca = fit_pca(features["train"].features, 128, seed)
        components = hashlib.sha256(pca.mean_.tobytes() + pca.components_.tobytes()).hexdigest()
        for part in features.values():
            part.features = pca.transform(part.features)
            part.manifest["pca"] = components
    seconds = time.perf_counter() - started

    made_by: dict[str, Any] | None = None
    if path:
        made_by = {"path": os.path.abspath(path), "sha256": encoder.digest(path)}
        made_by |= {"engine": loaded.engine, "precision": loaded.precision}
        made_by["learnt_from"] = learnt
    for name, part in features.items():
        part.manifest |= {"model": model, "encoder": made_by}
        if folder:
            save(part, folder / f"{name}.npz")
    tested, fitted = features["test"], features.get("train")
    if path:
        log.info("features by %s, precision %s", loaded.engine, loaded.precision or "its own")
    log.info("scoring %d x %d features", *tested.features.shape)
    card = scorecard.score(
        tested.features,
        tested.labels,
        fitted.features if fitted and classify else None,
        fitted.labels if fitted and classify else None,
        k=k,
        neighbours=neighbours,
        seed=seed,
        repeats=repeats,
        search=search,
        all=all,
        intervals=intervals,
    )
    names = test_source.class_names
    if card["classes"] and names:
        card["classes"]["names"] = [names[label] for label in card["classes"]["labels"]]
    found = None
    if all and fitted:
        started = time.perf_counter()
        found = _leaks(tested, fitted, hashes)
        card["seconds"]["leaks"] = time.perf_counter() - started
    result = {
        "model": model,
        "encoder": made_by,
        "test": {
            "data": test,
            "split": test_split,
            "count": len(tested),
            "seen_in_training": shown,
        },
        "train": {"data": train or test, "split": train_split, "count": len(fitted)}
        if fitted
        else None,
        "image_size": image_size,
        **card,
        "leaks": found,
        "unreadable": test_source.unreadable | train_source.unreadable,
        "seconds": {"features": seconds, **card["seconds"]},
    }
    return result, features


def _leaks(
    tested: Features, fitted: Features, hashes: dict[str, list[np.ndarray]]
) -> dict[str, Any]:
    """Count the test images that stand in the train split too, log it, name the first ten."""
    import numpy as np

    from kfeat.data import leaks

    assert tested.ids is not None and fitted.ids is not None
    test, train = np.concatenate(hashes["test"]), np.concatenate(hashes["train"])
    found = list(zip(*(part.tolist() for part in leaks.near_identical(test, train)), strict=True))
    log.info(
        "leaks: %d of %d test images are near-identical to one of the %d train images "
        "(%s, up to %d of 64 bits)",
        *(len(found), len(test), len(train), leaks.HASH, leaks.THRESHOLD),
    )
    return {
        "method": leaks.HASH,
        "threshold": leaks.THRESHOLD,
        "count": len(found),
        "pairs": [
            {"test": str(tested.ids[a]), "train": str(fitted.ids[b]), "bits": bits}
            for a, b, bits in found[:10]
        ],
    }


@dataclass
class Splits:
    """What is scored, and what is fitted to: each a source and a split of it.

    ``classify`` says whether both have labels, so that KNN can be tested.
    """

    test: tuple[Source, str]
    train: tuple[Source, str] | None
    classify: bool


def choose_splits(
    test: str,
    train: str | None = None,
    test_split: str | None = None,
    train_split: str | None = None,
    *,
    labelled: bool = True,
    k: int,
    neighbours: int,
    limit: int | None = None,
    needs: Collection[str] = (),
    data_dir: str | Path | None = None,
    strict: bool = False,
) -> Splits:
    """Open the data of a score, and check that they will do.

    Takes the options of `score` and `evaluate`; ``labelled`` says whether what is fitted needs
    labels.

    Raises:
        InputError: as `score`.
    """
    from kfeat.data.catalog import open_source
    from kfeat.scoring.classification import MATRIX_CLASSES

    test_source = open_source(test, data_dir=data_dir, strict=strict)
    train_source = (
        test_source
        if train in (None, test)
        else open_source(train, data_dir=data_dir, strict=strict)
    )
    apart = _apart(train_source, test_source)
    if apart and test_source.cut and test_split is None:
        test_split = "all"
        log.info("%s: all its images are tested, for others are learnt from", test)
    test_split = _test_split(test_source, test_split)
    asked = train_split is not None
    train_split = _train_split(
        train_source, train_split, test_source, test_split, labelled=labelled
    )
    usual = _usual(train_source, apart)
    classify = (
        train_split is not None
        and (asked or train_split == usual)  # as for an encoder, so for a baseline
        and train_split in train_source.labelled
        and test_split in test_source.labelled
    )
    count = test_source.count(test_split, limit)
    if "map" in needs and count < 4:
        raise InputError(f"a map of {count} images: give 4 test images or more")
    if {"labels", "classes"} & {*needs} and test_split not in test_source.labelled:
        raise InputError(f"{test_source.name} {test_split} has no labels to test against")
    if "classes" in needs and not classify:
        raise InputError(
            f"{train_source.name} has no labelled train images for KNN to learn from: give --train"
        )
    known = len(test_source.class_names or ())
    if "matrix" in needs and known > MATRIX_CLASSES:
        raise InputError(f"{known} classes are too many for a confusion matrix")
    if "neighbours" in needs and not classify and count < 2:
        raise InputError("1 test image has no neighbours: give 2 or more, or --train")
    if k > count:
        raise InputError(f"k {k}: more clusters than the {count} test images: lower k")
    if train_split and classify:
        if neighbours > train_source.count(train_split, limit):
            count = train_source.count(train_split, limit)
            raise InputError(f"neighbours {neighbours}: more than the {count} train images")
        if train_source.class_names != test_source.class_names:
            raise InputError(
                f"{train_source.name} and {test_source.name} have different classes: "
                "give a --train data set with the classes of the test"
            )
    if train is not None and train_split is None and test_split in test_source.labelled:
        raise InputError(
            f"{train_source.name} has no labelled train images for KNN to learn from, beside those "
            "of the test: give --train-split"
        )
    if "components" in needs and train_split:
        fitted = train_source.count(train_split, limit)
        if fitted < 128:
            raise InputError(
                f"pca128: {fitted} train images have fewer than 128 principal components: give "
                "more, or leave the model out"
            )
    train_part = (train_source, train_split) if train_split else None
    return Splits((test_source, test_split), train_part, classify)


def _test_split(source: Source, split: str | None) -> str:
    if split is not None:
        return source.require(split)
    labelled = [name for name in source.splits if name in source.labelled]
    usual = [name for name in TEST_SPLITS if name in source.splits]
    if usual:
        return next((name for name in usual if name in labelled), usual[0])
    if len(labelled) == 1:
        return labelled[0]
    if "all" in source.splits:
        return "all"
    if len(source.splits) == 1:
        return next(iter(source.splits))
    raise InputError(
        f"{source.name} has no test split: choose --test-split from {', '.join(source.splits)}"
    )


def _train_split(
    source: Source, split: str | None, test_source: Source, test_split: str, *, labelled: bool
) -> str | None:
    """Choose the split to fit to; None where there is none and nothing needs one.

    Raises:
        InputError: the split is not there, shares images with the test, or lacks labels.
    """
    same, apart = _place(source) == _place(test_source), _apart(source, test_source)
    tested = set() if same else _files(test_source, test_split)

    def seen(name: str) -> bool:
        if same:
            return name == test_split or "all" in (name, test_split)
        return bool(tested) and not tested.isdisjoint(_files(source, name))

    if split is not None:
        source.require(split)
        if labelled and split not in source.labelled:
            raise InputError(f"{source.name} {split} has no labels for KNN to learn from")
        if seen(split):
            raise InputError(
                f"--train-split {split} holds images of the test split {test_split}: "
                "choose splits that have no image in common"
            )
        return split
    usual = _usual(source, apart)
    if usual in source.labelled and test_split in test_source.labelled and not seen(usual):
        return usual
    if labelled:
        return None
    for name in (usual, UNLABELLED, *source.splits):
        if name in source.splits and not seen(name):
            return name
    raise InputError(
        f"pca128 is fitted to other images than those of the test, which {source.name} has not: "
        "give --train"
    )


def _apart(source: Source, test_source: Source) -> bool:
    """Whether two sources lie in different places, neither in the other."""
    here, there = Path(_place(source)), Path(_place(test_source))
    return not (here.is_relative_to(there) or there.is_relative_to(here))


def _seen_in_training(
    learnt: list[dict[str, Any]] | None, source: Source, split: str
) -> bool | None:
    """Whether an encoder learnt from images of a split, by what is told; None where it is not.

    Args:
        learnt: see `kfeat.serving.export.learnt_from`.
        source: where the split is.
        split: the split.
    """
    if learnt is None:
        return None
    found = [_holds(data, source, split) for data in learnt]
    return True if True in found else None if None in found else False


def _holds(data: dict[str, Any], source: Source, split: str) -> bool | None:
    """Whether data that an encoder learnt from hold images of a split; None where nobody knows."""
    from kfeat.data.catalog import EMBEDDED, open_source

    name, place, version, part = (data.get(key) for key in ("name", "location", "version", "split"))
    if not isinstance(part, str):
        return None
    if place is None and name in EMBEDDED:
        return source.location is None and (name, part) == (source.name, split)
    if not isinstance(place, str):
        return None
    if source.location is None:
        return False
    try:
        here, there = _place(source), os.path.realpath(place)
        if (there, part) == (here, split) or (
            there == here and source.cut and "all" in (part, split)
        ):
            return True
        if version or source.version:  # TFDS's, which are not files of their own
            if there == here or (name, version) == (source.name, source.version):
                return part == split
            # Elsewhere it may be the same, or another one of a configuration so called.
            return None if Path(there).parts[-2:] == Path(here).parts[-2:] else False
        if there != here and not os.path.isdir(there):  # gone, moved here perhaps
            return None
        other = source if there == here else open_source(there)
        # In another state of its files, kfeat may have split them otherwise.
        if data.get("state") != (other.state() if other.cut and other.state else None):
            return None
        return not _files(source, split).isdisjoint(_files(other, other.require(part)))
    except ValueError:  # there are no images any more, or others; or no path can be so
        return None


def _usual(source: Source, apart: bool) -> str:
    """The split to fit to where nobody asks for another; of a place apart nothing is tested."""
    return "all" if apart and source.cut else "train"


def _place(source: Source) -> str:
    return os.path.realpath(source.location) if source.location else source.name


def _files(source: Source, split: str) -> set[tuple[int, int]]:
    """The files that the images of a split lie in, where they do: of each its device and inode.

    So that a file is known by its links too.
    """
    place, found = _place(source), set()
    for file in source.files(split) if source.files else ():
        with contextlib.suppress(OSError):  # gone
            status = os.stat(os.path.join(place, file))
            found.add((status.st_dev, status.st_ino))
    return found


def _common_size(source: Source) -> int | None:
    shape = source.image_shape
    return shape[0] if shape and shape[0] == shape[1] else None


def _folder(path: str | Path) -> Path:
    folder = expand(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except FileExistsError:
        raise InputError(f"{folder} is a file: give the name of a folder") from None
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}") from None
    if not writable:
        raise InputError(f"{folder} cannot be written: no permission")
    return folder
