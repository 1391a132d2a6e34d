import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

import kfeat
from kfeat.data import pipeline


@pytest.mark.parametrize("model", ["pixels", "pca128"])
def test_baselines_equal_scikit_learn_on_the_pixels(model):
    """Fitted to train, judged on test: a mix-up of the two would be seen."""
    source = kfeat.open_source("photos")
    x, y = [], []
    for split in ("train", "test"):
        data = pipeline.load(source, split, 32, limit=300)
        x.append(data.images.reshape(300, -1) / np.float32(255))
        y.append(data.labels)
    if model == "pca128":
        pca = PCA(128, svd_solver="full").fit(x[0])
        x = [pca.transform(points) for points in x]
    expected = KNeighborsClassifier(5).fit(x[0], y[0]).score(x[1], y[1])
    card = kfeat.score(model, "photos", image_size=32, limit=300)
    assert card["classification"]["accuracy"] == pytest.approx(expected, abs=0.02)
    assert card["test"]["count"] == card["train"]["count"] == 300
    swapped = KNeighborsClassifier(5).fit(x[1], y[1]).score(x[0], y[0])
    assert abs(swapped - expected) > 0.02
