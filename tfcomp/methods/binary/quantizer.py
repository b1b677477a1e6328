"""Binary quantization: every value becomes its sign.

Itay Hubara, Matthieu Courbariaux et al., "Binarized Neural Networks", arXiv:1602.02830; with a
scale, Mohammad Rastegari et al., "XNOR-Net", arXiv:1603.05279.
"""

import keras
from keras import ops

from tfcomp.quantizers import sign_slopes
from tfcomp.quantizers.base import Quantizer, alias, register, widened, with_gradient
from tfcomp.quantizers.scales import as_axes, other_axes
from tfcomp.quantizers.sign_slopes import inside, sign
from tfcomp.validation import check_integer, check_number, invalid


def random_sign(inputs, uniform):
    """+1 with probability `clip((x + 1) / 2, 0, 1)`, else -1: on average `x`, clipped to ±1."""
    one = ops.ones((), inputs.dtype)
    return ops.where(uniform < (inputs + 1) / 2, one, -one)


@register("binary")
class Binary(Quantizer):
    """`sign(x)`, with the gradient of hard tanh: 1 where `|x| <= clip_value`, 0 elsewhere.

    With `scale`, `α sign(x)` with `α = mean |x|`, XNOR-Net's best binary approximation in the least
    squares sense; its gradient is `1 / n + α 1(|x| <= clip_value)`, with `n` entries to a scale.

    `"approx_sign"` stands for `Binary(gradient="approx")`, `"swish_sign"` for
    `Binary(None, gradient="swish")`, and `"magnitude_aware_sign"` for `Binary(scale="constant")`.

    Args:
        clip_value: Largest magnitude that gets a gradient; `None` for all.
        scale: Whether to multiply by α. In a layer's kernel there is one α for each output channel,
            elsewhere one for the whole tensor. `"constant"` leaves out the `1 / n`: α counts as a
            constant in the gradient, as in Bi-Real Net.
        axis: Axis or tuple of axes with one α for each of their positions, instead of these.
        gradient: What stands for the derivative of the sign inside of the clip: `"hard_tanh"`,
            which is 1; `"approx"`, which is `2 - 2 |x|` up to 1 and 0 beyond, as in Bi-Real Net
            (arXiv:1808.00278); `"swish"`, the derivative of SignSwish (arXiv:1812.11800), meant
            for `clip_value=None`.
        beta: β of `"swish"`: the larger, the nearer to the derivative of the sign.
        stochastic: Whether a quantized layer replaces the sign in training by a random one, +1 with
            probability `clip((x + 1) / 2, 0, 1)`. At inference, and outside of such layers, it is
            the sign.
        seed: Seed of the random signs.

    Example:

    >>> import numpy as np, tfcomp
    >>> np.array(tfcomp.quantizers.Binary(scale=True)(np.array([[0.5, -1.0, 0.0]], "float32")))
    array([[ 0.5, -0.5,  0.5]], dtype=float32)
    """

    bits = 1

    def __init__(
        self,
        clip_value=1.0,
        scale=False,
        axis=None,
        gradient="hard_tanh",
        beta=5.0,
        stochastic=False,
        seed=None,
    ):
        if clip_value is not None:
            check_number("clip_value", clip_value, above=0)
        if isinstance(scale, str) and scale != "constant":
            raise invalid("scale", scale, "True, False or 'constant'")
        if gradient not in ("hard_tanh", "approx", "swish"):
            raise invalid("gradient", gradient, "'hard_tanh', 'approx' or 'swish'")
        check_number("beta", beta, above=0)
        self.clip_value = clip_value
        self.scale = scale if scale == "constant" else bool(scale)
        self.gradient, self.beta = gradient, beta
        self.axis = as_axes(axis)
        self.stochastic = bool(stochastic)
        self.seed = None if seed is None else check_integer("seed", seed, 0)

    @property
    def levels(self):
        return None if self.scale else (-1.0, 1.0)

    def for_kernel(self, axis):
        if not self.scale or self.axis is not None:
            return self
        return Binary(**{**self.get_config(), "axis": axis})

    def quantize(self, inputs):
        return self._signed(inputs, sign)

    def draw(self, inputs, seed_generator):
        shape, dtype = ops.shape(inputs), widened(inputs).dtype
        uniform = keras.random.uniform(shape, dtype=dtype, seed=seed_generator)
        return self._signed(inputs, lambda x: random_sign(x, uniform))

    def _signed(self, inputs, sign):
        if not self.scale:
            return with_gradient(inputs, sign, lambda x, g: g * self._slope(x))
        return with_gradient(
            inputs,
            lambda x: self._alpha(x) * sign(x),
            lambda x, g: g * (self._alpha(x) * self._slope(x) + self._of_alpha(x)),
        )

    def _slope(self, inputs):
        clip = inside(inputs, self.clip_value)
        if self.gradient == "hard_tanh":
            return clip
        if self.gradient == "swish":
            return sign_slopes.swish(inputs, self.beta) * clip
        return sign_slopes.approx(inputs) * clip

    def _of_alpha(self, inputs):
        return 0.0 if self.scale == "constant" else 1 / self._entries(inputs)

    def _alpha(self, inputs):
        return ops.mean(ops.abs(inputs), axis=other_axes(inputs, self.axis), keepdims=True)

    def _entries(self, inputs):
        shape = ops.shape(inputs)
        entries = 1
        for axis in other_axes(inputs, self.axis):
            entries = entries * shape[axis]
        return ops.cast(entries, inputs.dtype)

    def get_config(self):
        return {
            "clip_value": self.clip_value,
            "scale": self.scale,
            "axis": self.axis,
            "gradient": self.gradient,
            "beta": self.beta,
            "stochastic": self.stochastic,
            "seed": self.seed,
        }


alias("approx_sign", lambda: Binary(gradient="approx"))
alias("swish_sign", lambda: Binary(None, gradient="swish"))
alias("magnitude_aware_sign", lambda: Binary(scale="constant"))
