"""A SavedModel in which every weight is stored once, coded, and decoded once, on loading."""

import os
import tempfile

import keras
import tensorflow as tf

from tfcomp import keras_private
from tfcomp.exporters.decode import is_decodable
from tfcomp.exporters.report import print_report
from tfcomp.exporters.signature import input_specs
from tfcomp.exporters.trace import substituted, variables_used
from tfcomp.exporters.weights import Weights
from tfcomp.layers.base.decoded import decoded_layers
from tfcomp.model.final_weights import FinalWeights
from tfcomp.storage.replace import replaced_folder

# What a SavedModel may consist of, and consists of.
_PARTS = ("saved_model.pb", "assets", "assets.extra", "debug", "fingerprint.pb", "variables")
# Bytes of weights from which coding them takes long enough to watch.
_LONG = 1 << 25


def _coded(variables, decoded, final, where, verbose):
    weights = Weights(where)
    total = sum(v.value.shape.num_elements() * v.value.dtype.size for v in variables)
    bar = None
    if verbose and total >= _LONG:
        bar = keras.utils.Progbar(len(variables), unit_name="weight")
    for variable in variables:
        weights.add(variable, final.value(variable))
        if bar is not None:
            bar.add(1)
    for layer in decoded:
        weights.add_kernel(layer, [final.value(variable) for variable in layer.parts])
    weights.finish()
    return weights


def _captured(function, known):
    """What the function captures besides the weights: other variables, lookup tables."""
    found = list(function.graph.variables)
    for tensor in function.captured_inputs:
        owner = keras_private.owner_of(tensor)
        if owner is not None and not any(owner is other for other in [*found, *known]):
            found.append(owner)
    return found


def _size(folder):
    """Bytes of all files in a folder."""
    files = (os.path.join(where, name) for where, _, names in os.walk(folder) for name in names)
    return sum(os.path.getsize(file) for file in files)


def export_saved_model(model, path, verbose=True, input_signature=None):
    """Writes the folder; see `tfcomp.export`."""
    final = FinalWeights(model)
    specs = input_specs(model, input_signature)
    with replaced_folder(path, _PARTS) as new, tempfile.TemporaryDirectory() as files:
        decoded = decoded_layers(model)
        kernels = {id(layer): tf.zeros(layer.kernel_shape) for layer in decoded}
        constant, changed = variables_used(model, specs, final.scope, kernels)
        # The others stay variables, stored and restored as TensorFlow does.
        constant = [variable for variable in constant if is_decodable(variable.dtype)]
        weights = _coded(constant, decoded, final, files, verbose)
        serve = substituted(model, specs, final.scope, weights.read)
        function = serve.get_concrete_function()

        root = tf.Module()
        root.serve = serve
        root.weights = weights.resources
        root.assets = weights.assets
        root.captured = _captured(function, weights.resources)
        options = tf.saved_model.SaveOptions(
            experimental_debug_stripper=True,
            # Without variables and tables there is nothing that a checkpoint would hold.
            experimental_skip_saver=not root.captured,
        )
        signatures = {"serve": serve, "serving_default": serve}
        tf.saved_model.save(root, new, signatures=signatures, options=options)
        after = _size(new)
    if verbose:
        before = weights.before + sum(v.value.shape.num_elements() * 4 for v in changed)
        print_report(path, function, before, after)
