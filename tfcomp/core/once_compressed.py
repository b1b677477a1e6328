"""Lets other callbacks count only epochs in which compression is complete."""

import warnings

import keras

from tfcomp.core.attachment import entries_of
from tfcomp.validation import invalid


class OnceCompressed(keras.callbacks.Callback):
    """A callback that hears of the end of an epoch only once the model is compressed all the way.

    The best epoch of a run is often one of its first, when little was compressed yet. Around
    `keras.callbacks.ModelCheckpoint(..., save_best_only=True)` or `EarlyStopping`, this leaves
    these epochs out: the best is chosen among those at whose end all callbacks of tfcomp on the
    model have come to the end of their schedules. Everything else, batches and the begin and the
    end of the run among it, is passed on as it comes.

    Args:
        callback: A Keras callback. It must not be in the list of callbacks itself, too.

    Raises:
        ValueError: If `callback` is no callback; when an epoch ends, if the model has nothing that
            a callback of tfcomp keeps compressed.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> model.compile("sgd", "mse")
    >>> seen = []
    >>> note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    >>> _ = model.fit(
    ...     np.ones((16, 8)), np.ones((16, 4)), batch_size=4, epochs=4, verbose=0,
    ...     callbacks=[
    ...         tfcomp.callbacks.IncrementalQuantization(),
    ...         tfcomp.callbacks.OnceCompressed(note),
    ...     ],
    ... )
    >>> seen
    [3]
    """

    def __init__(self, callback):
        super().__init__()
        if not isinstance(callback, keras.callbacks.Callback):
            raise invalid("callback", callback, "a keras.callbacks.Callback")
        self.callback = callback
        self._counted = 0
        for name in dir(keras.callbacks.Callback):
            # Keras's own stay what they are: it looks at what a callback does not define.
            if name.startswith("on_") and name not in vars(OnceCompressed):
                setattr(self, name, getattr(callback, name))

    def set_params(self, params):
        super().set_params(params)
        self.callback.set_params(params)

    def set_model(self, model):
        super().set_model(model)
        self.callback.set_model(model)

    def on_train_begin(self, logs=None):
        self._counted = 0
        self.callback.on_train_begin(logs)

    def on_epoch_end(self, epoch, logs=None):
        entries = entries_of(self.model)
        if not entries:
            raise ValueError(
                f"OnceCompressed: nothing of model {self.model.name!r} is kept compressed. Give "
                "`fit` a callback such as tfcomp.callbacks.GradualPruning, too."
            )
        if all(entry.complete for entry in entries):
            self._counted += 1
            self.callback.on_epoch_end(epoch, logs)

    def on_train_end(self, logs=None):
        if not self._counted:
            warnings.warn(
                "OnceCompressed: no epoch of this run ended with the model compressed all the way, "
                f"so {type(self.callback).__name__} has counted none. Train longer, or let the "
                "schedules end earlier.",
                stacklevel=2,
            )
        self.callback.on_train_end(logs)
