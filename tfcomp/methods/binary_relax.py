"""Relaxed quantization.

Penghang Yin, Shuai Zhang, Jiancheng Lyu, Stanley Osher, Yingyong Qi, Jack Xin, "BinaryRelax: A
Relaxation Approach For Training Deep Neural Networks With Quantized Weights", arXiv:1801.06313.
"""

import keras

from tfcomp import schedules
from tfcomp.methods.quantized_training import Quantized, QuantizedTraining
from tfcomp.validation import check_number, invalid

# 1.02 to the power of the half epochs of some 150 epochs.
_GROWN = 400.0


class Relaxed(Quantized):
    """The variable is `share * q + (1 - share) * y` with `q = quantizer(y)`, until the share is 1.

    With `share = λ / (λ + 1)` that is the minimiser of `|w - y|**2 + λ |w - q|**2`.
    """

    def free(self, latent, quantized, share):
        part = keras.ops.cast(share, latent.dtype)
        return part * quantized + (1 - part) * latent


class BinaryRelax(QuantizedTraining):
    """Draws weights ever closer to their quantized values, and in the end makes them these.

    The model computes with `w = (λ q + y) / (λ + 1)`, `q = quantizer(y)`, where `y` are latent
    weights that are trained by the gradient at `w`. λ begins at `strength` and is multiplied by
    `growth` twice an epoch; in a last phase `w` is exactly `q`. `logs` gets `quantized` and
    `quantized/<path>`, the share of `q` in `w`, `λ / (λ + 1)`.

    See `QuantizedTraining` for what happens after `fit`, in files, and with pruning. Unlike there,
    latent weights are not clipped.

    Args:
        quantizer: `"ternary"` or any other, see `QuantizedTraining`. The paper's binary set is that
            of `tfcomp.quantizers.Binary(scale=True)`, and those of more bits that of
            `tfcomp.quantizers.LeastSquaresInteger(bits)`.
        strength: λ at the beginning.
        growth: By how much λ is multiplied every half epoch. The paper's 1.02 suits its runs of
            hundreds of epochs; `None` takes what brings λ to 400 times its beginning, as those runs
            do, in the run at hand.
        exact: Fraction of the run, in (0, 1), after which the weights are exactly quantized.
        targets: Which weights, in any form `tfcomp.targets.find` takes; `None` for every
            kernel-like weight. In a dict, `quantizer` can be overridden.
        verbose: 1 to print a line whenever λ grows.
        optimizer: See `ProjectionCallback`.

    Raises:
        ValueError: For an argument that cannot be used; while attaching, as `QuantizedTraining`;
            and if the run has fewer than two steps, or no known length.

    Reference:
        Penghang Yin, Shuai Zhang, Jiancheng Lyu, Stanley Osher, Yingyong Qi, Jack Xin,
        "BinaryRelax: A Relaxation Approach For Training Deep Neural Networks With Quantized
        Weights", arXiv:1801.06313.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> model.compile("sgd", "mse")
    >>> _ = model.fit(
    ...     np.ones((16, 8)), np.ones((16, 4)), batch_size=2, verbose=0,
    ...     callbacks=[tfcomp.callbacks.BinaryRelax(tfcomp.quantizers.Ternary(scale=False))],
    ... )
    >>> set(model.layers[0].kernel.numpy().ravel().tolist()) <= {-1.0, 0.0, 1.0}
    True
    """

    fits_run = True
    compresses_at_once = False

    def __init__(
        self,
        quantizer,
        strength=1.0,
        growth=None,
        exact=0.75,
        targets=None,
        verbose=0,
        optimizer=None,
    ):
        super().__init__(quantizer, targets=targets, verbose=verbose, optimizer=optimizer)
        check_number("strength", strength, 0)
        if growth is not None:
            check_number("growth", growth, 1)
        check_number("exact", exact, 0, below=1)
        self.strength, self.growth, self.exact = strength, growth, exact
        self._relaxation = None

    def projection(self, quantizer):
        # The paper's latent weights go where gradients lead.
        return Relaxed(quantizer)

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._relaxation = None

    def make_schedule(self, target, run):
        if self._relaxation is None:
            self._relaxation = self._spread(run)
        return self._relaxation

    def _spread(self, run):
        if run.end - run.begin < 2:
            raise invalid(
                "exact",
                self.exact,
                "a run of two steps or more, and of known length (pass `steps_per_epoch` to `fit`)",
            )
        half = max(1, round((run.end - run.begin) / run.epochs / 2))
        last = min(run.begin + max(1, round(self.exact * (run.end - run.begin))), run.end - 1)
        steps = [*range(run.begin, last, half), last]
        growth = self.growth or _GROWN ** (1 / max(len(steps) - 2, 1))
        lambdas = [self.strength * growth**i for i in range(len(steps) - 1)]
        shares = [value / (value + 1) for value in lambdas]
        # Where λ no longer grows, or vanishes at first, there is nothing to do at a step.
        kept = [i for i, share in enumerate(shares) if share > max(shares[:i], default=0)]
        return schedules.StepPortions(
            [*(steps[i] for i in kept), last], [*(shares[i] for i in kept), 1.0]
        )
