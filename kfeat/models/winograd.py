"""Convolution with 3x3 kernels by Winograd's minimal filtering.

A tile of m x m outputs takes (m + 2)**2 products of a channel instead of 9 m**2: in place of
the pixels and weights themselves, fixed linear combinations of them are multiplied, and the
outputs are combinations of the products. With combinations for all tiles at once, the products
are (m + 2)**2 products of matrices, [tiles, C] times [C, F].

Source: Lavin and Gray 2016, "Fast algorithms for convolutional neural networks", CVPR, arXiv
1509.09308; the combinations are derived here by the method of Cook and Toom (Winograd 1980,
"Arithmetic complexity of computations"), from the points 0, 1, -1, 2, -2 and infinity.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import tensorflow as tf

from kfeat.models import processor

KERNEL = 3
POINTS = (0, 1, -1, 2, -2)
TILES = (2, 3, 4)
"""Sides m of a tile. Larger ones need points farther apart, and lose digits."""

LEAST_TO_COMPILE = 2**13
"""From how many values an image on maps are combined along rows and then along columns, in loops
that XLA compiles: a third of the operations, and tiles are not cut out beforehand. To have them
compiled takes a second for each shape, the size of the batch included, which smaller maps do not
bring in soon."""


def applies(maps: tf.Tensor, kernel_size: Sequence[int]) -> bool:
    """Whether `convolve` can, and saves products: 3x3 kernels on float32 maps, but the smallest.

    In bfloat16 the combinations would be rounded to 8 bits each. Of maps of 2x2, a kernel meets
    no more pixels than a tile has products.
    """
    if tuple(kernel_size) != (KERNEL, KERNEL) or maps.dtype != tf.float32:
        return False
    height, width = maps.shape[1:3]
    met = (KERNEL * height - 2) * (KERNEL * width - 2)
    return min(products(tile, height, width) for tile in TILES) < met


def products(tile: int, height: int, width: int) -> int:
    """How many products of a channel maps take, cut into tiles of a side."""
    return (tile + KERNEL - 1) ** 2 * -(-height // tile) * -(-width // tile)


def convolve(maps: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """As `tf.nn.conv2d` with strides of 1 and "same" padding, in outputs and gradients.

    They differ from it as rounding goes: in norm by some 2e-7 (m = 2) to 2e-6 (m = 4) of it.

    Args:
        maps: float32 [N, H, W, C], all but N known.
        kernel: float32 [3, 3, C, F].

    Returns:
        float32 [N, H, W, F].
    """
    tiling = _Tiling(*maps.shape[1:3])

    @tf.custom_gradient
    def convolution(maps: tf.Tensor, kernel: tf.Tensor) -> tuple:
        combined = tiling.combine_inputs(maps)
        outputs = tiling.outputs(combined, tiling.combine_kernel(kernel), transpose=False)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # It comes as slices from `tf.gather`, and of unknown shape from other functions.
            upstream = tf.ensure_shape(tf.convert_to_tensor(upstream), outputs.shape)
            # The maps' gradient is a convolution too, with the kernel turned around.
            turned = tiling.combine_kernel(kernel, turned=True)
            for_maps = tiling.outputs(tiling.combine_inputs(upstream), turned, transpose=True)
            return for_maps, tiling.kernel_gradient(combined, upstream)

        return outputs, gradient

    return convolution(maps, kernel)


class _Tiling:
    """Maps of one size, cut into tiles: [N, H, W, C] as [(m + 2)**2, N * tiles, C]."""

    def __init__(self, height: int, width: int) -> None:
        self.size = (height, width)
        self.tile = min(TILES, key=lambda tile: products(tile, height, width))
        self.rows, self.columns = -(-height // self.tile), -(-width // self.tile)
        self.transforms = transforms(self.tile)

    def combine_inputs(self, maps: tf.Tensor) -> tf.Tensor:
        """[N, H, W, C] -> [(m + 2)**2, N * tiles, C], from overlapping patches."""
        _, for_inputs, _ = self.transforms
        return self._combine_squares(for_inputs, maps, 1)

    def combine_kernel(self, kernel: tf.Tensor, turned: bool = False) -> tf.Tensor:
        """[3, 3, C, F] -> [(m + 2)**2, C, F]; of the kernel turned by 180 degrees if ``turned``."""
        *_, for_kernel = self.transforms
        transform = np.kron(for_kernel, for_kernel)
        if turned:
            transform = transform[:, ::-1]
        return _combine(transform, tf.reshape(kernel, [KERNEL**2, *kernel.shape[2:]]))

    def outputs(self, combined: tf.Tensor, kernel: tf.Tensor, transpose: bool) -> tf.Tensor:
        """Multiply combined inputs and kernel: [N, H, W, F]; of [F, C] kernels if ``transpose``."""
        products = tf.matmul(combined, kernel, transpose_b=transpose)
        depth = products.shape[2]
        for_outputs, *_ = self.transforms
        if is_compiled(*self.size, depth):
            matrix = tf.constant(for_outputs, tf.float32)
            maps = _spread_rows(matrix, products, self.rows, self.columns)
            maps = _spread_columns(matrix, maps)[:, : self.size[0], : self.size[1]]
        else:
            tiles = _combine(np.kron(for_outputs, for_outputs), products)
            count = tf.shape(tiles)[1]
            row, column = np.indices(self.size)
            within = row % self.tile * self.tile + column % self.tile
            tile = row // self.tile * self.columns + column // self.tile
            first = tf.range(0, count, self.rows * self.columns)[:, None, None]
            places = within.astype(np.int32) * count + tile.astype(np.int32) + first
            maps = tf.gather(tf.reshape(tiles, [-1, depth]), places)
        return tf.ensure_shape(maps, [None, *self.size, depth])

    def kernel_gradient(self, combined: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
        """The transposes of `outputs` and `combine_kernel`: [3, 3, C, F]."""
        for_outputs, _, for_kernel = self.transforms
        products = self._combine_squares(for_outputs.T, upstream, 0)
        kernel = tf.matmul(combined, products, transpose_a=True)
        kernel = _combine(np.kron(for_kernel, for_kernel).T, kernel)
        return tf.reshape(kernel, [KERNEL, KERNEL, *kernel.shape[1:]])

    def _combine_squares(self, transform: np.ndarray, maps: tf.Tensor, before: int) -> tf.Tensor:
        """Combine squares, a tile apart, from ``before`` the maps on: [P**2, N * tiles, C].

        Args:
            transform: [P, Q], for both axes of squares of Q pixels a side.
            maps: [N, H, W, C].
            before: how far above the maps, and to their left, the first square begins.
        """
        side, depth = transform.shape[1], maps.shape[3]
        height, width = ((n - 1) * self.tile + side for n in (self.rows, self.columns))
        after = [height - before - self.size[0], width - before - self.size[1]]
        if before or any(after):
            maps = tf.pad(maps, [[0, 0], [before, after[0]], [before, after[1]], [0, 0]])
        if is_compiled(*self.size, depth):
            matrix = tf.constant(transform, tf.float32)
            return _combine_columns(matrix, _combine_rows(matrix, maps, self.tile), self.tile)
        row, column, down, across = np.indices((side, side, self.rows, self.columns))
        places = (down * self.tile + row) * width + across * self.tile + column
        places = places.reshape(side**2, 1, -1).astype(np.int32)
        first = tf.range(tf.shape(maps)[0])[:, None] * (height * width)
        flat = tf.reshape(maps, [-1, depth])
        patches = tf.gather(flat, tf.reshape(places + first, [side**2, -1]))
        return _combine(np.kron(transform, transform), patches)


def is_compiled(height: int, width: int, depth: int) -> bool:
    """Whether maps of a size are combined in compiled loops."""
    return height * width * depth >= LEAST_TO_COMPILE and "avx2" in processor.flags()


def _combine(transform: np.ndarray, values: tf.Tensor) -> tf.Tensor:
    """[P, Q] transform of [Q, A, B] values: [P, A, B]."""
    matrix = tf.constant(transform, tf.float32)
    combined = tf.matmul(matrix, tf.reshape(values, [values.shape[0], -1]))
    return tf.reshape(combined, [transform.shape[0], -1, values.shape[2]])


def _weighted(matrix: tf.Tensor, parts: Sequence[tf.Tensor], axis: int) -> tf.Tensor:
    """[P, Q] transform of Q parts, along a new axis."""
    terms = [tf.expand_dims(part, axis) for part in parts]
    shape = [-1 if i == axis else 1 for i in range(len(terms[0].shape))]
    return tf.add_n([tf.reshape(matrix[:, q], shape) * term for q, term in enumerate(terms)])


# XLA would compute rows anew for each column that they are needed for, if both were one function.


@tf.function(jit_compile=True)
def _combine_rows(matrix: tf.Tensor, maps: tf.Tensor, tile: int) -> tf.Tensor:
    """[P, Q] transform of Q rows from every tile-th on: [N, H, W, C] -> [N, rows, P, W, C]."""
    last = maps.shape[1] - matrix.shape[1] + 1
    rows = [maps[:, q : q + last : tile] for q in range(matrix.shape[1])]
    return _weighted(matrix, rows, 2)


@tf.function(jit_compile=True)
def _combine_columns(matrix: tf.Tensor, maps: tf.Tensor, tile: int) -> tf.Tensor:
    """The same of columns: [N, rows, P, W, C] -> [P**2, N * rows * columns, C]."""
    last = maps.shape[3] - matrix.shape[1] + 1
    maps = tf.transpose(maps, [2, 0, 1, 3, 4])
    columns = [maps[:, :, :, q : q + last : tile] for q in range(matrix.shape[1])]
    return tf.reshape(_weighted(matrix, columns, 1), [matrix.shape[0] ** 2, -1, maps.shape[4]])


@tf.function(jit_compile=True)
def _spread_rows(matrix: tf.Tensor, products: tf.Tensor, rows: int, columns: int) -> tf.Tensor:
    """[m, P] transform: [P**2, N * rows * columns, F] -> [P, N, rows, m, columns, F]."""
    side = matrix.shape[1]
    tiles = tf.reshape(products, [side, side, -1, rows, columns, products.shape[2]])
    return _weighted(matrix, tf.unstack(tiles), 3)


@tf.function(jit_compile=True)
def _spread_columns(matrix: tf.Tensor, tiles: tf.Tensor) -> tf.Tensor:
    """The same of columns: [P, N, rows, m, columns, F] -> [N, rows * m, columns * m, F]."""
    rows, m, columns, depth = tiles.shape[2:]
    maps = _weighted(matrix, tf.unstack(tiles), 4)
    return tf.reshape(maps, [-1, rows * m, columns * m, depth])


@functools.cache
def transforms(tile: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The combinations for tiles of a side m, along one axis.

    Returns:
        float64 [m, m + 2], [m + 2, m + 2] and [m + 2, 3]: the transposed A and B, and G, of Lavin
        and Gray, with which the m outputs of a kernel g on inputs d are A'((G g) * (B'd)).
    """
    patch = tile + KERNEL - 1
    points = POINTS[: patch - 1]

    def values_at_points(terms: int) -> list[list[Fraction]]:
        powers = [[Fraction(point) ** n for n in range(terms)] for point in points]
        return [*powers, [Fraction(n == terms - 1) for n in range(terms)]]

    for_outputs = np.array(values_at_points(tile), float).T
    for_kernel = values_at_points(KERNEL)
    for_inputs = [list(row) for row in zip(*_inverse(values_at_points(patch)), strict=True)]
    for i, row in enumerate(for_inputs):  # whole numbers for the inputs: the kernel's are fewer
        scale = np.lcm.reduce([value.denominator for value in row])
        for_inputs[i] = [value * int(scale) for value in row]
        for_kernel[i] = [value / int(scale) for value in for_kernel[i]]
    return for_outputs, np.array(for_inputs, float), np.array(for_kernel, float)


def _inverse(matrix: list[list[Fraction]]) -> list[list[Fraction]]:
    """The exact inverse, by Gauss and Jordan."""
    size = len(matrix)
    rows = [[*row, *(Fraction(i == j) for j in range(size))] for i, row in enumerate(matrix)]
    for column in range(size):
        pivot = next(i for i in range(column, size) if rows[i][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [value / rows[column][column] for value in rows[column]]
        for i in range(size):
            if i != column:
                factor = rows[i][column]
                rows[i] = [v - factor * p for v, p in zip(rows[i], rows[column], strict=True)]
    return [row[size:] for row in rows]
