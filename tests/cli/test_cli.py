import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest

KFEAT = [sys.executable, "-c", "from kfeat.cli import main; main()"]
WITHOUT_TENSORFLOW = """if True:
    import sys
    sys.modules["tensorflow"] = None  # importing it raises ImportError
    from kfeat.cli import main
    main()
"""


FORKS = """if True:
    import json, os, sys
    import matplotlib.figure, sklearn.decomposition, sklearn.linear_model  # once, for all
    sys.modules["tensorflow"] = None
    from kfeat.cli import main
    for line in sys.stdin:
        arguments, home = json.loads(line)
        child = os.fork()
        if not child:
            for number, name in ((1, ".stdout"), (2, ".stderr")):
                os.dup2(os.open(f"{home}/{name}", os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
            os.chdir(home)
            os.environ["KFEAT_HOME"] = home
            sys.argv = ["kfeat", *arguments]
            try:
                main()
            except SystemExit as end:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(end.code or 0)  # without clearing away what it did not make
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def forked():
    """As `run`, without TensorFlow: each call a process, forked from one that has done imports."""
    command = [sys.executable, "-c", FORKS]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:

        def call(*arguments, home):
            server.stdin.write(json.dumps([[*map(str, arguments)], str(home)]) + "\n")
            server.stdin.flush()
            code = int(server.stdout.readline())
            texts = [(home / name).read_text("utf-8") for name in (".stdout", ".stderr")]
            return subprocess.CompletedProcess(arguments, code, *texts)

        yield call
        server.stdin.close()


def run(*arguments, home, code=None):
    command = [sys.executable, "-c", code] if code else KFEAT
    return subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"KFEAT_HOME": str(home)},
        cwd=home,
    )


def features_file(path, features, labels):
    np.savez(path, features=features, labels=labels)
    return path


@pytest.fixture
def features(tmp_path):
    """Two well separated groups: test and train files."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 20)
    points = rng.normal(labels[:, None] * 10, 1, (40, 3))
    return (
        features_file(tmp_path / "test.npz", points[::2], labels[::2]),
        features_file(tmp_path / "train.npz", points[1::2], labels[1::2]),
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A .keras file of an encoder."""
    from kfeat import build

    path = tmp_path_factory.mktemp("trained") / "mine.keras"
    build("cae1", 32).save(path)
    return path


@pytest.mark.parametrize("arguments", ["--help", "--version", "train --help", "plot --help"])
def test_help_needs_no_tensorflow_and_no_numpy(arguments, tmp_path):
    code = WITHOUT_TENSORFLOW.replace("sys.modules", 'sys.modules["numpy"] = sys.modules', 1)
    done = run(*arguments.split(), home=tmp_path, code=code)
    assert done.returncode == 0 and done.stdout and not done.stderr


def test_what_the_command_line_offers_is_what_there_is():
    from kfeat.cli import plot, reproduce, score
    from kfeat.scoring import neighbours
    from kfeat.serving import plot as plots
    from kfeat.study import figures

    assert (plot.FIGURES, plot.COLOURS) == (plots.FIGURES, plots.COLOURS)
    assert set(plot.MAPS) == set(figures.METHODS)
    assert score.SEARCHES == neighbours.SEARCHES
    assert tuple(what for what in reproduce.WHAT if what[:5] != "table") == figures.FIGURES


def test_features_are_scored_without_tensorflow(features, tmp_path):
    test, train = features
    options = ["--features", test, "--train-features", train, "--k", 2, "--json"]
    done = run("score", *options, home=tmp_path, code=WITHOUT_TENSORFLOW)
    assert done.returncode == 0, done.stderr
    card = json.loads(done.stdout)
    assert card["clustering"]["nmi"] == 1 and card["classification"]["accuracy"] == 1
    assert card["test"] == {"data": str(test), "split": None, "count": 20}
    table = run("score", *options[:-1], "--repeats", 3, home=tmp_path, code=WITHOUT_TENSORFLOW)
    assert "1.0000 ± 0.0000" in table.stdout
    for arguments in (["map", "--map", "tsne"], ["confusion"]):
        arguments += [*options[:-1], "--output", tmp_path / "figure.png", "--json"]
        done = run("plot", *arguments, home=tmp_path, code=WITHOUT_TENSORFLOW)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"figure": str(tmp_path / "figure.png")}
        assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"
        (tmp_path / "figure.png").unlink()


KEYS = {
    "test": {"data", "split", "count"},
    "features": {"count", "dim"},
    "clustering": {"k", "pairwise_f", "bcubed_f", "nmi", "ari", "accuracy"},
    "classification": {"k", "accuracy"},
    "seconds": {"features", "clustering", "classification"},
}


@pytest.mark.parametrize("layout", ["splits", "classes", "flat"])
def test_train_export_and_score_a_folder(layout, folder, tmp_path):
    data = tmp_path / "pictures"
    if layout == "splits":
        shutil.copytree(folder, data)
    elif layout == "classes":
        shutil.copytree(folder / "train", data)
    else:
        data.mkdir()
        for file in folder.glob("*/*/*.png"):
            shutil.copy(file, data)
    place = {"splits": data / "test" / "coffee", "classes": data / "coffee", "flat": data}[layout]
    broken = place / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    options = ["--epochs", 2, "--image-size", 32, "--output", tmp_path / "run", "--json"]
    if layout == "splits":
        trained = run("train", "cae3", "--data", data, *options, home=tmp_path)
        assert trained.returncode == 0, trained.stderr
        assert "img/s" in trained.stderr
        results = json.loads(trained.stdout)
    else:
        from kfeat import compose, train

        recipe = compose("cae3", data=str(data), epochs=1, image_size=32)
        results = train(recipe, tmp_path / "run", home=tmp_path)
    assert (tmp_path / results["saved_model"] / "saved_model.pb").is_file()
    if layout == "flat":
        assert list(results["data"]["unreadable"]) == [str(broken)]
        assert f"passed over {broken}" in (tmp_path / "run" / "train.log").read_text()

    scored = run("score", "--model", tmp_path / "run", "--test", data, "--json", home=tmp_path)
    assert scored.returncode == 0, scored.stderr
    card = json.loads(scored.stdout)
    for key, inner in KEYS.items():
        assert inner <= set(card[key])
    assert card["features"]["dim"] == 128
    assert card["test"]["count"] == card["features"]["count"] > 10
    if layout == "flat":
        assert card["clustering"]["nmi"] is None and sum(card["clustering"]["sizes"]) == 120
    else:
        assert 0 < card["clustering"]["nmi"] < 1
        assert 0 <= card["classification"]["accuracy"] <= 1
    if layout == "splits":
        assert list(card["unreadable"]) == [str(broken)]
        strict = run(
            "score", "--model", "cae3", "--test", data, "--strict", "--json", home=tmp_path
        )
        assert_one_line(strict, "broken.png cannot be read", code=2)
        several = ["--model", "cae3", "--model", "pixels", "--image-size", 32]
        table = run("score", *several, "--test", data, "--k", 3, home=tmp_path)
        assert [line.split()[0] for line in table.stdout.splitlines()] == [
            *("model", "cae3", "pixels")
        ]


def assert_one_line(done, words, code):
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    lines = done.stderr.rstrip("\n").split("\n")
    assert lines[-1].startswith("kfeat: error: ") and words in lines[-1], done.stderr
    assert "Traceback" not in done.stderr
    if code == 2:
        assert len(lines) == 1, done.stderr


BAD = {
    "unknown command": (["trian"], "No such command 'trian'"),
    "unknown option": (["train", "cae1", "--epoch", "3"], "No such option"),
    "unknown model": (["train", "cea1"], "unknown model 'cea1'"),
    "unknown model to score": (["score", "--model", "x", "--test", "photos"], "unknown model 'x'"),
    "unknown data": (["train", "cae1", "--data", "cifarr10"], "did you mean 'cifar10'"),
    "missing path": (["train", "cae1", "--data", "./nowhere"], "./nowhere"),
    "missing test path": (["score", "--model", "pixels", "--test", "/no/where"], "/no/where"),
    "no images": (["train", "cae1", "--data", "EMPTY"], "EMPTY"),
    "no such split": (
        ["train", "cae1", "--data", "FOLDER", "--split", "tset"],
        "no split 'tset': choose one of",
    ),
    "recipe key": (["train", "cae1", "--recipe", "BAD.toml"], "did you mean 'epochs'"),
    "recipe value": (["train", "cae1", "--set", "epochs=few"], "epochs must be a whole number"),
    "no ImageNet weights": (
        ["train", "cae1", "--weights", "imagenet"],
        "weights imagenet: only resnet18, resnet34, resnet50 take",
    ),
    "missing weights": (
        ["train", "resnet18", "--data", "FOLDER", "--weights", "runs/7"],
        "weights runs/7: no such file or folder: give imagenet, none, a run",
    ),
    "image size": (["train", "cae1", "--image-size", "100"], "cannot take images of 100 pixels"),
    "unknown model to show": (["models", "show", "uent"], "did you mean 'unet'"),
    "image size to show": (
        ["models", "show", "cae3", "--image-size", "40"],
        "cae3 cannot take images of 40 pixels: image_size must be a multiple of 16",
    ),
    "models show as JSON": (["models", "--json", "show", "cae1"], "--json does not go with show"),
    "features with NaN": (["score", "--features", "NAN.npz"], "hold NaN or infinite values"),
    "other label count": (["score", "--features", "SHORT.npz"], "19 labels for 20 rows"),
    "k too large": (["score", "--features", "FINE.npz", "--k", "21"], "more clusters than the 20"),
    "pickled features": (["score", "--features", "PICKLE.npz"], "never loaded"),
    "no such features": (["score", "--features", "NONE.npz"], "no such file"),
    "truncated STL-10": (["data", "add", "stl10", "STL", "--data-dir", "d"], "27,648"),
    "truncated archive": (["data", "add", "stl10", "stl10_binary.tar.gz"], "stl10_binary.tar.gz"),
    "option without its use": (
        ["score", "--features", "FINE.npz", "--image-size", "64"],
        "--image-size does not go with --features",
    ),
    "another model that is none": (
        ["score", "--model", "pixels", "--model", "nosuch", "--test", "photos"],
        "unknown model 'nosuch'",
    ),
    "several models' features": (
        ["score", *("--model", "pixels") * 2, "--test", "photos", "--save-features", "f"],
        "one --model only",
    ),
    "map of no page": (
        ["score", "--model", "pixels", "--test", "photos", "--map", "tsne"],
        "--map goes with --report",
    ),
    "page that is none": (
        ["score", "--model", "pixels", "--test", "photos", "--report", "features.npz"],
        "features.npz: give the page a name that ends in .html",
    ),
    "figure of two models": (
        ["plot", "map", *("--model", "pixels") * 2, "--test", "photos", "--output", "map.png"],
        "one --model only: a figure is of one encoder",
    ),
    "data said twice": (
        ["train", "cae1", "--data", "photos", "--set", "data=digits"],
        "--data and --set data=... say it twice",
    ),
    "more runs than seeds": (
        ["score", "--features", "FINE.npz", "--repeats", "99999999999"],
        "repeats 99999999999: more runs of k-means than there are seeds",
    ),
    "page that cannot be": (
        ["score", "--model", "pixels", "--test", "photos", "--report", "/proc/report.html"],
        "/proc/report.html cannot be written",
    ),
    "projector in a file": (
        ["score", "--model", "pixels", "--test", "photos", "--projector", "BAD.toml/set"],
        "BAD.toml/set cannot be written",
    ),
    "page of features": (
        ["score", "--features", "FINE.npz", "--report", "report.html"],
        "--report does not go with --features",
    ),
    "figure of another kind": (
        ["plot", "map", "--model", "pixels", "--test", "photos", "--output", "map.jpg"],
        "map.jpg: give a name that ends in .png or .svg",
    ),
    "figure without a name": (
        ["plot", "map", "--model", "pixels", "--test", "photos"],
        "Missing option '--output'",
    ),
    "colour of no map": (
        ["plot", "clusters", "--features", "FINE.npz", "--colour", "class", "--output", "a.png"],
        "--colour goes with kfeat plot map only",
    ),
    "images of features": (
        ["plot", "clusters", "--features", "FINE.npz", "--output", "a.png"],
        "clusters shows images, which features have not",
    ),
    "option without its use to plot": (
        ["plot", "map", "--features", "FINE.npz", "--resize", "crop", "--output", "a.png"],
        "--resize does not go with --features",
    ),
    "confusion of no train": (
        ["plot", "confusion", "--features", "FINE.npz", "--output", "a.png"],
        "confusion needs train features",
    ),
    "a sheet of another format": (
        ["data", "show", "cifar10", "--output", "sheet.jpg"],
        "sheet.jpg: the contact sheet is a PNG file",
    ),
    "report without a name": (
        ["score", "--model", "pixels", "--test", "photos", "--report", ""],
        "--report is given an empty text: leave it out, or give one",
    ),
    "a folder of an unset variable": (
        ["reproduce", "all", "--output", ""],
        "--output is given an empty text",
    ),
    "a sheet of an unset variable": (
        ["data", "show", "photos", "--output", ""],
        "--output is given an empty text",
    ),
    "split of no sheet": (["data", "show", "photos", "--split", "test"], "goes with --output"),
    "home of nobody": (["train", "cae1", "--data", "~nobody-here/x"], "no user of that name"),
    "weights of nobody": (["train", "cae1", "--weights", "~nobody-here/x"], "no user of that name"),
    "export of nobody": (["export", "~nobody-here/x"], "no user of that name"),
    "a name too long": (["train", "cae1", "--data", "x" * 300], "too long for a file"),
    "a path of other bytes": (["train", "cae1", "--data", "x\udcff"], "is not UTF-8: rename it"),
    "a profile of nothing": (
        ["reproduce", "all", "--profile", "PROFILE.toml"],
        "profile PROFILE.toml: table1 must be a table of rows",
    ),
    "features of two encoders": (
        ["score", "--features", "FINE.npz", "--train-features", "OTHER.npz"],
        "FINE.npz holds features of cae1, OTHER.npz of another encoder, resnet18",
    ),
    "decay of adam": (["train", "cae1", "--set", "optimizer=adam"], "take adamw"),
    "muon with frozen batch normalisation": (
        ["train", "resnet18", "--set", "optimizer=muon", "--set", "freeze_batch_norm=true"],
        "optimizer muon does not apply with freeze_batch_norm",
    ),
    "muon without batch normalisation": (
        ["train", "cae1", "--set", "optimizer=muon"],
        "optimizer muon does not apply to cae1: batch normalisation has to follow each",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line_and_no_tensorflow(case, folder, tmp_path, forked):
    arguments, words = BAD[case]
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "FOLDER").symlink_to(folder)
    (tmp_path / "BAD.toml").write_text("epoch = 3\n")
    (tmp_path / "STL").mkdir()
    for file, size in {"train_X": 30000, "train_y": 1, "test_X": 27648, "test_y": 1}.items():
        (tmp_path / "STL" / f"{file}.bin").write_bytes(bytes([1]) * size)
    (tmp_path / "STL" / "unlabeled_X.bin").write_bytes(bytes(27648))
    with tarfile.open(tmp_path / "whole.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "STL", "stl10_binary")
    whole = (tmp_path / "whole.tar.gz").read_bytes()
    (tmp_path / "stl10_binary.tar.gz").write_bytes(whole[: len(whole) // 2])
    points = np.random.default_rng(0).normal(size=(20, 3))
    for name, model in {"FINE": "cae1", "OTHER": "resnet18"}.items():
        manifest = np.array(json.dumps({"model": model}))
        np.savez(tmp_path / name, features=points, labels=np.arange(20), manifest=manifest)
    profile = 'test = "photos"\nseeds = [0]\nrepeats = 1\ntable1 = "x"\n[trainings]\n'
    (tmp_path / "PROFILE.toml").write_text(profile)
    features_file(tmp_path / "SHORT.npz", points, np.arange(19))
    features_file(tmp_path / "PICKLE.npz", np.array([{}, 1], object), np.arange(2))
    points[3, 1] = np.nan
    features_file(tmp_path / "NAN.npz", points, np.arange(20))
    assert_one_line(forked(*arguments, home=tmp_path), words, code=2)


def test_more_clusters_than_images_is_refused_before_the_work(folder, tmp_path, forked):
    done = forked("score", "--model", "pixels", "--test", folder, "--k", 1000, home=tmp_path)
    assert_one_line(done, "k 1000: more clusters than the 40 test images", code=2)
    options = ["--test", folder, "--train-split", "test"]
    done = forked("score", "--model", "pixels", *options, home=tmp_path)
    assert_one_line(done, "holds images of the test split test", code=2)
    unlabelled = folder / "test" / "coffee"
    done = forked("score", "--model", "pixels", "--test", unlabelled, "--k", 1000, home=tmp_path)
    assert_one_line(done, "k 1000: more clusters than the", code=2)


def test_what_is_scored_is_shown_whatever_fails_afterwards(tmp_path):
    models = ["--model", "pixels", "--model", "pca128", "--test", "photos", "--image-size", 4]
    done = run("score", *models, "--limit", 200, "--json", home=tmp_path)
    assert done.returncode == 2 and "fit it to larger images" in done.stderr.splitlines()[-1]
    assert [result["model"] for result in json.loads(done.stdout)] == ["pixels"]
    done = run("score", *models, "--limit", 100, "--json", home=tmp_path)  # known beforehand
    assert_one_line(done, "pca128: 100 train images have fewer than 128", code=2)


def test_streams_that_are_closed_or_lack_letters(tmp_path):
    (tmp_path / "\u0444").mkdir()
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    command = [*KFEAT, "data", "list", "--data-dir", tmp_path / "\u0444"]
    done = subprocess.run(command, capture_output=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    closed = f"exec {shlex.join(KFEAT)} data add stl10 nothing.tar.gz 2>&-"
    assert subprocess.run(closed, shell=True, cwd=tmp_path).returncode == 2


def test_failure_at_work_exits_1_and_debug_shows_the_traceback(folder, tmp_path):
    options = ["--data", folder, "--image-size", 32, "--epochs", 1, "--output", tmp_path / "a"]
    options += ["--set", "learning_rate=1000", "--set", "optimizer=sgd"]
    options += ["--set", "weight_decay=1000", "--set", "schedule=constant"]
    options += ["--set", "warmup_epochs=0", "--batch-size", 4]
    done = run("train", "cae3", *options, home=tmp_path)
    assert_one_line(done, "training diverged in epoch 1", code=1)
    done = run("--debug", "train", "cae3", "--data", "nowhere", home=tmp_path)
    assert done.returncode == 2 and "Traceback" in done.stderr


def test_the_command_line_chooses_its_keras_backend(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    done = run("export", trained, home=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "setting, value", [("image_data_format", "channels_first"), ("floatx", "float16")]
)
def test_settings_of_keras_that_do_not_go_are_refused(setting, value, tmp_path, monkeypatch):
    (tmp_path / "keras.json").write_text(json.dumps({setting: value}))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    done = run("models", "show", "resnet18", home=tmp_path)
    assert_one_line(done, f"Keras's {setting} is {value!r}", 2)


def test_genuine_stl10_images(shared, tmp_path):
    """A folder of RGBA files with one image a class, and a split without labels."""
    sample = shared / "stl10_sample"
    done = run("score", "--model", "pixels", "--test", sample, "--json", home=tmp_path)
    assert done.returncode == 0, done.stderr
    card = json.loads(done.stdout)
    assert card["test"]["split"] == "labelled" and card["clustering"]["nmi"] == 1
    assert card["classification"]["accuracy"] is None
