"""Every private name of Keras and TensorFlow that tfcomp uses, one function each, and why.

No other module names them. `tests/test_keras_private.py` tries each of them, names the versions it
was seen in, and says which function here is to be written anew when one is gone.
"""

import contextlib
import contextvars
import functools
import os
import threading
from typing import Any, NamedTuple

import keras
from keras.src.saving import saving_lib as _saving_lib

# Bytes that may be unpacked from a file of any size, and of its size beyond.
_LARGE, _MOST_EXPANDED = 1 << 28, 100

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


def takes_training(layer):
    """Whether the code of a layer is told if it trains."""
    return layer._call_has_training_arg


def stored_embeddings(layer):
    """The variable behind an embedding's `embeddings`, which is a sum under LoRA."""
    return layer._embeddings


def mask_of(tensor):
    """The mask that Keras has put on a tensor, or `None`."""
    from keras.src.backend import get_keras_mask

    return get_keras_mask(tensor)


def attention_projections(layer):
    """Dict of the layers that project queries, keys, values and the output of an attention."""
    names = ("query", "key", "value", "output")
    return {name: getattr(layer, f"_{name}_dense") for name in names}


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


def home(operation):
    """Where in Keras the code of a layer or operation is, as `"layers.pooling.base_pooling"`.

    Empty for code from elsewhere, that of subclasses with a `call` of their own, too.
    """
    module = getattr(type(operation).call, "__module__", "")
    return module.removeprefix("keras.src.") if module.startswith("keras.src.") else ""


def array_batches(arrays, batch_size):
    """Iterator over batches of a structure of arrays of any kind that `predict` takes, in numpy.

    What `predict` uses; sparse tensors, data frames and arrays of other backends are among them.
    """
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    batches = ArrayDataAdapter(arrays, batch_size=batch_size).get_numpy_iterator()
    return (batch[0] if isinstance(batch, tuple) else batch for batch in batches)


# ---- the graph of a functional model


class Origin(NamedTuple):
    """The call that made a symbolic tensor; `key` tells it from others."""

    key: Any
    operation: Any
    args: tuple
    kwargs: dict
    output: Any


def origin(tensor):
    """The `Origin` of a symbolic tensor, or `None` for one that nothing made."""
    history = getattr(tensor, "_keras_history", None)
    if history is None or history.operation is None:
        return None
    node = history.operation._inbound_nodes[history.node_index]
    output = node.outputs[0] if len(node.outputs) == 1 else node.outputs
    return Origin(id(node), history.operation, node.arguments.args, node.arguments.kwargs, output)


@contextlib.contextmanager
def forgetting_calls(layers):
    """Context in which layers are called on symbolic tensors and leave no trace in their graph."""
    lists = [nodes for v in layers for nodes in (v._inbound_nodes, v._outbound_nodes)]
    lengths = [len(nodes) for nodes in lists]
    try:
        yield
    finally:
        for nodes, length in zip(lists, lengths):
            del nodes[length:]


def forget_calls(operation):
    """Drops what a layer or operation knows of its calls on symbolic tensors."""
    operation._inbound_nodes.clear()
    operation._outbound_nodes.clear()


# Keras's own way, and who answers in the code that runs now.
_symbolic_call = keras.Operation.symbolic_call
_ANSWER = contextvars.ContextVar("tfcomp_operation_answer", default=None)
_ANSWERING, _LOCK = [0], threading.Lock()


def _answered(operation, *args, **kwargs):
    answer = _ANSWER.get()
    if answer is None:
        return _symbolic_call(operation, *args, **kwargs)
    return answer(operation, args, kwargs)


@contextlib.contextmanager
def answering_operations(answer):
    """Context in which `answer(operation, args, kwargs)` answers calls on symbolic tensors.

    No node is made then, so no graph changes. Only for the thread that opens it.

    Args:
        answer: The function; `None` for Keras's own way.
    """
    with _LOCK:
        _ANSWERING[0] += 1
        keras.Operation.symbolic_call = _answered
    token = _ANSWER.set(answer)
    try:
        yield
    finally:
        _ANSWER.reset(token)
        with _LOCK:
            _ANSWERING[0] -= 1
            if not _ANSWERING[0]:
                keras.Operation.symbolic_call = _symbolic_call


@contextlib.contextmanager
def noticing_reads(note):
    """Context in which `note(variable)` is told of each variable whose value is taken.

    Only for the thread that opens it; within another, the inner one alone is told.
    """
    with _LOCK:
        _READING[0] += 1
        _VALUE_OF.value = property(_noticed)
    token = _NOTE.set(note)
    try:
        yield
    finally:
        _NOTE.reset(token)
        with _LOCK:
            _READING[0] -= 1
            if not _READING[0]:
                _VALUE_OF.value = _VALUE


