"""Residual networks with a 128-d feature layer.

Source: He, Zhang, Ren and Sun 2016, "Deep residual learning for image recognition", CVPR,
arXiv 1512.03385, in the variant known as v1.5: where a bottleneck block halves the
resolution, the stride sits on its 3x3 convolution. Layer by layer this is torchvision's
network (padding, batch-norm epsilon and momentum included), so that its published weights fit.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import keras
from keras import layers

from kfeat.models.catalog import FEATURE_SIZE
from kfeat.models.layers import Add, BatchNormalization, Conv2D, ReLU, Rescaling

MEAN = (0.485, 0.456, 0.406)
STANDARD_DEVIATION = (0.229, 0.224, 0.225)
"""Of ImageNet's training images in [0, 1], as torchvision's weights expect them."""


def resnet18(image_size: int, name: str = "resnet18") -> keras.Model:
    """Build a ResNet18 encoder with random weights.

    Args:
        image_size: side S of the square images in pixels, 32 or more. 224 is ImageNet's.
        name: name of the model.

    Returns:
        A functional model: float32 [N, S, S, 3] in [0, 255] -> float32 [N, 128]. Its one
        `GlobalAveragePooling2D` layer gives the 512 pooled features; a linear dense layer,
        ``features``, reads the vector off them.
    """
    return _resnet(image_size, _basic_block, (2, 2, 2, 2), name)


def resnet34(image_size: int, name: str = "resnet34") -> keras.Model:
    """Build a ResNet34 encoder with random weights: as `resnet18`, with twice the blocks."""
    return _resnet(image_size, _basic_block, (3, 4, 6, 3), name)


def resnet50(image_size: int, name: str = "resnet50") -> keras.Model:
    """Build a ResNet50 encoder with random weights.

    As `resnet34`, with bottleneck blocks in place of the basic ones, and so 2048 pooled features.
    """
    return _resnet(image_size, _bottleneck_block, (3, 4, 6, 3), name)


def zero_residuals(model: keras.Model) -> None:
    """Set the scale of the last batch norm in each residual block to 0.

    A block then passes on what it gets, and the network begins as a shallow one. As torchvision's
    ``zero_init_residual`` does.

    Source: Goyal et al. 2017, "Accurate, large minibatch SGD: training ImageNet in 1 hour", arXiv
    1706.02677, section 5.1.

    Args:
        model: a ResNet of this module, or a graph that holds one.
    """
    last = {}
    for layer in model.layers:
        if named := re.fullmatch(r"(stage\d+_block\d+)_\d+_bn", layer.name):
            last[named[1]] = layer
    for layer in last.values():
        layer.gamma.assign(keras.ops.zeros_like(layer.gamma))


def _resnet(
    image_size: int,
    residual_block: Callable[[keras.KerasTensor, int, int, str], keras.KerasTensor],
    depths: tuple[int, ...],
    name: str,
) -> keras.Model:
    images = keras.Input((image_size, image_size, 3), name="images")
    x = Rescaling(
        scale=[1 / (255 * s) for s in STANDARD_DEVIATION],
        offset=[-m / s for m, s in zip(MEAN, STANDARD_DEVIATION, strict=True)],
        name="normalise",
    )(images)
    x = _conv_bn(x, 64, 7, 2, "stem")
    x = ReLU(name="stem_relu")(x)
    x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)  # zeros: x >= 0 after the ReLU
    x = layers.MaxPooling2D(3, 2, name="stem_pool")(x)
    for stage, depth in enumerate(depths, 1):
        filters = 64 * 2 ** (stage - 1)
        for block in range(depth):
            stride = 2 if stage > 1 and block == 0 else 1
            x = residual_block(x, filters, stride, f"stage{stage}_block{block + 1}")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    features = layers.Dense(FEATURE_SIZE, dtype="float32", name="features")(x)
    return keras.Model(images, features, name=name)


def _basic_block(x: keras.KerasTensor, filters: int, stride: int, name: str) -> keras.KerasTensor:
    y = _conv_bn(x, filters, 3, stride, f"{name}_1")
    y = ReLU(name=f"{name}_1_relu")(y)
    y = _conv_bn(y, filters, 3, 1, f"{name}_2")
    return _add(x, y, stride, name)


def _bottleneck_block(
    x: keras.KerasTensor, filters: int, stride: int, name: str
) -> keras.KerasTensor:
    y = _conv_bn(x, filters, 1, 1, f"{name}_1")
    y = ReLU(name=f"{name}_1_relu")(y)
    y = _conv_bn(y, filters, 3, stride, f"{name}_2")
    y = ReLU(name=f"{name}_2_relu")(y)
    y = _conv_bn(y, 4 * filters, 1, 1, f"{name}_3")
    return _add(x, y, stride, name)


def _add(x: keras.KerasTensor, y: keras.KerasTensor, stride: int, name: str) -> keras.KerasTensor:
    if x.shape != y.shape:
        x = _conv_bn(x, y.shape[-1], 1, stride, f"{name}_shortcut")
    y = Add(name=f"{name}_add")([y, x])
    return ReLU(name=f"{name}_relu")(y)


def _conv_bn(
    x: keras.KerasTensor, filters: int, kernel_size: int, stride: int, name: str
) -> keras.KerasTensor:
    padding = "same"
    if stride > 1 and kernel_size > 1:
        # "same" would pad an even image on one side only; torchvision pads both.
        x = layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
        padding = "valid"
    x = Conv2D(
        filters,
        kernel_size,
        stride,
        padding,
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
        name=f"{name}_conv",
    )(x)
    return BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)
