"""``kfeat score``."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from typing import Any

import click

from kfeat.models.precision import PRECISIONS
from kfeat.serving.engines import ENGINES

SEARCHES = ("exact", "faiss")  # as in kfeat.scoring.neighbours, which imports scikit-learn


SHARED = (
    click.option("--test", metavar="D", help="Data set to test on."),
    click.option("--train", metavar="D", help="Data set that KNN learns from.  [default: --test]"),
    click.option(
        "--test-split",
        help="[default: test, validation, val, valid, the labelled one, or all]",
    ),
    click.option("--train-split", help="[default: train]"),
    click.option("--features", metavar="FILE.npz", help="Take these features, not a model."),
    click.option("--train-features", metavar="FILE.npz", help="Features that KNN learns from."),
    click.option(
        "--k", type=click.IntRange(1), default=10, show_default=True, help="Clusters of k-means."
    ),
    click.option(
        "--neighbours", type=click.IntRange(1), default=5, show_default=True, help="Votes of KNN."
    ),
    click.option(
        "--seed",
        type=click.IntRange(0, 2**31),
        default=0,
        show_default=True,
        help="Seed of k-means and of maps.",
    ),
    click.option(
        "--limit",
        type=click.IntRange(1),
        help="At most so many images, or rows, of each split.",
    ),
    click.option("--image-size", type=click.IntRange(1), help="For models that take any size."),
    click.option(
        "--resize", type=click.Choice(["crop", "stretch"]), default="crop", show_default=True
    ),
    click.option(
        "--engine",
        type=click.Choice(ENGINES),
        default="auto",
        show_default=True,
        help="What runs M.",
    ),
    click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        help="What M computes in.  [default: its own]",
    ),
    click.option("--data-dir", help="Where TFDS keeps prepared data."),
    click.option("--strict", is_flag=True, help="Stop at the first unreadable image."),
)
"""The options of ``kfeat plot`` too."""


def shared(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `SHARED`."""
    for option in reversed(SHARED):
        command = option(command)
    return command


@click.command()
@click.option("--model", "models", multiple=True, metavar="M", help="What to score; repeatable.")
@shared
@click.option(
    "--repeats", type=click.IntRange(1), default=1, show_default=True, help="Runs of k-means."
)
@click.option(
    "--search",
    type=click.Choice(SEARCHES),
    default="exact",
    show_default=True,
    help="What finds the neighbours.",
)
@click.option("--all", is_flag=True, help="The slow metrics too, and a check for leaks.")
@click.option("--save-features", metavar="DIR", help="Keep the features, as .npz files.")
@click.option("--report", metavar="FILE.html", help="Write a page: scores, map, images.")
@click.option(
    "--map",
    "report_map",
    type=click.Choice(["umap", "tsne"]),
    default="umap",
    show_default=True,
    help="How the page's map is made.",
)
@click.option("--projector", metavar="DIR", help="Write a set for TensorBoard's Projector.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; a list for several models.")
def command(
    models: tuple[str, ...],
    test: str | None,
    features: str | None,
    train_features: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Score features by clustering (k-means) and classification (KNN).

    M is the name of an exported encoder, the path of a run, of a .keras file or of a
    SavedModel of anybody's, or a baseline: pixels, pca128.

    \b
    kfeat score --model cae1 --test photos
    kfeat score --model runs/cae1/3 --model pca128 --test cifar10 --json
    kfeat score --model ~/models/vit/1 --test ~/pictures
    kfeat score --model cae1 --test photos --all
    kfeat score --features test.npz --train-features train.npz
    kfeat score --model cae1 --model resnet18 --test photos --report report.html
    kfeat score --model cae1 --test photos --projector projector/
    """
    if bool(models) == bool(features):
        raise click.UsageError("give --model and --test, or --features")
    if features:
        from kfeat.scoring.scorecard import score_features

        refuse_all_but(*WITH_FEATURES, "as_json")
        chosen = {name: options[name] for name in WITH_FEATURES if name in options}
        show([score_features(features, train_features, **chosen)], as_json, alone=True)
    else:
        from kfeat.serving.evaluate import score_models

        if train_features:
            raise click.UsageError("--train-features goes with --features only")
        if not test:
            raise click.UsageError("--test is missing: the data set to test on")
        if options["save_features"] and len(models) > 1:
            raise click.UsageError("--save-features goes with one --model only")
        if given("report_map") and not options["report"]:
            raise click.UsageError("--map goes with --report: it says how the page's map is made")
        line = shlex.join(["kfeat", *sys.argv[1:]])
        results: list[dict[str, Any]] = []
        try:
            score_models(models, test, command=line, on_result=results.append, **options)
        finally:  # whatever failed: the next model, say, or the page
            if results:
                show(results, as_json, alone=len(models) == 1)


def show(results: list[dict[str, Any]], as_json: bool, alone: bool) -> None:
    """Write results to stdout: the JSON of one, or of a list; or a table."""
    if as_json:
        click.echo(json.dumps(results[0] if alone else results))
    else:
        from kfeat.reporting.table import format_table

        click.echo(format_table(results))


WITH_FEATURES = (
    *("features", "train_features", "k", "neighbours", "seed", "repeats", "limit"),
    *("search", "all"),
)


def refuse_all_but(*names: str) -> None:
    """Raise where the command line gives an option that does not go with --features."""
    for parameter in click.get_current_context().command.params:
        if given(str(parameter.name)) and parameter.name not in names:
            raise click.UsageError(f"{parameter.opts[0]} does not go with --features")


def given(name: str) -> bool:
    """Whether the command line being run names this parameter."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE
