import json

import numpy as np
import pytest
from click.testing import CliRunner

from kfeat.cli.models import command
from kfeat.models import catalog
from kfeat.training import recipe

from .test_cli import run


def invoke(*arguments):
    done = CliRunner().invoke(command, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_lists_every_encoder_with_what_it_costs():
    listed = {facts["model"]: facts for facts in json.loads(invoke("--json"))}
    assert list(listed) == list(catalog.ENCODERS)
    for name, facts in listed.items():
        assert facts["image_size"] == recipe.compose(name).image_size
        assert facts["feature_size"] == catalog.FEATURE_SIZE
        encoder = catalog.build(name, facts["image_size"])
        count = sum(int(np.prod(w.shape)) for w in encoder.weights)
        assert facts["parameters"] == count and facts["multiply_adds"] > count
        assert facts["source"][-4:].isdecimal()
        supervised = facts["kind"] == "supervised"
        assert supervised == (facts["loss"] == "cross-entropy") == (facts["decoder"] is None)
    unet, cae1 = listed["unet"], listed["cae1"]
    assert unet["parameters"] == cae1["parameters"]
    # The three widened 3x3 convolutions, each from twice as many channels as it gives.
    widened = sum(9 * filters**2 for filters in (128, 64, 32))
    assert unet["decoder"]["parameters"] - cae1["decoder"]["parameters"] == widened


def test_table(tmp_path):
    done = run("models", home=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    heading, *rows = done.stdout.splitlines()
    assert heading.split()[:2] == ["model", "kind"]
    assert [row.split()[0] for row in rows] == list(catalog.ENCODERS)
    assert "unsupervised          96  1,248,992 + 257,203" in rows[0]


@pytest.mark.parametrize(
    "options, shape", [([], "(None, 96, 96, 3)"), (["16"], "(None, 16, 16, 3)")]
)
def test_show_prints_the_summary(options, shape):
    text = invoke("show", "cae2", *(["--image-size", *options] if options else []))
    assert 'Model: "cae2"' in text and shape in text
    assert "features (Dense)" in text and "reconstruction" in text and "Total params" in text
