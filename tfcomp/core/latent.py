"""Weights that are quantized at all times, over values of full precision that are trained."""

import keras
import numpy as np

from tfcomp.core import fuse
from tfcomp.core.projection import Projection
from tfcomp.quantizers.base import Quantizer, applied


class Latent(Projection):
    """The variable is `quantizer(y)`, and `y` is trained.

    The gradient is the one at the variable; the optimizer changes `y`, and its weight decay and its
    averages are those of `y`.

    State: `latent`, which is `y`; `share`, that of the quantized value in the variable.

    Args:
        quantizer: Function from tensor to tensor of the same shape.
        clip: Largest magnitude of `y`, or `None`.
    """

    kind = "latent"
    needs_gradient = True

    def __init__(self, quantizer, clip=None):
        self.quantizer = quantizer
        self.clip = clip

    @property
    def compilable(self):
        return isinstance(self.quantizer, Quantizer) and fuse.is_known(self.quantizer)

    def init(self, value):
        return {"latent": np.array(value), "share": np.zeros((), np.float32)}

    def adopt(self, value, state):
        return {**state, "latent": np.array(value)}

    def trained(self, value, state):
        return state["latent"]

    def observe(self, before, gradient, value, state):
        if self.clip is not None:
            value = keras.ops.clip(value, -self.clip, self.clip)
        return {**state, "latent": value}

    def __call__(self, value, state):
        return self.shown(state["latent"], state["share"]), state

    def shown(self, latent, share):
        """The value that goes with a latent one."""
        return keras.ops.where(share >= 1, applied(self.quantizer, latent), latent)

    def settle(self, value, state):
        shown = self._on_host(state["latent"], state["share"])
        return shown if _differ(value, shown) else value

    def is_stale(self, value, state):
        if self.settle(value, state) is value:
            return False
        # What a random quantizer shows tells nothing.
        shown = [self._on_host(state["latent"], state["share"]) for _ in range(2)]
        return not _differ(*shown)

    def update(self, value, state, amount):
        """Shows `amount` of the quantized value from here on; 1 for nothing else."""
        if state["share"] >= amount:
            return value, state
        share = np.float32(amount)
        return self._on_host(state["latent"], share), {**state, "share": share}

    def _on_host(self, latent, share):
        return keras.ops.convert_to_numpy(self.shown(keras.ops.convert_to_tensor(latent), share))


class Relaxed(Latent):
    """The variable is `share * q + (1 - share) * y` with `q = quantizer(y)`, until the share is 1.

    Penghang Yin et al., "BinaryRelax", arXiv:1801.06313: with `share = λ / (λ + 1)` that is the
    minimiser of `|w - y|**2 + λ |w - q|**2`.
    """

    def shown(self, latent, share):
        quantized = applied(self.quantizer, latent)
        part = keras.ops.cast(share, latent.dtype)
        blend = part * quantized + (1 - part) * latent
        return keras.ops.where(share >= 1, quantized, blend)


def _differ(value, shown):
    """Whether a variable has other values than those shown, whatever compiler computed them.

    What is zero may be pruned, and a few in a thousand may be at a threshold to the last bit.
    """
    value, shown = (array.astype(np.promote_types(array.dtype, "f4")) for array in (value, shown))
    far = np.abs(value - shown) > 1e-4 * np.max(np.abs(shown), initial=0)
    return np.count_nonzero(far & (value != 0)) > 1e-3 * value.size
