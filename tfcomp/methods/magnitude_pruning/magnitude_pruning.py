"""Iterative magnitude pruning.

Song Han, Jeff Pool, John Tran, William J. Dally, "Learning both Weights and Connections for
Efficient Neural Networks", arXiv:1506.02626.
"""

import contextlib

import keras
import numpy as np

from tfcomp import keras_private, schedules
from tfcomp import targets as targets_lib
from tfcomp.core.callback import ProjectionCallback
from tfcomp.core.entry import as_numpy
from tfcomp.core.mask import Mask, magnitude
from tfcomp.methods.magnitude_pruning import neurons
from tfcomp.validation import check_integer, check_number, invalid


class ThresholdMask(Mask):
    """A mask over the weights that are not below a threshold.

    State: `mask`; `deviation`, the standard deviation of the weight when pruning began; `done`,
    the amount it was last pruned to.

    Args:
        path: Path of the weight, for error messages.
        quality: The threshold in standard deviations, at an amount of 1.
    """

    def __init__(self, path, quality):
        self.path, self.quality = path, quality

    def init(self, value):
        zero = np.zeros((), np.float32)
        return {**super().init(value), "deviation": zero, "done": zero}

    def adopt(self, value, state):
        deviation = np.float32(np.std(value.astype(np.float64)))
        return {**super().adopt(value, state), "deviation": deviation, "done": np.float32(0)}

    def update(self, value, state, amount):
        if np.float32(amount) <= state["done"]:
            # A resumed run comes by its last round again: what has shrunk since is to stay.
            return value, state
        size = magnitude(self.path, value)
        mask = state["mask"] & (size >= amount * self.quality * state["deviation"])
        # A weight without a single connection would cut the network in two.
        mask.flat[np.argmax(size)] = True
        # Adding zero turns -0.0 into 0.0.
        return value * mask + 0, {**state, "mask": mask, "done": np.float32(amount)}


