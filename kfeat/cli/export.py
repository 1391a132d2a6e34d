"""``kfeat export``."""

from __future__ import annotations

import json

import click

from kfeat.errors import on_one_line
from kfeat.models.precision import PRECISIONS


@click.command()
@click.argument("run")
@click.option("--name", help="What it is served as.  [default: the name of the model]")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="float32",
    show_default=True,
    help="What the SavedModel computes in.",
)
@click.option("--json", "as_json", is_flag=True, help="Print where it is as JSON.")
def command(run: str, name: str | None, precision: str, as_json: bool) -> None:
    """Export the encoder of RUN, a run or a .keras file, to saved_models/NAME/<version>/.

    A training does this by itself at its end.

    \b
    kfeat export runs/cae1/3
    kfeat export best.keras --name pictures --precision bfloat16
    """
    from kfeat.serving import export

    folder = str(export.export(run, name, precision=precision))
    click.echo(json.dumps({"saved_model": folder}) if as_json else on_one_line(folder))
