"""Keras's own tests of Dense and the convolutions, with the quantized layers in their place.

Without quantizers a quantized layer is the Keras layer, so it has to pass what Keras's does. The
tests come with the installed Keras.
"""

import importlib
import unittest
from unittest import mock

import keras
import pytest

import tfcomp

SUITES = {
    "keras.src.layers.core.dense_test": ["Dense"],
    "keras.src.layers.core.einsum_dense_test": ["EinsumDense"],
    "keras.src.layers.convolutional.conv_test": ["Conv1D", "Conv2D", "Conv3D"],
    "keras.src.layers.convolutional.conv_transpose_test": [
        "Conv1DTranspose",
        "Conv2DTranspose",
        "Conv3DTranspose",
    ],
    "keras.src.layers.convolutional.depthwise_conv_test": ["DepthwiseConv1D", "DepthwiseConv2D"],
    "keras.src.layers.convolutional.separable_conv_test": ["SeparableConv1D", "SeparableConv2D"],
}

# Parts of the names of the tests that no subclass can pass: Keras's `quantize` refuses every class
# but its own.
REFUSED = ("quantiz", "gptq", "awq", "int4", "int8", "float8")


class _Layers:
    """`keras.layers` with some classes replaced."""

    def __init__(self, names):
        for name in names:
            setattr(self, name, getattr(tfcomp.layers, f"Quantized{name}"))

    def __getattr__(self, name):
        return getattr(keras.src.layers, name)


def _collect():
    for path, names in SUITES.items():
        spec = importlib.util.find_spec(path)
        if spec is None:
            continue
        # A copy of the module, whose parameter lists and tests both see the replacements.
        module = importlib.util.module_from_spec(spec)
        ours = _Layers(names)
        with mock.patch.multiple(keras.src.layers, **vars(ours)):
            spec.loader.exec_module(module)
        module.layers = ours
        for name, value in list(vars(module).items()):
            if isinstance(value, type) and issubclass(value, unittest.TestCase):
                for test in dir(value):
                    if test.startswith("test_") and any(part in test for part in REFUSED):
                        setattr(value, test, None)
                yield f"{name}_of_quantized", value


globals().update(_collect())


@pytest.mark.skipif(
    not any(importlib.util.find_spec(path) for path in SUITES),
    reason="this version of Keras comes without its tests",
)
def test_the_suites_were_found():
    found = [name for name in globals() if name.endswith("_of_quantized")]
    assert len(found) >= len(SUITES)
