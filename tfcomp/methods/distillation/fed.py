"""Data as a distillation takes them."""

import keras
import numpy as np

from tfcomp.methods.distillation.drawn import Drawn
from tfcomp.model.data import Batches
from tfcomp.validation import invalid


class Fed:
    """Arrays or batches, or nothing, for a student.

    Args:
        student: The student.
        data: What a user gave; `None` for nothing.
        batch_size: Inputs in a batch, where these are arrays.
        argument: Name of the argument, for error messages.
    """

    def __init__(self, student, data, batch_size, argument):
        self._argument, self._data = argument, data
        self._batches = None if data is None else Batches(student, data, batch_size, argument)
        self._words = {} if data is None else self._batches.keywords()
        self._in_batches = data is not None and "batch_size" not in self._words

    def check(self, needs_labels, arrays):
        """Raises unless the data have labels, where they are needed, and no sample weights.

        Args:
            needs_labels: Whether there is a loss on labels.
            arrays: Whether the data have to be arrays.
        """
        if self._data is None:
            return
        if self._in_batches and arrays:
            expected = (
                "arrays: batches can have no fresh inputs, and a teacher that is a keras.Model"
            )
            raise invalid(self._argument, type(self._data).__name__, expected)
        parts = len(self._parts())
        if parts > 2:
            raise invalid(
                self._argument, "sample weights", "none: Keras's distiller has no use for them"
            )
        if needs_labels and parts < 2:
            expected = "inputs with labels, `(x, y)`, or `student_loss_weight=0`"
            raise invalid(self._argument, "inputs alone", expected)

    def _parts(self):
        """What the data have, or their first batch: inputs, labels, sample weights."""
        if not self._in_batches:
            named = [self._words.get(name) for name in ("x", "y", "sample_weight")]
            return [part for part in named if part is not None]
        batches = self._words["x"]
        batch = batches[0] if isinstance(batches, keras.utils.PyDataset) else next(iter(batches))
        return batch if isinstance(batch, (tuple, list)) else [batch]

    def labels(self):
        """Labels, or those of the first batch; `None` where there are none."""
        parts = () if self._data is None else self._parts()
        return parts[1] if len(parts) > 1 else None

    def first(self):
        """The inputs of the first batch."""
        return self._batches.first()

    def drawn(self, draw, *fresh):
        """The data as `fit` is to take them.

        Args:
            draw: Function from inputs, labels and `fresh` to a `Drawn`.
            *fresh: Source of fresh inputs, their share, and inputs in an epoch.
        """
        if self._in_batches:
            return self._words["x"]
        return draw(self._array("x"), self._array("y"), *fresh)

    def whole(self, draw):
        """The data as `fit` is to evaluate them, or `None`."""
        return None if self._data is None else self.drawn(draw, None, 0.0, None)

    def _array(self, name):
        found = self._words.get(name)
        if found is None:
            return None
        # A list is one array to TensorFlow.
        return keras.tree.lists_to_tuples(keras.tree.map_structure(np.asarray, found))


class Drawing(keras.callbacks.Callback):
    """Tells drawn batches which epoch it is; others are left alone."""

    def __init__(self, data):
        super().__init__()
        self._data = data

    def on_epoch_begin(self, epoch, logs=None):
        if isinstance(self._data, Drawn):
            self._data.draw(epoch)
