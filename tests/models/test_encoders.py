import keras
import numpy as np
import pytest

from kfeat.errors import InputError
from kfeat.models import catalog

RECONSTRUCTING = [n for n, e in catalog.ENCODERS.items() if e.objective == "reconstruction"]


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


@pytest.mark.parametrize(
    "name, image_size, words",
    [
        *[(name, size, "to 4096") for name in catalog.ENCODERS for size in (0, 8192)],
        ("cae1", 48, "a multiple of 32, from 32 to 4096"),
        ("unet", np.int64(16), "a multiple of 32, from 32 to 4096"),
        ("cae2", 40, "a multiple of 16, from 16 to 4096"),
        ("cae3", 8, "a multiple of 16, from 16 to 4096"),
        ("resnet18", 31, "from 32 to 4096"),
    ],
)
def test_a_size_it_cannot_take_is_named(name, image_size, words):
    message = f"{name} cannot take images of {image_size} pixels: image_size must be .*{words}"
    with pytest.raises(InputError, match=message):
        catalog.build(name, image_size)


@pytest.mark.parametrize("name", catalog.ENCODERS)
def test_takes_its_smallest_size_and_the_next(name):
    encoder = catalog.find(name)
    for image_size in (encoder.smallest, encoder.smallest + encoder.step):
        assert catalog.build(name, image_size).output.shape == (None, catalog.FEATURE_SIZE)


@pytest.mark.parametrize("name", RECONSTRUCTING)
@pytest.mark.parametrize("steps", [1, 3])
def test_gives_back_an_image_of_the_same_shape(name, steps, photographs):
    size = steps * catalog.find(name).step
    images = photographs[0][:2, :size, :size]
    reconstruction, features = catalog.build_graph(name, size)(images)
    assert reconstruction.shape == images.shape and reconstruction.dtype == "float32"
    assert features.shape == (2, 128) and features.dtype == "float32"
    assert np.isfinite(reconstruction).all()


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
    bottleneck = keras.Model(graph.inputs[0], graph.get_layer("bottleneck_bn").output)
    images = photographs[0][:3]
    maps = np.asarray(bottleneck(images))
    assert maps.shape == (3, 6, 6, 32)
    halves = slice(0, 3), slice(3, 6)
    means = [[maps[:, rows, columns].mean((1, 2)) for columns in halves] for rows in halves]
    expected = np.concatenate([mean for row in means for mean in row], axis=1)
    np.testing.assert_allclose(catalog.cut(graph)(images), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "name, code", [("cae1", "bottleneck_bn"), ("cae2", "features"), ("cae3", "down4_pool")]
)
def test_decodes_from_its_code_alone(name, code):
    graph = catalog.build_graph(name, 64)
    # Keras refuses a model whose output depends on more than its input.
    decoder = keras.Model(graph.get_layer(code).output, graph.get_layer("reconstruction").output)
    assert decoder.output.shape == (None, 64, 64, 3)


def wiring(graph):
    """Of each layer its class, its configuration and the layers that it reads, in order."""

    def read(node):
        if isinstance(node, dict) and "keras_history" in node:
            return [node["keras_history"][0]]
        parts = node.values() if isinstance(node, dict) else node
        return [n for part in parts if isinstance(part, (dict, list, tuple)) for n in read(part)]

    return {
        layer["name"]: (layer["class_name"], layer["config"], read(layer["inbound_nodes"]))
        for layer in graph.get_config()["layers"]
    }


def test_unet_is_cae1_plus_skips_and_nothing_else():
    cae1, unet = (wiring(catalog.build_graph(name, 64)) for name in ("cae1", "unet"))
    skips = {name: read for name, (kind, _, read) in unet.items() if kind == "Concatenate"}
    assert skips == {
        "up4_skip": ["up4_1_relu", "down3_2_relu"],
        "up3_skip": ["up3_1_relu", "down2_2_relu"],
        "up2_skip": ["up2_1_relu", "down1_2_relu"],
    }
    assert unet.keys() == cae1.keys() | skips.keys()
    without = {
        name: (kind, config, [skips[r][0] if r in skips else r for r in read])
        for name, (kind, config, read) in unet.items()
        if name not in skips
    }
    assert without == cae1


def test_unet_blind_to_its_skips_computes_what_cae1_computes(photographs):
    cae1, unet = (catalog.build_graph(name, 64) for name in ("cae1", "unet"))
    widened = []
    for layer in cae1.layers:
        weights = layer.get_weights()
        twin = unet.get_layer(layer.name)
        for n, wide in enumerate(twin.get_weights()):
            if wide.shape != weights[n].shape:
                wide[:] = 0
                wide[:, :, : weights[n].shape[2]] = weights[n]
                weights[n] = wide
                widened.append(layer.name)
        twin.set_weights(weights)
    assert widened == ["up4_2_conv", "up3_2_conv", "up2_2_conv"]
    images = photographs[0][:2, :64, :64]
    for theirs, ours in zip(cae1(images), unet(images), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)


def test_cae2_is_cae1_with_a_fully_connected_bottleneck():
    cae1, cae2 = (wiring(catalog.build_graph(name, 64)) for name in ("cae1", "cae2"))
    changed = {name for name in cae1.keys() | cae2.keys() if cae1.get(name) != cae2.get(name)}
    # up4_1_conv alone reads another layer.
    assert changed == {"quadrants", "features", "flatten", "expand", "expand_maps", "up4_1_conv"}
    kind, config, read = cae2["features"]
    assert (kind, config["units"], config["activation"]) == ("Dense", 128, "linear")
    assert read == ["flatten"] and cae2["flatten"][2] == ["bottleneck_bn"]
    kind, config, read = cae2["expand"]
    assert (kind, config["units"], config["activation"]) == ("Dense", 4 * 4 * 32, "relu")
    assert read == ["features"] and cae2["up4_1_conv"][2] == ["expand_maps"]


def test_cae3_pools_and_does_not_normalise(photographs):
    graph = catalog.build_graph("cae3", 48)
    kinds = [type(layer).__name__ for layer in graph.layers]
    assert kinds.count("MaxPooling2D") == kinds.count("UpSampling2D") == 4
    assert not {"BatchNormalization", "Conv2DTranspose"} & set(kinds)
    assert {x.strides for x in graph.layers if isinstance(x, keras.layers.Conv2D)} == {(1, 1)}
    images = photographs[0][:3, :48, :48]
    maps = np.asarray(keras.Model(graph.inputs[0], graph.get_layer("down4_pool").output)(images))
    assert maps.shape == (3, 3, 3, 128)
    np.testing.assert_allclose(catalog.cut(graph)(images), maps.mean((1, 2)), rtol=1e-4)
