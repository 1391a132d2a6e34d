"""``kfeat models``."""

from __future__ import annotations

import json

import click

COLUMNS = {
    "model": "<",
    "kind": "<",
    "image size": ">",
    "parameters + decoder's": "<",
    "multiply-adds + decoder's": "<",
    "features": ">",
    "loss": "<",
    "source": "<",
}


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """List the encoders: what each is, costs and learns by.

    Parameters, and multiply-adds for one image of the recipe's size, are the encoder's, plus
    those of the decoder that stands behind it in training.

    \b
    kfeat models
    kfeat models --json
    kfeat models show resnet18 --image-size 224
    """
    if context.invoked_subcommand:
        if as_json:
            raise click.UsageError(f"--json does not go with {context.invoked_subcommand}")
        return
    from kfeat.training.overview import overview

    listed = overview()
    if as_json:
        click.echo(json.dumps(listed))
        return
    rows = [list(COLUMNS)]
    for facts in listed:
        parts = [facts, facts["decoder"]] if facts["decoder"] else [facts]
        costs = [
            " + ".join(f"{part[key]:,}" for part in parts)
            for key in ("parameters", "multiply_adds")
        ]
        about = [str(facts["feature_size"]), facts["loss"], facts["source"]]
        rows.append([facts["model"], facts["kind"], str(facts["image_size"]), *costs, *about])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, COLUMNS.values(), widths, strict=True)
        click.echo("  ".join(f"{cell:{side}{width}}" for cell, side, width in cells).rstrip())


@command.command()
@click.argument("name")
@click.option("--image-size", type=int, help="Side in pixels.  [default: the recipe's]")
def show(name: str, image_size: int | None) -> None:
    """Print Keras's summary of the model NAME, its decoder included.

    \b
    kfeat models show cae1
    kfeat models show resnet18 --image-size 224
    """
    from kfeat.models import catalog
    from kfeat.training import recipe

    if image_size is None:
        image_size = recipe.compose(name).image_size
    catalog.build_graph(name, image_size).summary(print_fn=click.echo)
