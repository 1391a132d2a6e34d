"""Near-identical images between splits: photographs, written again in other ways."""

import doctest
import io
import json

import keras
import numpy as np
import pytest
from PIL import Image

import kfeat
from kfeat.data import leaks
from kfeat.data.leaks import near_identical, perceptual_hashes
from kfeat.reporting.table import format_table


def written_again(image, side, quality):
    file = io.BytesIO()
    resized = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
    resized.save(file, "JPEG", quality=quality)
    return Image.open(file)


@pytest.mark.parametrize(("side", "quality"), [(96, 75), (144, 75), (64, 90)])
def test_copies_of_photographs_are_found(photographs, side, quality):
    images = photographs[0]
    copies = [written_again(image, side, quality).resize((96, 96)) for image in images]
    hashes = perceptual_hashes(images)
    of_copies = perceptual_hashes(np.stack([np.asarray(copy) for copy in copies]))
    found, _, bits = near_identical(of_copies, hashes)
    assert len(found) > 0.9 * len(images) and bits.max() <= leaks.THRESHOLD
    # The photographs themselves are not each other's copies, but for a few.
    others = sum(
        len(near_identical(hashes[n : n + 1], np.delete(hashes, n))[0]) for n in range(120)
    )
    assert others < 0.05 * len(images)


def test_every_pair_of_hashes_is_compared(monkeypatch):
    random = np.random.default_rng(0)
    train = random.integers(0, 2**64, 700, dtype=np.uint64)
    test = random.integers(0, 2**64, 90, dtype=np.uint64)
    flips = [sum(1 << int(bit) for bit in random.permutation(64)[: n % 9]) for n in range(60)]
    test[:60] = train[100:160] ^ np.array(flips, np.uint64)
    differing = np.array([[bin(int(a) ^ int(b)).count("1") for b in train] for a in test])
    for block in (1, 5000, leaks.BLOCK):
        monkeypatch.setattr(leaks, "BLOCK", block)
        for threshold in (0, 4, 8, 64):
            found, nearest, bits = near_identical(test, train, threshold)
            assert found.tolist() == np.flatnonzero(differing.min(axis=1) <= threshold).tolist()
            assert nearest.tolist() == differing.argmin(axis=1)[found].tolist()
            assert bits.tolist() == differing.min(axis=1)[found].tolist()
    assert not len(near_identical(test, train[:0])[0])


def test_a_leak_is_reported_with_the_score(folder, photographs, tmp_path, caplog):
    root = tmp_path / "leaking"
    classes = photographs[2]
    planted = {}
    for path in sorted(folder.rglob("*.png")):
        place = root / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    images = keras.Input((64, 64, 3))
    model = str(tmp_path / "mean.keras")
    keras.Model(images, keras.layers.GlobalAveragePooling2D()(images)).save(model)
    plain = kfeat.score(model, str(root), k=3)
    assert plain["leaks"] is None and plain["more"] is None
    before = kfeat.score(model, str(root), k=3, all=True)
    source = kfeat.open_source(str(root))
    for element in source.dataset("test").take(6).as_numpy_iterator():
        copy = root / "train" / classes[element["label"]] / f"copy{len(planted)}.jpg"
        written_again(element["image"], 128, 92).save(copy, quality=92)
        planted[element["id"].decode()] = str(copy.relative_to(root))
    with caplog.at_level("INFO", "kfeat"):
        card = kfeat.score(model, str(root), k=3, all=True)
    found = card["leaks"]
    assert (found["method"], found["threshold"]) == ("phash", 4)
    assert before["leaks"]["count"] <= 2 < 5 <= found["count"] <= before["leaks"]["count"] + 6
    pairs = {pair["test"]: pair["train"] for pair in found["pairs"]}
    assert sum(pairs.get(test) == train for test, train in planted.items()) >= 5
    assert f"leaks: {found['count']} of 40 test images are near-identical" in caplog.text
    assert json.loads(json.dumps(card, allow_nan=False)) == card
    assert set(card["classes"]["names"]) <= set(classes)
    assert sum(map(sum, card["classes"]["confusion"])) == 40
    table = format_table([card])
    assert "linear probe" in table and f"{model}: most confused by KNN" in table
    assert table.splitlines()[4].split()[-1] == str(found["count"])


def test_examples():
    results = doctest.testmod(leaks)
    assert results.attempted and not results.failed
