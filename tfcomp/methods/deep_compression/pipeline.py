"""Pruning and weight sharing of a trained model in one call."""

import contextlib
from typing import NamedTuple

from tfcomp.core.callback import ProjectionCallback
from tfcomp.core.entry import as_numpy
from tfcomp.methods.deep_compression.weight_sharing import WeightSharing
from tfcomp.methods.magnitude_pruning.magnitude_pruning import MagnitudePruning
from tfcomp.model.choice import choose
from tfcomp.model.data import Batches
from tfcomp.model.progress import EpochLog, Progress
from tfcomp.model.result import Result
from tfcomp.storage import describe
from tfcomp.storage.patterns import sorted_distinct
from tfcomp.targets import CONVOLUTIONS
from tfcomp.validation import check_integer, check_verbose, invalid


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


_COLUMNS = {
    "Weight": "{0.path}",
    "Kept": "{0.kept:.2%}",
    "Values": "{0.values:,}",
    "Bytes": "{0.bytes:,}",
    "Coded": "{0.coded_bytes:,}",
}


class DeepCompression(Result):
    """What `tfcomp.deep_compression` did; see `tfcomp.Result`.

    Attributes:
        history: Dict from names in `logs` to their values, one for each epoch; `None` in an epoch
            whose `logs` had no such name.
        rows: List of `CompressedTarget`.
    """

    def __init__(self, model, history, rows, left_out=()):
        super().__init__(model, rows, left_out, columns=_COLUMNS)
        self.history = history
        self.title = f"{self.ratio:.1f} times smaller"

    @property
    def ratio(self):
        """How many times smaller the weights are when coded; biases are not among them."""
        return sum(row.bytes for row in self.rows) / sum(row.coded_bytes for row in self.rows)


def deep_compression(
    model,
    pruning=None,
    epochs=(10, 5),
    init="linear",
    data=None,
    targets=None,
    *,
    validation_data=None,
    batch_size=32,
    verbose=1,
):
    """Prunes a trained model, then lets the weights left share few values.

    Works in place.

    Two runs of `fit`, with the optimizer, loss and metrics the model is compiled with: one with a
    pruning callback, one with `tfcomp.callbacks.WeightSharing`. Then `tfcomp.export` writes the
    third stage, the coding. Compile with Adam and a learning rate for fine-tuning.

    Args:
        model: A built and compiled `keras.Model`, trained.
        pruning: A pruning callback; `None` for `MagnitudePruning()`.
        epochs: Epochs of pruning and of weight sharing.
        init: Where k-means begins, see `WeightSharing`.
        data: A tuple `(x, y)` or `(x, y, sample_weight)` of arrays or structures of arrays, or
            a dataset of batches.
        targets: Which weights, in any form `tfcomp.targets.find` takes; `None` for every
            kernel-like weight. In a dict, `bits`, `clusters` and `init` can be overridden; by
            default convolutions get 8 bits and all others 5. A `pruning` callback has targets of
            its own.
        validation_data: What `fit` is to evaluate after every epoch, as it takes it.
        batch_size: Samples in a batch, where `data` are arrays.
        verbose: 0 for silence, 1 for a progress bar over the epochs, 2 for a line for each epoch.

    Returns:
        A `DeepCompression`: a `tfcomp.Result` with the size of each weight and the `history` of
        both runs.

    Raises:
        ValueError: For an argument that cannot be used, before anything is changed.

    Reference:
        Song Han, Huizi Mao, William J. Dally, "Deep Compression: Compressing Deep Neural Networks
        with Pruning, Trained Quantization and Huffman Coding", arXiv:1510.00149.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> model = keras.Sequential([keras.Input((32,)), keras.layers.Dense(64, name="dense")])
    >>> model.compile("adam", "mse")
    >>> data = np.ones((16, 32)), np.ones((16, 64))
    >>> done = tfcomp.deep_compression(
    ...     model, epochs=(1, 1), data=data, batch_size=4, verbose=0
    ... )
    >>> done.rows[0].values <= 32, done.rows[0].kept < 1
    (True, True)
    """
    if not getattr(model, "compiled", False):
        raise ValueError("`tfcomp.deep_compression` trains the model: call `compile` on it first.")
    verbose = check_verbose(verbose)
    if not isinstance(epochs, (tuple, list)) or len(epochs) != 2:
        raise invalid("epochs", epochs, "two positive integers, of pruning and of sharing")
    epochs = [check_integer("epochs", number, 1) for number in epochs]
    data = Batches(model, data, batch_size)
    data.first()
    found, left_out = choose(model, targets, options=("bits", "clusters", "init"))
    sharing = WeightSharing(bits=5, init=init, targets=_with_bits(found))
    for target in found:
        sharing.make_projection(target)
    if pruning is None:
        pruning = MagnitudePruning(targets=[target.path for target in found])
    elif not isinstance(pruning, ProjectionCallback):
        raise invalid("pruning", pruning, "a callback of `tfcomp.callbacks`")

    history, progress = {}, Progress(sum(epochs), verbose, "epoch")
    note = EpochLog(history, progress)

    def fit(callback, number):
        model.fit(
            **data.keywords(),
            epochs=number,
            validation_data=validation_data,
            callbacks=[callback, note],
            verbose=0,
        )

    fit(pruning, epochs[0])
    # Dropout stays with the connections that are left.
    rescales = isinstance(pruning, MagnitudePruning)
    with pruning.rescaled_dropout() if rescales else contextlib.nullcontext():
        fit(sharing, epochs[1])
    progress.left_out(left_out)
    return DeepCompression(model, history, [_row(target) for target in found], left_out)


def _with_bits(found):
    targets = {...: None}
    for target in found:
        own = dict(target.options)
        if not {"bits", "clusters"} & set(own):
            own["bits"] = 8 if isinstance(target.layer, CONVOLUTIONS) else 5
        targets[target.path] = own
    return targets


def _row(target):
    value = as_numpy(target.variable)
    alive = value[value != 0]
    coded = describe(value).coded_bytes
    values = len(sorted_distinct(alive))
    return CompressedTarget(target.path, alive.size / value.size, values, value.nbytes, coded)
