import csv
import json

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from kfeat.reporting.study import markdown
from kfeat.study import profile, published
from kfeat.study.cells import Cells, likeness
from kfeat.study.reproduce import reproduce, summary

TINY = """
test = "photos"
seeds = [3]
repeats = 1
[trainings.cae]
recipe = "cae1"
data = "photos"
image_size = 32
epochs = 1
limit = 64
[trainings.first]
recipe = "resnet18-pretrain"
data = "digits"
image_size = 32
shift = 2
epochs = 1
limit = 64
[trainings.second]
recipe = "resnet18-local"
data = "photos"
image_size = 32
shift = 2
epochs = 1
limit = 64
weights = "first"
[trainings.broken]
recipe = "cae3"
data = "no-such-data"
[table1]
"CAEv1" = "cae"
"CAEv3" = "broken"
"ResNet18" = "second"
[table2]
"ResNet18 crossed" = "first"
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    file = tmp_path_factory.mktemp("profile") / "tiny.toml"
    file.write_text(TINY)
    return profile.read(str(file))


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory):
    output = tmp_path_factory.mktemp("reproduced")
    return reproduce(tiny, ("table1", "table2"), output), output


def test_every_row_of_the_study_is_there_measured_or_failed(made):
    results, output = made
    rows = {row["name"]: row for table in results["tables"].values() for row in table}
    assert list(rows) == [name for table in published.tables().values() for name in table]
    measured = {name for name, row in rows.items() if row["metrics"]}
    assert measured == {"CAEv1", "ResNet18", "ResNet18 crossed"}
    for name in measured:
        for metric in published.METRICS:
            low, high = rows[name]["intervals"][metric]
            assert 0 <= low <= high <= 1
        assert set(rows["CAEv1"]["reconstruction"]) == {"mse", "psnr", "ssim"}
    assert rows["ResNet18"]["reconstruction"] is None
    assert "no-such-data" in rows["CAEv3"]["failed"]
    assert rows["UNet"]["failed"] == "profile tiny has no training for it"
    assert set(results["failed"]) == {"broken seed 3"}
    assert [finding["holds"] for finding in results["findings"]] == [None] * 4

    text = (output / "table1.md").read_text()
    assert f"| CAEv1 | {rows['CAEv1']['metrics']['pairwise_f']:.4f} [" in text
    assert "| 0.1395 |" in text and "CAEv3 failed: " in text
    with open(output / "table2.csv", newline="") as file:
        crossed = next(csv.DictReader(file))
    accuracy = rows["ResNet18 crossed"]["metrics"]["knn_accuracy"]
    assert float(crossed["knn_accuracy"]) == accuracy
    assert json.loads((output / "results.json").read_text()) == results


def test_the_fine_tuned_starts_from_the_pre_trained(made):
    _, output = made
    (first,) = output.glob("runs/first-seed3-*")
    (second,) = output.glob("runs/second-seed3-*")
    assert f'weights = "{first}"' in (second / "recipe.toml").read_text()


def test_what_is_made_is_used_again_and_the_same(made, tiny):
    results, output = made
    times = {file: file.stat().st_mtime_ns for file in output.glob("*s/*/*.json")}
    assert len(times) == 6
    assert reproduce(tiny, ("table1", "table2"), output) == results
    assert {file: file.stat().st_mtime_ns for file in output.glob("*s/*/*.json")} == times


def test_another_recipe_is_another_cell(made, tiny):
    _, output = made
    cells = Cells(tiny, output)
    there = cells.trained("cae", 3)
    changed = TINY.replace("limit = 64", "limit = 48")
    (output / "changed.toml").write_text(changed)
    other = Cells(profile.read(str(output / "changed.toml")), output).trained("cae", 3)
    assert there != other and there.exists() and other.exists()


def test_likeness_is_that_of_scikit_image():
    rng = np.random.default_rng(0)
    original = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    image = np.clip(original.astype(int) + rng.integers(-20, 20, original.shape), 0, 255)
    image = image.astype(np.uint8)
    found = likeness(original, image)
    assert found["psnr"] == pytest.approx(peak_signal_noise_ratio(original, image))
    assert found["mse"] == pytest.approx(np.mean((original / 255 - image / 255) ** 2))
    assert likeness(original, original) == {"mse": 0.0, "psnr": 100.0, "ssim": 1.0}


def test_seeds_make_a_mean_and_a_standard_deviation():
    scores = [
        {
            "metrics": dict.fromkeys(published.METRICS, 0.1 + seed / 10),
            "intervals": {metric: [0.0, 1.0] for metric in published.METRICS},
            "reconstruction": {"mse": 0.1, "psnr": 10.0 * seed, "ssim": 0.5},
            "minutes": 2.0,
        }
        for seed in range(3)
    ]
    entry = summary(scores)
    assert entry["metrics"]["nmi"] == pytest.approx(0.2)
    assert entry["std"]["nmi"] == pytest.approx(0.1)  # of 0.1, 0.2, 0.3, with ddof=1
    assert (entry["reconstruction"]["psnr"], entry["minutes"]) == (pytest.approx(10), 6)
    figures = published.tables()["table1"]["CAEv1"]
    shown = markdown([{"name": "CAEv1", "published": figures, "failed": None, **entry}])
    assert "| 0.2000 ± 0.1000 [0.0000, 1.0000] | 0.1395 |" in shown
