import csv
import dataclasses
import fcntl
import gc
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import weakref
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from kfeat import compose, train
from kfeat.data import pipeline
from kfeat.errors import InputError
from kfeat.models import normalization, winograd
from kfeat.serving import encoder, export
from kfeat.training import recipe as recipes
from kfeat.training import reconstruction
from kfeat.training.fit import default_output

ANY = "cae3"
"""Where any encoder would do: the one that takes TensorFlow the shortest time to trace."""

KFEAT = [sys.executable, "-c", "from kfeat.cli import main; main()"]


def recipe(model, folder, **changes):
    options = {"image_size": 32, "epochs": 2, "batch_size": 16, "learning_rate": 1e-3}
    options |= {"optimizer": "adamw", "warmup_epochs": 0.0, "weights": "none"} | changes
    return compose(model, data=str(folder), **options)


def weights(file):
    return export.load_keras(file).get_weights()


def assert_same_weights(one, other):
    for ours, theirs in zip(weights(one), weights(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "model, precision, optimizer",
    [
        ("cae1", "bfloat16", "adamw"),
        ("resnet18", "float32", "muon"),
    ],
)
def test_a_run_holds_what_is_needed_to_repeat_it_to_the_bit(
    model, precision, optimizer, folder, tmp_path, monkeypatch
):
    # Compiled loops for images so small, too.
    monkeypatch.setattr(normalization, "SMALL", 2**13)
    monkeypatch.setattr(winograd, "LEAST_TO_COMPILE", 2**12)
    run, again = tmp_path / "run", tmp_path / "again"
    wanted = recipe(model, folder, precision=precision, optimizer=optimizer)
    results = train(wanted, run, home=tmp_path)
    assert {f.name for f in run.iterdir()} == {
        *("recipe.toml", "train.log", "history.csv", "tensorboard", "checkpoints"),
        *("model.keras", "results.json"),
    }
    assert list((run / "tensorboard" / "train").glob("events.*"))
    assert json.loads((run / "results.json").read_text()) == results
    with open(run / "history.csv") as file:
        history = list(csv.DictReader(file))
    assert [row["epoch"] for row in history] == ["1", "2"]
    assert float(history[-1]["loss"]) < float(history[0]["loss"])
    best = min(history, key=lambda row: float(row["val_loss"]))
    assert results["best"] == {key: float(value) for key, value in best.items()}
    assert results["data"]["location"] == str(folder) and results["data"]["version"] is None
    assert results["saved_model"] == str(tmp_path / "saved_models" / model / "1")
    assert {w.dtype.name for w in weights(run / "model.keras")} == {"float32"}

    with zipfile.ZipFile(run / "model.keras") as kept:  # nothing of kfeat's own is left
        assert b"kfeat" not in kept.read("config.json")
    if precision == "bfloat16":
        code = "import sys, keras; print(keras.saving.load_model(sys.argv[1]).output.shape)"
        alone = [sys.executable, "-c", code, run / "model.keras"]
        loaded = subprocess.run(alone, capture_output=True, text=True, check=True)
        assert "(None, 128)" in loaded.stdout
    learnt = f"learns from {results['data']['count']} images"
    assert learnt in (run / "train.log").read_text()

    train(recipes.compose(model, str(run / "recipe.toml")), again, home=tmp_path)
    assert_same_weights(run / "model.keras", again / "model.keras")
    assert (run / "recipe.toml").read_text() == (again / "recipe.toml").read_text()


def test_images_go_with_their_training_and_the_callers_random_numbers_stay(
    folder, tmp_path, monkeypatch
):
    images = []
    load = pipeline.load

    def loaded(*arguments, **options):
        data = load(*arguments, **options)
        images.append(weakref.ref(data.images))
        return data

    monkeypatch.setattr(pipeline, "load", loaded)
    drawn = []
    for n in range(2):
        drawn.append((random.random(), np.random.random()))
        train(recipe(ANY, folder, epochs=1), tmp_path / f"{n}", home=tmp_path)
    assert drawn[0] != drawn[1]
    random.seed(0)
    np.random.seed(0)
    assert drawn[1] != (random.random(), np.random.random())
    gc.collect()
    assert images and all(reference() is None for reference in images)


def test_what_cannot_be_resumed_is_refused_before_data_are_opened(folder, tmp_path):
    run = tmp_path / "run"
    train(recipe(ANY, folder, epochs=1), run, home=tmp_path)
    other = recipe(ANY, "no-such-data", epochs=1)
    with pytest.raises(InputError, match="cannot be resumed with another data .'no-such-data'"):
        train(other, run, resume=True, home=tmp_path)
    with pytest.raises(InputError, match="is a run already: add --resume"):
        train(other, run, home=tmp_path)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").touch()
    with pytest.raises(InputError, match="letters exists and is no run"):
        train(other, tmp_path / "letters", home=tmp_path)


def test_another_seed_is_another_training(folder, tmp_path):
    trained = [
        train(recipe(ANY, folder, seed=seed, epochs=1), tmp_path / str(seed), home=tmp_path)
        for seed in (0, 1)
    ]
    assert trained[0]["best"] != trained[1]["best"]


def test_loss_is_the_mean_squared_error_of_images_in_0_to_1():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 4, 4, 3), np.uint8)
    guess = rng.uniform(-20, 280, images.shape).astype("float32")
    expected = [np.mean((i / 255 - g / 255) ** 2) for i, g in zip(images, guess, strict=True)]
    np.testing.assert_allclose(reconstruction.mean_squared_error(images, guess), expected, 1e-5)


