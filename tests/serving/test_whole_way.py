"""Every encoder, from images to a scorecard."""

import pytest

from kfeat import compose, score, train
from kfeat.models import catalog


@pytest.mark.parametrize(
    ("model", "data"),
    [
        *((model, "photos") for model in catalog.ENCODERS),
        ("cae1", "folder"),
        ("resnet18", "folder"),
    ],
)
def test_trains_exports_loads_and_scores(model, data, folder, tmp_path):
    # Found by the name of what was exported, and by the run.
    path = model if data == "photos" else str(tmp_path / "run")
    data = str(folder) if data == "folder" else data
    options = {"image_size": 32, "epochs": 1, "batch_size": 16, "limit": 64, "weights": "none"}
    if model in ("resnet18", "resnet34", "resnet50"):
        options["split"] = "train"
    results = train(compose(model, data=data, **options), tmp_path / "run", home=tmp_path)
    assert results["data"]["count"] + results["data"]["validation"] <= 64
    card = score(path, data, k=3, limit=48, home=tmp_path)
    assert card["features"]["dim"] == 128
    assert 0 <= card["clustering"]["nmi"] <= 1
    assert 0 < card["classification"]["accuracy"] <= 1
