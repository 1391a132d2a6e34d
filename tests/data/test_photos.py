import hashlib

import numpy as np
import pytest
from PIL import Image

from kfeat.data import photos
from kfeat.errors import InputError

CROPS = {
    "train": "fd7a238b5c605f6b4f032430a6b3d24058c02b52250618ab1d7bed280d40efda",
    "test": "4260bdbac80d220f29f4dfc8d593bf5b590911a414d962f2eb12a856e5bb47b6",
    "unlabelled": "00aec1f006c2315893181586be728445d018e8b928df9b3972e69a919186d666",
}


@pytest.mark.parametrize("split", CROPS)
def test_crops_are_the_same_everywhere(split):
    boxes, labels = photos.crops(split)
    assert boxes.dtype == labels.dtype == np.int64
    assert hashlib.sha256(boxes.tobytes() + labels.tobytes()).hexdigest() == CROPS[split]


def test_splits_are_balanced_and_mixed():
    for split, count in photos.SPLITS.items():
        boxes, labels = photos.crops(split)
        assert len(boxes) == len(labels) == count
        assert (np.bincount(labels) == count // 10).all()
        assert len(set(labels[:100])) == 10


def test_test_shares_no_pixel_with_train_and_unlabelled():
    for label, (_, _, (width, height)) in enumerate(photos.PHOTOGRAPHS.values()):
        seen = {}
        for split in photos.SPLITS:
            seen[split] = np.zeros((height, width), bool)
            boxes, labels = photos.crops(split)
            for left, top, right, bottom in boxes[labels == label]:
                assert 0 <= left < right <= width
                assert 0 <= top < bottom <= height
                assert right - left == bottom - top >= 64
                seen[split][top:bottom, left:right] = True
        assert not (seen["test"] & (seen["train"] | seen["unlabelled"])).any()
        assert (seen["train"] & seen["unlabelled"]).any()


def test_a_sample_is_its_crop_alone():
    """Pixels next to the box, which may belong to the other split, have no influence."""
    source = photos.source()
    boxes, labels = photos.crops("train")
    for n, element in enumerate(source.dataset("train").take(20).as_numpy_iterator()):
        assert element["label"] == labels[n]
        assert element["image"].shape == (96, 96, 3)
        with Image.open(photos._file(source.class_names[labels[n]])) as photograph:
            crop = Image.fromarray(np.asarray(photograph.convert("RGB").crop(boxes[n].tolist())))
        expected = np.asarray(crop.resize((96, 96), Image.Resampling.BICUBIC))
        np.testing.assert_array_equal(element["image"], expected)


def test_order_is_the_same_each_time():
    source = photos.source()
    first, second = (
        [element["image"] for element in source.dataset("unlabelled").take(300).as_numpy_iterator()]
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)
    assert set(source.dataset("unlabelled").element_spec) == {"id", "image"}


def test_missing_photograph_says_how_to_mend(monkeypatch):
    monkeypatch.setitem(photos.PHOTOGRAPHS, "coffee", ("skimage", "data/tea.png", (600, 400)))
    with pytest.raises(InputError, match=r"data/tea\.png .* pip install .* scikit-image"):
        photos.source()
