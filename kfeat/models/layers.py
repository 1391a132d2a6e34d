"""Layers that Keras has not, or has slower."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import tensorflow as tf

from kfeat.errors import InputError
from kfeat.models import processor
from kfeat.models.convolution import convolve, is_by_winograd
from kfeat.models.normalization import Normalization, applies

if keras.backend.backend() != "tensorflow":
    raise InputError(
        f"KERAS_BACKEND is {keras.backend.backend()!r}: kfeat runs on 'tensorflow', unset it"
    )
if keras.config.image_data_format() != "channels_last":
    raise InputError(
        "Keras's image_data_format is 'channels_first': kfeat's images have their channels last, "
        "change it in ~/.keras/keras.json"
    )
if keras.config.floatx() != "float32":
    raise InputError(
        f"Keras's floatx is {keras.config.floatx()!r}: kfeat's weights are float32, change it in "
        "~/.keras/keras.json"
    )


@keras.saving.register_keras_serializable(package="kfeat")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization`, computed by TensorFlow's fused kernel.

    Outputs, gradients and moving statistics are those of Keras's own layer (the biased batch
    variance goes into the moving variance); arguments are the same. Keras 3 composes the
    normalisation from single operations on the TensorFlow backend, each of which walks
    through the whole activation; the fused kernel (``FusedBatchNormV3``) does it in two
    passes forward and two backward. Where the kernel does not apply (other ranks than 4,
    another axis than the last, a mask, no scale or no centre, renormalisation,
    synchronisation between replicas, float64, weights that are not float32, training with frozen
    statistics on a GPU), Keras's own code runs.

    In training on large float32 maps, on a processor with AVX2, what XLA compiles runs in place of
    the fused kernel, together with a `ReLU`, or an `Add` and a `ReLU`, that follow; see
    `kfeat.models.normalization`. As Keras's softmax does for a cross-entropy, the layer leaves word
    on its output of how to compute what follows from its input.

    Input and output: float32, float16 or bfloat16 [N, H, W, C].

    Source: Ioffe and Szegedy 2015, arXiv 1502.03167.
    """

    def call(
        self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Normalise ``inputs``; with the batch's statistics if ``training``."""
        fusable = (
            mask is None
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and self.scale
            and self.center
            and not getattr(self, "renorm", False)  # since Keras 3.14
            and not self.synchronized
            and inputs.dtype in ("float32", "float16", "bfloat16")
            and self.variable_dtype == "float32"
            # On a GPU, the kernel's gradient by moving statistics is not deterministic.
            and not (training and not self.trainable and tf.config.list_physical_devices("GPU"))
        )
        if not fusable:
            return super().call(inputs, training=training, mask=mask)
        options: dict[str, Any] = {"epsilon": self.epsilon, "data_format": "NHWC"}
        gamma, beta = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
        if not (training and self.trainable):
            outputs, *_ = tf.raw_ops.FusedBatchNormV3(
                x=inputs,
                scale=gamma,
                offset=beta,
                mean=tf.convert_to_tensor(self.moving_mean),
                variance=tf.convert_to_tensor(self.moving_variance),
                is_training=False,
                **options,
            )
            return outputs
        if applies(inputs):
            normalization = Normalization.of(inputs, gamma, beta, self.epsilon)
            mean, variance = normalization.mean, normalization.variance
            outputs = normalization.outputs()
            if not tf.executing_eagerly():  # in a graph, what nobody reads is not computed
                outputs._kfeat_rectified = normalization.rectified
                outputs._kfeat_rectified_with = normalization.rectified_with
        else:
            empty = tf.zeros([0], tf.float32)
            outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=inputs,
                scale=gamma,
                offset=beta,
                mean=empty,
                variance=empty,
                is_training=True,
                **options,
            )
            # The kernel returns the unbiased variance, n / (n - 1) times the biased one.
            n = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], variance.dtype)
            variance = variance * ((n - 1) / n)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return outputs


@keras.saving.register_keras_serializable(package="kfeat")
class ReLU(keras.layers.ReLU):
    """`keras.layers.ReLU`, in one walk through memory with a `BatchNormalization` before it.

    Outputs, gradients and arguments are those of Keras's own layer; but where it is one walk, there
    is no gradient by what the batch normalisation put out, only by what went into it.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return ``inputs``, with 0 for what is negative."""
        rectified = getattr(inputs, "_kfeat_rectified", None)
        if rectified and self.max_value is None and not self.negative_slope and not self.threshold:
            return rectified()
        return super().call(inputs)


