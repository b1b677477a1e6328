"""OpenVINO files of what TensorFlow traces.

Keras hands over the whole graph, and OpenVINO takes each tensor that nothing reads for an output:
what gradients have left over stands among the model's. Keras also names the inputs of a dict in
the order of the dict, where TensorFlow sorts them.
"""

import keras
import tensorflow as tf

from tfcomp.exporters.compared import dtype_of, output_name
from tfcomp.exporters.files.holes import single, with_holes
from tfcomp.keras_private import frozen

_SMALL = ("int8", "uint8", "int16", "uint16")


def _input_names(specs):
    """A name for each input: its own, unless two have the same."""
    leaves = keras.tree.flatten(specs)
    places = [f"input_{number}" for number in range(len(leaves))]
    names = [getattr(spec, "name", None) or place for spec, place in zip(leaves, places)]
    return names if len(set(names)) == len(names) else places


def _graph(model, specs, holes):
    """A frozen function of flat inputs with flat outputs, and the names of these.

    What fills holes comes after the inputs, and what they take after the outputs.
    """
    specs = with_holes(specs, holes)
    signature = [
        tf.TensorSpec(tuple(spec.shape), dtype_of(spec)) for spec in keras.tree.flatten(specs)
    ]
    names = []

    def flat(*tensors):
        results, taken = model(*keras.tree.pack_sequence_as(specs, list(tensors))), []
        if holes:
            results, taken = results
        results = keras.tree.flatten_with_path(results)
        names[:] = [output_name(path) for path, _ in results]
        return [*(result for _, result in results), *map(tf.identity, taken)]

    function = tf.function(flat, input_signature=signature, autograph=False)
    return frozen(function.get_concrete_function()), names


def _multiply_wide(made):
    """Small integers are multiplied as 32 bits, as TensorFlow does: sums overflow in theirs."""
    from openvino import opset13

    for op in made.get_ops():
        if op.get_type_name() == "MatMul" and op.output(0).element_type.to_dtype().name in _SMALL:
            for port in op.inputs():
                wide = opset13.convert(port.get_source_output(), "i32")
                port.replace_source_output(wide.output(0))
    made.validate_nodes_and_infer_types()


def _fill(holes, results, parameters):
    """Connects holes with nodes that answer for them; returns what has to be kept."""
    kept = []
    for hole, result, parameter in zip(holes, results, parameters):
        answer = hole.answer(result.input(0).get_source_output(), kept)
        parameter.output(0).replace(answer)
    return kept


def _made(model, specs, holes):
    """The OpenVINO model, names of its outputs, and what has to be kept until it is written."""
    import openvino

    function, output_names = _graph(model, specs, holes)
    made = openvino.convert_model(function.graph)
    _multiply_wide(made)
    by_name = {name: port.get_node() for port in made.inputs for name in port.get_names()}
    parameters = [by_name[tensor.name] for tensor in function.inputs]
    by_name = {result.get_friendly_name(): result for result in made.get_results()}
    results = [by_name[tensor.name] for tensor in function.outputs]
    # Constants are the memory of arrays, which has to last until they are written.
    kept = _fill(holes, results[len(output_names) :], parameters[len(parameters) - len(holes) :])
    results = results[: len(output_names)]
    parameters = parameters[: len(parameters) - len(holes)]
    return openvino.Model(results, parameters, model.name), output_names, kept


def write_openvino(model, path, specs, holes=(), form=None):
    """Writes `path`, an `.xml` file, and the `.bin` file beside it.

    Args:
        model: Callable that computes inference; a `Pierced` one of these holes.
        path: Path of the `.xml` file.
        specs: List of structures of specs, one for each argument.
        holes: List of `Hole` with an `answer`, a function of the output of a node and of a list of
            what has to be kept, which returns the output that answers for it.
        form: One of the functions in `tfcomp.exporters.files.openvino_samples`, which makes the
            model out of that of one sample. By default each hole has a loop, if it needs one.
    """
    import openvino

    made, output_names, kept = _made(model, specs if form is None else single(specs), holes)
    if form is not None:
        made = form(made)
        made.set_friendly_name(model.name)
    for name, value in {pair for hole in holes for pair in hole.settings.items()}:
        made.set_rt_info(value, ["runtime_options", name])
    input_names = _input_names(specs)
    for node, name in zip(made.get_parameters(), input_names):
        node.set_friendly_name(name)
        node.output(0).get_tensor().set_names({name})
    for node, name in zip(made.get_results(), output_names):
        if name not in input_names:
            node.output(0).get_tensor().add_names({name})
    openvino.serialize(made, path)
    del kept
