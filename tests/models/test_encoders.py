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


@pytest.mark.parametrize(
    "name, parameters, pooled, convolutions, strided_kernels",
    [
        ("resnet18", 11_689_512, 512, 20, {7: 1, 3: 3, 1: 3}),
        ("resnet34", 21_797_672, 512, 36, {7: 1, 3: 3, 1: 3}),
        ("resnet50", 25_557_032, 2048, 53, {7: 1, 3: 3, 1: 3}),
    ],
)
def test_resnets_are_the_published_ones(name, parameters, pooled, convolutions, strided_kernels):
    """``parameters`` are torchvision's, which end in a head of 1000 classes."""
    encoder = catalog.build(name, 96)
    trainable = sum(int(np.prod(w.shape)) for w in encoder.trainable_weights)
    assert trainable == parameters - 1000 * (pooled + 1) + 128 * (pooled + 1)
    pools = [x for x in encoder.layers if isinstance(x, keras.layers.GlobalAveragePooling2D)]
    assert [p.output.shape for p in pools] == [(None, pooled)]
    found = [x for x in encoder.layers if isinstance(x, keras.layers.Conv2D)]
    assert len(found) == convolutions
    strided = [x.kernel_size[0] for x in found if x.strides == (2, 2)]
    assert {size: strided.count(size) for size in strided} == strided_kernels


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