@keras.saving.register_keras_serializable(package="kfeat")
class Add(keras.layers.Add):
    """`keras.layers.Add`, in one walk with a `BatchNormalization` before it and a `ReLU` after it.

    Outputs, gradients and arguments are those of Keras's own layer.
    """

    def call(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        """Return the sum of ``inputs``."""
        outputs = super().call(inputs)
        if len(inputs) == 2:
            for one, other in (inputs, inputs[::-1]):
                rectified_with = getattr(one, "_kfeat_rectified_with", None)
                if rectified_with and (one.shape, one.dtype) == (other.shape, other.dtype):
                    outputs._kfeat_rectified = functools.partial(rectified_with, other)
                    break
        return outputs


@keras.saving.register_keras_serializable(package="kfeat")
class Rescaling(keras.layers.Rescaling):
    """`keras.layers.Rescaling`, faster for a scale and an offset of each channel.

    Outputs and arguments are those of Keras's own layer. TensorFlow multiplies images by three
    numbers pixel by pixel; by a row of pixels' worth of them it uses vector instructions.

    Input and output: float32, float16 or bfloat16 [N, H, W, C].
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return ``inputs * scale + offset``."""
        if len(inputs.shape) != 4 or None in inputs.shape[1:]:
            return super().call(inputs)
        _, height, width, channels = inputs.shape
        scale, offset = (
            tf.tile(tf.broadcast_to(tf.cast(value, self.compute_dtype), [channels]), [width])
            for value in (self.scale, self.offset)
        )
        rows = tf.cast(tf.reshape(inputs, [-1, height, width * channels]), self.compute_dtype)
        outputs = rows * scale + offset
        return tf.reshape(outputs, [-1, height, width, channels])


@keras.saving.register_keras_serializable(package="kfeat")
class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D`, whose kernel learns by multiplying matrices where that is faster.

    Outputs and gradients are those of Keras's own layer; arguments are the same. On a processor,
    oneDNN's gradient of a kernel is slow where there are many channels, and small maps with
    them, as in the later stages of a network, and for kernels of 1x1; see
    `kfeat.models.convolution.kernel_gradient`. In training, bfloat16 that a processor cannot
    multiply is computed as float32, and rounded: TensorFlow's own gradients take ten times as
    long. On a GPU, and where the product does not apply (groups, dilation, channels first), Keras's
    own code runs.

    Input and output: float32, float16 or bfloat16 [N, H, W, C].
    """

    SMALLEST: ClassVar = {
        "bfloat16": 2**13 if processor.is_narrow() else 2**14,
        "float32": 2**12 if processor.is_narrow() else 2**15,
    }
    """By type, from how many weights on, at each position of a kernel larger than 1x1, the
    products are faster where Winograd's method does not apply."""

    PER_OUTPUT: ClassVar = {"bfloat16": (512, 32)} if processor.is_narrow() else {}
    """By type, how many of these weights it takes for each pixel of a map that comes out; for a
    kernel that moves by one pixel, and for one with strides. On large maps, copies cost more."""

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Convolve ``inputs``, for a gradient to be asked for if ``training``."""
        if not (training and self._is_plain(inputs)):
            return super().call(inputs)
        maps, kernel = _multipliable(inputs, tf.convert_to_tensor(self.kernel))
        if self._multiplies(maps):
            outputs = convolve(maps, kernel, self.strides, self.padding)
        elif maps is not inputs:
            outputs = tf.nn.conv2d(maps, kernel, self.strides, self.padding.upper())
        else:
            return super().call(inputs)
        return _finished(self, outputs, inputs.dtype)

    def _is_plain(self, inputs: tf.Tensor) -> bool:
        return (
            self.data_format == "channels_last"
            and self.padding in ("valid", "same")
            and self.dilation_rate == (1, 1)
            and self.groups == 1
            and None not in inputs.shape[1:]
            and not tf.config.list_physical_devices("GPU")
        )

    def _multiplies(self, inputs: tf.Tensor) -> bool:
        if self.kernel_size == (1, 1):
            return True
        if is_by_winograd(inputs, self.kernel.shape, self.strides, self.padding):
            return True
        dtype = inputs.dtype.name
        weights = inputs.shape[3] * self.filters
        _, height, width, _ = self.compute_output_shape(inputs.shape)
        dense, strided = self.PER_OUTPUT.get(dtype, (0, 0))
        per_output = dense if self.strides == (1, 1) else strided
        return weights >= max(self.SMALLEST.get(dtype, float("inf")), per_output * height * width)


@keras.saving.register_keras_serializable(package="kfeat")
class Conv2DTranspose(keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose`; bfloat16 that a processor cannot multiply as in `Conv2D`.

    Outputs, gradients and arguments are those of Keras's own layer.

    Input and output: float32, float16 or bfloat16 [N, H, W, C].
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Convolve ``inputs``, transposed."""
        maps, kernel = _multipliable(inputs, tf.convert_to_tensor(self.kernel))
        if maps is inputs or self.data_format != "channels_last":
            return super().call(inputs)
        outputs = keras.ops.conv_transpose(
            maps,
            kernel,
            strides=self.strides,
            padding=self.padding,
            output_padding=self.output_padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )
        return _finished(self, outputs, inputs.dtype)


def _multipliable(*tensors: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Return tensors as they are, or as float32 where they are bfloat16 and are to be emulated."""
    emulated = (
        tensors[0].dtype == "bfloat16"
        and not processor.bfloat16_flags()
        and not tf.config.list_physical_devices("GPU")
    )
    return tuple(tf.cast(tensor, tf.float32) for tensor in tensors) if emulated else tensors


def _finished(layer: keras.layers.Layer, outputs: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Return what a layer has convolved with its bias and its activation, of a type."""
    if layer.use_bias:
        bias = tf.cast(tf.convert_to_tensor(layer.bias), outputs.dtype)
        outputs = tf.nn.bias_add(outputs, bias)
    return layer.activation(tf.cast(outputs, dtype))
