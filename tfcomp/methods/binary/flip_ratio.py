"""How many binary weights change their sign in training.

Koen Helwegen et al., "Latent Weights Do Not Exist: Rethinking Binarized Neural Network
Optimization", arXiv:1906.02107.
"""

import keras
import numpy as np

from tfcomp import targets as targets_lib
from tfcomp.validation import invalid


class FlipRatio(keras.callbacks.Callback):
    """Measures the share of weights whose sign changes from batch to batch, or over an epoch.

    A binary network learns by flips alone: a ratio that stays high is noise, of too large a
    learning rate for example, and one near zero says that it has stopped learning.

    At the end of an epoch `logs` get `flip_ratio`, of all weights, and `flip_ratio/<path>` of each.
    What is looked at are quantized values, so latent weights that move without a flip do not
    count. Of ternary weights a change from or to zero counts as well.

    Args:
        targets: Which weights, in any form `tfcomp.targets.find` takes. `None`, and the default set
            of a dict, are here the kernels that their layers quantize in the forward pass. Name
            others, such as those of `tfcomp.callbacks.QuantizedTraining`.
        frequency: `"batch"` for the mean over the epoch's batches of the share that flips in each
            (with `steps_per_execution`, in each execution), as Larq's metric of this name;
            `"epoch"` for the share that has another sign at the end of the epoch than at its
            beginning, which costs less time.

    Raises:
        ValueError: In `fit`, if `targets` covers no weight.

    Reference:
        Koen Helwegen et al., "Latent Weights Do Not Exist: Rethinking Binarized Neural Network
        Optimization", arXiv:1906.02107.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> model = keras.Sequential([keras.Input((8,)), tfcomp.layers.BinaryDense(4)])
    >>> model.compile(keras.optimizers.Adam(0.1), "mse")
    >>> flips = tfcomp.callbacks.FlipRatio()
    >>> x, y = np.ones((32, 8)), np.ones((32, 4))
    >>> history = model.fit(x, y, epochs=2, verbose=0, callbacks=[flips]).history
    >>> all(0 <= ratio <= 1 for ratio in history["flip_ratio"])
    True
    """

    def __init__(self, targets=None, frequency="batch"):
        super().__init__()
        if frequency not in ("batch", "epoch"):
            raise invalid("frequency", frequency, '"batch" or "epoch"')
        self.targets = targets
        self.frequency = frequency
        self._weights = []

    def on_train_begin(self, logs=None):
        self._weights = []
        if self.model.built:
            self._find()

    def on_epoch_begin(self, epoch, logs=None):
        # Other callbacks may have restored weights by now.
        self._begin()

    def on_train_batch_end(self, batch, logs=None):
        if not self._weights:
            # The first step has made the weights.
            self._find()
            self._begin()
        elif self.frequency == "batch":
            self._look()

    def on_epoch_end(self, epoch, logs=None):
        if self.frequency == "epoch":
            self._look()
        if logs is not None:
            logs.update(self._report())

    def _find(self):
        found = targets_lib.find(self.model, self.targets, quantized=True)
        for target in found:
            if target.options:
                raise invalid("targets", target.options, f"no overrides, as for {target.path}")
        self._weights = [_Watched(target) for target in found]

    def _begin(self):
        # Asking for the model brings its variables up to date on JAX.
        if self.model is not None:
            for weight in self._weights:
                weight.begin()

    def _look(self):
        if self.model is not None:
            for weight in self._weights:
                weight.look()

    def _report(self):
        parts = {f"flip_ratio/{w.target.path}": w.ratio for w in self._weights if w.looks}
        if not parts:
            return {}
        sizes = [weight.signs.size for weight in self._weights]
        return {"flip_ratio": float(np.average(list(parts.values()), weights=sizes)), **parts}


class _Watched:
    """The signs of one weight, and how many of them have changed."""

    def __init__(self, target):
        self.target = target
        quantizers = targets_lib.weight_quantizers(target.layer)
        own = [quantizer for variable, quantizer in quantizers if variable is target.variable]
        self._quantizer = own[0] if own else None

    def begin(self):
        self.signs, self.flips, self.looks = self._read(), 0, 0

    def look(self):
        before, self.signs = self.signs, self._read()
        self.flips += np.count_nonzero(before != self.signs)
        self.looks += 1

    @property
    def ratio(self):
        """Mean over the looks of the share that had changed at each."""
        return float(self.flips / (self.looks * self.signs.size))

    def _read(self):
        value = self.target.variable.value
        if self._quantizer is not None:
            value = self._quantizer(keras.ops.convert_to_tensor(value))
        return np.sign(keras.ops.convert_to_numpy(value)).astype("int8")
