"""Convolutional auto-encoders.

CAE1 is a convolutional auto-encoder after Masci et al. 2011 that, the study says, differs from
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

CAE2 has a bottleneck of fully connected layers between encoder and decoder, says the study, and
no more. Here it is CAE1, with two fully connected layers after the bottleneck maps, as in
DCEC (Guo et al. 2017, "Deep clustering with convolutional autoencoders", ICONIP), on which
the study builds: a linear one of 128, the features, and one with ReLU back to the maps.

CAE3 is the auto-encoder of Blanco-Mallo et al. 2020 ("On the effectiveness of convolutional
autoencoders on image-based personalized recommender systems", XoveTIC, arXiv 2003.06205). Of
that paper only the title and the abstracts (arXiv's and the proceedings') could be had. They
say that a convolutional auto-encoder, trained beforehand, serves as the feature extractor for
photographs, in place of the features of a convolutional classifier. They name no layer, and
neither does the study: every layer here is a choice, the plain textbook auto-encoder, which has
what CAE1 has not (max pooling, nearest-neighbour upsampling, biases) and lacks what CAE1 has
(strides, transposed convolutions, batch normalisation). The features are the means over the
image of its 128 innermost maps, as they are commonly read off a classifier, with which the
paper compares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
from keras import layers

from kfeat.models.catalog import FEATURE_SIZE
from kfeat.models.layers import BatchNormalization, Conv2D, Conv2DTranspose, ReLU

FILTERS = (32, 64, 128, 256)
BOTTLENECK_FILTERS = FEATURE_SIZE // 4  # a feature is a map's mean over one of four quadrants
CAE3_FILTERS = (16, 32, 64, FEATURE_SIZE)


def cae1(image_size: int, name: str = "cae1") -> keras.Model:
    """Build the auto-encoder CAE1 with random weights.

    Args:
        image_size: side S of the square images in pixels, a multiple of 32: 16 for four
            halvings, times 2 for the quadrants.
        name: name of the model.

    Returns:
        A functional model: float32 [N, S, S, 3] in [0, 255] -> its reconstruction, of the
        same shape, type and range (not clipped). Layer ``features``, float32 [N, 128], reads
        the feature vector off the bottleneck.
    """
    return quadrant_autoencoder(image_size, name, skips=False)


def cae2(image_size: int, name: str = "cae2") -> keras.Model:
    """Build the auto-encoder CAE2, with a fully connected bottleneck, with random weights.

    Its number of weights depends on the image size.

    Args:
        image_size: side S of the square images in pixels, a multiple of 16.
        name: name of the model.

    Returns:
        As `cae1`; layer ``features``, float32 [N, 128], is all that the decoder is told.
    """
    images, maps = _encode(image_size)
    shape = maps[-1].shape[1:]
    x = layers.Flatten(name="flatten")(maps[-1])
    features = layers.Dense(FEATURE_SIZE, dtype="float32", name="features")(x)
    x = layers.Dense(
        math.prod(shape), activation="relu", kernel_initializer="he_normal", name="expand"
    )(features)
    x = layers.Reshape(shape, name="expand_maps")(x)
    return keras.Model(images, [_decode(x), features], name=name)


def cae3(image_size: int, name: str = "cae3") -> keras.Model:
    """Build the auto-encoder CAE3 with random weights.

    Args:
        image_size: side S of the square images in pixels, a multiple of 16.
        name: name of the model.

    Returns:
        As `cae1`; layer ``features``, float32 [N, 128], holds the means of the innermost maps.
    """
    images = keras.Input((image_size, image_size, 3), name="images")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="normalise")(images)
    for level, filters in enumerate(CAE3_FILTERS, 1):
        x = _conv_relu(x, filters, f"down{level}")
        x = layers.MaxPooling2D(2, name=f"down{level}_pool")(x)
    features = layers.GlobalAveragePooling2D(dtype="float32", name="features")(x)
    for level in range(len(CAE3_FILTERS), 0, -1):
        x = layers.UpSampling2D(2, name=f"up{level}_double")(x)
        x = _conv_relu(x, CAE3_FILTERS[level - 1], f"up{level}")
    return keras.Model(images, [_to_images(x), features], name=name)


def quadrant_autoencoder(image_size: int, name: str, *, skips: bool) -> keras.Model:
    """Build CAE1, or with ``skips`` the UNet; see `cae1`."""
    images, maps = _encode(image_size)
    bottleneck = maps[-1]
    quadrants = layers.AveragePooling2D(bottleneck.shape[1] // 2, name="quadrants")(bottleneck)
    features = layers.Flatten(dtype="float32", name="features")(quadrants)
    reconstruction = _decode(bottleneck, maps[:-2] if skips else ())
    return keras.Model(images, [reconstruction, features], name=name)


def _encode(image_size: int) -> tuple[keras.KerasTensor, list[keras.KerasTensor]]:
    """Return the images and, level by level, the last maps of each, the bottleneck's at the end."""
    images = keras.Input((image_size, image_size, 3), name="images")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="normalise")(images)
    maps = []
    for level, filters in enumerate(FILTERS, 1):
        x = _conv_bn_relu(x, filters, 2, f"down{level}_1")
        x = _conv_bn_relu(x, filters, 1, f"down{level}_2")
        maps.append(x)
    x = Conv2D(BOTTLENECK_FILTERS, 3, padding="same", use_bias=False, name="bottleneck_conv")(x)
    x = BatchNormalization(momentum=0.9, epsilon=1e-5, name="bottleneck_bn")(x)
    return images, [*maps, x]


def _decode(x: keras.KerasTensor, skipped: Sequence[keras.KerasTensor] = ()) -> keras.KerasTensor:
    """Return the reconstruction from maps of S/16; ``skipped`` are maps of S/2, S/4, S/8."""
    for level in range(len(FILTERS), 0, -1):
        filters = FILTERS[level - 1] // 2
        x = Conv2DTranspose(
            filters, 2, 2, use_bias=False, kernel_initializer="he_normal", name=f"up{level}_1_conv"
        )(x)
        x = BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"up{level}_1_bn")(x)
        x = ReLU(name=f"up{level}_1_relu")(x)
        if skipped and level > 1:
            x = layers.Concatenate(name=f"up{level}_skip")([x, skipped[level - 2]])
        x = _conv_bn_relu(x, filters, 1, f"up{level}_2")
    return _to_images(x)


def _to_images(x: keras.KerasTensor) -> keras.KerasTensor:
    x = layers.Conv2D(3, 1, name="colours")(x)
    return layers.Rescaling(127.5, offset=127.5, dtype="float32", name="reconstruction")(x)


def _conv_relu(x: keras.KerasTensor, filters: int, name: str) -> keras.KerasTensor:
    return Conv2D(
        filters,
        3,
        padding="same",
        activation="relu",
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)


def _conv_bn_relu(x: keras.KerasTensor, filters: int, stride: int, name: str) -> keras.KerasTensor:
    x = Conv2D(
        filters,
        3,
        stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    x = BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)
    return ReLU(name=f"{name}_relu")(x)
