"""Pruning and weight sharing of a trained model in one call."""

from typing import NamedTuple

import keras
import numpy as np
from rich.table import Table

from tfcomp import targets as targets_lib
from tfcomp.core.callback import ProjectionCallback
from tfcomp.methods.deep_compression.weight_sharing import WeightSharing
from tfcomp.methods.magnitude_pruning import MagnitudePruning
from tfcomp.model.data import batches, keywords
from tfcomp.storage import describe
from tfcomp.validation import invalid

_CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)


class CompressedTarget(NamedTuple):
    """What `deep_compression` made of one weight.

    Attributes:
        path: Path of the weight.
        kept: Fraction that is not zero.
        values: How many different values these have.
        bytes: Size as it was.
        coded_bytes: Size in the smallest form that `tfcomp.export` has for it.
    """

    path: str
    kept: float
    values: int
    bytes: int
    coded_bytes: int


class DeepCompression:
    """What `tfcomp.deep_compression` did.

    Attributes:
        history: Dict from names in `logs` to their values, one for each epoch; `None` in an epoch
            whose `logs` had no such name.
        rows: List of `CompressedTarget`.
    """

    def __init__(self, history, rows):
        self.history, self.rows = history, rows

    @property
    def ratio(self):
        """How many times smaller the weights are when coded; biases are not among them."""
        return sum(row.bytes for row in self.rows) / sum(row.coded_bytes for row in self.rows)

    def table(self):
        """Returns a `rich.table.Table`, one row for each weight."""
        table = Table(title=f"{self.ratio:.1f} times smaller")
        for column in ("Weight", "kept", "values", "bytes", "coded"):
            table.add_column(column, justify="left" if column == "Weight" else "right")
        for row in self.rows:
            numbers = (f"{row.values:,}", f"{row.bytes:,}", f"{row.coded_bytes:,}")
            table.add_row(row.path, f"{row.kept:.2%}", *numbers)
        return table

    def __repr__(self):
        return f"DeepCompression({len(self.rows)} weights, {self.ratio:.1f} times smaller)"


def deep_compression(
    model,
    data,
    pruning=None,
    epochs=(10, 5),
    init="linear",
    targets=None,
    batch_size=32,
    validation_data=None,
    verbose=1,
):
    """Prunes a trained model, then lets the weights left share few values, in place.

    Two runs of `fit`, with the optimizer, loss and metrics the model is compiled with: one with a
    pruning callback, one with `tfcomp.callbacks.WeightSharing`. Then `tfcomp.export` writes the
    third stage, the coding. Compile with Adam and a learning rate for fine-tuning.

    Args:
        model: A built and compiled `keras.Model`, trained.
        data: A tuple `(x, y)` or `(x, y, sample_weight)` of arrays or structures of arrays, or
            a dataset of batches.
        pruning: A pruning callback; `None` for `MagnitudePruning()`.
        epochs: Epochs of pruning and of weight sharing.
        init: Where k-means begins, see `WeightSharing`.
        targets: Which weights, in any form `tfcomp.targets.find` takes; `None` for every
            kernel-like weight. In a dict, `bits`, `clusters` and `init` can be overridden; by
            default convolutions get 8 bits and all others 5. A `pruning` callback has targets of
            its own.
        batch_size: Samples in a batch, where `data` are arrays.
        validation_data: What `fit` is to evaluate after every epoch, as it takes it.
        verbose: 1 for a progress bar over the epochs, 0 for silence.

    Returns:
        A `DeepCompression`, with the history of both runs and the size of each weight.

    Raises:
        ValueError: For an argument that cannot be used, before anything is changed.

    Source: Song Han, Huizi Mao, William J. Dally, "Deep Compression: Compressing Deep Neural
    Networks with Pruning, Trained Quantization and Huffman Coding", arXiv:1510.00149.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> model = keras.Sequential([keras.Input((32,)), keras.layers.Dense(64, name="dense")])
    >>> model.compile("adam", "mse")
    >>> data = np.ones((16, 32)), np.ones((16, 64))
    >>> done = tfcomp.deep_compression(model, data, epochs=(1, 1), batch_size=4, verbose=0)
    >>> done.rows[0].values <= 32, done.rows[0].kept < 1
    (True, True)
    """
    if not getattr(model, "compiled", False):
        raise ValueError("`tfcomp.deep_compression` trains the model: call `compile` on it first.")
    if (
        not isinstance(epochs, (tuple, list))
        or len(epochs) != 2
        or any(isinstance(e, bool) or not isinstance(e, int) or e < 1 for e in epochs)
    ):
        raise invalid("epochs", epochs, "two positive integers, of pruning and of sharing")
    next(batches(data, batch_size))
    found = targets_lib.find(model, targets)
    sharing = WeightSharing(bits=5, init=init, targets=_with_bits(found))
    for target in found:
        sharing.make_projection(target)
    if pruning is None:
        pruning = MagnitudePruning(targets=[target.path for target in found])
    elif not isinstance(pruning, ProjectionCallback):
        raise invalid("pruning", pruning, "a callback of `tfcomp.callbacks`")

    history, bar = {}, keras.utils.Progbar(sum(epochs), verbose=verbose, unit_name="epoch")
    note = _Note(history, bar)
    for callback, number in zip((pruning, sharing), epochs):
        model.fit(
            **keywords(data, batch_size),
            epochs=number,
            validation_data=validation_data,
            callbacks=[callback, note],
            verbose=0,
        )
    return DeepCompression(history, [_row(target) for target in found])


def _with_bits(found):
    targets = {...: None}
    for target in found:
        own = dict(target.options)
        if not {"bits", "clusters"} & set(own):
            own["bits"] = 8 if isinstance(target.layer, _CONVOLUTIONS) else 5
        targets[target.path] = own
    return targets


class _Note(keras.callbacks.Callback):
    """Notes the logs of several runs one after the other."""

    def __init__(self, history, bar):
        super().__init__()
        self.seen, self.bar, self.epochs = history, bar, 0

    def on_epoch_end(self, epoch, logs=None):
        for name in {**self.seen, **logs}:
            # Runs log different names.
            self.seen.setdefault(name, [None] * self.epochs).append(logs.get(name))
        self.epochs += 1
        shown = [(name, value) for name, value in logs.items() if "/" not in name]
        self.bar.update(self.epochs, values=shown)


def _row(target):
    value = keras.ops.convert_to_numpy(target.variable.value)
    alive = value[value != 0]
    coded = describe(value).coded_bytes
    values = len(np.unique(alive))
    return CompressedTarget(target.path, alive.size / value.size, values, value.nbytes, coded)
