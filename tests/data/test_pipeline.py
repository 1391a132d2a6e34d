import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from kfeat import open_source
from kfeat.data import pipeline
from kfeat.data.source import Source
from kfeat.errors import InputError


def source_of(images, labels=None):
    """A source of the given arrays."""

    def read(split, limit):
        import tensorflow as tf

        def generate():
            for n, image in enumerate(images[:limit]):
                element = {"id": f"{n}", "image": image}
                yield element | ({} if labels is None else {"label": labels[n]})

        signature = {"id": tf.TensorSpec([], tf.string)}
        signature["image"] = tf.TensorSpec([None, None, 3], tf.uint8)
        if labels is not None:
            signature["label"] = tf.TensorSpec([], tf.int64)
        return tf.data.Dataset.from_generator(generate, output_signature=signature)

    labelled = frozenset(["train"] if labels is not None else [])
    return Source("arrays", None, {"train": len(images)}, labelled, read)


def data_of(count, labelled):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 8, 8, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(count)  # says which image it is
    return pipeline.Images(images, np.arange(count) if labelled else None, {})


@given(st.integers(1, 30), st.integers(1, 7), st.integers(0, 2**32 - 1), st.booleans())
def test_an_epoch_is_a_full_shuffle_that_follows_from_the_seed(count, batch_size, seed, labelled):
    data = data_of(count, labelled)
    indices = np.arange(count)[::-1]
    batch_size = min(batch_size, count)

    def batches(epochs):
        made = pipeline.training_batches(
            data, indices, batch_size=batch_size, epochs=epochs, seed=seed
        )
        return [(x[:, 0, 0, 0].tolist(), y) for x, y in made.as_numpy_iterator()]

    whole = batches(range(0, 3))
    steps = count // batch_size
    assert len(whole) == 3 * steps
    for epoch in range(3):
        seen = [i for x, _ in whole[epoch * steps : (epoch + 1) * steps] for i in x]
        assert len(set(seen)) == len(seen) == steps * batch_size
    for x, y in whole:
        assert (y if labelled else y[:, 0, 0, 0]).tolist() == x
    later = batches(range(1, 3))
    assert [x for x, _ in later] == [x for x, _ in whole[steps:]]


def test_order_and_augmentation_differ_between_epochs_and_seeds():
    """With as many images as a batch, only order and augmentation can differ."""
    data = data_of(64, True)

    def epochs(seed, **options):
        made = pipeline.training_batches(
            data, np.arange(64), batch_size=64, epochs=range(3), seed=seed, **options
        )
        return [(x, y) for x, y in made.as_numpy_iterator()]

    plain = epochs(0)
    orders = [tuple(y) for _, y in plain + epochs(1)]
    assert len(set(orders)) == len(orders)
    for options in ({"shift": 3}, {"crop_area": 0.5}, {"erase": 2}):
        changes = set()
        for x, y in epochs(0, **options) + epochs(1, **options):
            original = data.images[y]
            changed = (x != original).any((1, 2, 3))
            assert 16 < changed.sum() <= 64  # it is applied, to images in their own order
            moved = [x[y == n].tobytes() for n in range(64)]
            changes.add(tuple(moved))
        assert len(changes) == 6  # and differently each time


@settings(deadline=None)
@given(st.integers(0, 7), st.booleans(), st.integers(0, 100))
def test_augmentation_is_a_mirrored_and_padded_crop(shift, flip, seed):
    images = data_of(5, False).images
    before = images.copy()
    mirrored = np.full(5, flip)
    out = pipeline.augment(images, np.random.default_rng(seed), mirrored, shift=shift)
    around = ((shift, shift), (shift, shift), (0, 0))
    for image, augmented in zip(images, out, strict=True):
        padded = np.pad(image, around, "symmetric")
        crops = sliding_window_view(padded, image.shape)[:, :, 0]
        crops = crops[:, :, :, ::-1] if flip else crops
        assert (crops == augmented).all((2, 3, 4)).any()
    np.testing.assert_array_equal(images, before)


def test_augmentation_moves_by_every_step_about_equally_often():
    shift, count = 2, 5000
    images = np.repeat(data_of(1, False).images, count, axis=0)
    still = np.zeros(count, bool)
    out = pipeline.augment(images, np.random.default_rng(0), still, shift=shift)
    # 25 places: 200 times each, give or take the 5 standard deviations of a multinomial
    # distribution.
    found = np.unique(out.reshape(count, -1), axis=0, return_counts=True)[1]
    assert len(found) == (2 * shift + 1) ** 2
    assert found.min() > 130 and found.max() < 270


