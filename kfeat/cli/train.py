"""``kfeat train``."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import click


@click.command()
@click.argument("model")
@click.option("--data", help="Data set by name, or a folder of images.")
@click.option("--split", help="Its split to learn from.")
@click.option("--recipe", metavar="FILE", help="Recipe file, or the name of one of kfeat's own.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change the recipe.")
@click.option("--weights", metavar="W", help="What to start from: imagenet, none, RUN or FILE.")
@click.option("--image-size", type=int, help="Side of the images in pixels.")
@click.option("--epochs", type=int, help="Passes over the images.")
@click.option("--batch-size", type=int, help="Images a step.")
@click.option("--precision", help="auto, float32 or bfloat16.  [default: the recipe's]")
@click.option("--limit", type=int, help="Learn from at most so many images.")
@click.option("--seed", type=int, help="Decides weights, order and augmentation.")
@click.option("--output", metavar="RUN", help="Folder of the run.  [default: runs/MODEL/<n>]")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run.")
@click.option("--strict", is_flag=True, help="Stop at the first unreadable image.")
@click.option("--data-dir", help="Where TFDS keeps prepared data.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def command(
    model: str,
    recipe: str | None,
    settings: tuple[str, ...],
    output: str | None,
    resume: bool,
    strict: bool,
    data_dir: str | None,
    as_json: bool,
    **changes: Any,
) -> None:
    """Train the encoder MODEL and export it to saved_models/MODEL/.

    The recipe of the model's name says what to train on and how; options change it.

    \b
    kfeat train cae1
    kfeat train cae1 --data photos --epochs 5
    kfeat train resnet18 --data ~/pictures --image-size 128 --output runs/pictures
    kfeat train resnet18 --data cifar10 --weights runs/pictures --set features=renew
    kfeat train resnet18 --data cifar10 --weights none --set learning_rate=0.05
    """
    from kfeat.training import recipe as recipes

    given = {key: value for key, value in changes.items() if value is not None}
    changed = recipes.parse_settings(settings)
    for key in given.keys() & changed.keys():
        option = "--" + key.replace("_", "-")
        raise click.UsageError(f"{option} and --set {key}=... say it twice: leave one of them out")
    composed = recipes.compose(model, recipe, **changed | given)

    from kfeat.errors import expand, on_one_line
    from kfeat.training import fit

    run = expand(output) if output else fit.default_output(model, resume)
    try:
        results = fit.train(composed, run, resume=resume, data_dir=data_dir, strict=strict)
    finally:
        if not output:  # it was made for this run, and may have stayed empty
            with contextlib.suppress(OSError):
                run.rmdir()
    if as_json:
        click.echo(json.dumps(results))
    else:
        click.echo(on_one_line(f"run {run}, exported to {results['saved_model']}"))
