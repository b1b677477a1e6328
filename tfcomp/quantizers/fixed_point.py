"""Numbers of a fixed number of integer and fraction bits, and scaled integers."""

import numpy as np
from keras import ops

from tfcomp.quantizers.base import Quantizer, register, with_gradient
from tfcomp.quantizers.scales import other_axes
from tfcomp.validation import check_integer, invalid

# Largest exponent of a step.
_MOST = 64


@register("fixed_point")
class FixedPoint(Quantizer):
    """Multiples of `2**-fraction_bits` in a range, rounded to nearest (halves to even), saturated.

    Signed: `[-2**i, 2**i - 2**-f]` with `i` integer bits and `f` fraction bits, which makes
    `1 + i + f` bits, as Q`i`.`f` is usually counted. Unsigned: `[0, 2**i - 2**-f]`, `i + f` bits.
    The gradient is 1 inside of the range and 0 outside.

    Args:
        integer_bits: Bits above the point, without the sign; may be negative for small ranges.
        fraction_bits: Bits below the point; may be negative for large steps.
        signed: Whether there is a sign.

    Example:

    >>> import numpy as np, tfcomp
    >>> q = tfcomp.quantizers.FixedPoint(2, 1)
    >>> np.array(q(np.array([0.3, -1.25, 9.0, -9.0], "float32"))).tolist()
    [0.5, -1.0, 3.5, -4.0]
    """

    def __init__(self, integer_bits=2, fraction_bits=5, signed=True):
        integer_bits = check_integer("integer_bits", integer_bits, -_MOST, _MOST)
        fraction_bits = check_integer("fraction_bits", fraction_bits, -_MOST, _MOST)
        if not 1 <= integer_bits + fraction_bits <= 23:
            raise invalid(
                "fraction_bits", fraction_bits, "1 to 23 bits together with `integer_bits`"
            )
        self.integer_bits = integer_bits
        self.fraction_bits = fraction_bits
        self.signed = bool(signed)

    @classmethod
    def calibrated(cls, values, bits=8, signed=None):
        """The finest one of so many bits that holds all of some values.

        Args:
            values: Array, from the data that will be quantized.
            bits: All bits, the sign included.
            signed: Whether there is a sign; `None` for whether there is a negative value.

        Returns:
            A `FixedPoint`.

        Raises:
            ValueError: If `values` is empty or not finite.
        """
        bits = check_integer("bits", bits)
        values = np.asarray(values, np.float64)
        if not values.size or not np.isfinite(values).all():
            raise invalid("values", values, "finite numbers")
        signed = bool(values.min() < 0) if signed is None else signed
        largest = max(values.max(), -values.min() if signed else 0)
        exponent = int(np.ceil(np.log2(largest))) if largest > 0 else 0
        # Of the finest step there is, where values are all but zero.
        exponent = max(exponent, bits - signed - _MOST)
        found = cls(exponent, bits - signed - exponent, signed)
        if values.max() > found.largest + 0.5 * found.step:
            # The largest positive value rounds up to a power of two.
            found = cls(exponent + 1, bits - signed - exponent - 1, signed)
        return found

    @property
    def bits(self):
        return self.integer_bits + self.fraction_bits + self.signed

    @property
    def step(self):
        """Distance between two levels."""
        return 2.0**-self.fraction_bits

    @property
    def smallest(self):
        return -(2.0**self.integer_bits) if self.signed else 0.0

    @property
    def largest(self):
        return 2.0**self.integer_bits - self.step

    @property
    def levels(self):
        if self.bits > 12:
            return None
        return tuple(np.arange(self.smallest, self.largest + self.step / 2, self.step).tolist())

    def quantize(self, inputs):
        return with_gradient(inputs, self._round, self._gradient)

    def _round(self, x):
        # Powers of two scale exactly.
        rounded = ops.round(x * 2.0**self.fraction_bits) * self.step
        return ops.clip(rounded, self.smallest, self.largest)

    def _gradient(self, x, g):
        inside = ops.logical_and(x >= self.smallest, x <= self.largest)
        return g * ops.cast(inside, x.dtype)

    def get_config(self):
        return {
            "integer_bits": self.integer_bits,
            "fraction_bits": self.fraction_bits,
            "signed": self.signed,
        }


@register("dynamic_fixed_point")
class DynamicFixedPoint(Quantizer):
    """Signed fixed point with as many integer bits as the tensor at hand needs, and no more.

    The `FixedPoint.calibrated` of each tensor: one power of two for all of it. The gradient is that
    of the identity.

    Args:
        bits: All bits, the sign included, 2 to 16.

    Example:

    >>> import numpy as np, tfcomp
    >>> q = tfcomp.quantizers.DynamicFixedPoint(4)
    >>> np.array(q(np.array([5.0, -2.6, 0.4], "float32"))).tolist()
    [5.0, -3.0, 0.0]
    """

    def __init__(self, bits=8):
        self.bits = check_integer("bits", bits, 2, 16)

    def quantize(self, inputs):
        return with_gradient(inputs, self._round, lambda x, g: g)

    def _round(self, x):
        powers = 2.0 ** np.arange(-64, 65)
        # The largest positive value may round to the largest level, half a step above it.
        reach = powers * (1 - 2.0**-self.bits)
        index = ops.maximum(_first_above(reach, ops.max(x)), _first_above(powers, -ops.min(x)))
        index = ops.minimum(index, len(powers) - 1)
        largest = ops.take(ops.convert_to_tensor(powers, x.dtype), index)
        step = largest * 2.0 ** (1 - self.bits)
        # Powers of two scale exactly.
        return ops.clip(ops.round(x / step) * step, -largest, largest - step)

    def get_config(self):
        return {"bits": self.bits}


def _first_above(ascending, value):
    """Index of the first of some numbers that is not below a value."""
    below = ops.convert_to_tensor(ascending, value.dtype) < value
    return ops.sum(ops.cast(below, "int32"))


@register("int8")
class Int8(Quantizer):
    """Integers from -127 to 127 times a scale, `max |x| / 127`: Keras's and LiteRT's int8 weights.

    One scale for each output channel where it is used on a layer's kernel, one for the tensor
    elsewhere. The gradient is that of the identity.

    Args:
        per_channel: `False` for one scale for the whole of a kernel, too.

    Example:

    >>> import numpy as np, tfcomp
    >>> np.array(tfcomp.quantizers.Int8()(np.array([1.27, -0.014], "float32"))).round(3)
    array([ 1.27, -0.01], dtype=float32)
    """

    bits = 8

    def __init__(self, per_channel=True):
        self.per_channel = bool(per_channel)

    def for_kernel(self, axis):
        copy = Int8(self.per_channel)
        copy.axis = tuple(axis) if self.per_channel else None
        return copy

    def quantize(self, inputs):
        return with_gradient(inputs, self._round, lambda x, g: g)

    def _round(self, x):
        largest = ops.max(ops.abs(x), axis=other_axes(x, self.axis), keepdims=True)
        scale = largest / 127
        # A smaller one would be no normal number, and zero on some devices.
        scale = ops.where(scale > np.finfo("float32").tiny, scale, ops.ones_like(scale))
        return ops.round(x / scale) * scale

    def get_config(self):
        return {"per_channel": self.per_channel}