def _noticed(variable):
    note = _NOTE.get()
    if note is not None:
        note(variable)
    return _VALUE.fget(variable)


# The class that says what the value of a variable is.
_VALUE_OF = next(cls for cls in keras.Variable.__mro__ if "value" in vars(cls))
_VALUE = vars(_VALUE_OF)["value"]
_READING, _NOTE = [0], contextvars.ContextVar("note", default=None)


def run_graph(model, inputs, call):
    """Goes through the graph of a functional model.

    Args:
        model: The model.
        inputs: Tensors in the structure of `model.input`.
        call: Function of an operation, and of the arguments of its call, that returns its outputs.
    """
    return model._run_through_graph(inputs, call_fn=call)


def following(operation):
    """List of the operations that take an operation's outputs, in all models that share it."""
    return [node.operation for node in operation._outbound_nodes]


def producer(tensor):
    """The operation that a symbolic tensor comes from."""
    return tensor._keras_history.operation


# ---- surgery: layers in other places than the ones they were made for

# What a layer keeps about its place among others, not about what it computes.
BOOKKEEPING = frozenset(
    (
        "_layers",
        "_metrics",
        "_tracker",
        "_tracked",
        "_inbound_nodes",
        "_outbound_nodes",
        "_functional",
        "_operations",
        "_operations_by_depth",
        "_nodes",
        "_nodes_by_depth",
        "_inputs",
        "_outputs",
        "_inputs_struct",
        "_outputs_struct",
        "_modules",
        "_parameters",
        "_buffers",
        "_torch_params",
        "_losses",
        "_losses_override",
        "_loss_ids",
        "_auto_config",
        "_trainable_variables",
        "_non_trainable_variables",
        "_seed_generators",
        "_compile_config",
        "_compile_loss",
        "_compile_metrics",
        "_loss_tracker",
        "optimizer",
        "loss",
        "history",
        "train_function",
        "test_function",
        "predict_function",
        "build",
        "quantize",
        # TensorFlow's.
        "_self_setattr_tracking",
        "_self_unconditional_checkpoint_dependencies",
        "_self_unconditional_dependency_names",
        "_self_unconditional_deferred_dependencies",
        "_self_update_uid",
        "_self_name_based_restores",
        "_self_saveable_object_factories",
        "_saved_model_inputs_spec",
        "_saved_model_arg_spec",
    )
)


def is_remade_from_layers(model):
    """Whether Keras can make a model again, of its own class, from other layers.

    So it is with models whose constructor is that of `keras.Model` or `keras.Sequential`.
    """
    import keras
    from keras.src.models.functional import Functional, functional_like_constructor

    if isinstance(model, Functional):
        return functional_like_constructor(type(model))
    return isinstance(model, keras.Sequential) and (
        type(model).__init__ is keras.Sequential.__init__
    )


def trusting():
    """Context in which a config may hold Python functions: one just made of a living layer."""
    from keras.src.saving.serialization_lib import SafeModeScope

    return SafeModeScope(safe_mode=False)


def compile_arguments(model):
    """Dict of what `compile` was called with, the objects themselves, not their configs."""
    return dict(model._compile_config.config)


def set_own_trainable(layer, value):
    """Sets the flag of a layer alone; the public setter changes all that it holds, too."""
    layer._trainable = value


def without_nodes(operation):
    """A copy of an operation, which is no layer and has no state, for use in another graph."""
    copy = object.__new__(type(operation))
    vars(copy).update(vars(operation))
    copy._inbound_nodes, copy._outbound_nodes = [], []
    return copy


def put_layer(holder, old, new):
    """Lists `new` in place of `old` among the layers whose variables `holder` has.

    Trackers only ever add: a layer that is no attribute any more keeps its variables in the model.
    """
    tracker = holder._tracker
    if tracker.is_in_store("layers", new):
        tracker.untrack(old)
    elif tracker.is_in_store("layers", old):
        tracker.replace_tracked_value("layers", old, new)
    # Sequential models have a list of their own.
    layers = vars(holder).get("_layers", [])
    # In some versions of Keras it is TensorFlow's wrapper of a list, which holds nothing itself.
    kind = list if list.__len__(layers) else type(layers)
    for index, layer in enumerate(layers):
        if layer is old:
            kind.__setitem__(layers, index, new)
    if hasattr(holder, "_torch_params"):
        holder._track_variables()