def test_killed_and_resumed_ends_with_the_weights_of_an_uninterrupted_run(tmp_path):
    options = ["--data", "photos", "--split", "train", "--image-size", "32", "--epochs", "3"]
    options += ["--batch-size", "8", "--limit", "600", "--set", "shift=3"]
    environment = os.environ | {"KFEAT_HOME": str(tmp_path)}
    command = [*KFEAT, "train", ANY, *options, "--output"]
    run = tmp_path / "killed"
    process = subprocess.Popen(
        [*command, str(run)], env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    while not (run / "checkpoints" / "epoch-000001").exists():
        assert process.poll() is None, "ended before its first epoch did"
        time.sleep(0.01)
    time.sleep(0.3)  # into the second epoch
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (run / "checkpoints" / "epoch-000003").exists()
    assert not (run / "model.keras").exists()
    resumed = subprocess.run(
        [*command, str(run), "--resume"], env=environment, capture_output=True, text=True
    )
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming after epoch" in resumed.stderr
    whole = tmp_path / "whole"
    train(recipes.compose(ANY, str(run / "recipe.toml")), whole, home=tmp_path)
    assert_same_weights(run / "model.keras", whole / "model.keras")
    assert (run / "history.csv").read_text() == (whole / "history.csv").read_text()


def test_early_epochs_see_smaller_images_and_go_on_to_the_bit_with_larger_ones(
    folder, tmp_path, monkeypatch, caplog
):
    from kfeat.training.fit import Checkpoints, passes

    options = {"epochs": 2, "learning_rate": 1e-3}
    early = {"image_size": 64, "shift": 4, "early_image_size": 32, "early_epochs": 1}
    early["memory_limit"] = (80 * 64 * 64 * 3 + 1000) / 2**30  # for the large images only
    caplog.set_level("INFO", "kfeat")
    wanted = recipe("resnet18", folder, **options, **early)
    assert [passes(wanted, 2, size) for size in (64, 32)] == [1.25, 5]  # a quarter of the pixels
    save = Checkpoints.save

    def kept(*arguments):
        save(*arguments)
        if not (tmp_path / "killed").exists():
            shutil.copytree(tmp_path / "whole", tmp_path / "killed")

    def killed(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", kept)
        whole = train(wanted, tmp_path / "whole", home=tmp_path)
    assert caplog.text.count("does not fit into") == 1
    first, _ = csv.DictReader((tmp_path / "whole" / "history.csv").open())
    assert encoder.load(tmp_path / "whole" / "model.keras").image_size == 64

    small = recipe("resnet18", folder, **options, image_size=32, shift=2)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Checkpoints, "save", killed)
        train(small, tmp_path / "small", home=tmp_path)
    for name in ("small", "killed"):
        (row,) = csv.DictReader((tmp_path / name / "history.csv").open())
        assert row == first
    resumed = train(wanted, tmp_path / "killed", resume=True, home=tmp_path)
    assert resumed["best"] == whole["best"]
    assert_same_weights(tmp_path / "killed" / "model.keras", tmp_path / "whole" / "model.keras")


def test_resume_of_a_complete_run_exports_only_what_is_missing(folder, tmp_path):
    run, wanted = tmp_path / "run", recipe(ANY, folder, epochs=1)
    first = train(wanted, run, home=tmp_path)
    stamp = (run / "model.keras").stat().st_mtime_ns
    assert train(wanted, run, resume=True, home=tmp_path) == first
    assert (run / "model.keras").stat().st_mtime_ns == stamp
    shutil.rmtree(first["saved_model"])
    again = train(wanted, run, resume=True, home=tmp_path / "elsewhere")
    assert again["saved_model"] == str(tmp_path / "elsewhere" / "saved_models" / ANY / "1")
    assert (run / "model.keras").stat().st_mtime_ns == stamp
    other = recipe(ANY, folder, epochs=1, seed=1)
    assert train(other, tmp_path / "other", home=tmp_path)["saved_model"] == first["saved_model"]
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps(results | {"saved_model": first["saved_model"]}))
    again = train(wanted, run, resume=True, home=tmp_path)  # not what the other one exported
    assert again["saved_model"] == str(tmp_path / "saved_models" / ANY / "2")
    with pytest.raises(InputError, match=r"with another epochs \(2; the run has 1\): ask for"):
        train(recipe(ANY, folder, epochs=2), run, resume=True, home=tmp_path)
    spelled = recipe(ANY, os.path.relpath(folder) + "/", epochs=1)
    assert train(spelled, run, resume=True, home=tmp_path) == again

    encoder, trained = run / "model.keras", weights(run / "model.keras")
    left = run / ".123.history.csv"
    other = run / ".123.notes"
    for file in (left, other, run / "checkpoints" / ".123.best.weights.h5"):
        file.touch()  # by a process that was killed, and by the user
    encoder.write_bytes(encoder.read_bytes()[:1000])
    train(wanted, run, resume=True, home=tmp_path)
    assert other.exists() and not left.exists() and not [*run.glob("checkpoints/.*")]
    encoder.unlink()
    with pytest.raises(InputError, match="is a run that is not complete: finish it with --resume"):
        export.export(run, home=tmp_path)
    train(wanted, run, resume=True, home=tmp_path)
    for ours, theirs in zip(weights(encoder), trained, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    encoder.unlink()
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(InputError, match="is missing, and so are the run's checkpoints"):
        train(wanted, run, resume=True, home=tmp_path)


def test_a_name_of_data_is_no_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    Path("run").mkdir()
    Path("run", "recipe.toml").write_text(recipes.to_toml(recipe(ANY, "photos")))
    for folder in ("./photos", "photos/", str(tmp_path / "photos")):
        with pytest.raises(InputError, match="cannot be resumed with another data"):
            train(recipe(ANY, folder), "run", resume=True, home=tmp_path)


def test_a_disk_too_full_for_an_epoch_is_said_before_it_is_written(folder, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=10**6))
    with pytest.raises(OSError, match=r"No space left on device: 1 MiB free where an epoch takes"):
        train(recipe(ANY, folder, epochs=1), tmp_path / "run", home=tmp_path)
    monkeypatch.undo()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is a file where the run's folder would go"):
        train(recipe(ANY, folder, epochs=1), tmp_path / "file", home=tmp_path)


