"""The nearest power of two, by which multiplying is a shift.

Itay Hubara, Matthieu Courbariaux et al., "Binarized Neural Networks", arXiv:1602.02830.
"""

import math

from keras import ops

from tfcomp.quantizers.base import with_gradient


def ap2(inputs):
    """`sign(x) 2**round(log2 |x|)`, 0 at zero; its gradient is that of the identity.

    Args:
        inputs: Floating point tensor.
    """
    return with_gradient(inputs, _nearest, lambda x, g: g)


def _nearest(x):
    # Half a power up, then down to a power: in single precision, all but sign and exponent is cut
    # off. Logarithm and power would not be exact on every backend.
    bits = ops.view(ops.cast(x, "float32") * math.sqrt(2), "int32")
    power = ops.cast(ops.view(ops.bitwise_and(bits, -(2**23)), "float32"), x.dtype)
    return ops.where(ops.isfinite(x), power, x)
