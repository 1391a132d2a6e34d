"""A convolution that learns by multiplying matrices, where that is faster than oneDNN.

TensorFlow hands convolutions and their gradients to oneDNN, which computes them directly. Two
other ways are used here, each where it is faster on a processor (docs/performance.md):

* by positions: what the kernel holds at one position meets the maps shifted by it, which is one
  product of matrices. What lies in the padding is left out, not multiplied by zero: on 3x3 maps,
  a 3x3 kernel needs 49 of 81 products. A kernel of 1x1 is one product.
* by Winograd's minimal filtering (`kfeat.models.winograd`), with 2 to 4 times fewer products.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import tensorflow as tf

from kfeat.models import processor, winograd

FEWEST_FOR_WINOGRAD = 32 if processor.is_narrow() else 256
"""From how many channels on, coming in and going out, Winograd's method is faster: the fewer
products a processor does at once, the more it gains from doing fewer."""

LARGEST_BY_POSITIONS = 4
"""Up to which side of the output a kernel larger than 1x1 is faster by positions."""


def is_by_winograd(
    maps: tf.Tensor, kernel_shape: Sequence[int], strides: tuple[int, int], padding: str
) -> bool:
    """Whether `convolve` takes Winograd's method, which is the fastest where it applies.

    Args:
        maps: [N, H, W, C], all but N known.
        kernel_shape: [height, width, C, F].
        strides: along height and width.
        padding: ``"valid"`` or ``"same"``.
    """
    *size, channels, filters = kernel_shape
    return (
        padding == "same"
        and tuple(strides) == (1, 1)
        and winograd.applies(maps, size)
        and min(channels, filters) >= FEWEST_FOR_WINOGRAD
    )


def convolve(
    maps: tf.Tensor, kernel: tf.Tensor, strides: tuple[int, int], padding: str
) -> tf.Tensor:
    """As `tf.nn.conv2d`, in outputs and gradients, by the method that is fastest for the shape.

    Args:
        maps: [N, H, W, C], all but N known; float32, float16 or bfloat16.
        kernel: [height, width, C, F], of the same type.
        strides: along height and width.
        padding: ``"valid"`` or ``"same"``.

    Returns:
        [N, H', W', F].
    """
    if is_by_winograd(maps, kernel.shape, strides, padding):
        return winograd.convolve(maps, kernel)
    size, kernel_size = maps.shape[1:3], kernel.shape[:2]
    output_size = [
        -(-(side - (k - 1) * (padding == "valid")) // stride)
        for side, k, stride in zip(size, kernel_size, strides, strict=True)
    ]
    by_positions = kernel_size == (1, 1) or max(output_size) <= LARGEST_BY_POSITIONS

    @tf.custom_gradient
    def convolution(maps: tf.Tensor, kernel: tf.Tensor) -> tuple:
        if by_positions:
            outputs = outputs_by_positions(maps, kernel, strides, padding)
        else:
            outputs = tf.nn.conv2d(maps, kernel, strides, padding.upper())

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            if by_positions:
                for_maps = maps_gradient(upstream, kernel, size, strides, padding)
            else:
                for_maps = tf.raw_ops.Conv2DBackpropInput(
                    input_sizes=tf.shape(maps),
                    filter=kernel,
                    out_backprop=upstream,
                    strides=[1, *strides, 1],
                    padding=padding.upper(),
                )
            return for_maps, kernel_gradient(maps, upstream, kernel_size, strides, padding)

        return outputs, gradient

    return convolution(maps, kernel)


def outputs_by_positions(
    maps: tf.Tensor, kernel: tf.Tensor, strides: tuple[int, int], padding: str
) -> tf.Tensor:
    """What comes out of a convolution, as a sum over the positions of its kernel.

    Args and returns: as `convolve`.
    """
    (height, width, channels), filters = maps.shape[1:], kernel.shape[3]
    rows = list(_overlaps(height, kernel.shape[0], strides[0], padding))
    columns = list(_overlaps(width, kernel.shape[1], strides[1], padding))
    output_size = (rows[0].outputs, columns[0].outputs)
    maps = _split(maps, strides)
    sums = []
    for row in rows:
        for column in columns:
            if row.length and column.length:
                seen = tf.reshape(_seen(maps, row, column), [-1, channels])
                product = tf.matmul(seen, kernel[row.position, column.position])
                product = tf.reshape(product, [-1, row.length, column.length, filters])
                sums.append(_placed(product, row.first, column.first, output_size))
    return tf.add_n(sums)


def maps_gradient(
    upstream: tf.Tensor,
    kernel: tf.Tensor,
    size: tuple[int, int],
    strides: tuple[int, int],
    padding: str,
) -> tf.Tensor:
    """The gradient of what was convolved, as a sum over the positions of the kernel.

    With strides, what a position contributes lies on one phase of the maps (their even rows and
    odd columns, say), so that each phase is summed alone.

    Args:
        upstream: the gradient of what came out, [N, H', W', F]; all but N known.
        kernel: [height, width, C, F].
        size: H and W of the maps.
        strides: along height and width.
        padding: ``"valid"`` or ``"same"``.

    Returns:
        [N, H, W, C].
    """
    channels, filters = kernel.shape[2:]
    # oneDNN is slow to multiply by the transpose of a float32 matrix of more columns than rows.
    turned = kernel.dtype == tf.float32 and channels < filters
    if turned:
        kernel = tf.transpose(kernel, [0, 1, 3, 2])
    phase_size = (-(-size[0] // strides[0]), -(-size[1] // strides[1]))
    phases: dict[tuple[int, int], list[tf.Tensor]] = {}
    for row in _overlaps(size[0], kernel.shape[0], strides[0], padding):
        for column in _overlaps(size[1], kernel.shape[1], strides[1], padding):
            if row.length and column.length:
                there = tf.reshape(upstream[:, row.out, column.out], [-1, filters])
                weights = kernel[row.position, column.position]
                product = tf.matmul(there, weights, transpose_b=not turned)
                product = tf.reshape(product, [-1, row.length, column.length, channels])
                top, down = row.start // strides[0], row.start % strides[0]
                left, across = column.start // strides[1], column.start % strides[1]
                placed = _placed(product, top, left, phase_size)
                phases.setdefault((down, across), []).append(placed)
    if tuple(strides) == (1, 1):
        return tf.add_n(phases[0, 0])
    whole = [side * s for side, s in zip(phase_size, strides, strict=True)]
    if list(phases) == [(0, 0)]:
        shape = [-1, phase_size[0], 1, phase_size[1], 1, channels]
        around = [[0, 0], [0, 0], [0, strides[0] - 1], [0, 0], [0, strides[1] - 1], [0, 0]]
        gradient = tf.pad(tf.reshape(tf.add_n(phases[0, 0]), shape), around)
    else:
        nothing = tf.zeros([tf.shape(upstream)[0], *phase_size, channels], upstream.dtype)
        rows = [
            tf.stack([tf.add_n(phases.get((i, j), [nothing])) for j in range(strides[1])], axis=3)
            for i in range(strides[0])
        ]
        gradient = tf.stack(rows, axis=2)
    gradient = tf.reshape(gradient, [-1, *whole, channels])
    return gradient if whole == list(size) else gradient[:, : size[0], : size[1]]


def kernel_gradient(
    maps: tf.Tensor,
    upstream: tf.Tensor,
    kernel_size: tuple[int, int],
    strides: tuple[int, int],
    padding: str,
) -> tf.Tensor:
    """The gradient of a convolution's kernel, position by position.

    Each is one product of matrices, [C, M] times [M, F], over the M places where the shifted maps
    and the outputs overlap.

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
    columns = list(_overlaps(width, kernel_size[1], strides[1], padding))
    maps = _split(maps, strides)
    products = []
    for row in _overlaps(height, kernel_size[0], strides[0], padding):
        for column in columns:
            if not (row.length and column.length):
                products.append(tf.zeros([channels, filters], maps.dtype))
                continue
            products.append(
                tf.matmul(
                    tf.reshape(_seen(maps, row, column), [-1, channels]),
                    tf.reshape(upstream[:, row.out, column.out], [-1, filters]),
                    transpose_a=True,
                )
            )
    return tf.reshape(tf.stack(products), [*kernel_size, channels, filters])


