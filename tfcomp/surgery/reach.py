"""Which layers of a model `swap_layers` can replace."""

from tfcomp import targets
from tfcomp.keras_private import is_functional


def unreachable(model):
    """Maps the `id` of each layer that `swap_layers` cannot replace to the reason.

    What a layer makes in its own code cannot be replaced there, unless the layer takes it as an
    argument and has it in its config, as wrappers do.

    Args:
        model: A Sequential or functional `keras.Model`.
    """
    found = {}
    for site in targets.layer_sites(model):
        holder = next((layer for layer in site.chain[:-1] if not is_functional(layer)), None)
        if holder is not None and not _holds(_config(holder), site.layer):
            found[id(site.layer)] = f"it is inside the code of {type(holder).__name__}"
    return found


def _config(layer):
    try:
        return layer.get_config()
    except NotImplementedError:
        return {}


def _holds(config, layer):
    if isinstance(config, dict):
        nested = config.get("config")
        if isinstance(nested, dict):
            key = config.get("class_name"), nested.get("name")
            if key == (type(layer).__name__, layer.name):
                return True
        return any(_holds(value, layer) for value in config.values())
    return isinstance(config, (list, tuple)) and any(_holds(value, layer) for value in config)