def put_operation(model, old, new):
    """Makes the graph of a functional model call `new` where it called `old`."""
    from keras.src.ops.function import make_node_key
    from keras.src.ops.node import KerasHistory

    model._operations = [new if op is old else op for op in model._operations]
    for depth, operations in model._operations_by_depth.items():
        model._operations_by_depth[depth] = [new if op is old else op for op in operations]
    nodes = [node for nodes in model._nodes_by_depth.values() for node in nodes]
    for node in [node for node in nodes if node.operation is old]:
        node.operation = new
        new._inbound_nodes.append(node)
        for index, tensor in enumerate(node.outputs):
            tensor._keras_history = KerasHistory(new, len(new._inbound_nodes) - 1, index)
    new._outbound_nodes.extend(n for n in old._outbound_nodes if n not in new._outbound_nodes)
    model._nodes = {make_node_key(n.operation, n.operation._inbound_nodes.index(n)) for n in nodes}


def reconnect(model):
    """Connects the layers of a Sequential model anew."""
    if model._functional is not None:
        model._maybe_rebuild()


def name_like(new, old):
    """Makes the variables of a layer that is yet to be built have the paths of another's."""
    new._parent_path = old._parent_path


def constructor_arguments(layer):
    """Dict of what a layer's constructor was called with, or `None` if not all of it is plain."""
    kept = getattr(layer, "_auto_config", None)
    return None if kept is None else dict(kept.config)


def connected_like(model, inputs, operation):
    """A functional model with the connections of another.

    Args:
        model: The functional model, whose class takes what `keras.Model` takes.
        inputs: Symbolic tensors in the structure of `model.input`.
        operation: Function from each operation of the old model to that of the new one.
    """
    outputs = model._run_through_graph(inputs, operation_fn=operation)
    return type(model)(inputs, outputs, name=model.name)


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


def place_of(optimizer, variable):
    """The place of a variable, or of what a step is given for it, among those of an optimizer."""
    return optimizer._get_variable_index(variable)


def adamax_moments(optimizer, variable):
    """Mean of gradients and largest gradient that an `Adamax` keeps of a variable."""
    index = place_of(optimizer, variable)
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


def is_backup(store):
    """Whether a store is the file that `keras.callbacks.BackupAndRestore` resumes a run from."""
    path = getattr(store, "path_or_io", None)
    return isinstance(path, os.PathLike) and os.path.basename(path) == "latest.weights.h5"


def asset_path(store, path):
    """Where an `AssetStore` has a path; raises where that leads out of its folder.

    Keras's own check is private, and not in every version.
    """
    folder = os.path.realpath(store.working_dir)
    full = os.path.realpath(os.path.join(folder, path))
    if os.path.commonpath([folder, full]) != folder:
        raise ValueError(f"The path {path!r} leads out of the folder that it is in.")
    return full


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
    """Raises where a `zipfile.ZipFile` would unpack to far more than it is.

    Keras's own check, of the same limits, is private, and not in every version.
    """
    for member in archive.infolist():
        if member.file_size > max(_LARGE, _MOST_EXPANDED * member.compress_size):
            raise ValueError(
                f"{member.filename!r} says that its {member.compress_size} bytes are "
                f"{member.file_size} when unpacked, as no file of weights is."
            )


# ---- distillation

# What a student's layers returned in the step that is under way, of each thread: replicas are
# threads. Not on the model, which tracks what it is given.
_SEEN = threading.local()


class SavesSeeds:
    """A model whose files hold the states of all random numbers in it.

    Keras leaves them out, so that dropout in a resumed run would draw other numbers.
    """

    def save_own_variables(self, store):
        super().save_own_variables(store)
        for place, seed in enumerate(self._seeds()):
            store[f"seed{place}"] = keras.ops.convert_to_numpy(seed.value)

    def load_own_variables(self, store):
        keys = set(store.keys())
        super().load_own_variables({key: store[key] for key in keys if key[:4] != "seed"})
        for place, seed in enumerate(self._seeds()):
            if f"seed{place}" in keys:
                seed.assign(store[f"seed{place}"])

    def _seeds(self):
        weights = {id(variable) for variable in self.weights}
        return [variable for variable in self.variables if id(variable) not in weights]


