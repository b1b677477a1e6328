"""A variable that shows a function of a latent value, which is trained in its stead."""

import numpy as np

from tfcomp.core.projection import Projection


class Latent(Projection):
    """The variable is `show(y, state)`, and `y` is trained.

    The gradient is the one at the variable; the optimizer updates `y`, so its weight decay, its
    averages and its constraints are those of `y`. Subclasses define `show`.

    State: `latent`, which is `y`.
    """

    kind = "latent"
    takes_rows = True

    def show(self, latent, state):
        """The value of the variable.

        Args:
            latent: Backend tensor.
            state: Dict of backend tensors.
        """
        raise NotImplementedError

    def init(self, value):
        return {"latent": np.array(value)}

    def adopt(self, value, state):
        return {**state, "latent": np.array(value)}

    def before(self, gradient, value, state):
        return gradient, state["latent"], state

    def after(self, value, state):
        return self.show(value, state), {**state, "latent": value}
