"""``kfeat reproduce``."""

from __future__ import annotations

import json
import shlex
import sys

import click

from kfeat.errors import on_one_line

WHAT = ("table1", "table2", "figure1", "figure2", "figure3")


@click.command()
@click.argument("what", nargs=-1, required=True, type=click.Choice([*WHAT, "all"]))
@click.option(
    "--profile",
    default="local",
    show_default=True,
    metavar="P",
    help="paper, local, demo, or a profile file.",
)
@click.option("--output", metavar="DIR", help="Where to.  [default: reproduced/P]")
@click.option("--data-dir", help="Where TFDS keeps prepared data.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def command(
    what: tuple[str, ...], profile: str, output: str | None, data_dir: str | None, as_json: bool
) -> None:
    """Repeat the study: its tables, figures and findings, measured beside published.

    table1 is the encoders on their own data, table2 those crossed; figure1 shows
    reconstructions, figure2 and figure3 the features of table1 and table2 in the plane.

    The profile says which trainings and data stand for the study's: paper takes the study's
    own, local what 2 cores finish, demo the embedded photographs. What is there already is used
    again, and what was interrupted gone on with.

    \b
    kfeat reproduce table1 figure1 --profile demo
    kfeat reproduce all --profile local --data-dir DIR
    """
    from kfeat.study import profile as profiles

    chosen = profiles.read(profile)
    from kfeat.reporting.study import markdown, verdict
    from kfeat.study.reproduce import reproduce

    folder = output or f"reproduced/{chosen.name}"
    results = reproduce(
        chosen,
        WHAT if "all" in what else what,
        folder,
        data_dir=data_dir,
        command=shlex.join(["kfeat", *sys.argv[1:]]),
    )
    if as_json:
        click.echo(json.dumps(results))
    else:
        for table, rows in results["tables"].items():
            click.echo(f"{table}\n\n{markdown(rows)}\n")
        for number, finding in enumerate(results["findings"], 1):
            click.echo(f"finding {number}: {verdict(finding)}. {finding['finding']}")
        click.echo(f"{on_one_line(folder)}/README.md has all of it")
    if results["failed"]:
        click.echo(
            f"kfeat: error: cells that failed: {len(results['failed'])}, see above", err=True
        )
        sys.exit(1)
