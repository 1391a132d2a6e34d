"""``kfeat plot``."""

from __future__ import annotations

import json
from typing import Any

import click

from kfeat.cli.score import given, refuse_all_but, shared
from kfeat.errors import on_one_line

# As in kfeat.serving.plot and kfeat.scoring.projection, which import NumPy and scikit-learn.
FIGURES = ("map", "confusion", "clusters", "neighbours")
COLOURS = ("class", "cluster", "error")
MAPS = ("umap", "tsne")

WITH_FEATURES = ("features", "train_features", "k", "neighbours", "seed", "limit")


@click.command()
@click.argument("what", type=click.Choice(FIGURES))
@click.option(
    "--model", "models", multiple=True, metavar="M", help="Whose features; as for kfeat score."
)
@shared
@click.option(
    "--map",
    type=click.Choice(MAPS),
    default="umap",
    show_default=True,
    help="How a map is made.",
)
@click.option(
    "--colour",
    type=click.Choice(COLOURS),
    help="What a map is coloured by.  [default: class, without labels cluster]",
)
@click.option("--output", required=True, metavar="FILE", help="FILE.png or FILE.svg.")
@click.option("--json", "as_json", is_flag=True, help="Print where it is as JSON.")
def command(
    what: str,
    models: tuple[str, ...],
    test: str | None,
    features: str | None,
    train_features: str | None,
    output: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Draw one figure: the map, the confusion matrix, clusters or neighbours of a score.

    A map and a confusion matrix can be drawn of --features too; the others show images.

    \b
    kfeat plot map --model cae1 --test photos --output map.png
    kfeat plot map --model cae1 --test photos --map tsne --colour error --output map.svg
    kfeat plot confusion --model cae1 --test photos --output confusion.png
    kfeat plot clusters --model runs/cae1/3 --test ~/pictures --output clusters.png
    kfeat plot confusion --features test.npz --train-features train.npz --output c.png
    """
    if bool(models) == bool(features):
        raise click.UsageError("give --model and --test, or --features")
    if len(models) > 1:
        raise click.UsageError("one --model only: a figure is of one encoder")
    if what != "map":
        for name in ("map", "colour"):
            if given(name):
                raise click.UsageError(f"--{name} goes with kfeat plot map only")
    if features:
        from kfeat.serving.plot import plot_features

        refuse_all_but(*WITH_FEATURES, "what", "map", "colour", "output", "as_json")
        chosen = {name: options[name] for name in ("map", "colour", *WITH_FEATURES[2:])}
        plot_features(what, features, output, train=train_features, **chosen)
    else:
        from kfeat.serving.plot import plot

        if train_features:
            raise click.UsageError("--train-features goes with --features only")
        if not test:
            raise click.UsageError("--test is missing: the data set to test on")
        plot(what, models[0], test, output, **options)
    click.echo(json.dumps({"figure": output}) if as_json else on_one_line(output))
