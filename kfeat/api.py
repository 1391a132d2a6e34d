"""The calls behind the commands that cross several rooms."""

from __future__ import annotations

import importlib
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kfeat.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from kfeat.data.source import Source

log = logging.getLogger("kfeat")

BASELINES = ("pixels", "pca128")
BASELINE_IMAGE_SIZE = 32


def models() -> list[dict[str, Any]]:
    """Describe every encoder, at the image size of its recipe.

    Returns:
        For each encoder ``model`` (its name), ``kind`` ("supervised" or "unsupervised"),
        ``image_size`` in pixels, ``parameters`` and ``multiply_adds`` (for one image) of the
        encoder, ``decoder`` (the same two of what training adds to it for the reconstruction;
        None where it reconstructs nothing), ``feature_size``, ``loss`` and ``source``.
    """
    from kfeat.models import catalog
    from kfeat.models.cost import multiply_adds
    from kfeat.training import recipe

    listed = []
    for name, known in catalog.ENCODERS.items():
        objective = importlib.import_module(f"kfeat.training.{known.objective}")
        image_size = recipe.compose(name).image_size
        graph = catalog.build_graph(name, image_size)
        encoder = catalog.cut(graph)
        whole, part = (
            {"parameters": model.count_params(), "multiply_adds": multiply_adds(model)}
            for model in (graph, encoder)
        )
        decoder = {key: whole[key] - part[key] for key in whole}
        listed.append(
            {
                "model": name,
                "kind": "supervised" if known.supervised else "unsupervised",
                "image_size": image_size,
                **part,
                "decoder": decoder if len(graph.layers) > len(encoder.layers) else None,
                "feature_size": encoder.output.shape[-1],
                "loss": objective.LOSS,
                "source": known.source,
            }
        )
    return listed


def score(
    model: str,
    test: str,
    *,
    train: str | None = None,
    test_split: str | None = None,
    train_split: str | None = None,
    k: int = 10,
    neighbours: int = 5,
    seed: int = 0,
    repeats: int = 1,
    limit: int | None = None,
    image_size: int | None = None,
    resize: str = "crop",
    data_dir: str | Path | None = None,
    strict: bool = False,
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
        test_split: None for ``test``, else ``validation``, else the only one with labels, else
            ``all``, else the only one.
        train_split: None for ``train``, if there is one.
        k: clusters of k-means.
        neighbours: neighbours that vote.
        seed: of k-means, and of pca128 on large images.
        repeats: runs of k-means; mean and standard deviation are given.
        limit: at most so many test images, and at most so many train images.
        image_size: side of the images in pixels, for the baselines and encoders that take
            any; None for the data's own, where all its images share one, else 32.
        resize: ``"crop"`` or ``"stretch"``; see `kfeat.data.pipeline.resized`.
        data_dir: where TFDS keeps prepared data.
        strict: stop at the first unreadable image instead of passing over it.
        home: the folder that holds ``saved_models``.

    Returns:
        What `kfeat.scoring.scorecard.score` returns, with ``model``, ``test`` and ``train``
        ({"data", "split", "count"}; train is None where nothing is classified), ``image_size``,
        ``unreadable`` (image to reason) and ``seconds["features"]``.

    Raises:
        InputError: the model, the data or an option cannot be used.
    """
    from kfeat.data.catalog import open_source
    from kfeat.scoring import scorecard
    from kfeat.serving import encoder

    path = None if model in BASELINES else encoder.locate(model, home)
    test_source = open_source(test, data_dir=data_dir, strict=strict)
    train_source = (
        test_source
        if train in (None, test)
        else open_source(train, data_dir=data_dir, strict=strict)
    )
    test_split = _test_split(test_source, test_split)
    train_split = _train_split(train_source, train_split, test_source, test_split)
    count = min(test_source.splits[test_split], limit or test_source.splits[test_split])
    if k > count:
        raise InputError(f"k {k}: more clusters than the {count} test images: lower k")
    if train_split:
        count = min(train_source.splits[train_split], limit or train_source.splits[train_split])
        if neighbours > count:
            raise InputError(f"neighbours {neighbours}: more than the {count} train images")
        if train_source.class_names != test_source.class_names:
            raise InputError(
                f"{train_source.name} and {test_source.name} have different classes: "
                "give a --train data set with the classes of the test"
            )
    elif model == "pca128":
        raise InputError(f"pca128 is fitted to train images, which {test} has not: give --train")

    _note(test_split in test_source.labelled, train_split is not None)

    splits = [(test_source, test_split)] + ([(train_source, train_split)] if train_split else [])
    options: dict[str, Any] = {"resize": resize, "limit": limit}
    started = time.perf_counter()
    if path is None:
        image_size = image_size or _common_size(test_source) or BASELINE_IMAGE_SIZE
        features, labels = _baseline(model, splits, image_size, seed, options)
    else:
        loaded = encoder.load(path)
        if loaded.image_size and image_size not in (None, loaded.image_size):
            raise InputError(f"{model} takes images of {loaded.image_size} pixels only")
        image_size = loaded.image_size or image_size or _common_size(test_source)
        if image_size is None:
            raise InputError(f"{model} takes images of any size: give --image-size")
        read = [encoder.embed_split(loaded, *split, image_size, **options) for split in splits]
        features, labels = [f for f, _ in read], [y for _, y in read]
    seconds = time.perf_counter() - started

    train_features, train_labels = (features[1], labels[1]) if train_split else (None, None)
    log.info("scoring %d x %d features", *features[0].shape)
    card = scorecard.score(
        features[0],
        labels[0],
        train_features,
        train_labels,
        k=k,
        neighbours=neighbours,
        seed=seed,
        repeats=repeats,
    )
    return {
        "model": model,
        "test": {"data": test, "split": test_split, "count": len(features[0])},
        "train": {"data": train or test, "split": train_split, "count": len(features[1])}
        if train_split
        else None,
        "image_size": image_size,
        **card,
        "unreadable": test_source.unreadable | train_source.unreadable,
        "seconds": {"features": seconds, **card["seconds"]},
    }


def score_features(
    test: str | Path,
    train: str | Path | None = None,
    *,
    k: int = 10,
    neighbours: int = 5,
    seed: int = 0,
    repeats: int = 1,
    limit: int | None = None,
) -> dict[str, Any]:
    """Score features that anybody made, without TensorFlow.

    Args:
        test: an .npz file with ``features`` [N, D] and ``labels`` [N].
        train: likewise, for KNN; None for no classification.
        k: clusters of k-means.
        neighbours: neighbours that vote.
        seed: of k-means.
        repeats: runs of k-means; mean and standard deviation are given.
        limit: at most the first so many rows of each file.

    Returns:
        As `score`; ``model`` is None, ``data`` is the file.

    Raises:
        InputError: a file or an option cannot be used.
    """
    from kfeat.scoring import scorecard

    features, labels = scorecard.load_features(test)
    train_features, train_labels = scorecard.load_features(train) if train else (None, None)
    card = scorecard.score(
        features[:limit],
        labels if labels is None else labels[:limit],
        train_features if train_features is None else train_features[:limit],
        train_labels if train_labels is None else train_labels[:limit],
        k=k,
        neighbours=neighbours,
        seed=seed,
        repeats=repeats,
    )
    _note(labels is not None, train is not None)
    return {
        "model": None,
        "test": {"data": str(test), "split": None, "count": card["features"]["count"]},
        "train": {"data": str(train), "split": None, "count": len(train_features[:limit])}
        if train_features is not None
        else None,
        **card,
        "seconds": {"features": None, **card["seconds"]},
    }


def _test_split(source: Source, split: str | None) -> str:
    if split is not None:
        return source.require(split)
    labelled = [name for name in source.splits if name in source.labelled]
    for usual in ("test", "validation", *(labelled if len(labelled) == 1 else ["all"])):
        if usual in source.splits:
            return usual
    if len(source.splits) == 1:
        return next(iter(source.splits))
    raise InputError(
        f"{source.name} has no test split: choose --test-split from {', '.join(source.splits)}"
    )


def _train_split(
    source: Source, split: str | None, test_source: Source, test_split: str
) -> str | None:
    same = source is test_source or _place(source.name) == _place(test_source.name)
    if split is not None:
        source.require(split)
        if split not in source.labelled:
            raise InputError(f"{source.name} {split} has no labels for KNN to learn from")
        if same and (split == test_split or "all" in (split, test_split)):
            raise InputError(
                f"--train-split {split} holds images of the test split {test_split}: "
                "choose splits that have no image in common"
            )
        return split
    has_labels = test_split in test_source.labelled
    seen = same and test_split in ("train", "all")
    usable = "train" in source.labelled and not seen
    return "train" if usable and has_labels else None


def _place(name: str) -> str:
    return os.path.realpath(name) if os.path.exists(name) else name


def _note(has_labels: bool, has_train: bool) -> None:
    if not has_labels:
        log.info("no labels to test against: clusters are counted, nothing is compared")
    elif not has_train:
        log.info("no labelled train images: KNN accuracy is left out (--train gives them)")


def _common_size(source: Source) -> int | None:
    shape = source.image_shape
    return shape[0] if shape and shape[0] == shape[1] else None


def _baseline(
    model: str,
    splits: list[tuple[Source, str]],
    image_size: int,
    seed: int,
    options: dict[str, Any],
) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
    from kfeat.data import pipeline
    from kfeat.scoring import baselines

    read = [pipeline.load(source, split, image_size, **options) for source, split in splits]
    features = [baselines.pixels(data.images) for data in read]
    if model == "pca128":
        train, test = baselines.pca(features[1], features[0], dim=128, seed=seed)
        features = [test, train]
    return features, [data.labels for data in read]