def test_resume_refuses_data_that_have_changed(folder, tmp_path, caplog):
    data = tmp_path / "data"
    shutil.copytree(folder, data)
    run, wanted = tmp_path / "run", recipe(ANY, data)
    train(wanted, run, home=tmp_path)
    (run / "results.json").unlink()
    lost = next((data / "train").glob("*/*.png"))
    there = lost.read_bytes()
    lost.unlink()
    with pytest.raises(InputError, match="learnt from 80 images and now finds 79"):
        train(wanted, run, resume=True, home=tmp_path)
    shutil.copyfile(next((data / "test").glob("*/*.png")), lost)
    with pytest.raises(InputError, match="learnt from other images"):
        train(wanted, run, resume=True, home=tmp_path)
    lost.write_bytes(there)
    (checkpoint,) = (run / "checkpoints").glob("epoch-*/model.weights.h5")
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:1000])
    with pytest.raises(InputError, match=r"epoch-000002/model.weights.h5 is damaged \("):
        train(wanted, run, resume=True, home=tmp_path)
    checkpoint.write_bytes(whole)
    state = checkpoint.with_name("state.json")
    known = state.read_text()
    state.write_text("{}")
    with pytest.raises(InputError, match=r"epoch-000002 is damaged \('data'\)"):
        train(wanted, run, resume=True, home=tmp_path)
    found = json.loads(known)
    found["versions"]["keras"] = "2.0"
    del found["versions"]["form of training"]
    state.write_text(json.dumps(found))
    assert train(wanted, run, resume=True, home=tmp_path)["best"]
    assert "was trained by form of training 1, keras 2.0 so far" in caplog.text
    (run / "results.json").write_text("{")
    with pytest.raises(InputError, match=r"results.json is damaged \(.*\): delete it"):
        train(wanted, run, resume=True, home=tmp_path)


