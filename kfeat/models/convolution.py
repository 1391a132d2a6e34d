"""A convolution whose gradient for the kernel is computed by multiplying matrices."""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow as tf


def convolve(
    maps: tf.Tensor, kernel: tf.Tensor, strides: tuple[int, int], padding: str
) -> tf.Tensor:
    """As `tf.nn.conv2d`, with `kernel_gradient` for the gradient of the kernel.

    Args:
        maps: [N, H, W, C].
        kernel: [height, width, C, F], of the same type.
        strides: along height and width.
        padding: ``"valid"`` or ``"same"``.

    Returns:
        [N, H', W', F].
    """

    @tf.custom_gradient
    def convolution(maps: tf.Tensor, kernel: tf.Tensor) -> tuple:
        outputs = tf.nn.conv2d(maps, kernel, strides, padding.upper())

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            for_maps = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(maps),
                filter=kernel,
                out_backprop=upstream,
                strides=[1, *strides, 1],
                padding=padding.upper(),
            )
            return for_maps, kernel_gradient(maps, upstream, kernel.shape[:2], strides, padding)

        return outputs, gradient

    return convolution(maps, kernel)


def kernel_gradient(
    maps: tf.Tensor,
    upstream: tf.Tensor,
    kernel_size: tuple[int, int],
    strides: tuple[int, int],
    padding: str,
) -> tf.Tensor:
    """The gradient of a convolution's kernel, position by position.

    What the kernel holds at one position meets the maps shifted by it, so that its gradient is
    one product of matrices, [C, M] times [M, F], over the M places where the shifted maps and
    the outputs overlap. What lies in the padding is left out, not multiplied by zero: on 3x3
    maps, a 3x3 kernel needs 49 of 81 products.

    Args:
        maps: what was convolved, [N, H, W, C]; all but N known.
        upstream: the gradient of what came out, [N, H', W', F]; all but N known.
        kernel_size: height and width of the kernel.
        strides: along height and width.
        padding: ``"valid"`` or ``"same"``.

    Returns:
        [height, width, C, F].
    """
    (height, width, channels), filters = maps.shape[1:], upstream.shape[3]
    rows = list(_overlaps(height, kernel_size[0], strides[0], padding))
    columns = list(_overlaps(width, kernel_size[1], strides[1], padding))
    folded = height % strides[0] == width % strides[1] == 0 and strides != (1, 1)
    if folded:  # a slice of steps of 1, which is much faster than one of other steps
        shape = [-1, height // strides[0], strides[0], width // strides[1], strides[1], channels]
        maps = tf.reshape(maps, shape)
    products = []
    for row, row_out in rows:
        for column, column_out in columns:
            if row_out.start >= row_out.stop or column_out.start >= column_out.stop:
                products.append(tf.zeros([channels, filters], maps.dtype))
                continue
            if folded:
                top, down = _within(row, strides[0])
                left, across = _within(column, strides[1])
                seen = maps[:, down, top, across, left]
            else:
                seen = maps[:, row, column]
            products.append(
                tf.matmul(
                    tf.reshape(seen, [-1, channels]),
                    tf.reshape(upstream[:, row_out, column_out], [-1, filters]),
                    transpose_a=True,
                )
            )
    return tf.reshape(tf.stack(products), [*kernel_size, channels, filters])


def _overlaps(
    size: int, kernel_size: int, stride: int, padding: str
) -> Iterator[tuple[slice, slice]]:
    """For each position in a kernel: the inputs that it meets, and the outputs that they are for.

    All along one axis of ``size`` inputs.
    """
    if padding == "same":
        outputs = -(-size // stride)
        before = max((outputs - 1) * stride + kernel_size - size, 0) // 2
    else:
        outputs, before = (size - kernel_size) // stride + 1, 0
    for position in range(kernel_size):
        shift = position - before
        first = max(0, -(shift // stride))
        stop = min(outputs, (size - 1 - shift) // stride + 1)
        start = first * stride + shift
        yield slice(start, start + (stop - first - 1) * stride + 1, stride), slice(first, stop)


def _within(inputs: slice, stride: int) -> tuple[int, slice]:
    """Where inputs lie on an axis that is split into [size / stride, stride]."""
    start, phase = divmod(inputs.start, stride)
    return phase, slice(start, (inputs.stop - 1) // stride + 1)
