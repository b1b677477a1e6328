"""Models and bytes that the tests of the archive share."""

import keras
import numpy as np
import pytest

import tfcomp


def compressed(model, sparsity=0.9, values=15):
    """Prunes and clusters the kernels of a model."""
    rng = np.random.default_rng(0)
    for target in tfcomp.targets.find(model):
        table = rng.standard_normal(values).astype("float32")
        kept = rng.random(target.variable.shape) >= sparsity
        picks = table[rng.integers(0, values, target.variable.shape)]
        target.variable.assign(np.where(kept, picks, 0))
    return model


@pytest.fixture
def convnet():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    return compressed(model)
