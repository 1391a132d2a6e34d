import keras
import numpy as np
import pytest

from kfeat.errors import InputError
from kfeat.models import catalog


@pytest.mark.parametrize("name", catalog.ENCODERS)
@pytest.mark.parametrize("image_size", [32, 64])
def test_turns_images_into_128_features(name, image_size, photographs):
    encoder = catalog.build(name, image_size)
    assert encoder.input.shape == (None, image_size, image_size, 3)
    assert encoder.input.dtype == encoder.output.dtype == "float32"
    images = photographs[0][:4, :image_size, :image_size]
    features = encoder(images)
    assert features.shape == (4, 128)
    assert np.isfinite(features).all() and np.std(features) > 0
    # Normalisation is inside: neither a brighter nor a shifted image is the same.
    assert not np.allclose(encoder(images // 2), features, rtol=1e-3)


@pytest.mark.parametrize("name, image_size", [("cae1", 48), ("cae1", 0), ("resnet18", 31)])
def test_a_size_it_cannot_take_is_named(name, image_size):
    with pytest.raises(InputError, match=f"{name} cannot take images of {image_size} pixels"):
        catalog.build(name, image_size)


def test_unknown_name_names_the_nearest():
    with pytest.raises(InputError, match="unknown model 'resnet81'.*did you mean 'resnet18'"):
        catalog.find("resnet81")


def test_resnet18_is_the_published_one():
    encoder = catalog.build("resnet18", 96)
    trainable = sum(int(np.prod(w.shape)) for w in encoder.trainable_weights)
    # torchvision's resnet18 has 11,689,512 parameters, 513,000 of them in its head.
    assert trainable == 11_689_512 - 513_000 + 512 * 128 + 128
    pools = [x for x in encoder.layers if isinstance(x, keras.layers.GlobalAveragePooling2D)]
    assert [p.output.shape for p in pools] == [(None, 512)]
    strides = [x.strides for x in encoder.layers if isinstance(x, keras.layers.Conv2D)]
    assert len(strides) == 20 and strides.count((2, 2)) == 1 + 2 * 3


def test_cae1_features_are_quadrant_means_of_the_bottleneck(photographs):
    graph = catalog.build_graph("cae1", 96)
    bottleneck = keras.Model(graph.inputs, graph.get_layer("bottleneck_bn").output)
    images = photographs[0][:3]
    maps = np.asarray(bottleneck(images))
    assert maps.shape == (3, 6, 6, 32)
    halves = slice(0, 3), slice(3, 6)
    means = [[maps[:, rows, columns].mean((1, 2)) for columns in halves] for rows in halves]
    expected = np.concatenate([mean for row in means for mean in row], axis=1)
    np.testing.assert_allclose(catalog.cut(graph)(images), expected, rtol=1e-4, atol=1e-6)


def test_cae1_decodes_from_the_bottleneck_alone():
    graph = catalog.build_graph("cae1", 64)
    assert graph.get_layer("reconstruction").output.shape == (None, 64, 64, 3)
    decoder = keras.Model(
        graph.get_layer("bottleneck_bn").output, graph.get_layer("reconstruction").output
    )
    assert decoder.output.shape == (None, 64, 64, 3)
