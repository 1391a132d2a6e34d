"""The scorecard on features, and the files and tables around it."""

from __future__ import annotations

import doctest
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.metrics import silhouette_score
from sklearn.neighbors import KNeighborsClassifier

from kfeat.errors import InputError
from kfeat.reporting.table import format_table
from kfeat.scoring import clustering, neighbours, scorecard
from kfeat.scoring.clustering import kmeans
from kfeat.scoring.features import Features, load_features, save_features
from kfeat.scoring.metrics import clustering_metrics
from kfeat.scoring.neighbours import knn_predict
from kfeat.scoring.scorecard import score, score_features


def blobs(samples: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features and labels of a train set and of a test set, in clusters that overlap."""
    features, labels = make_blobs(samples, 8, centers=6, cluster_std=5.0, random_state=0)[:2]
    features = features.astype(np.float32)
    half = samples // 2
    return features[:half], labels[:half], features[half:], labels[half:]


def test_score_is_scikit_learn_and_the_metrics() -> None:
    train, train_labels, test, labels = blobs()
    card = score(test, labels, train, train_labels, k=6, neighbours=3, seed=7)
    clusters = KMeans(6, n_init=10, random_state=7).fit_predict(test)
    predicted = KNeighborsClassifier(3, algorithm="brute").fit(train, train_labels).predict(test)

    np.testing.assert_array_equal(kmeans(test, 6, 7), clusters)
    np.testing.assert_array_equal(knn_predict(train, train_labels, test, 3), predicted)
    assert card["features"] == {"count": 150, "dim": 8}
    expected = clustering_metrics(labels, clusters)
    assert {name: card["clustering"][name] for name in scorecard.CLUSTERING_METRICS} == expected
    assert card["clustering"]["k"] == 6
    assert card["clustering"]["repeats"] == 1
    assert card["clustering"]["sizes"] == sorted(np.bincount(clusters), reverse=True)
    assert "std" not in card["clustering"]
    accuracy = np.mean(predicted == labels)
    assert card["classification"] == {"k": 3, "search": "exact", "accuracy": accuracy}
    assert all(seconds > 0 for seconds in card["seconds"].values())
    assert json.loads(json.dumps(card, allow_nan=False)) == card


def test_all_adds_the_slow_metrics_and_their_seconds() -> None:
    train, train_labels, test, labels = blobs()
    names = np.array(["ant", "bee", "cat", "dog", "elk", "fox"])
    plain = score(test, names[labels], train, names[train_labels], k=6, seed=7)
    card = score(test, names[labels], train, names[train_labels], k=6, seed=7, all=True)
    assert plain["more"] is None and plain["classes"] == card["classes"]
    for part in ("clustering", "classification", "features"):
        assert plain[part] == card[part]
    more = card["more"]
    assert tuple(more) == scorecard.MORE_METRICS
    judge = KNeighborsClassifier(5, algorithm="brute", metric="cosine")
    judge.fit(train, train_labels)
    assert more["knn_cosine_accuracy"] == judge.score(test, labels)
    clusters = KMeans(6, n_init=10, random_state=7).fit_predict(test)
    for name, groups in (("silhouette_classes", labels), ("silhouette_clusters", clusters)):
        assert more[name] == pytest.approx(silhouette_score(test, groups), abs=1e-6)
    assert more["linear_probe_accuracy"] > 0.5 and more["mean_average_precision"] > 0.3
    assert set(card["seconds"]) - set(plain["seconds"]) == set(more) - {"linear_probe_c"}
    assert json.loads(json.dumps(card, allow_nan=False)) == card

    lines = format_table([card]).splitlines()
    assert lines[3].startswith("model") and f"{more['linear_probe_accuracy']:.4f}" in lines[4]
    worst = card["classes"]["most_confused"][0]
    assert lines[8].split() == [
        *(worst["true"], worst["predicted"], str(worst["count"]), f"{worst['share']:.1%}")
    ]

    bare = score(test, k=6, all=True)["more"]
    known = {name for name, value in bare.items() if value is not None}
    assert known == {"uniformity", "effective_rank", "silhouette_clusters"}
    one_class = score(test, labels, train, np.zeros(150, int), k=6, all=True)["more"]
    assert one_class["linear_probe_accuracy"] is None


def test_repeats_give_mean_and_standard_deviation_over_seeds() -> None:
    _, _, test, labels = blobs()
    card = score(test, labels, k=9, seed=3, repeats=3)["clustering"]
    runs = [score(test, labels, k=9, seed=seed)["clustering"] for seed in (3, 4, 5)]
    assert card["repeats"] == 3
    assert set(card["std"]) == set(scorecard.CLUSTERING_METRICS)
    for name in scorecard.CLUSTERING_METRICS:
        values = [run[name] for run in runs]
        assert card[name] == pytest.approx(sum(values) / 3)
        assert card["std"][name] == pytest.approx(np.std(values, ddof=1))
    assert card["std"]["nmi"] > 0
    assert card["sizes"] == runs[0]["sizes"]


def test_without_labels_or_train_set_what_cannot_be_computed_is_none() -> None:
    train, train_labels, test, labels = blobs()
    card = score(test, labels, k=6)
    assert card["classification"] == {"k": 5, "search": "exact", "accuracy": None}
    assert card["seconds"]["classification"] is None

    card = score(test, None, train, train_labels, k=6, repeats=2)
    assert card["classification"]["accuracy"] is None
    assert sum(card["clustering"]["sizes"]) == 150
    for name in scorecard.CLUSTERING_METRICS:
        assert card["clustering"][name] is None
        assert card["clustering"]["std"][name] is None


def test_labels_may_be_names() -> None:
    train, train_labels, test, labels = blobs()
    names = np.array(["ant", "bee", "cat", "dog", "elk", "fox"])
    numbered = score(test, labels, train, train_labels, k=6)
    named = score(test, names[labels].tolist(), train, names[train_labels].astype(object), k=6)
    assert named["classification"] == numbered["classification"]
    assert named["clustering"] == numbered["clustering"]


def test_neighbours_vote_as_in_scikit_learn_where_classes_tie() -> None:
    random = np.random.default_rng(0)
    train = random.integers(0, 3, [60, 2]).astype(np.float32)
    labels = random.integers(-3, 3, 60)
    test = random.normal(1, 1, [200, 2]).astype(np.float32)
    for voters in (1, 2, 4, 60):
        expected = KNeighborsClassifier(voters, algorithm="brute").fit(train, labels).predict(test)
        np.testing.assert_array_equal(knn_predict(train, labels, test, voters), expected)
    # Two votes each: the smallest label wins, whichever is nearer.
    points = np.array([[0.0], [1.0], [2.0], [3.0]])
    assert knn_predict(points, [9, 9, -4, -4], np.array([[0.0]]), 4) == [-4]


def replaced(array: np.ndarray, rows: list[int], value: float) -> np.ndarray:
    array = array.copy()
    array[rows, 1] = value
    return array


TRAIN, TRAIN_LABELS, TEST, TEST_LABELS = blobs()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"test_features": replaced(TEST, [4, 9], np.nan)}, "test features: 2 of 150 .* row 4 "),
        ({"train_features": replaced(TRAIN, [0], np.inf)}, "train features: 1 of 150 .* row 0 "),
        ({"test_features": TEST[0]}, r"test features: shape \[8\]"),
        ({"test_features": TEST[:, :0]}, r"test features: shape \[150, 0\]"),
        ({"test_features": TEST[:0]}, r"test features: shape \[0, 8\]"),
        ({"test_features": TEST.astype(str)}, "test features: of type <U"),
        ({"test_features": TEST.astype(complex)}, "test features: of type complex"),
        ({"test_features": TEST[:, :5]}, "test features: 5 dimensions where .* 8"),
        ({"test_labels": TEST_LABELS[:-1]}, "test labels: 149 labels for 150 rows"),
        ({"train_labels": TRAIN_LABELS[:9]}, "train labels: 9 labels for 150 rows"),
        ({"train_labels": TRAIN_LABELS.astype(str)}, "test labels: numbers where train labels"),
        ({"test_labels": TEST_LABELS / 1}, "test labels: of type float64"),
        ({"train_labels": None}, "train labels: missing"),
        ({"train_features": None}, "train features: missing"),
        ({"k": 151}, "k 151: more clusters than the 150 test samples"),
        ({"k": 0}, "k 0: give 1 or more"),
        ({"neighbours": 151}, "neighbours 151: 150 train samples"),
        ({"neighbours": 0}, "neighbours 0: give 1 or more"),
        ({"repeats": 0}, "repeats 0: give 1 or more"),
        ({"seed": -1}, "seed -1: give 0 or more"),
        ({"seed": 2**32}, "seed 4294967296: give 0 to 4294967295"),
        ({"k": 2.5}, "k 2.5: give a whole number, 1 or more"),
        ({"neighbours": "3"}, "neighbours '3': give a whole number"),
        ({"test_features": [[1.0, 2.0], [3.0]]}, r"test features: no array \[N, D\]"),
        ({"train_labels": [[1], [2, 3]]}, r"train labels: no array \[N\]"),
        ({"test_features": np.ma.masked_less(TEST, TEST.mean())}, "test features: some values are"),
        ({"test_features": np.array([[np.longdouble("1e400")]])}, "infinite values as"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments: dict[str, Any], problem: str) -> None:
    given = {
        "test_features": TEST,
        "test_labels": TEST_LABELS,
        "train_features": TRAIN,
        "train_labels": TRAIN_LABELS,
    }
    with pytest.raises(InputError, match=problem) as raised:
        score(**given | arguments)
    assert "\n" not in str(raised.value)


def test_numbers_of_numpy_do_and_json_can_hold_what_comes_of_them() -> None:
    whole = {"k": np.int64(3), "neighbours": np.uint8(5), "repeats": np.int32(1)}
    assert json.loads(json.dumps(score(TEST, TEST_LABELS, **whole))) is not None


def test_clusters_and_neighbours_check_their_own_arguments() -> None:
    for k in (0, 151):
        with pytest.raises(InputError, match="150 samples make 1 to 150 clusters"):
            kmeans(TEST, k, 0)
    for voters in (0, 151):
        with pytest.raises(InputError, match="150 train samples allow 1 to 150"):
            knn_predict(TRAIN, TRAIN_LABELS, TEST, voters)
    with pytest.raises(InputError, match="train labels: 3 for 150 samples"):
        knn_predict(TRAIN, TRAIN_LABELS[:3], TEST, 5)


@pytest.mark.parametrize("dtype", ["f8", ">f8", "g", "i8", "u4"])
def test_no_type_of_features_is_rounded_to_fewer_digits_than_it_has(dtype: str) -> None:
    labels = np.arange(60) % 3
    features = (1_700_000_000 + 10 * labels + np.arange(60) % 5)[:, None].astype(dtype)
    found = score(features, labels, features, labels, k=3, neighbours=1)
    assert found["clustering"]["nmi"] == 1 and found["classification"]["accuracy"] == 1


@pytest.mark.parametrize("kind", ["sample", "dimension"])
def test_clusters_are_found_beside_much_larger_values(kind: str) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(300) % 3
    features = (random.normal(size=(300, 4)) + 20 * np.eye(4)[labels]).astype(np.float32)
    if kind == "sample":
        features[0], labels[0] = 1e6, 3
        found = score(features, labels, k=4)
    else:
        large = np.repeat(np.float32([-1e5, 1e5]), 150)
        labels = labels + 3 * (large > 0)
        found = score(np.column_stack([features, large]), labels, k=6)
    assert found["clustering"]["nmi"] > 0.999


@pytest.mark.parametrize("names", [("features", "labels"), ("feature", "label")])
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "u1"])
def test_features_come_back_from_a_file(tmp_path: Path, names: tuple[str, str], dtype: str) -> None:
    path = tmp_path / "features.npz"
    features = np.arange(12).reshape(4, 3).astype(dtype)
    labels = np.array(["a", "b", "a", "c"])
    arrays: dict[str, Any] = dict(zip(names, (features, labels), strict=True))
    np.savez_compressed(path, **arrays, id=np.arange(4))
    loaded = load_features(path)
    assert loaded.features.dtype == (np.float64 if dtype == "f8" else np.float32)
    np.testing.assert_array_equal(loaded.features, features)
    np.testing.assert_array_equal(loaded.labels, labels)
    np.testing.assert_array_equal(load_features(path, 2).labels, labels[[0, 3]])  # not one class

    del arrays[names[1]]
    np.savez(path, **arrays)
    assert load_features(str(path)).labels is None


def test_kept_features_come_back_with_what_made_them(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    ids = np.array(["ä.png", "b/c.png", "test[3]"])
    for labels in (np.array([2, 0, 1]), None):
        kept = Features(features, labels, ids, {"model": "cae1", "encoder": {"sha256": "ab"}})
        save_features(kept, tmp_path / "test.npz")
        back = load_features(tmp_path / "test.npz")
        np.testing.assert_array_equal(back.features, features)
        np.testing.assert_array_equal(back.ids, ids)
        assert back.manifest == kept.manifest
        assert (back.labels is None) == (labels is None)
    assert [file.name for file in tmp_path.iterdir()] == ["test.npz"]
    with pytest.raises(InputError, match="cannot be written"):
        save_features(kept, tmp_path / "nowhere" / "test.npz")


def test_unusable_files_are_refused_in_one_line(tmp_path: Path) -> None:
    def refused(name: str, problem: str) -> None:
        with pytest.raises(InputError, match=problem) as raised:
            load_features(tmp_path / name)
        assert str(raised.value).startswith(str(tmp_path / name))
        assert "\n" not in str(raised.value)

    good = np.ones([4, 3], np.float32)
    refused("none.npz", "no such file")
    (tmp_path / "folder.npz").mkdir()
    refused("folder.npz", "folder.npz: no file: give")
    (tmp_path / "text.npz").write_text("features")
    refused("text.npz", "not an .npz file")
    np.save(tmp_path / "plain.npy", good)
    refused("plain.npy", "not an .npz file")
    np.savez(tmp_path / "names.npz", vectors=good, y=np.arange(4))
    refused("names.npz", "no array 'features', it holds vectors, y")
    np.savez(tmp_path / "pickled.npz", features=good.astype(object))
    refused("pickled.npz", "array 'features' holds pickled Python objects")
    np.savez(tmp_path / "labels.npz", features=good, labels=np.array(["a", 1, None, 2], object))
    refused("labels.npz", "array 'labels' holds pickled Python objects")
    np.savez(tmp_path / "short.npz", features=good, labels=np.arange(3))
    refused("short.npz", "labels: 3 labels for 4 rows")
    np.savez(tmp_path / "nan.npz", features=replaced(good, [2], np.nan))
    refused(
        "nan.npz",
        "features: 1 of 4 rows hold NaN or infinite values as float32, the first is row 2 ",
    )
    np.savez(tmp_path / "list.npz", features=good, manifest=np.array("[1]"))
    refused("list.npz", "manifest is not the JSON text of an object")
    np.savez(tmp_path / "nested.npz", features=good, manifest=np.array("[" * 100_000))
    refused("nested.npz", "manifest is not the JSON text of an object")

    np.savez(tmp_path / "whole.npz", features=good)
    data = bytearray((tmp_path / "whole.npz").read_bytes())
    (tmp_path / "cut.npz").write_bytes(data[:-40])
    refused("cut.npz", "not an .npz file, or cut short")
    place = data.index(good.tobytes())
    data[place] ^= 255
    (tmp_path / "damaged.npz").write_bytes(data)
    refused("damaged.npz", "array 'features' cannot be read, the file is damaged")
    header = data.index(b"NUMPY")
    for place in range(header - 1, header + 100, 7):  # whatever the reader stumbles over
        broken = bytearray((tmp_path / "whole.npz").read_bytes())
        broken[place] ^= 255
        (tmp_path / "header.npz").write_bytes(broken)
        refused("header.npz", "damaged")


def test_table_is_aligned_and_complete() -> None:
    train, train_labels, test, labels = blobs()
    once = score(test, labels, train, train_labels, k=6)
    repeated = score(test, labels, k=6, repeats=2)
    bare = score(test, k=6)
    once |= {"model": "cae1", "test": {"data": "stl10", "split": "test", "count": 150}}
    lines = format_table([once, repeated, bare]).splitlines()
    assert lines[0].split("  ")[0].rstrip() == "model"
    assert len({len(line) for line in lines}) == 1
    assert lines[1].split() == [
        "cae1",
        "stl10",
        "test",
        "150",
        "8",
        *(f"{once['clustering'][n]:.4f}" for n in ("pairwise_f", "bcubed_f", "nmi", "ari")),
        f"{once['clustering']['accuracy']:.4f}",
        f"{once['classification']['accuracy']:.4f}",
    ]
    nmi = repeated["clustering"]["nmi"], repeated["clustering"]["std"]["nmi"]
    assert f"{nmi[0]:.4f} ± {nmi[1]:.4f}" in lines[2]
    assert lines[3].split() == ["-", "-", "150", "8", *"------"]


def test_names_that_files_can_have_do_not_tear_a_table() -> None:
    train, train_labels, test, labels = blobs()
    card = score(test, labels, train, train_labels, k=6, all=True)
    confused = {"true": 0, "predicted": 1, "count": 3, "share": 0.1}
    card["classes"] |= {"labels": [0, 1], "most_confused": [confused]}
    card["classes"]["names"] = ["two\nlines", "caf\udce9 \x1b[31m"]
    shown = format_table([card | {"model": "cae\t1"}])
    shown.encode()
    assert all(text in shown for text in ("two\\nlines", "caf\\udce9 \\x1b[31m", "cae\\t1"))


@pytest.mark.parametrize("power", [-500, 70, 1015])
def test_a_score_does_not_depend_on_the_unit_of_the_features(power: int) -> None:
    train, train_labels, test, labels = (
        a.astype(np.float64) if a.dtype.kind == "f" else a for a in blobs()
    )
    largest = max(np.abs(train).max(), np.abs(test).max())
    train, test = train / largest, test / largest
    cards = [
        score(test * scale, labels, train * scale, train_labels, k=6, all=True)
        for scale in (1.0, 2.0**power)
    ]
    for card in cards:
        del card["seconds"]
    assert cards[0]["clustering"]["nmi"] > 0.2
    assert cards[0] == cards[1]


def test_features_files_name_their_classes_and_must_go_together(tmp_path: Path) -> None:
    def write(name: str, classes: list[str], sha256: str, **more: Any) -> Path:
        manifest = {"model": 5, "encoder": {"sha256": sha256}, "data": {"classes": classes}, **more}
        features, labels = np.eye(6), np.arange(6) % 2
        text = np.array(json.dumps(manifest))
        np.savez(tmp_path / name, features=features, labels=labels, manifest=text)
        return tmp_path / f"{name}.npz"

    one, other = write("a", ["cat", "dog"], "1"), write("b", ["cat", "dog"], "1")
    card = score_features(one, other, k=2)
    assert card["classes"]["names"] == ["cat", "dog"] and card["model"] == "5"
    format_table([card])
    with pytest.raises(InputError, match=r"a\.npz holds features of 5, .* of another encoder"):
        score_features(one, write("b", ["cat", "dog"], "2"), k=2)
    with pytest.raises(InputError, match="have different classes"):
        score_features(one, write("b", ["dog", "cat"], "1"), k=2)
    for key, values, words in (
        ("image_size", (8, 48), "of images of 8 pixels, 48 in"),
        ("resize", ("crop", "stretch"), "of images brought to size by crop, by stretch in"),
        ("pca", ("1", "2"), "of other principal components than"),
    ):
        files = [write(n, [], "1", **{key: value}) for n, value in zip("cd", values, strict=True)]
        with pytest.raises(InputError, match=rf"c\.npz holds features {words} .*d\.npz"):
            score_features(*files, k=2)
    np.savez(tmp_path / "bare.npz", features=np.eye(6))
    with pytest.raises(InputError, match=r"bare\.npz: no array 'labels'"):
        score_features(one, tmp_path / "bare.npz", k=2)
    for name in ("bytes", "more"):
        np.savez(tmp_path / f"{name}.npz", features=np.eye(6), labels=np.array([b"a", b"b"] * 3))
    card = score_features(tmp_path / "bytes.npz", tmp_path / "more.npz", k=2)
    assert json.loads(json.dumps(card))["classes"]["names"] == ["a", "b"]


def test_a_score_needs_no_tensorflow(tmp_path: Path) -> None:
    train, train_labels, test, labels = blobs()
    np.savez(tmp_path / "test.npz", features=test, labels=labels)
    np.savez(tmp_path / "train.npz", features=train, labels=train_labels)
    program = (
        "import sys\n"
        "from kfeat import score_features\n"
        "from kfeat.reporting.table import format_table\n"
        "print(format_table([score_features('test.npz', 'train.npz', k=6)]))\n"
        "heavy = {'tensorflow', 'keras', 'tensorflow_datasets'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "pairwise F" in result.stdout


def test_examples() -> None:
    for module in (scorecard, clustering, neighbours):
        results = doctest.testmod(module)
        assert results.attempted and not results.failed
