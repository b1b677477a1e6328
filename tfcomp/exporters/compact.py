"""Takes out of a SavedModel what every loader finds out by itself."""

import os

from tensorflow.core.protobuf import config_pb2, saved_model_pb2

from tfcomp.keras_private import write_fingerprint

# Ops whose shapes are known from nothing but what is written with them.
_OPAQUE = ("Call", "While", "If", "Case", "Placeholder", "VarHandleOp", "EnsureShape", "PyFunc")


def _strip(nodes):
    for node in nodes:
        if not any(word in node.op for word in _OPAQUE):
            node.attr.pop("_output_shapes", None)


def _as_it_is(nodes):
    """Has functions that are called and not copied into their callers run as they are."""
    config = config_pb2.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    for node in nodes:
        if node.op.endswith("PartitionedCall"):
            node.attr["config_proto"].s = config.SerializeToString()


def _initializers(meta):
    """Names of the functions that resources are initialized by."""
    names = meta.object_graph_def.concrete_functions
    children = (child for node in meta.object_graph_def.nodes for child in node.children)
    places = {child.node_id for child in children if child.local_name == "_initialize"}
    nodes = [meta.object_graph_def.nodes[place] for place in places]
    found = {node.bare_concrete_function.concrete_function_name for node in nodes}
    found |= {name for node in nodes for name in node.function.concrete_functions}
    return found & set(names)


def compact(folder):
    """Makes a SavedModel small and quick to load.

    The shapes of outputs that follow from those of inputs are removed, a fifth of a graph. What
    runs once, on loading, is not optimized.

    Args:
        folder: Folder of a SavedModel.
    """
    path = os.path.join(folder, "saved_model.pb")
    saved = saved_model_pb2.SavedModel()
    with open(path, "rb") as file:
        saved.ParseFromString(file.read())
    for meta in saved.meta_graphs:
        initializers = _initializers(meta)
        _strip(meta.graph_def.node)
        for function in meta.graph_def.library.function:
            _strip(function.node_def)
            if function.signature.name in initializers:
                _as_it_is(function.node_def)
    with open(path, "wb") as file:
        file.write(saved.SerializeToString(deterministic=True))
    write_fingerprint(folder)
