"""Every private name of Keras and TensorFlow that tfcomp uses, one function each, and why.

No other module names them. `tests/test_keras_private.py` tries each of them, names the versions it
was seen in, and says which function here is to be written anew when one is gone.
"""

from keras.src.saving import saving_lib as _saving_lib

# ---- layers and models


def sublayers(layer):
    """List of the direct sublayers of any layer: RNN cells, projections of attention and all.

    The public `layers` are those of models alone.
    """
    return list(layer._flatten_layers(include_self=False, recursive=False))


def stored_kernel(layer):
    """The variable behind a layer's `kernel`, or `None`.

    The public `kernel` is a sum under LoRA and a decoded tensor in quantized layers.
    """
    return getattr(layer, "_kernel", None)


def is_functional(model):
    """Whether a model is Sequential or functional, so that its config holds its connections.

    `keras.Model` is the public class of both and of subclassed models.
    """
    from keras.src.models.functional import Functional
    from keras.src.models.sequential import Sequential

    return isinstance(model, (Functional, Sequential))


def was_called(model):
    """Whether a model was ever called; `built` says only that its weights are there."""
    return model._called


def input_signature(model):
    """List of structures of `keras.InputSpec`, one for each argument the model was built on.

    The public API has no way to ask a subclassed model for it.
    """
    from keras.src.export.export_utils import get_input_signature

    return get_input_signature(model)


def tensor_spec(spec):
    """The `tf.TensorSpec` of a `keras.InputSpec`, `keras.KerasTensor` or `tf.TensorSpec`."""
    from keras.src.export.export_utils import make_tf_tensor_spec

    return make_tf_tensor_spec(spec)


# ---- the graph of a functional model


def following(operation):
    """List of the operations that take an operation's outputs, in all models that share it."""
    return [node.operation for node in operation._outbound_nodes]


def producer(tensor):
    """The operation that a symbolic tensor comes from."""
    return tensor._keras_history.operation


# ---- variables


def layout(variable):
    """How a variable is spread over devices, or `None`, to make another that is spread so."""
    return getattr(variable, "_layout", None)


def assign_directly(variable, value):
    """Assigns a variable within a stateless scope, which takes note of what `assign` is given."""
    variable._direct_assign(value)


def autocast_scope():
    """The scope that casts variables where they are read, or `None`; its `maybe_cast` is the cast.

    Quantizers need a variable as it is stored: in half precision a small weight becomes zero and
    loses its sign.
    """
    from keras.src.backend import get_autocast_scope

    return get_autocast_scope()


def without_autocast():
    """Context in which variables are read in their own dtype, in a layer's `call`, too."""
    from keras.src.backend import AutocastScope

    return AutocastScope(None)


# ---- optimizers


def trainable_variables(optimizer):
    """List of the variables that an optimizer was built for; `variables` are its own."""
    return list(optimizer._trainable_variables)


def untrack(optimizer, variable):
    """Takes a variable away from an optimizer; `add_variable` has no public opposite."""
    optimizer._untrack_variable(variable)


def batches(optimizer):
    """Variable that counts batches; the public `iterations` counts updates."""
    return optimizer._iterations


def moving_averages(optimizer):
    """Dict from `id(variable)` to the average that an optimizer with `use_ema` keeps of it."""
    if not getattr(optimizer, "use_ema", False) or not optimizer.built:
        return {}
    pairs = zip(optimizer._trainable_variables, optimizer._model_variables_moving_average)
    return {id(variable): average for variable, average in pairs if average is not None}


def adamax_moments(optimizer, variable):
    """Mean of gradients and largest gradient that an `Adamax` keeps of a variable."""
    index = optimizer._get_variable_index(variable)
    return optimizer._m[index], optimizer._u[index]


# ---- files
#
# Keras walks over a model's objects with private functions, to which a store can be given; the only
# public way is to write a `.keras` file and take it apart, with every weight in memory three times.

# Weights in memory; of this class because Keras asks for one of its own.
WeightStore = _saving_lib.NpzIOStore
# Weights in a `.keras` file, with Keras's checks of damaged ones.
H5Store = _saving_lib.H5IOStore
# Files that layers save beside their weights, in a folder, `working_dir`.
AssetStore = _saving_lib.DiskIOStore


def is_model_file(store):
    """Whether a store is that of a `.keras` file, and not one of weights alone."""
    return getattr(store, "archive", None) is not None


def asset_path(store, path):
    """Where an `AssetStore` has a path; raises where that leads out of its folder."""
    return store._full_path(path)


def save_state(model, weights, assets, skipped):
    """Saves what `model.save` saves into a `WeightStore` and an `AssetStore`.

    Args:
        model: A built `keras.Model`.
        weights: The `WeightStore`.
        assets: The `AssetStore`.
        skipped: Set of ids of objects to leave out.
    """
    _saving_lib._save_state(model, weights, assets, "", skipped)


def load_state(model, weights, assets, skipped):
    """Loads what `save_state` saved.

    Returns:
        A list of pairs of an object that could not be loaded and the error.
    """
    failed, errors = set(), {}
    _saving_lib._load_state(
        model,
        weights,
        assets,
        "",
        visited_saveables=skipped,
        failed_saveables=failed,
        error_msgs=errors,
    )
    return list(errors.values()) if failed else []


def model_to_json(model):
    """The config of a model with how it is compiled, as `config.json` has it."""
    config, _ = _saving_lib._serialize_model_as_json(model)
    return config


def model_from_json(config, custom_objects, compile, safe_mode):
    """The model of a `model_to_json`, without its weights."""
    return _saving_lib._model_from_config(config, custom_objects, compile, safe_mode)


def reject_zip_bomb(archive):
    """Raises where a `zipfile.ZipFile` would unpack to far more than it is."""
    _saving_lib._reject_zip_extract_bomb(archive)


# ---- TensorFlow


def is_op_determinism_enabled():
    """Whether `tf.config.experimental.enable_op_determinism` was called; there is no public way."""
    from tensorflow.python.framework.config import is_op_determinism_enabled as is_enabled

    return is_enabled()


def owner_of(tensor):
    """The trackable object that a tensor captured by a function belongs to, or `None`."""
    parent = getattr(tensor, "_parent_trackable", None)
    return parent() if parent is not None else None