def test_resume_refuses_classes_that_have_changed(folder, tmp_path):
    data = tmp_path / "data"
    for name, number in (("a", 0), ("b", 1)):
        shutil.copytree(sorted((folder / "train").iterdir())[number], data / "train" / name)
    run, wanted = tmp_path / "run", recipe("resnet18", data, epochs=1)
    train(wanted, run, home=tmp_path)
    (run / "results.json").unlink()
    (data / "train" / "a").rename(data / "train" / "z")
    with pytest.raises(
        InputError, match=r"learnt from the classes \['a', 'b'\] and now finds \['b"
    ):
        train(wanted, run, resume=True, home=tmp_path)


def test_a_start_that_fails_takes_away_only_what_it_brought(folder, tmp_path):
    data, run = tmp_path / "data", tmp_path / "run"
    for name in ("a", "b"):
        (data / name).mkdir(parents=True)
        (data / name / "broken.png").write_text("no image")
    wanted = recipe("resnet18", data, split="train")
    with pytest.raises(InputError, match="has no readable image"):
        train(wanted, run, home=tmp_path)
    assert not run.exists()
    run.mkdir()
    (run / "recipe.toml").write_text(recipes.to_toml(wanted))
    (run / "notes").mkdir()
    (run / "notes" / "diary.txt").write_text("dear diary")
    with pytest.raises(InputError, match="precision|has no readable image"):
        train(wanted, run, resume=True, home=tmp_path)
    assert (run / "notes" / "diary.txt").read_text() == "dear diary"
    for n in range(4):
        shutil.copyfile(next((folder / "train").glob("*/*.png")), data / "a" / f"{n}.png")
    with pytest.raises(InputError, match="readable images of .* train are all of one"):
        train(wanted, tmp_path / "other", home=tmp_path)


