"""``kfeat data``."""

from __future__ import annotations

import json

import click


@click.group()
def command() -> None:
    """List, show and add data sets.

    \b
    kfeat data list
    kfeat data show photos --output sheet.png
    kfeat data add stl10 stl10_binary.tar.gz
    """


@command.command("list")
@click.option("--data-dir", help="Where TFDS keeps prepared data.  [default: TFDS's own]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(data_dir: str | None, as_json: bool) -> None:
    """List the data sets that are at hand, and what else can be had.

    \b
    kfeat data list
    kfeat data list --data-dir ~/tensorflow_datasets --json
    """
    from kfeat.data import catalog
    from kfeat.errors import on_one_line

    listing = catalog.listing(data_dir)
    if as_json:
        click.echo(json.dumps(listing))
        return
    prepared = listing["prepared"]
    known = listing["embedded"] | prepared
    width = max(map(len, known))
    for name, splits in known.items():
        counts = ", ".join(f"{split} {count:,}" for split, count in splits.items())
        click.echo(f"{name:{width}}  {counts}")
    place = on_one_line(listing["data_dir"])
    click.echo(f"\n{len(prepared)} of these prepared in {place}. Other data:")
    for name, archive in listing["addable"].items():
        if name not in prepared:
            click.echo(f"  {name}, from your own {archive}: kfeat data add {name} PATH")
    click.echo("  any image data set of tensorflow.org/datasets by its name, fetched at first use")
    click.echo("  a folder of images by its path")


@command.command()
@click.argument("name")
@click.option("--split", help="The split on the contact sheet.  [default: the first]")
@click.option("--output", metavar="FILE.png", help="Write a contact sheet.")
@click.option("--data-dir", help="Where TFDS keeps prepared data.  [default: TFDS's own]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(
    name: str, split: str | None, output: str | None, data_dir: str | None, as_json: bool
) -> None:
    """Show the splits, sizes and classes of the data set NAME: a name or a path.

    \b
    kfeat data show photos
    kfeat data show ~/pictures --output sheet.png
    kfeat data show cifar10 --split test --output sheet.png
    """
    from kfeat.data import catalog
    from kfeat.errors import on_one_line

    if split and not output:
        raise click.UsageError("--split goes with --output: it says what the contact sheet shows")
    if output:
        from kfeat.reporting import sheet

        sheet.checked(output)
    source = catalog.open_source(name, data_dir=data_dir)
    shown = catalog.show(source)
    if output:
        sheet.contact_sheet(source, output, split)
    if as_json:
        click.echo(json.dumps(shown))
        return
    size = shown["image_size"]
    known = f"{size[1]}x{size[0]}" if size else "any size"
    click.echo(f"{on_one_line(shown['name'])}: images of {known}")
    for split_name, facts in shown["splits"].items():
        labels = "labelled" if facts["labelled"] else "no labels"
        click.echo(f"  {on_one_line(split_name):12} {facts['images']:>11,}  {labels}")
    if shown["classes"]:
        heading = f"{len(shown['classes'])} classes: "
        names = on_one_line(", ".join(shown["classes"]))
        click.echo(click.wrap_text(heading + names, width=88))
    if output:
        click.echo(f"contact sheet: {on_one_line(output)}")


@command.command()
@click.argument("name")
@click.argument("path")
@click.option("--data-dir", help="Where TFDS keeps prepared data.  [default: TFDS's own]")
@click.option("--json", "as_json", is_flag=True, help="Print where it is as JSON.")
def add(name: str, path: str, data_dir: str | None, as_json: bool) -> None:
    """Add your own copy of the data set NAME, stl10 or cifar10.

    PATH is the archive as its authors give it, or the folder with what is in it. From then
    on NAME reads it, and so does TFDS.

    \b
    kfeat data add stl10 ~/Downloads/stl10_binary.tar.gz
    kfeat data add cifar10 cifar-10-batches-bin --data-dir data
    """
    from kfeat.data import binaries, catalog
    from kfeat.errors import on_one_line

    folder = binaries.add(name, path, catalog.data_folder(data_dir))
    place = str(folder)
    click.echo(json.dumps({"prepared": place}) if as_json else on_one_line(place))
