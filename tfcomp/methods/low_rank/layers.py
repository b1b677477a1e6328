"""A layer as several of Keras's own, one behind the other."""

import keras

from tfcomp import keras_private
from tfcomp.surgery.state import own_config

# Names of the layers of a chain, by its method.
_ROLES = {
    "svd": ("basis", "combine"),
    "spatial": ("first_axis", "other_axes"),
    "tucker": ("reduce", "core", "expand"),
}


def stacked(layer, chain, method, axes):
    """Returns the `keras.Sequential` of a chain of kernels, in place of a layer.

    It has the layer's name, and no settings of its own: it is saved and loaded as any model is.

    Args:
        layer: A built `Dense` or `Conv1D` to `Conv3D`.
        chain: List of kernels `(*window, inputs, outputs)`.
        method: Name of the decomposition.
        axes: For each kernel, the axes of the window that it covers.
    """
    names = [f"{layer.name}_{role}" for role in _ROLES[method]]
    parts = [
        _part(layer, kernel, name, here, last=name == names[-1])
        for kernel, name, here in zip(chain, names, axes)
    ]
    stack = keras.Sequential(parts, name=layer.name)
    keras_private.name_like(stack, layer)
    stack.build(_any_size(layer))
    for part, kernel in zip(parts, chain):
        part.kernel.assign(kernel)
    if layer.use_bias:
        parts[-1].bias.assign(keras.ops.convert_to_numpy(layer.bias))
    stack.trainable = layer.trainable
    # Its layers pass masks on; else Keras would say that it does not.
    stack.supports_masking = layer.supports_masking
    return stack


def _part(layer, kernel, name, axes, last):
    config = own_config(layer)
    # Its values are there already.
    config.pop("kernel_initializer", None)
    config["name"] = name
    if not last:
        config |= {"use_bias": False, "activation": None, "activity_regularizer": None}
        config |= {"bias_regularizer": None, "bias_constraint": None}
    size = "units" if isinstance(layer, keras.layers.Dense) else "filters"
    config[size] = kernel.shape[-1]
    if size == "filters":
        config["kernel_size"] = kernel.shape[:-2]
        for setting in ("strides", "dilation_rate"):
            values = getattr(layer, setting)
            config[setting] = [v if i in axes else 1 for i, v in enumerate(values)]
    return type(layer).from_config(config)


def _any_size(layer):
    """The shape of a layer's inputs, of which nothing but the channels is sure to stay."""
    shape = list(layer.get_build_config()["input_shape"])
    axis = 1 if getattr(layer, "data_format", None) == "channels_first" else len(shape) - 1
    return tuple(size if i == axis else None for i, size in enumerate(shape))
