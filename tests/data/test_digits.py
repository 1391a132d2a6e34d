import numpy as np
from sklearn.datasets import load_digits

from kfeat import open_source


def test_digits_are_scikit_learns():
    source, digits = open_source("digits"), load_digits()
    found = [e for split in source.splits for e in source.dataset(split).as_numpy_iterator()]
    assert len(found) == sum(source.splits.values()) == len(digits.images)
    images, labels = (np.stack([element[key] for element in found]) for key in ("image", "label"))
    assert images.shape == (1797, 8, 8, 3) and images.dtype == np.uint8
    np.testing.assert_allclose(images / 255, digits.images[..., None].repeat(3, 3) / 16, atol=2e-3)
    np.testing.assert_array_equal(labels, digits.target)
    assert len({element["id"] for element in found}) == 1797
    assert len(list(source.dataset("test", 5))) == 5