class _Overlap(NamedTuple):
    """Where a position of a kernel meets the inputs, along one axis."""

    position: int
    outputs: int
    """How many outputs there are in all."""
    first: int
    """The first output for which it meets an input."""
    length: int
    """For how many it does, one after the other."""
    start: int
    """The input that it meets for the first of them."""
    stride: int

    @property
    def out(self) -> slice:
        return slice(self.first, self.first + self.length)

    @property
    def inputs(self) -> slice:
        return slice(self.start, self.start + (self.length - 1) * self.stride + 1, self.stride)


def _overlaps(size: int, kernel_size: int, stride: int, padding: str) -> Iterator[_Overlap]:
    """For each position in a kernel, its overlap along an axis of ``size`` inputs."""
    if padding == "same":
        outputs = -(-size // stride)
        before = max((outputs - 1) * stride + kernel_size - size, 0) // 2
    else:
        outputs, before = (size - kernel_size) // stride + 1, 0
    for position in range(kernel_size):
        shift = position - before
        first = max(0, -(shift // stride))
        length = max(0, min(outputs, (size - 1 - shift) // stride + 1) - first)
        yield _Overlap(position, outputs, first, length, first * stride + shift, stride)


def _split(maps: tf.Tensor, strides: tuple[int, int]) -> tf.Tensor:
    """Maps as [N, H / strides, strides, W / strides, strides, C], where the strides divide them.

    A slice of steps of 1 out of these is much faster than one of other steps out of the maps.
    """
    height, width, channels = maps.shape[1:]
    if tuple(strides) == (1, 1) or height % strides[0] or width % strides[1]:
        return maps
    shape = [height // strides[0], strides[0], width // strides[1], strides[1], channels]
    return tf.reshape(maps, [-1, *shape])


def _seen(maps: tf.Tensor, row: _Overlap, column: _Overlap) -> tf.Tensor:
    """What a position meets of maps, or of maps that were split."""
    if len(maps.shape) == 4:
        return maps[:, row.inputs, column.inputs]
    (top, down), (left, across) = (divmod(o.start, o.stride) for o in (row, column))
    return maps[:, top : top + row.length, down, left : left + column.length, across]


def _placed(part: tf.Tensor, top: int, left: int, size: tuple[int, int]) -> tf.Tensor:
    """Maps [N, *, *, C] within zeros, from row ``top`` and column ``left`` on."""
    height, width = part.shape[1:3]
    if (height, width) == tuple(size):
        return part
    around = [[top, size[0] - height - top], [left, size[1] - width - left]]
    return tf.pad(part, [[0, 0], *around, [0, 0]])
