"""From images to a scorecard; tests/study/test_paper.py takes every encoder there."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from kfeat import compose, open_source, score, train
from kfeat.data import pipeline
from kfeat.models.weights import load_keras
from kfeat.scoring.features import load_features


@pytest.mark.parametrize(
    ("model", "data"),
    [
        ("unet", "photos"),
        ("cae1", "folder"),
        ("resnet18", "folder"),
    ],
)
def test_trains_exports_loads_and_scores(model, data, folder, tmp_path):
    # Found by the name of what was exported, and by the run.
    path = model if data == "photos" else str(tmp_path / "run")
    data = str(folder) if data == "folder" else data
    options = {"image_size": 32, "epochs": 1, "batch_size": 16, "limit": 64, "weights": "none"}
    if model == "resnet18":
        options["split"] = "train"
    results = train(compose(model, data=data, **options), tmp_path / "run", home=tmp_path)
    assert results["data"]["count"] + results["data"]["validation"] <= 64
    kept = tmp_path / "kept"
    card = score(path, data, k=3, limit=48, home=tmp_path, save_features=kept)
    train_part, test_part = (load_features(kept / f"{split}.npz") for split in ("train", "test"))
    images = pipeline.load(open_source(data), "test", 32, limit=48).images
    encoder = load_keras(tmp_path / "run" / "model.keras")
    expected = np.asarray(encoder(images.astype("float32"), training=False))
    assert expected.shape[1] == 128
    tolerance = 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(test_part.features, expected, atol=tolerance)
    neighbours = KNeighborsClassifier(5).fit(train_part.features, train_part.labels)
    accuracy = neighbours.score(test_part.features, test_part.labels)
    assert card["classification"]["accuracy"] == pytest.approx(accuracy)
