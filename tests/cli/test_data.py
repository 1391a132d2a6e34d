import json
import logging

import pytest
from click.testing import CliRunner

from kfeat.cli.data import command


def run(*arguments):
    done = CliRunner().invoke(command, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_list(tmp_path):
    listing = json.loads(run("list", "--data-dir", tmp_path, "--json"))
    assert listing["embedded"] == {
        "photos": {"train": 2000, "test": 1000, "unlabelled": 5000},
        "digits": {"train": 1500, "test": 297},
    }
    assert listing["prepared"] == {}
    assert set(listing["addable"]) == {"stl10", "cifar10"}
    text = run("list", "--data-dir", tmp_path)
    assert "photos  train 2,000, test 1,000, unlabelled 5,000" in text
    assert "kfeat data add stl10 PATH" in text


def test_show(folder, tmp_path):
    shown = json.loads(run("show", folder, "--json", "--output", tmp_path / "sheet.png"))
    assert shown["splits"]["train"] == {"images": 80, "labelled": True}
    assert shown["image_size"] is None
    assert (tmp_path / "sheet.png").is_file()
    text = run("show", folder, "--output", tmp_path / "sheet\udcff.png")
    assert "sheet\\udcff.png" in text and (tmp_path / "sheet\udcff.png").is_file()
    text = run("show", "photos")
    assert "photos: images of 96x96" in text
    assert "10 classes: astronaut, chelsea" in text


@pytest.mark.parametrize("options", [[], ["add"], ["list"], ["show"]])
def test_help_has_examples(options):
    assert "kfeat data" in run(*options, "--help").split("Options:")[0].split("\n", 1)[1]


def test_add(tmp_path, photographs, caplog):
    images = photographs[0][:10]
    stored = b"".join(image.transpose(2, 1, 0).tobytes() for image in images)
    for name in ("train", "test", "unlabeled"):
        (tmp_path / f"{name}_X.bin").write_bytes(stored)
    for name in ("train", "test"):
        (tmp_path / f"{name}_y.bin").write_bytes(bytes(range(1, 11)))
    data_dir = tmp_path / "data"
    with caplog.at_level(logging.INFO):
        text = run("add", "stl10", tmp_path, "--data-dir", data_dir)
    assert text.strip() == str(data_dir / "stl10" / "1.0.0")
    listed = run("list", "--data-dir", data_dir).split()
    assert listed[listed.index("stl10") + 1 :][:2] == ["train", "10,"]
