"""A network with every kernel for weights of few bits and sums of signs."""

import keras
import numpy as np

import tfcomp

K, T = keras.layers, tfcomp.layers
KERNELS = ("2 bits, two scales", "4 bits, powers of two", "4 bits", "xnor, 2 terms")


def network():
    """Takes images of 6 x 6 x 8. Its dense layers, in their order, have `KERNELS`."""
    keras.utils.set_random_seed(7)
    ternary = T.QuantizedDense(128, kernel_quantizer="trained_ternary", name="ternary")
    powers = K.Dense(128, activation="sigmoid", name="powers")
    model = keras.Sequential(
        [
            keras.Input((6, 6, 8)),
            T.HORQConv2D(16, 3, padding="same", name="horq_conv"),
            K.MaxPooling2D(),
            K.Flatten(),
            ternary,
            powers,
            T.DoReFaDense(128, weight_bits=4, activation_bits=4, name="dorefa"),
            T.HORQDense(10, name="horq"),
        ]
    )
    for scale, value in zip(ternary.kernel_trained_scales.trainable_variables, (0.037, 0.09)):
        scale.assign(value)
    exponents = np.random.default_rng(0).integers(-4, 5, powers.kernel.shape)
    levels = np.where(exponents, np.sign(exponents) * 2.0 ** (np.abs(exponents) - 7), 0)
    powers.kernel.assign(levels)
    return model
