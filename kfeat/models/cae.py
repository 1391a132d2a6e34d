"""Convolutional auto-encoders.

The study names CAE1 a convolutional auto-encoder after Masci et al. 2011 that differs from
the UNet only in having no skip connections; its exact layers were never published. What
stands here is therefore a choice, made so that a U-Net (Ronneberger et al. 2015) comes of it
by adding skips and nothing else:

* Four levels down, each halving the resolution: a 3x3 convolution of stride 2, then one of
  stride 1, both with batch normalisation and ReLU; 32, 64, 128 and 256 filters.
* A bottleneck of 32 maps, S/16 x S/16 each: a 3x3 convolution with batch normalisation and
  no ReLU, so that its values may have any sign.
* Four levels up, each doubling the resolution: a 2x2 transposed convolution of stride 2
  (U-Net's "up-convolution"), then a 3x3 convolution, both with batch normalisation and ReLU;
  128, 64, 32 and 16 filters, so that maps of one resolution have as many channels on the way
  up as on the way down.
* A 1x1 convolution to the three colours.

The 128 features are the means of the 32 bottleneck maps over the four quadrants of the
image: everything that the decoder is told, at the coarsest layout that still says where.
Pooling over quadrants is how Coates, Lee and Ng (2011, "An analysis of single-layer networks
in unsupervised feature learning", AISTATS), who made STL-10, read features off feature maps.
"""

from __future__ import annotations

import keras
from keras import layers

from kfeat.models.layers import BatchNormalization

STRIDE = 32
"""Image sides are multiples of this: 16 for four halvings, times 2 for the quadrants."""

FILTERS = (32, 64, 128, 256)
BOTTLENECK_FILTERS = 32


def cae1(image_size: int, name: str = "cae1") -> keras.Model:
    """Build the auto-encoder CAE1 with random weights.

    Args:
        image_size: side S of the square images in pixels, a multiple of 32.
        name: name of the model.

    Returns:
        A functional model: float32 [N, S, S, 3] in [0, 255] -> its reconstruction, of the
        same shape, type and range (not clipped). Layer ``features``, float32 [N, 128], reads
        the feature vector off the bottleneck.
    """
    images = keras.Input((image_size, image_size, 3), name="images")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="normalise")(images)
    for level, filters in enumerate(FILTERS, 1):
        x = _conv_bn_relu(x, filters, 2, f"down{level}_1")
        x = _conv_bn_relu(x, filters, 1, f"down{level}_2")
    x = layers.Conv2D(
        BOTTLENECK_FILTERS, 3, padding="same", use_bias=False, name="bottleneck_conv"
    )(x)
    x = BatchNormalization(momentum=0.9, epsilon=1e-5, name="bottleneck_bn")(x)
    quadrants = layers.AveragePooling2D(image_size // STRIDE, name="quadrants")(x)
    features = layers.Flatten(dtype="float32", name="features")(quadrants)
    for level in range(len(FILTERS), 0, -1):
        filters = FILTERS[level - 1] // 2
        x = layers.Conv2DTranspose(
            filters, 2, 2, use_bias=False, kernel_initializer="he_normal", name=f"up{level}_1_conv"
        )(x)
        x = BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"up{level}_1_bn")(x)
        x = layers.ReLU(name=f"up{level}_1_relu")(x)
        x = _conv_bn_relu(x, filters, 1, f"up{level}_2")
    x = layers.Conv2D(3, 1, name="colours")(x)
    reconstruction = layers.Rescaling(127.5, offset=127.5, dtype="float32", name="reconstruction")(
        x
    )
    return keras.Model(images, [reconstruction, features], name=name)


def _conv_bn_relu(x: keras.KerasTensor, filters: int, stride: int, name: str) -> keras.KerasTensor:
    x = layers.Conv2D(
        filters,
        3,
        stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    x = BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