def test_a_home_folder_is_meant_by_a_tilde(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    train(recipe(ANY, folder, epochs=1), "~/run", home="~")
    assert (tmp_path / "run" / "results.json").is_file()
    assert (tmp_path / "saved_models" / ANY / "1").is_dir()


def test_the_best_epoch_is_exported_not_the_last(folder, tmp_path):
    """A learning rate that grows ruins what the first epochs have learnt."""
    from kfeat.data.pipeline import Images
    from kfeat.models import catalog
    from kfeat.training.fit import Checkpoints

    graph = catalog.build_graph("cae1", 32)
    data = Images(np.zeros((1, 32, 32, 3), np.uint8), None, {})
    checkpoints = Checkpoints(tmp_path, "val_loss", data, None)
    assert checkpoints.begin() == 0
    checkpoints.unranked = 1  # of smaller images, say
    kept = []
    for epoch, loss in enumerate([0.5, 3.0, 1.0, 2.0]):
        graph.set_weights([np.full(w.shape, epoch + 1, w.dtype) for w in graph.get_weights()])
        kept.append(graph.get_weights())
        checkpoints.save(graph, epoch, {"val_loss": loss})
    assert checkpoints.load_best(graph) == {"epoch": 3, "val_loss": 1.0}
    for ours, theirs in zip(graph.get_weights(), kept[2], strict=True):
        np.testing.assert_array_equal(ours, theirs)

    run = tmp_path / "run"
    options = {"optimizer": "sgd", "learning_rate": 13.0, "warmup_epochs": 3.0, "epochs": 3}
    options |= {"weight_decay": 0.0, "validation": 0.0}
    results = train(recipe("cae1", folder, schedule="constant", **options), run, home=tmp_path)
    assert results["best"]["epoch"] < 3
    best = catalog.build_graph("cae1", 32)
    best.load_weights(run / "checkpoints" / "best.weights.h5")
    expected = catalog.cut(best).get_weights()
    for ours, theirs in zip(weights(run / "model.keras"), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    served = encoder.load(encoder.locate("cae1", tmp_path))
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    (features,) = encoder.embed(served, [images])
    np.testing.assert_allclose(
        features,
        catalog.cut(best)(images.astype("float32"), training=False),
        rtol=1e-3,
        atol=1e-4,
    )


def test_trainings_started_at_once_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [default_output("cae1", resume=False) for _ in range(3)]
    assert folders == [Path("runs/cae1") / n for n in "123"] and all(map(Path.is_dir, folders))
    assert default_output("cae1", resume=True) == folders[-1]


def test_a_run_has_one_writer(folder, tmp_path):
    run, wanted = tmp_path / "run", recipe(ANY, folder, epochs=1)
    run.mkdir()
    other = os.open(run, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(InputError, match="is being trained by another process"):
        train(wanted, run, home=tmp_path)
    os.close(other)
    (run / ".123.recipe.toml").write_text("killed at once")
    assert train(wanted, run, resume=True, home=tmp_path)["epochs"] == 1


def test_a_kill_between_export_and_results_exports_once(folder, tmp_path):
    run, wanted = tmp_path / "run", recipe(ANY, folder, epochs=1)
    first = train(wanted, run, home=tmp_path)
    (run / "results.json").unlink()
    again = train(wanted, run, resume=True, home=tmp_path)
    assert again["saved_model"] == first["saved_model"]
    assert [f.name for f in (tmp_path / "saved_models" / ANY).iterdir()] == ["1"]
    assert again["seconds"] > first["seconds"] / 2  # of the first process too
    other = train(recipe(ANY, folder, seed=1, epochs=1), tmp_path / "other", home=tmp_path)
    assert other["saved_model"].endswith("/2")


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_residual_blocks_start_by_passing_on_what_they_get_where_asked(name, photographs):
    from kfeat.training.fit import compiled

    passed_on = {}
    for asked in (True, False):
        options = {"weights": "none", "precision": "float32", "zero_init_residual": asked}
        graph, _ = compiled(compose(name, data="photos", image_size=64, **options), 2, 1)
        adds = [layer for layer in graph.layers if isinstance(layer, keras.layers.Add)]
        blocks = [
            [layer.input[1], graph.get_layer(f"{layer.name[:-4]}_relu").output] for layer in adds
        ]
        found = keras.Model(graph.inputs[0], blocks)(photographs[0][:2, :64, :64])
        passed_on[asked] = [np.array_equal(np.maximum(x, 0), y) for x, y in found]
    assert len(passed_on[True]) == {"resnet18": 8, "resnet50": 16}[name]
    assert all(passed_on[True]) and not any(passed_on[False])


def test_weight_decay_spares_batch_norm_and_biases():
    from kfeat.models import catalog
    from kfeat.training.fit import optimizer

    for name in ("sgd", "adamw", "muon"):
        graph = catalog.build_graph("resnet18", 32)
        wanted = compose("resnet18", optimizer=name, weight_decay=0.5, data="photos")
        made = optimizer(wanted, 1)
        made.build(graph.trainable_variables)
        decayed = {v.path for v in graph.trainable_variables if made._use_weight_decay(v)}
        kernels = {v.path for v in graph.trainable_variables if v.path.endswith("/kernel")}
        if name == "muon":
            assert decayed == {path for path in kernels if path.endswith("features/kernel")}
        else:
            assert decayed == kernels
        assert 0 < len(decayed) < len(graph.trainable_variables)


def test_refuses_what_it_cannot_use(folder, tmp_path):
    with pytest.raises(InputError, match="has no split 'tarin'.*did you mean 'train'"):
        train(recipe(ANY, folder, split="tarin"), tmp_path / "run", home=tmp_path)
    assert not (tmp_path / "run").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    with pytest.raises(InputError, match="exists and is no run"):
        train(recipe(ANY, folder), tmp_path / "mine", home=tmp_path)
    assert (tmp_path / "mine" / "diary.txt").read_text() == "dear diary"
    unlabelled = folder / "train" / "coffee"
    with pytest.raises(InputError, match="resnet18 learns from labels, which .* has not"):
        train(recipe("resnet18", unlabelled), tmp_path / "run", home=tmp_path)
    shutil.copytree(unlabelled, tmp_path / "one" / "coffee")
    with pytest.raises(InputError, match="learns to tell classes apart, and .* has only one"):
        train(recipe("resnet18", tmp_path / "one"), tmp_path / "run", home=tmp_path)


@pytest.mark.parametrize("setting", ["max_epochs", "max_steps_per_epoch"])
def test_a_training_that_keras_would_cut_short_is_refused(setting, folder, tmp_path):
    choose = getattr(keras.config, f"set_{setting}")
    choose(1)
    try:
        with pytest.raises(InputError, match=f"stop early: unset KERAS_{setting.upper()}"):
            train(recipe(ANY, folder), tmp_path / "run", home=tmp_path)
    finally:
        choose(None)
    assert not (tmp_path / "run").exists()


def test_refuses_a_recipe_that_nobody_checked(folder, tmp_path):
    for wrong, said in (
        ({"schedule": "cos"}, "schedule must be one of cosine, constant"),
        ({"epochs": 0}, "epochs must be from 1 to 999999"),
        ({"shift": 99}, "shift must be less than image_size"),
    ):
        with pytest.raises(InputError, match=said):
            train(
                dataclasses.replace(recipe(ANY, folder), **wrong),
                tmp_path / "run",
                home=tmp_path,
            )
    (tmp_path / "saved_models").mkdir()
    (tmp_path / "saved_models" / ANY).touch()
    with pytest.raises(InputError, match=f"saved_models/{ANY} is a file where the export would go"):
        train(recipe(ANY, folder), tmp_path / "run", home=tmp_path)


def test_a_warm_up_without_an_end_is_said(folder, tmp_path, caplog):
    with caplog.at_level("INFO", logger="kfeat"):
        wanted = recipe(ANY, folder, epochs=1, warmup_epochs=2, learning_rate=0.01)
        train(wanted, tmp_path / "run", home=tmp_path)
    assert "does not get beyond 0.005: epochs is 1 and warmup_epochs 2" in caplog.text


def test_divergence_is_said(folder, tmp_path):
    with pytest.raises(ArithmeticError, match="diverged in epoch 1: lower learning_rate"):
        train(
            recipe("resnet18", folder, learning_rate=1e3, optimizer="sgd", weight_decay=1e3),
            tmp_path / "run",
            home=tmp_path,
        )


@pytest.mark.parametrize("schedule, warmup", [("cosine", 2.0), ("constant", 0.0), ("cosine", 0.0)])
def test_learning_rate_schedule(schedule, warmup):
    from kfeat.training.fit import optimizer

    made = optimizer(
        compose("cae1", epochs=10, learning_rate=0.5, schedule=schedule, warmup_epochs=warmup), 7
    )
    rate = keras.ops.convert_to_numpy

    def at(step):
        made.iterations.assign(step)
        return float(rate(made.learning_rate))

    assert at(int(warmup * 7)) == pytest.approx(0.5)
    if warmup:
        assert at(0) == 0 and at(7) == pytest.approx(0.25)
    assert at(70) == pytest.approx(0.5 if schedule == "constant" else 0, abs=1e-6)