class MagnitudePruning(ProjectionCallback):
    """Prunes and retrains in rounds: what lies below a threshold goes, the rest trains on.

    In each round the weights below `quality` times the standard deviation of their tensor (as it
    was when pruning began) are zeroed; before the last round the threshold is the same fraction of
    that as of the rounds done. Survivors keep their values and are retrained until the next
    round. Then

    * neurons left without inputs or without outputs lose their other connections, too, where the
      graph of the model shows what is connected to what (sequential and functional models, dense
      and convolutional layers). A neuron without inputs gives a constant, which is added to the
      biases behind it; where these cannot hold it, the neuron stays;
    * the rate of a `Dropout` in front of a pruned layer becomes `rate * sqrt(kept)`, since a layer
      of fewer connections overfits less. When `fit` ends the rate is the old one again; for a
      later `fit` there is the context `callback.rescaled_dropout()`.

    Start from a trained model, with a tenth or less of its learning rate. The paper finds L1
    regularization better right after pruning, and L2 better once retrained: train with L2.
    Find a `quality` for each layer with `tfcomp.sensitivity`. `logs` gets `sparsity` and
    `sparsity/<path>`.

    Args:
        quality: Threshold in standard deviations, of the last round.
        rounds: How many rounds of pruning and retraining.
        steps: Optimizer steps at which the rounds begin, one for each. By default they divide
            the `fit` the callback is given to into equal parts.
        dropout: `True` to rescale every `Dropout` that leads to a pruned layer; `False`; or a dict
            from names of `Dropout` layers to names of pruned layers, for a subclassed model.
        dead_neurons: Whether to remove what dead neurons are connected to.
        targets: Which weights, in any form `tfcomp.targets.find` takes; `None` for every
            kernel-like weight. In a dict, `quality` can be overridden.
        verbose: 1 to print a line at every round.
        optimizer: See `ProjectionCallback`.

    Raises:
        ValueError: For an argument that cannot be used; while attaching, if the model is not
            built and compiled, if `targets` matches nothing, or if a weight contains NaN.

    Reference:
        Song Han, Jeff Pool, John Tran, William J. Dally, "Learning both Weights and Connections for
        Efficient Neural Networks", arXiv:1506.02626.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> model.compile("sgd", "mse")
    >>> history = model.fit(
    ...     np.ones((16, 8)), np.ones((16, 4)), batch_size=2, verbose=0,
    ...     callbacks=[tfcomp.callbacks.MagnitudePruning(quality=1.0, rounds=2)],
    ... )
    >>> 0 < history.history["sparsity"][-1] < 1
    True
    """

    overrides = ("quality",)
    fits_run = True
    amount_is_measure = False
    fleeting = (*ProjectionCallback.fleeting, "_links", "_pairs", "_rates")

    def __init__(
        self,
        quality=1.0,
        rounds=3,
        steps=None,
        dropout=True,
        dead_neurons=True,
        targets=None,
        verbose=0,
        optimizer=None,
    ):
        super().__init__(targets=targets, optimizer=optimizer, verbose=verbose)
        self.rounds = check_integer("rounds", rounds, 1)
        if not isinstance(dropout, (bool, dict)):
            raise invalid("dropout", dropout, "True, False or a dict of layer names")
        check_number("quality", quality, 0)
        self.quality = quality
        self.dropout = dropout
        self.dead_neurons = dead_neurons
        self._portions = tuple((i + 1) / self.rounds for i in range(self.rounds))
        self._fixed = None if steps is None else schedules.StepPortions(steps, self._portions)
        self.steps = self._fixed and self._fixed.steps
        self._spread = None

    def _begin_life(self):
        super()._begin_life()
        self._links, self._pairs, self._rates = [], [], []

    def make_projection(self, target):
        quality = target.options.get("quality", self.quality)
        check_number("quality", quality, 0)
        return ThresholdMask(target.path, quality)

    def attach(self, model):
        super().attach(model)
        self._links = neurons.links(model) if self.dead_neurons else []
        self._pairs = self._dropouts()

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._spread = None

    def make_schedule(self, target, run):
        if self._fixed is not None:
            return self._fixed
        if self._spread is None:
            self._spread = run.spread(self._portions, "round")
        return self._spread

    def compress(self, entries, amount):
        super().compress(entries, amount)
        self._drop_dead()
        self._rescale()

    def _begin_run(self, epoch):
        self._rates = [(layer, layer.rate) for layer, _ in self._pairs]
        super()._begin_run(epoch)
        self._rescale()

    def on_train_end(self, logs=None):
        super().on_train_end(logs)
        self._restore()

    @contextlib.contextmanager
    def rescaled_dropout(self):
        """Context of further runs with the rates of `Dropout` that the pruned layers want."""
        self._rescale()
        try:
            yield
        finally:
            self._restore()

    def _restore(self):
        for layer, rate in self._rates:
            layer.rate = rate
        if self._rates:
            self.model.train_function = None

    def _drop_dead(self):
        kernels = {
            id(e.target.layer): e
            for e in self._entries
            if e.variable is keras_private.stored_kernel(e.target.layer)
        }
        if not self._links or not kernels:
            return
        before = {key: entry.read()[1]["mask"] for key, entry in kernels.items()}
        layers = {id(x): x for link in self._links for x in (link.producer, *link.consumers)}
        biases = {key: as_numpy(x.bias) for key, x in layers.items() if x.use_bias}
        masks, folded = neurons.drop_dead(self._links, before, biases)
        for key, mask in masks.items():
            if mask is not before[key]:
                kernels[key].write_state({"mask": mask})
                kernels[key].project()
        for key, bias in folded.items():
            if bias is not biases[key]:
                layers[key].bias.assign(bias)

    def _dropouts(self):
        """Pairs of a `Dropout` and the entries of the layers behind it."""
        if not self.dropout:
            return []
        layers = [site.layer for site in targets_lib.layer_sites(self.model)]
        drops = [layer for layer in layers if isinstance(layer, keras.layers.Dropout)]
        if isinstance(self.dropout, dict):
            named = {layer.name: layer for layer in layers}
            unknown = [name for pair in self.dropout.items() for name in pair if name not in named]
            if unknown or not all(named[name] in drops for name in self.dropout):
                raise invalid("dropout", self.dropout, "names of Dropout layers and of layers")
            found = [(named[drop], [named[layer]]) for drop, layer in self.dropout.items()]
        else:
            within = {id(layer) for layer in layers}
            found = [
                (drop, [layer for layer, _ in neurons.consumers(drop, within) or []])
                for drop in drops
            ]
        pairs = []
        for drop, behind in found:
            ids = {id(layer) for layer in behind}
            entries = [entry for entry in self._entries if id(entry.target.layer) in ids]
            if entries:
                pairs.append((drop, entries))
        return pairs

    def _rescale(self):
        changed = False
        for (layer, rate), (_, entries) in zip(self._rates, self._pairs):
            masks = [entry.read()[1]["mask"] for entry in entries]
            kept = sum(map(np.count_nonzero, masks)) / sum(mask.size for mask in masks)
            new = rate * kept**0.5
            changed |= layer.rate != new
            layer.rate = new
        if changed:
            # The rate is a constant of the compiled step.
            self.model.make_train_function(force=True)
