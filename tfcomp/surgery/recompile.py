"""Compiles a model as another one was."""

import keras

from tfcomp import keras_private
from tfcomp.surgery import places


def _fresh(value):
    """An object with state of its own anew; functions and losses as they are."""
    if isinstance(value, (keras.optimizers.Optimizer, keras.metrics.Metric)):
        return type(value).from_config(value.get_config())
    return value


def fresh_arguments(model):
    """What a model was compiled with, its optimizer and metrics anew."""
    return keras.tree.map_structure(_fresh, keras_private.compile_arguments(model))


def compile_like(old, new):
    """Compiles `new` as `old` is, with an optimizer and metrics that start afresh.

    Raises:
        ValueError: If the class compiles by code of its own and does not say how.
    """
    if not old.compiled:
        return
    if type(old).compile is not keras.Model.compile:
        config = old.get_compile_config()
        if type(old).compile_from_config is keras.Model.compile_from_config or not config:
            raise ValueError(
                f"Model {old.name!r}, a {type(old).__name__}, has a `compile` of its own, and "
                "nothing says what it was called with. Swap layers before compiling, or give the "
                "class `get_compile_config` and `compile_from_config`."
            )
        new.compile_from_config(config)
        return
    new.compile(**fresh_arguments(old))


def forget_compiled(model):
    """Drops the functions that a model, and models in it, have traced with the layers they had."""
    for layer in places.holders(model):
        if isinstance(layer, keras.Model):
            layer.train_function = layer.test_function = layer.predict_function = None
