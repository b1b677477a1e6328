"""What `benchmarks/zoo.py` does to a network: compressing its weights, and swapping its layers.

Each check takes a model and a batch and returns "ok", with numbers after it, or what is wrong.
"""

import functools

import keras
import numpy as np
from zoo_networks import SEED, gap, kernels, make, outputs

import tfcomp

SPARSITY = 0.8
# Tracing a train step takes longer than three eager ones: networks of more kernels train eagerly.
TRACED = 60
# Optimal brain surgeon takes seconds for a wide layer and goes through the network once for each:
# in a network of more kernels than so many, it is tried on so many that are no wider than that.
OBS_KERNELS, OBS_INPUTS = 16, 400
__all__ = ["CHECKS", "make"]
# Adam's two slots are too much for the largest.
LARGE = 100_000_000


def rules(model, prefix):
    """Rules from Keras's layers to those of tfcomp, of the classes that the model has."""
    found = {}
    for site in tfcomp.targets.layer_sites(model):
        cls = type(site.layer)
        new = getattr(tfcomp.layers, prefix + cls.__name__, None)
        if new is not None and cls.__module__.startswith("keras."):
            found[cls] = new
    return found


def _exact(model, other, batch):
    far = gap(outputs(model, batch), outputs(other, batch))
    return "ok" if far == 0 else f"differs by {far:.3g}"


def identity(model, batch):
    return _exact(model, tfcomp.swap_layers(model, {...: None}), batch)


def quantized(model, batch):
    return _exact(model, tfcomp.swap_layers(model, rules(model, "Quantized")), batch)


def binary(model, batch):
    chosen = rules(model, "Binary")
    if not chosen:
        return "nothing to do"
    other = tfcomp.swap_layers(model, chosen)
    left = [s.path for s in tfcomp.targets.layer_sites(other) if type(s.layer) in chosen]
    if left:
        return f"{len(left)} layers left as they were: {left[0]}"
    found = outputs(other, batch)
    if not all(np.all(np.isfinite(value)) for value in found):
        return "outputs are not finite"
    for old, new in zip(model.weights, other.weights, strict=True):
        if not np.array_equal(old.numpy(), new.numpy()):
            return f"{new.path} was not carried over"
    return "ok" if gap(outputs(model, batch), found) > 0 else "changes nothing"


def _fit(model, batch, callback):
    """Three steps of training; returns the logs."""
    large = model.count_params() > LARGE
    for site in tfcomp.targets.layer_sites(model):
        if isinstance(site.layer, keras.layers.BatchNormalization):
            # The statistics of two small images make deep networks diverge, plain ones, too.
            site.layer.trainable = False
    optimizer = keras.optimizers.SGD(1e-3, clipnorm=1.0) if large else keras.optimizers.Adam(1e-3)
    model.compile(optimizer, "mse", run_eagerly=len(kernels(model)) > TRACED)
    random = np.random.default_rng(SEED)
    wanted = keras.tree.map_structure(
        lambda tensor: random.normal(size=tensor.shape).astype("float32"),
        model(batch, training=False),
    )
    thrice = lambda array: np.concatenate([np.asarray(array)] * 3)  # noqa: E731
    x, y = keras.tree.map_structure(thrice, (batch, wanted))
    history = model.fit(x, y, batch_size=2, verbose=0, callbacks=[callback])
    return {name: values[-1] for name, values in history.history.items()}


def _some(model):
    """Values of kernels at the beginning and at the end of a network."""
    every = kernels(model)
    return [weight.numpy() for weight in (*every[:3], *every[-3:])]


def _untrained(model, before):
    """What is wrong with the training, or `None`."""
    for weight in kernels(model):
        if not np.all(np.isfinite(weight.numpy())):
            return f"{weight.path} is not finite"
    moved = [np.any((a != b) & (a != 0)) for a, b in zip(_some(model), before)]
    return None if any(moved) else "nothing was trained"


def pruned(model, batch):
    before = _some(model)
    schedule = tfcomp.schedules.PolynomialDecay(0, SPARSITY, 0, 2, frequency=1)
    logs = _fit(model, batch, tfcomp.callbacks.GradualPruning(schedule))
    for weight in kernels(model):
        zeros = np.count_nonzero(weight.numpy() == 0)
        wanted = int(SPARSITY * weight.numpy().size + 0.5)
        if zeros != wanted:
            return f"{weight.path} has {zeros} zeros, not {wanted}"
    if abs(logs["sparsity"] - SPARSITY) > 1e-3:
        return f"logs say {logs['sparsity']}"
    return _untrained(model, before) or f"ok ({len(kernels(model))} kernels)"


def _not_ternary(model):
    """What is wrong with weights that are to be ternary, or `None`."""
    for weight in kernels(model):
        levels = np.unique(np.abs(weight.numpy()))
        if np.count_nonzero(levels) > 1:
            return f"{weight.path} has {len(levels)} magnitudes"
    return None


def trained_ternary(model, batch):
    before = _some(model)
    logs = _fit(model, batch, tfcomp.callbacks.QuantizedTraining("ternary"))
    if logs["quantized"] != 1:
        return f"logs say {logs['quantized']}"
    return _not_ternary(model) or _untrained(model, before) or f"ok ({len(kernels(model))} kernels)"


def quantize(model, batch):
    done = tfcomp.quantize(model, "ternary", data=batch, verbose=0)
    covered = _covered(model)
    missing = {id(w): w.path for w in kernels(model)}
    for row in done:
        missing.pop(id(covered[row.path]), None)
    if missing:
        return f"{list(missing.values())} are left out"
    if not all(np.all(np.isfinite(value)) for value in outputs(model, batch)):
        return "outputs are not finite"
    return _not_ternary(model) or f"ok ({len(done)} weights)"


def _covered(model):
    """Dict from path to variable of what is covered by default."""
    return {target.path: target.variable for target in tfcomp.targets.find(model, None)}


def prune_obs(model, batch):
    covered, chosen = _covered(model), None
    ours = {id(w) for w in kernels(model)}
    if len(ours) > OBS_KERNELS:
        narrow = [
            path
            for path, variable in covered.items()
            if id(variable) in ours and np.prod(variable.shape[:-1]) <= OBS_INPUTS
        ]
        chosen = narrow[:: -(-len(narrow) // OBS_KERNELS)]
    done = tfcomp.prune_obs(model, SPARSITY, batch, chosen, verbose=0)
    if chosen is None and ours - {id(covered[row.path]) for row in done}:
        return f"{len(done)} of {len(ours)} kernels pruned"
    for row in done:
        value = covered[row.path].numpy()
        if np.count_nonzero(value == 0) != int(SPARSITY * value.size + 0.5):
            return f"{row.path} has {np.count_nonzero(value == 0)} zeros of {value.size}"
    if not all(np.all(np.isfinite(value)) for value in outputs(model, batch)):
        return "outputs are not finite"
    if sum(row.error for row in done) > sum(row.magnitude_error for row in done):
        return "worse than by magnitude"
    return f"ok ({len(done)} of {len(ours)} kernels)"


def _alone(check):
    """A check that leaves the weights as they were, and answers with a dict."""

    @functools.wraps(check)
    def checked(model, batch, name):
        weights = model.get_weights()
        try:
            return {"result": check(model, batch)}
        finally:
            tfcomp.release(model)
            model.set_weights(weights)

    return checked


CHECKS = {
    "identity": _alone(identity),
    "quantized": _alone(quantized),
    "binary": _alone(binary),
    "pruned": _alone(pruned),
    "ternary": _alone(trained_ternary),
    "quantize": _alone(quantize),
    "prune_obs": _alone(prune_obs),
}
