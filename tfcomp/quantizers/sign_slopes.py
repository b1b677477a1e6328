"""The sign, and what stands for its derivative, which is zero wherever it exists."""

from keras import ops


def sign(inputs):
    """The sign, with `sign(0) = +1`: two levels and no third."""
    # On TensorFlow a choice between two numbers, broadcast, is slower.
    return ops.sign(ops.sign(inputs) + 0.5)


def inside(inputs, clip_value):
    """1 where `|x| <= clip_value`, 0 elsewhere: the derivative of hard tanh."""
    if clip_value is None:
        return ops.ones_like(inputs)
    return ops.cast(ops.less_equal(ops.abs(inputs), clip_value), inputs.dtype)


def approx(inputs):
    """`2 - 2 |x|` where `|x| <= 1`, 0 elsewhere: the derivative of a piecewise parabola.

    Zechun Liu et al., "Bi-Real Net", arXiv:1808.00278.
    """
    return 2 * ops.maximum(1 - ops.abs(inputs), ops.zeros_like(inputs))


def swish(inputs, beta):
    """`β (2 - β x tanh(β x / 2)) / (1 + cosh(β x))`, the derivative of SignSwish.

    Sajad Darabi, Mouloud Belbahri, Matthieu Courbariaux, Vahid Partovi Nia, "BNN+: Improved Binary
    Network Training", arXiv:1812.11800.
    """
    # Beyond 80 the result is 0, and the cosine would be infinite.
    x = ops.clip(beta * inputs, -80.0, 80.0)
    return beta * (2 - x * ops.tanh(x / 2)) / (1 + ops.cosh(x))
