"""Gradients on whichever backend runs."""

import keras
import numpy as np


def gradient(function, x, compiled=True):
    """Gradient of `sum(function(x))` as a numpy array.

    A function that moves a seed generator on cannot be compiled on JAX from outside of a model.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        x = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = keras.ops.sum(function(x))
        return tape.gradient(y, x).numpy()
    if backend == "jax":
        import jax

        function_gradient = jax.grad(lambda x: keras.ops.sum(function(x)))
        return np.array((jax.jit(function_gradient) if compiled else function_gradient)(x))
    import torch

    x = torch.tensor(x, requires_grad=True)
    keras.ops.sum(function(x)).backward()
    return keras.ops.convert_to_numpy(x.grad)