@given(st.floats(0.05, 0.95), st.integers(0, 100))
def test_a_crop_is_a_part_of_the_image_scaled_up(crop_area, seed):
    """On images whose pixels are their coordinates, a crop shows where it came from."""
    size, count = 128, 8
    down, right = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    coordinates = np.stack([down, right, 0 * down], axis=-1).astype(np.uint8)
    images = np.repeat(coordinates[None], count, axis=0)
    still = np.zeros(count, bool)
    out = pipeline.augment(images, np.random.default_rng(seed), still, crop_area=crop_area)
    out = out.astype(float)
    # Well inside, from row to row, or column to column, the coordinate grows by side / size.
    heights = (out[:, 96, :, 0] - out[:, 32, :, 0]).mean(1) / 64
    widths = (out[:, :, 96, 1] - out[:, :, 32, 1]).mean(1) / 64
    rounding = 1 / 64
    assert (heights <= 1 + rounding).all() and (widths <= 1 + rounding).all()
    assert (heights * widths >= crop_area - 2 * rounding).all()
    assert (heights <= widths * 4 / 3 + 3 * rounding).all()
    assert (widths <= heights * 4 / 3 + 3 * rounding).all()
    assert len({image.tobytes() for image in out}) > 1


@given(st.integers(1, 7), st.integers(0, 100))
def test_an_erased_square_lies_anywhere_and_takes_the_mean_colour(erase, seed):
    images = data_of(40, False).images
    rng = np.random.default_rng(seed)
    out = pipeline.augment(images, rng, np.zeros(40, bool), erase=erase)
    colours = np.rint(images.mean((1, 2)))
    places = set()
    for image, erased, colour in zip(images, out, colours, strict=True):
        painted = (erased == colour).all(-1)
        np.testing.assert_array_equal(erased[~painted], image[~painted])
        rows, columns = np.flatnonzero(painted.any(1)), np.flatnonzero(painted.any(0))
        # A square, but for what its centre near the edge puts outside.
        sides = [np.ptp(rows) + 1, np.ptp(columns) + 1]
        assert painted[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert all((erase + 1) // 2 <= side <= erase for side in sides)
        places.add((rows[0], columns[0]))
    assert len(places) > 5


def test_an_image_is_mirrored_in_every_second_epoch():
    data = data_of(400, True)
    options = {"batch_size": 40, "epochs": range(3), "flip": True}

    def turns(seed):
        made = pipeline.training_batches(data, np.arange(400), seed=seed, **options)
        mirrored = np.zeros((3, 400), bool)
        for n, (x, y) in enumerate(made.as_numpy_iterator()):
            turned = (x != data.images[y]).any((1, 2, 3))
            mirrored[n // 10, y] = turned
            np.testing.assert_array_equal(x[turned], data.images[y][turned][:, :, ::-1])
        return mirrored

    mirrored = turns(3)
    assert 150 < mirrored[0].sum() < 250
    assert 150 < (mirrored[0] != turns(4)[0]).sum() < 250
    np.testing.assert_array_equal(mirrored[1], ~mirrored[0])
    np.testing.assert_array_equal(mirrored[2], mirrored[0])


def test_validation_gives_every_image_once_in_order():
    data = data_of(10, True)
    made = pipeline.validation_batches(data, np.array([9, 1, 4, 7, 0]), 2)
    labels = [y.tolist() for _, y in made.as_numpy_iterator()]
    assert labels == [[9, 1], [4, 7], [0]]


@pytest.mark.parametrize("memory_limit", [4.0, 0.0])
def test_load_keeps_order_labels_and_values_in_memory_and_on_disk(memory_limit, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (150, 32, 32, 3), np.uint8)
    labels = np.arange(150)
    source = source_of(images, labels)
    data = pipeline.load(source, "train", 32, memory_limit=memory_limit, cache_dir=tmp_path)
    assert isinstance(data.images, np.memmap) == (memory_limit == 0)
    np.testing.assert_array_equal(data.images, images)
    np.testing.assert_array_equal(data.labels, labels)
    assert not list(tmp_path.iterdir())
    assert len(pipeline.load(source, "train", 32, limit=7)) == 7


@pytest.mark.parametrize("resize", pipeline.RESIZES)
def test_resize_agrees_with_pillow(resize, photographs):
    tall = np.concatenate(photographs[0][:2])  # 192 x 96
    data = pipeline.load(source_of([tall]), "train", 40, resize=resize)
    region = tall[48:144] if resize == "crop" else tall
    expected = Image.fromarray(region).resize((40, 40), Image.Resampling.BILINEAR)
    difference = np.abs(data.images[0].astype(int) - np.asarray(expected).astype(int))
    assert difference.mean() < 0.5 and difference.max() <= 3


def test_a_label_that_is_missing_is_refused():
    images = np.zeros((3, 32, 32, 3), np.uint8)
    with pytest.raises(InputError, match="1 of 3 images have no label beside others"):
        pipeline.load(source_of(images, np.array([0, 1, -1])), "train", 32)


def test_another_way_to_resize_is_refused():
    with pytest.raises(InputError, match="resize 'crp': choose one of crop, stretch"):
        pipeline.load(source_of([np.zeros((32, 32, 3), np.uint8)]), "train", 32, resize="crp")


def test_an_empty_split_is_refused():
    with pytest.raises(InputError, match="no readable image in its split 'train'"):
        pipeline.load(source_of([]), "train", 32)


def test_photos_fill_a_batch():
    data = pipeline.load(open_source("photos"), "test", 96, limit=20)
    assert data.images.shape == (20, 96, 96, 3)
    assert data.labels is not None and set(data.labels) <= set(range(10))
