"""What tests of the kernels of files share."""

import functools

import keras
import numpy as np
import pytest

import tfcomp

K, T = keras.layers, tfcomp.layers


def always(monkeypatch):
    """Kernels are chosen wherever there are any, the later ones before the first."""
    from tfcomp.exporters.files import choice

    def seconds(calls):
        for call in calls:
            call()
        return 1.0 / (1 + np.arange(len(calls)))

    monkeypatch.setattr(choice, "seconds_of", seconds)


def settled(model, seed=0):
    """Random weights and statistics, at which signs of both kinds appear."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, K.BatchNormalization):
            size = layer.gamma.shape
            layer.set_weights(
                [rng.normal(size=size), rng.normal(size=size) * 0.3]
                + [rng.normal(size=size) * 3, rng.uniform(5, 50, size)]
            )
    return model


def mixed(pixels):
    """A convolution, a layer of each position, and binary and quantized ones beside each other."""
    x = keras.Input((6, 6, 3))
    z = K.GlobalAveragePooling2D()(pixels(K.Conv2D(8, 3, activation="relu")(x)))
    a = T.BinaryDense(16, scale=True, input_scale=True, bias_initializer="ones")(z)
    b = T.DoReFaDense(16, weight_bits=3)(z)
    y = K.Dense(4)(K.Concatenate()([a, b]))
    return keras.Model(x, [y, K.Softmax()(a)])


def images(model, batch, seed=1):
    """Whole and half numbers, zeros among them: no sum of them is rounded."""
    shape = (batch, *model.input_shape[1:])
    return (np.random.default_rng(seed).integers(-4, 5, shape) / 2).astype("float32")


def computed(path, format, inputs):
    """What a file computes of inputs."""
    from tfcomp.exporters.engines import RUNTIMES

    (outputs,) = RUNTIMES[format](str(path), 1).prepare([inputs])()
    return outputs


@functools.cache
def needs(*packages):
    """Mark of tests that run where packages are installed."""
    import importlib.util

    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {' and '.join(packages)}")