@keras.saving.register_keras_serializable("tfcomp")
class Distiller(SavesSeeds, keras.distillation.Distiller):
    """Keras's, with one forward pass of the student for each step, and all of its losses.

    Keras runs a student a second time where layers are compared, always as in training: its
    statistics then move twice, in `evaluate`, too, and dropout differs between the two. What
    `add_loss` and regularizers add is left out. Of several outputs it can take no losses; here
    `compile` takes what has `matched(y, outputs)`, which returns losses and labels like the
    outputs.

    Args:
        teacher: The teacher.
        student: The student.
        distillation_losses: List of losses of distillation.
        regressors: Dict from the name of a layer of the student to a built layer whose outputs are
            compared in the place of that layer's.
        answered: Whether the model is given pairs of the student's inputs and of the teacher's
            answers to them; the teacher then only hands on the latter.
        **kwargs: As Keras takes them. Weights may be variables.
    """

    def __init__(
        self,
        teacher,
        student,
        distillation_losses,
        regressors=None,
        answered=False,
        student_loss_weight=0.5,
        **kwargs,
    ):
        super().__init__(teacher, student, distillation_losses, **kwargs)
        self.student_loss_weight = student_loss_weight
        self.regressors, self.answered = dict(regressors or {}), answered

    def call(self, inputs, training=None):
        inputs = inputs[0] if self.answered else inputs
        if self._student_feature_extractor is None:
            return super().call(inputs, training=training)
        _SEEN.features = self._student_feature_extractor(inputs, training=training)
        return _SEEN.features["final_output"]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        # Before the teacher is called, whose own would be among them.
        added = [self._aggregate_additional_loss(loss) for loss in self.losses]
        losses = self._student_loss_for_serialization
        if y is not None and hasattr(losses, "matched"):
            # As attributes, lists and dicts become others, and these match no outputs.
            vars(self)["_student_loss"], y = losses.matched(y, y_pred)
        total = super().compute_loss(x, y, y_pred, sample_weight, training)
        return sum((keras.ops.cast(loss, total.dtype) for loss in added), total)

    def _extract_all_student_features(self, x, y_pred):
        if self._student_feature_extractor is None:
            return {"final_output": y_pred}
        features, _SEEN.features = getattr(_SEEN, "features", None), None
        if features is None or features["final_output"] is not y_pred:
            raise ValueError("The outputs are not those that the distilling model has just made.")
        regressed = {name: layer(features[name]) for name, layer in self.regressors.items()}
        return {**features, **regressed}

    def get_config(self):
        return {
            **super().get_config(),
            "student_loss_weight": float(self.student_loss_weight),
            "distillation_loss_weights": [float(w) for w in self.distillation_loss_weights],
            "regressors": keras.saving.serialize_keras_object(dict(self.regressors)),
            "answered": self.answered,
        }

    @classmethod
    def from_config(cls, config):
        made = keras.saving.deserialize_keras_object(config["regressors"])
        return super().from_config({**config, "regressors": made})


def has_value(variable):
    """Whether a variable has a value: on JAX, `fit` takes those of a model while it trains."""
    return variable._value is not None


class Weight(keras.Variable):
    """A weight of a loss that may change: Keras asks whether it is above zero and below one."""

    def __gt__(self, other):
        return True

    def __lt__(self, other):
        return True


# ---- TensorFlow


def is_op_determinism_enabled():
    """Whether `tf.config.experimental.enable_op_determinism` was called; there is no public way."""
    from tensorflow.python.framework.config import is_op_determinism_enabled as is_enabled

    return is_enabled()


def owner_of(tensor):
    """The trackable object that a tensor captured by a function belongs to, or `None`."""
    parent = getattr(tensor, "_parent_trackable", None)
    return parent() if parent is not None else None


@functools.cache
def _unsaved_variable_class():
    from tensorflow.python.ops.resource_variable_ops import UninitializedVariable

    class UnsavedVariable(UninitializedVariable):
        def _gather_saveables_for_checkpoint(self):
            return {}

        def _export_to_saved_model_graph(self, object_map=None, tensor_map=None, **kwargs):
            handles = super()._export_to_saved_model_graph(
                object_map=object_map, tensor_map=tensor_map, **kwargs
            )
            # The ops that save and restore are made for what an object is mapped to.
            object_map.pop(self)
            return handles

    return UnsavedVariable


def unsaved_variable(name, shape, dtype):
    """A `tf.Variable` without a value, which no checkpoint holds.

    In a SavedModel it is a variable like any other: whatever freezes, converts or lists variables
    finds it. What it holds has to be assigned when the SavedModel is loaded. The public classes
    have a value from the start, and save it.
    """
    return _unsaved_variable_class()(name=name, shape=shape, dtype=dtype, trainable=False)


def write_fingerprint(folder):
    """Writes the fingerprint of a SavedModel anew, after its graph was changed."""
    from tensorflow.python.saved_model.fingerprinting_utils import write_fingerprint as write

    write(folder)


def retraced(function):
    """A `tf.function` like another, of the same options, that has not been traced yet.

    A trace holds the variables it was made with, and options cannot be asked for.
    """
    return function._clone(None)


def frozen(function):
    """A concrete function without variables, or anything else that its outputs do not need.

    TensorFlow's pages show this function, but its public modules do not have it.
    """
    from tensorflow.python.framework import convert_to_constants

    return convert_to_constants.convert_variables_to_constants_v2(
        function, lower_control_flow=False
    )
