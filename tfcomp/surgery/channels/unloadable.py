"""Layers that a model's file cannot bring back."""

from tfcomp import keras_private


def unloadable(model):
    """Finds layers of which a file is written and cannot be read.

    A file holds the configuration of each layer of a functional model; whether a class takes the
    one that it gives, and makes weights of the same shapes of it, is up to the class.

    Args:
        model: A functional or Sequential model.

    Returns:
        List of pairs of the name of a layer and the reason.
    """
    found = []
    for layer in model.layers:
        if keras_private.is_functional(layer):
            found += unloadable(layer)
        elif not keras_private.home(layer) and not type(layer).__module__.startswith("tfcomp."):
            reason = _reason(layer)
            found += [] if reason is None else [(layer.name, reason)]
    return found


def _reason(layer):
    try:
        config = layer.get_config()
    except Exception:
        # Keras says so where the file is written.
        return None
    try:
        again = type(layer).from_config(config)
        again.build_from_config(layer.get_build_config() or {})
    except Exception as error:
        last = str(error).strip().splitlines()[-1][:160]
        return f"its class does not take its own configuration ({type(error).__name__}: {last})"
    for old, new in zip(layer.variables, again.variables):
        if old.shape != new.shape:
            shapes = f"{tuple(new.shape)} of {old.name} {tuple(old.shape)}"
            return f"its configuration makes {shapes}"
    return None
