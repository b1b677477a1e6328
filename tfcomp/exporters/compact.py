"""Takes out of a SavedModel what every loader finds out by itself."""

import os

from tensorflow.core.protobuf import saved_model_pb2

from tfcomp.keras_private import write_fingerprint

# Ops whose shapes are known from nothing but what is written with them.
_OPAQUE = ("Call", "While", "If", "Case", "Placeholder", "VarHandleOp", "EnsureShape", "PyFunc")


def _strip(nodes):
    for node in nodes:
        if not any(word in node.op for word in _OPAQUE):
            node.attr.pop("_output_shapes", None)


def compact(folder):
    """Removes the shapes of outputs that follow from those of inputs; a fifth of a graph is that.

    Args:
        folder: Folder of a SavedModel.
    """
    path = os.path.join(folder, "saved_model.pb")
    saved = saved_model_pb2.SavedModel()
    with open(path, "rb") as file:
        saved.ParseFromString(file.read())
    for meta in saved.meta_graphs:
        _strip(meta.graph_def.node)
        for function in meta.graph_def.library.function:
            _strip(function.node_def)
    with open(path, "wb") as file:
        file.write(saved.SerializeToString(deterministic=True))
    write_fingerprint(folder)
