"""A SavedModel in which every weight is stored once, coded, and decoded once, on loading."""

import json
import os
import tempfile

import keras
import tensorflow as tf

from tfcomp import keras_private
from tfcomp.console import show
from tfcomp.exporters.compact import compact
from tfcomp.exporters.compared import Exported, size_of, unverified
from tfcomp.exporters.decode import is_decodable
from tfcomp.exporters.latency.batches import covering
from tfcomp.exporters.latency.budget import Budget
from tfcomp.exporters.latency.plan import make_plan
from tfcomp.exporters.report import print_report
from tfcomp.exporters.signature import DEFAULT, endpoints
from tfcomp.exporters.trace import seen, substituted
from tfcomp.exporters.verify import compare
from tfcomp.exporters.weights import Weights
from tfcomp.layers.base.decoded import decoded_layers
from tfcomp.model.data import Batches
from tfcomp.model.final_weights import FinalWeights
from tfcomp.storage.replace import replaced_folder

# What a SavedModel may consist of, and consists of.
_PARTS = ("saved_model.pb", "assets", "assets.extra", "debug", "fingerprint.pb", "variables")
# Bytes of weights from which coding them takes long enough to watch.
_LONG = 1 << 25


def _bytes(variables):
    return sum(v.value.shape.num_elements() * v.value.dtype.size for v in variables)


def _coded(variables, decoded, final, where, verbose):
    weights = Weights(where)
    bar = None
    if verbose and _bytes(variables) >= _LONG:
        bar = keras.utils.Progbar(len(variables), unit_name="weight")
    for variable in variables:
        weights.add(variable, final.value(variable))
        if bar is not None:
            bar.add(1)
    for layer in decoded:
        weights.add_kernel(layer, [final.value(variable) for variable in layer.parts])
    return weights


def _captured(functions, known):
    """What functions capture besides the weights: other variables, lookup tables."""
    found = []
    for function in functions:
        owners = [keras_private.owner_of(tensor) for tensor in function.captured_inputs]
        for owner in [*function.graph.variables, *owners]:
            if owner is not None and not any(owner is other for other in [*found, *known]):
                found.append(owner)
    return found


def _write(folder, functions, weights):
    """Writes a SavedModel of functions by name."""
    root = tf.Module()
    root.decoding = weights.finish()
    root.weights, root.assets = weights.variables, weights.assets
    for name, function in functions.items():
        setattr(root, name, function)
    concrete = [function.get_concrete_function() for function in functions.values()]
    root.captured = _captured(concrete, weights.variables)
    options = tf.saved_model.SaveOptions(
        experimental_debug_stripper=True,
        # Without variables and tables there is nothing that a checkpoint would hold.
        experimental_skip_saver=not root.captured,
    )
    default = functions.get(DEFAULT) or next(iter(functions.values()))
    tf.saved_model.save(root, folder, signatures={**functions, DEFAULT: default}, options=options)
    compact(folder)


def _write_tables(folder, plans):
    """Says which kernels were chosen, where a SavedModel keeps what is not read on loading."""
    if plans:
        extra = os.path.join(folder, "assets.extra")
        os.makedirs(extra, exist_ok=True)
        tables = {name: plan.result.as_dict() for name, plan in plans.items()}
        with open(os.path.join(extra, "kernels.json"), "w", encoding="utf-8") as file:
            json.dump(tables, file, indent=1)


def _plans(wanted, final, search, uses, verbose):
    """Chooses kernels for each endpoint; returns a dict of plans by name."""
    plans, budget = {}, Budget(search.seconds)
    for endpoint in wanted:
        own = uses[endpoint.name].updated
        others = set().union(*(use.updated for use in uses.values())) - own
        plans[endpoint.name] = make_plan(
            endpoint, final, search.batch_sizes, budget, own, others, verbose
        )
        if verbose:
            show(plans[endpoint.name].result.table())
    return plans


def export_saved_model(
    model,
    path,
    verbose=True,
    input_signature=None,
    signatures=None,
    verify=True,
    data=None,
    search=None,
):
    """Writes the folder; see `tfcomp.export`. Kernels are chosen where there is a `Search`."""
    final = FinalWeights(model)
    wanted = endpoints(model, input_signature, signatures)
    decoded = decoded_layers(model)
    kernels = {id(layer): tf.zeros(layer.kernel_shape) for layer in decoded}
    uses = {endpoint.name: seen(endpoint, final.scope, kernels) for endpoint in wanted}
    changed = set().union(*(use.updated for use in uses.values()))
    plans = _plans(wanted, final, search, uses, verbose) if search else {}
    data = None if data is None else Batches(model, data)
    with replaced_folder(path, _PARTS) as new, tempfile.TemporaryDirectory() as files:
        reads = {name: use.read for name, use in uses.items()}
        reads |= {name: plan.variables_read() for name, plan in plans.items()}
        read = set().union(*reads.values())
        variables = {id(variable): variable for variable in model.variables}
        # The others stay variables, stored and restored as TensorFlow does.
        constant = [v for key, v in variables.items() if key in read - changed]
        constant = [variable for variable in constant if is_decodable(variable.dtype)]
        weights = _coded(constant, decoded, final, files, verbose)
        functions = {}
        for endpoint in wanted:
            plan, keys = plans.get(endpoint.name), reads[endpoint.name] | kernels.keys()
            if plan is not None:
                plan.add_to(weights)
                keys |= plan.keys
            functions[endpoint.name] = substituted(
                endpoint, final.scope, lambda keys=keys: weights.read(keys), plan
            )
        _write(new, functions, weights)
        _write_tables(new, plans)
        after = size_of(new)
        # What kernels stand for was there, too.
        plain = set().union(*(use.read for use in uses.values())) - read
        before = weights.before + _bytes(v for k, v in variables.items() if k in changed | plain)
        if verify:
            sizes = covering(search.batch_sizes) if search else ()
            rows, left_out = compare(new, wanted, functions, data, sizes)
        else:
            rows, left_out = [], unverified(endpoint.name for endpoint in wanted)
    if verbose:
        print_report(path, functions, before, after)
    kernels = {name: plan.result for name, plan in plans.items()}
    return Exported(model, rows, left_out, path, before, after, kernels)
