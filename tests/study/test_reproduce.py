import csv
import dataclasses
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from kfeat.cli.reproduce import WHAT
from kfeat.data.catalog import open_source
from kfeat.errors import InputError
from kfeat.reporting import published, study_figures
from kfeat.reporting.published import CROSSED
from kfeat.reporting.study import markdown
from kfeat.scoring.features import load_features
from kfeat.study import profile
from kfeat.study.cells import Cells, described, likeness
from kfeat.study.figures import plane_of
from kfeat.study.reproduce import compared, reproduce, summary
from kfeat.training.reconstruction import reconstruct

pytestmark = pytest.mark.xdist_group("reproduce")

TINY = """
note = "Photographs\\n and <b>digits</b>."
test = "FOLDER"
seeds = [3]
repeats = 1
[trainings.cae]
recipe = "cae3"  # the quickest
data = "FOLDER"
image_size = 32
epochs = 1
limit = 64
[trainings.first]
recipe = "resnet18-pretrain"
optimizer = "sgd"
data = "digits"
image_size = 32
shift = 2
epochs = 1
limit = 64
[trainings.second]
recipe = "resnet18-local"
optimizer = "sgd"
data = "FOLDER"
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
def file(folder, tmp_path_factory):
    file = tmp_path_factory.mktemp("profile") / "tiny.toml"
    file.write_text(TINY.replace("FOLDER", str(folder)))
    return file


@pytest.fixture(scope="module")
def tiny(file):
    return profile.read(str(file))


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory):
    output = tmp_path_factory.mktemp("reproduced")
    return reproduce(tiny, WHAT, output), output


def test_every_row_of_the_study_is_there_measured_or_failed(made, tiny):
    results, output = made
    rows = {row["name"]: row for table in results["tables"].values() for row in table}
    of_tables = [name for table in published.tables().values() for name in table]
    assert list(rows) == [*of_tables[:7], *published.COMPARED, *of_tables[7:]]
    best, worst = (rows.pop(name) for name in published.COMPARED)
    assert best["metrics"] == rows["CAEv1"]["metrics"] and worst["training"] is None
    assert best["failed"] == "there are no figures of CAEv2, CAEv3, UNet"
    assert [best["published"]["nmi"], worst["published"]["nmi"]] == [0.1538, 0.7847]
    measured = {name for name, row in rows.items() if row["metrics"]}
    assert measured == {"CAEv1", "ResNet18", "ResNet18 crossed"}
    for name in measured:
        for metric in published.METRICS:
            low, high = rows[name]["intervals"][metric]
            assert 0 <= low <= rows[name]["metrics"][metric] <= high <= 1
        assert set(rows["CAEv1"]["reconstruction"]) == {"mse", "psnr", "ssim"}
    assert rows["ResNet18"]["reconstruction"] is None
    assert "no-such-data" in rows["CAEv3"]["failed"]
    assert rows["UNet"]["failed"] == "profile tiny has no training for it"
    assert set(results["failed"]) == {"broken seed 3"}
    assert [finding["holds"] for finding in results["findings"]] == [None] * 4

    text = (output / "table1.md").read_text()
    assert f"| CAEv1 | {rows['CAEv1']['metrics']['pairwise_f']:.4f} [" in text
    assert "| 0.1395 |" in text and "CAEv3 failed: " in text
    assert "| UNet | – | 0.1827 |" in text and "UNet: profile tiny has no training" in text
    with open(output / "table2.csv", newline="") as file:
        *_, crossed = (row for row in csv.DictReader(file) if row["training"])
    accuracy = rows["ResNet18 crossed"]["metrics"]["knn_accuracy"]
    assert float(crossed["knn_accuracy"]) == accuracy
    assert json.loads((output / "results.json").read_text()) == results
    index = (output / "README.md").read_text()
    for part in ("| CAEv1 | ", "## Findings", "](figure3-umap.png)", "](report.html)", "broken"):
        assert part in index
    page = (output / "report.html").read_text("utf-8")
    assert page.count('<img src="data:image/png;base64,') == 5
    assert "profile tiny has no training for it" in page and "Table of confusions of CAEv1" in page
    assert results["note"] == "Photographs and <b>digits</b>."
    for name in ("README.md", "table1.md", "table2.md", "findings.md"):
        assert results["note"] in (output / name).read_text()
    assert "<p>Photographs and &lt;b&gt;digits&lt;/b&gt;.</p>" in page
    assert results["trainings"]["second"]["weights"] == "first" and results["test"] == tiny.test
    assert "<small>" in page and page.count('<tr class="study">') == 3
    assert page.count('<tr class="baseline">') == 1
    assert "Without pca128: " in page  # 80 images to learn from are too few


def test_the_fine_tuned_starts_from_the_pre_trained(made):
    results, output = made
    (first,) = output.glob("runs/first-seed3-*")
    (second,) = output.glob("runs/second-seed3-*")
    assert f'weights = "{first}"' in (second / "recipe.toml").read_text()
    seconds = [json.loads((run / "results.json").read_text())["seconds"] for run in (first, second)]
    minutes = {r["name"]: r["minutes"] for rows in results["tables"].values() for r in rows}
    assert minutes["ResNet18"] == pytest.approx(sum(seconds) / 60)
    assert minutes["ResNet18 crossed"] == pytest.approx(seconds[0] / 60)


def test_what_is_made_is_used_again_and_the_same(made, tiny):
    results, output = made
    times = {file: file.stat().st_mtime_ns for file in output.glob("*s/*/*.json")}
    assert len(times) == 7
    (damaged,) = output.glob("scores/first-*/score.json")
    content = json.loads(damaged.read_text())
    damaged.write_text(damaged.read_text()[:100])
    Cells(tiny, output).entry("table2", CROSSED[0], 3)
    assert json.loads(damaged.read_text())["metrics"] == content["metrics"]
    os.utime(damaged, ns=(times[damaged], times[damaged]))
    again = reproduce(tiny, WHAT, output)
    assert again.pop("minutes") != (first := dict(results)).pop("minutes")
    assert again == first
    assert {file: file.stat().st_mtime_ns for file in output.glob("*s/*/*.json")} == times


def test_a_score_whose_features_are_gone_is_made_again(made, tiny, tmp_path):
    output = shutil.copytree(made[1], tmp_path / "copy")
    (features,) = output.glob("scores/first-*/test.npz")
    kept, score = np.load(features)["feature"], features.with_name("score.json").read_text()
    features.unlink()
    assert Cells(tiny, output).entry("table2", CROSSED[0], 3)[1] is None
    np.testing.assert_array_equal(np.load(features)["feature"], kept)
    again = json.loads(features.with_name("score.json").read_text())
    assert again["metrics"] == json.loads(score)["metrics"]
    (run,) = output.glob("runs/first-*/results.json")
    run.write_text("{")
    with pytest.raises(InputError, match=r"results.json is damaged \(.*\): delete it"):
        Cells(tiny, output).trained("first", 3)


def test_the_index_names_what_else_trainings_were_made_by(made, tiny, tmp_path):
    output = shutil.copytree(made[1], tmp_path / "copy")
    assert "Some were trained by" not in (output / "README.md").read_text()
    file = next((output / "runs").glob("cae-*")) / "results.json"
    results = json.loads(file.read_text())
    results["versions"]["keras"] = "2.0"
    file.write_text(json.dumps(results))
    again = reproduce(tiny, ["table1"], output)
    assert [versions["keras"] for versions in again["earlier"]] == ["2.0"]
    index = (output / "README.md").read_text()
    assert "Some were trained by python" in index and "keras 2.0" in index


def test_another_recipe_is_another_cell(tiny, file, tmp_path):
    there = Cells(tiny, tmp_path).trained("cae", 3)
    found = []
    for text in ("limit = 48", "limit = 64\nerase = 0"):  # the second says what is so anyway
        (tmp_path / "changed.toml").write_text(file.read_text().replace("limit = 64", text))
        found.append(Cells(profile.read(str(tmp_path / "changed.toml")), tmp_path))
    other, same = (cells.trained("cae", 3) for cells in found)
    assert there == same != other and there.exists() and other.exists()


def test_a_failed_training_is_not_tried_for_each_that_starts_from_it(tiny, tmp_path, monkeypatch):
    from kfeat.training import fit

    tried = []

    def fail(recipe, run, **options):
        tried.append(run.name.split("-")[0])
        raise InputError("no \x1b<b>disk")

    monkeypatch.setattr(fit, "train", fail)
    cells = Cells(tiny, tmp_path)
    reasons = [cells.entry(*row, 3)[1] for row in (("table1", "ResNet18"), ("table2", CROSSED[0]))]
    said = "no \\x1b<b>disk"
    assert reasons == [f"first, which it starts from, failed: {said}", said]
    assert tried == ["first"]


def test_a_score_that_fails_leaves_what_starts_from_its_training(
    made, tiny, tmp_path, monkeypatch, caplog
):
    output = shutil.copytree(made[1], tmp_path / "out")
    (score,) = output.glob("scores/first-*/score.json")
    score.unlink()
    monkeypatch.setattr(Cells, "_score", lambda *arguments: 1 / 0)
    cells = Cells(tiny, output)
    cells.check(["table1"])
    assert "broken will fail: " in caplog.text
    for _ in range(2):
        assert "ZeroDivisionError" in cells.entry("table2", CROSSED[0], 3)[1]
    assert cells.entry("table1", "ResNet18", 3)[1] is None
    assert set(cells.failed) == {"first seed 3, scored"}


def test_what_was_learnt_from_data_that_are_gone_is_not_written_over(
    made, tiny, tmp_path, monkeypatch
):
    from kfeat.study import cells

    def without_digits(name, **options):
        if name == "digits":
            raise InputError("digits: no such data")
        return open_source(name, **options)

    output = shutil.copytree(made[1], tmp_path / "out")
    before = {file.name: file.read_bytes() for file in output.iterdir() if file.is_file()}
    monkeypatch.setattr(cells, "open_source", without_digits)
    with pytest.raises(InputError, match="first learnt from digits, .*no such data.*--data-dir"):
        reproduce(tiny, WHAT, output)
    assert before == {file.name: file.read_bytes() for file in output.iterdir() if file.is_file()}


def test_what_is_kept_and_damaged_is_made_anew(made, tiny, tmp_path, caplog):
    output = shutil.copytree(made[1], tmp_path / "out")
    score, _ = Cells(tiny, output).entry("table1", "CAEv1", 3)
    (kept,) = Path(score["features"]).glob("tsne-*.npy")
    plane, _ = plane_of(score, "tsne", 3)
    kept.write_bytes(b"")
    np.testing.assert_array_equal(plane_of(score, "tsne", 3)[0], plane)
    assert f"{kept} is damaged" in caplog.text
    np.testing.assert_array_equal(np.load(kept), plane)

    features = Path(score["features"]) / "test.npz"
    whole = features.read_bytes()
    features.write_bytes(whole[: len(whole) // 2])
    again, _ = Cells(tiny, output).entry("table1", "CAEv1", 3)
    assert again["metrics"] == score["metrics"]
    assert len(load_features(features)) == len(plane)


def test_a_page_without_an_encoder_whose_map_fails(made, tiny, tmp_path, monkeypatch):
    from kfeat.study import reproduce as module

    def fail_for_one(score, *arguments):
        if score["training"] == "cae":
            raise ValueError("no map")
        return plane_of(score, *arguments)

    monkeypatch.setattr(module, "plane_of", fail_for_one)
    output = shutil.copytree(made[1], tmp_path / "out")
    results = reproduce(tiny, ["table1"], output)
    assert results["failed"].keys() == {"broken seed 3", "report.html CAEv1"}
    page = (output / results["report"]).read_text("utf-8")
    assert "Table of confusions of ResNet18" in page
    assert "Table of confusions of CAEv1" not in page


def test_cells_are_known_by_the_files_they_were_made_of(tiny, folder, tmp_path):
    data = shutil.copytree(folder, tmp_path / "data" / folder.name)
    before = described(open_source(str(data)))
    assert described(open_source(str(data))) == before
    image = next(data.rglob("*.png"))
    image.write_bytes(image.read_bytes() + b"\0")
    assert described(open_source(str(data))) != before
    assert described(open_source("digits")) == described(open_source("digits"))


def test_cells_are_known_by_their_seed_and_by_the_weights_they_start_from(
    tiny, folder, tmp_path, monkeypatch
):
    import kfeat
    from kfeat.training import fit

    changed = [dataclasses.replace(tiny, seeds=(seed,)) for seed in (3, 4)]
    for some in changed:
        Cells(some, tmp_path).baseline("pixels")
    assert len(list((tmp_path / "scores").glob("pixels-*"))) == 2

    kept = tmp_path / "start.keras"
    text = TINY.replace("FOLDER", str(folder)).replace('weights = "first"', f'weights = "{kept}"')
    (tmp_path / "kept.toml").write_text(text)
    cells, runs = Cells(profile.read(str(tmp_path / "kept.toml")), tmp_path), []

    def note(recipe, run, **options):
        runs.append(run)
        run.mkdir(parents=True)
        (run / "results.json").write_text('{"seconds": 1}')

    monkeypatch.setattr(fit, "train", note)
    for _ in range(2):
        kfeat.build("resnet18", 32).save(kept)
        assert cells.trained("second", 3) == cells.trained("second", 3)
    assert len(set(runs)) == 2


def test_a_training_of_either_precision_is_used_where_the_recipe_leaves_it_open(
    tiny, tmp_path, monkeypatch
):
    from kfeat.models import precision
    from kfeat.training import fit

    trained = []

    def note(recipe, run, **options):
        trained.append(recipe.precision)
        run.mkdir(parents=True)
        (run / "results.json").write_text('{"seconds": 1}')

    monkeypatch.setattr(fit, "train", note)
    runs = []
    for here in ("bfloat16", "float32"):
        monkeypatch.setattr(precision, "_fastest", lambda here=here: (here, "so"))
        runs.append(Cells(tiny, tmp_path).trained("second", 3))
    assert runs[0] == runs[1] and trained == ["bfloat16"] * 2  # the one it starts from, and it
    asked = dict(tiny.trainings)
    asked["second"] = {**asked["second"], "precision": "float32"}
    assert Cells(dataclasses.replace(tiny, trainings=asked), tmp_path).trained("second", 3)
    assert trained == ["bfloat16", "bfloat16", "float32"]


def test_files_that_are_no_reproductions_are_not_written_over(made, tiny, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    for _ in range(2):
        with pytest.raises(InputError, match=r"holds other files \(README.md\) that a repro"):
            reproduce(tiny, ["figure1"], tmp_path)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["mine"]
    output = shutil.copytree(made[1], tmp_path / "out")
    (output / "reproduction.json").unlink()  # as versions before left it
    assert reproduce(tiny, ["table2"], output)["tables"]
    before = (output / "README.md").read_bytes()
    for name in ("reproduction.json", "none.json"):  # known by its results too
        with pytest.raises(InputError, match="holds the reproduction by profile tiny, which one"):
            reproduce(dataclasses.replace(tiny, name="other"), ["table2"], output)
        (output / name).unlink(missing_ok=True)
    assert (output / "README.md").read_bytes() == before


def test_a_figure_that_fails_leaves_the_others(made, tiny, tmp_path, monkeypatch):
    from kfeat.reporting import study_figures

    def fail(*arguments):
        raise MemoryError

    monkeypatch.setattr(study_figures, "draw_planes", fail)
    output = shutil.copytree(made[1], tmp_path / "out")
    results = reproduce(tiny, WHAT, output)
    assert {f"figure{n}": "MemoryError()" for n in (2, 3)}.items() <= results["failed"].items()
    assert results["figures"]["figure1"]["files"] and not results["figures"]["figure2"]["files"]
    for part in ("It failed: MemoryError()", "* figure3: MemoryError()"):
        assert part in (output / "README.md").read_text()
    page = (output / results["report"]).read_text("utf-8")
    assert page.count("It failed: MemoryError()") == 2
    results = reproduce(tiny, ["figure1"], output)
    assert results["report"] is None and (output / "report.html").read_text("utf-8") == page


def test_data_that_cannot_be_scored_on_are_refused_before_any_training(tiny, folder, tmp_path):
    flat = shutil.copytree(folder / "test" / "coffee", tmp_path / "flat")
    with pytest.raises(InputError, match="has no labels to test against"):
        reproduce(dataclasses.replace(tiny, test=str(flat)), WHAT, tmp_path / "made")
    assert not list((tmp_path / "made").glob("runs/*"))


def test_an_interrupted_fine_tuning_goes_on_from_elsewhere(
    made, tiny, folder, tmp_path, monkeypatch
):
    """From another working directory, and when the folder has moved, and that of the images."""
    _, output = made
    shutil.copytree(output, tmp_path / "out")
    (second,) = (tmp_path / "out" / "runs").glob("second-*")
    recipe = (second / "recipe.toml").read_text().replace(str(output), str(tmp_path / "before"))
    assert f'data = "{folder}"' in recipe
    recipe = recipe.replace(str(folder), str(tmp_path / "before" / folder.name))
    (second / "recipe.toml").write_text(recipe)
    (second / "results.json").unlink()
    monkeypatch.chdir(tmp_path)
    assert Cells(tiny, Path("out")).trained("second", 3).name == second.name
    results = json.loads((second / "results.json").read_text())
    assert results["epochs"]


def images_of(folder, split, side):
    """The images of a split, those of 96 pixels scaled down as kfeat does for every model."""
    from kfeat.data import pipeline

    source = open_source(str(folder))
    elements = pipeline.read(pipeline.resized(source.dataset(split), side), source)
    images, labels = zip(*((e["image"], e["label"]) for e in elements), strict=True)
    return np.stack(images), np.array(labels)


def brute_force(original, image):
    """MSE in [0, 1], PSNR in dB and SSIM (Wang et al. 2004, eq. 13) window by window."""
    x, y = original.astype(float), image.astype(float)
    mse = ((x - y) ** 2).mean()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    scores = []
    for channel in range(3):
        for top in range(x.shape[0] - 6):
            for left in range(x.shape[1] - 6):
                a = x[top : top + 7, left : left + 7, channel].ravel()
                b = y[top : top + 7, left : left + 7, channel].ravel()
                (va, cov), (_, vb) = np.cov(a, b)
                means = (2 * a.mean() * b.mean() + c1) / (a.mean() ** 2 + b.mean() ** 2 + c1)
                scores.append(means * (2 * cov + c2) / (va + vb + c2))
    return {"mse": mse / 255**2, "psnr": 10 * np.log10(255**2 / mse), "ssim": np.mean(scores)}


def test_likeness_is_that_of_its_definition():
    rng = np.random.default_rng(0)
    original = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
    image = np.clip(original.astype(int) + rng.integers(-20, 20, original.shape), 0, 255)
    image = image.astype(np.uint8)
    found = likeness(original, image)
    assert found == pytest.approx(brute_force(original, image))
    assert found["psnr"] == pytest.approx(peak_signal_noise_ratio(original, image))
    assert likeness(original, original) == {"mse": 0.0, "psnr": 100.0, "ssim": 1.0}


def test_figure_1_shows_what_was_measured(made, tiny, folder):
    results, output = made
    row = results["figures"]["figure1"]["rows"][0]
    run = Cells(tiny, output).trained("cae", 3)
    originals, labels = images_of(folder, "test", 32)
    (images,) = reconstruct(run, [originals])
    each = [brute_force(*pair) for pair in zip(originals, images, strict=True)]
    means = {name: np.mean([one[name] for one in each]) for name in each[0]}
    assert row == {"name": "CAEv1", "reconstruction": pytest.approx(means), "failed": None}

    drawn = np.asarray(Image.open(output / "figure1.png"))
    step = 64 + study_figures._GAP  # images of 32 pixels are drawn at twice their size
    chosen = [np.flatnonzero(labels == label)[0] for label in np.unique(labels)][:10]
    assert len(results["figures"]["figure1"]["images"]) == len(chosen)
    for y, row_images in enumerate((originals, images)):
        for x, n in enumerate(chosen):
            top, left = study_figures._GAP + y * step, study_figures._LABEL + x * step
            cell = drawn[top : top + 64, left : left + 64]
            np.testing.assert_array_equal(cell, row_images[n].repeat(2, 0).repeat(2, 1))
    assert (output / "figure1.png").stat().st_size < 300_000


def test_figures_2_and_3_have_a_panel_for_each_encoder(made, folder):
    results, _ = made
    for figure, table in {"figure2": "table1", "figure3": "table2"}.items():
        about = results["figures"][figure]
        assert about["points"] == len(images_of(folder, "test", 32)[0])
        for method in ("tsne", "umap"):
            panels = about["panels"][method]
            assert [panel["name"] for panel in panels] == list(published.tables()[table])
            failed = {row["name"]: row["failed"] for row in results["tables"][table]}
            for panel in panels:
                assert panel["failed"] == failed[panel["name"]]


def test_a_panel_shows_its_classes_or_why_it_failed(tmp_path):
    plane = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    panels = [
        {"name": "A", "failed": None, "plane": plane, "labels": np.arange(60) % 2},
        {"name": "B", "failed": "$no$ data_x\udcff", "plane": None, "labels": None},
        {"name": "C", "failed": None, "plane": plane, "labels": np.full(60, 12)},
        {"name": "D", "failed": None, "plane": plane, "labels": np.full(60, 3)},
    ]
    study_figures.draw_planes(panels, [f"$class_{n}" for n in range(13)], tmp_path / "f.png")
    image = np.asarray(Image.open(tmp_path / "f.png").convert("RGB"))
    shown = [
        {
            n
            for n, colour in enumerate(study_figures.COLOURS)
            if (cell == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(2).sum() > 20
        }
        for cell in np.array_split(image[: len(image) // 2], 4, axis=1)
    ]
    assert shown == [{0, 1}, set(), {2}, {3}]
    failed = np.array_split(image[: len(image) // 2], 4, axis=1)[1].astype(int)
    assert ((failed[..., 0] - failed[..., 1]) > 100).sum() > 50  # its reason, in red


def comparable(output):
    """What a reproduction leaves that must not depend on interruptions: all but its minutes."""
    found = {}
    for path in [*output.glob("table*"), *output.glob("findings*"), *output.glob("figure*")]:
        content = path.read_bytes()
        if path.suffix == ".csv":
            lines = list(csv.DictReader(io.StringIO(content.decode())))
            content = [{k: v for k, v in line.items() if k != "minutes"} for line in lines]
        elif path.suffix in (".json", ".md"):
            content = re.sub(rb'("minutes": |\| )[0-9.]+(,| \|)\n', b"", content)
        found[path.name] = content
    return found


def count_files(folder):
    return sum(len(files) for _, _, files in os.walk(folder))  # also while some vanish


def test_killed_at_a_random_moment_and_started_again_it_makes_the_same(made, file, tmp_path):
    _, output = made
    files = count_files(output)
    moment = random.randrange(1, files - 3)  # the last are written all at once
    command = [sys.executable, "-m", "kfeat", "reproduce", "all", "--profile", str(file)]
    command += ["--output", str(tmp_path / "out")]
    print(f"killed when {moment} of {files} files are there")
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while started.poll() is None:
        if count_files(tmp_path / "out") >= moment:
            started.send_signal(signal.SIGKILL)
            break
        time.sleep(0.02)
    assert started.wait() == -signal.SIGKILL
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 1, again.stderr  # one cell fails, as it should
    whole, mended = comparable(output), comparable(tmp_path / "out")
    assert len(whole) == 13 and mended.keys() == whole.keys()
    for name in whole:
        assert mended[name] == whole[name], name


def test_seeds_make_a_mean_and_a_standard_deviation():
    scores = [
        {
            "seed": seed,
            "metrics": dict.fromkeys(published.METRICS, 0.1 + seed / 10),
            "intervals": {metric: [0.0, 0.25] for metric in published.METRICS}
            | {"bcubed_f": [0.0, 0.95], "mse": [0.09, 0.11], "psnr": [-1, 2], "ssim": [0.4, 0.6]},
            "reconstruction": {"mse": 0.1, "psnr": 10.0 * seed, "ssim": 0.5},
            "minutes": 2.0,
        }
        for seed in range(3)
    ]
    entry = summary(scores)
    assert entry["metrics"]["nmi"] == pytest.approx(0.2)
    assert entry["std"]["nmi"] == pytest.approx(0.1)  # of 0.1, 0.2, 0.3, with ddof=1
    assert (entry["reconstruction"]["psnr"], entry["minutes"]) == (pytest.approx(10), 6)
    assert entry["intervals"]["psnr"] == pytest.approx([9, 12]) and entry["seeds"] == [0, 1, 2]
    figures = published.tables()["table1"]["CAEv1"]
    row = {"name": "CAEv1", "training": "cae1", "published": figures, "failed": None, **entry}
    shown = markdown([row])
    one = summary(scores[1:2])  # the other seeds of an encoder failed
    other = row | {"name": "CAEv2", "metrics": dict.fromkeys(published.METRICS, 0.3), "std": None}
    other |= {"intervals": one["intervals"], "seeds": [1]}
    best, _ = compared([row, other])
    assert (best["metrics"]["nmi"], best["std"], best["seeds"]) == (0.3, None, [1])
    best, _ = compared([row, other | {"metrics": row["metrics"] | {"nmi": 0.9}}])
    assert best["std"] | {"nmi": 0} == entry["std"] | {"nmi": 0} and best["std"]["nmi"] is None
    assert best["seeds"] == [0, 1, 2] and "| 0.9000 [" in markdown([best])
    # About the mean, as far down as up though it was cut off at 0, and no further than to 1.
    assert "| 0.2000 ± 0.1000 [0.0500, 0.3500] | 0.1395 |" in shown
    assert entry["intervals"]["bcubed_f"] == [0, 1]
    assert entry["intervals"]["knn_accuracy"] == pytest.approx([0.1, 0.35])
    assert "| 0.1000 [0.0900, 0.1100] |" in shown
    assert "CAEv1 is of seed 0, 1, 2 only: \\<b>" in markdown([row | {"failed": "<b>"}])
