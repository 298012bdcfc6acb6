"""A convolution and its gradients as matrix products of patches (im2col)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def patches(x: Array, size: int, stride: int, padding: int) -> Array:
    """(n, c, h, w) -> (n, rows, columns, c * size * size): what each output sees, zeros outside.

    Works on integers as on floats.
    """
    pad = ((0, 0), (0, 0), (padding, padding), (padding, padding))
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, pad), (size, size), axis=(2, 3))
    seen = windows[:, :, ::stride, ::stride].transpose(0, 2, 3, 1, 4, 5)
    return seen.reshape(*seen.shape[:3], -1)


def convolve(seen: Array, weight: Array) -> Array:
    """Patches times weights (outputs, c, size, size) -> (n, outputs, rows, columns)."""
    return (seen @ weight.reshape(len(weight), -1).T).transpose(0, 3, 1, 2)


def weight_gradient(gradient: Array, seen: Array, weight: Array) -> Array:
    """From the gradient by the result, that by the weights."""
    rows = gradient.transpose(1, 0, 2, 3).reshape(len(weight), -1)
    return (rows @ seen.reshape(-1, seen.shape[-1])).reshape(weight.shape)


def input_gradient(
    gradient: Array, weight: Array, shape: tuple[int, ...], stride: int, padding: int
) -> Array:
    """From the gradient by the result, that by the input of `shape`."""
    n, c, h, w = shape
    size = weight.shape[-1]
    by_patch = gradient.transpose(0, 2, 3, 1) @ weight.reshape(len(weight), -1)
    rows, columns = by_patch.shape[1:3]
    by_patch = by_patch.reshape(n, rows, columns, c, size, size).transpose(0, 3, 4, 5, 1, 2)
    padded = np.zeros((n, c, h + 2 * padding, w + 2 * padding), gradient.dtype)
    for i in range(size):
        for j in range(size):
            target = padded[:, :, i : i + rows * stride : stride, j : j + columns * stride : stride]
            target += by_patch[:, :, i, j]
    return padded[:, :, padding : padding + h, padding : padding + w]
