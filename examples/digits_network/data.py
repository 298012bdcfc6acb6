"""scikit-learn's digits in three parts: to train on, to calibrate with, to test with."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

Array = npt.NDArray[Any]

TEST = 500
CALIBRATION = 200


class Digits(NamedTuple):
    """Images of shape (n, 1, 8, 8), pixels 0 ... 1, and their labels."""

    train: Array
    train_labels: Array
    calibration: Array
    test: Array
    test_labels: Array


def digits() -> Digits:
    """The 1797 images, shuffled with a fixed seed; calibration needs no labels."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    x = (images[order] / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    y = labels[order]
    first = TEST + CALIBRATION
    return Digits(x[first:], y[first:], x[TEST:first], x[:TEST], y[:TEST])
