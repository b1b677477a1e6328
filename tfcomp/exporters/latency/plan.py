"""Chooses the kernels of a model by timing them."""

import itertools

import keras
import numpy as np
import tensorflow as tf

from tfcomp.exporters.compared import are_apart, batch_of, outputs
from tfcomp.exporters.latency.batches import (
    BUCKETS,
    Way,
    at_once,
    bucket_of,
    dispatched,
    in_parts,
    part_of,
)
from tfcomp.exporters.latency.flow import layer_flow
from tfcomp.exporters.latency.replay import replaying
from tfcomp.exporters.latency.table import KERAS, WHOLE, WORTH, Kernel, Kernels
from tfcomp.exporters.latency.trial import Trial
from tfcomp.exporters.latency.units import find_units
from tfcomp.exporters.trace import Substitution
from tfcomp.exporters.verify import drawn_inputs
from tfcomp.layers.base.decoded import decoded_kernels
from tfcomp.model.progress import Progress
from tfcomp.model.result import LeftOut
from tfcomp.model.timing import interleaved, ratios

# A model of at most so many calls of layers is small: more take longer to pass over.
_FEW_CALLS = 8


class Plan:
    """The kernels that were chosen, for each bucket of batch sizes.

    Attributes:
        flow: What `layer_flow` returned.
        chosen: Dict from the index of a bucket to its list of pairs of `Unit` and `Candidate`.
        parts: Dict from the same to the samples of a part, or `None`.
        is_apart: Whether batches may be computed in parts.
        result: `Kernels`.
    """

    def __init__(self, traced, specs, final, flow, left):
        self.traced, self.specs, self.final, self.flow = traced, specs, final, flow
        self.chosen, self.parts, self.is_apart = {}, {}, True
        self.result = Kernels(final.model, [], left)

    @property
    def candidates(self):
        """The kernels that are used, each once."""
        used = [candidate for _, candidate in self._used]
        if any(part is not None and part > 1 for part in self.parts.values()):
            used += [candidate for _, candidate in self._single()]
        return list({id(candidate): candidate for candidate in used}.values())

    @property
    def _used(self):
        return [pair for chosen in self.chosen.values() for pair in chosen]

    def _single(self):
        """Kernels for what is left over of parts."""
        parts = [i for i, part in self.parts.items() if part is not None]
        return self.chosen[0] if self.parts.get(0) else self.chosen[min(parts)]

    def add_to(self, weights):
        """Adds the arrays of all kernels to `Weights`."""
        for candidate in self.candidates:
            candidate.add_to(weights)

    @property
    def keys(self):
        """The keys by which `Weights` reads these arrays."""
        return {(id(c), number) for c in self.candidates for number in range(len(c.arrays))}

    def variables_read(self):
        """The ids of the variables that are read beside the kernels' arrays."""
        read = set()
        values = {
            (id(c), number): tf.zeros(array.shape, array.dtype)
            for c in self.candidates
            for number, array in enumerate(c.arrays)
        }
        serve = tf.function(
            self.function(values, read), input_signature=self.specs, autograph=False
        )
        serve.get_concrete_function()
        return read

    def function(self, values, read=None):
        """The function of a batch of any size, to be called within a trace.

        Args:
            values: Dict to tensors from the ids of variables, and from `keys`.
            read: Optional set that the ids of the variables that are read are added to.
        """
        made = {}

        def one(chosen):
            key = tuple(id(candidate) for _, candidate in chosen)
            if key not in made:
                made[key] = _whole(self, chosen, values, read)
            return made[key]

        # Batches of sizes that were not named: what is there anyway.
        never_slower = list({id(c): (u, c) for u, c in self._used if c.is_never_slower}.values())
        ways = []
        for index in range(len(BUCKETS)):
            chosen, part = self.chosen.get(index, never_slower), self.parts.get(index)
            single = one(self._single()) if part is not None and part > 1 else None
            ways.append(Way(one(chosen), part, single))
        is_small = len(self.flow) <= _FEW_CALLS
        return lambda *args: dispatched(list(args), ways, is_small)


def _whole(plan, chosen, values, read=None):
    tensors = {
        id(candidate): [values[id(candidate), number] for number in range(len(candidate.arrays))]
        for _, candidate in chosen
    }

    def forward(*args):
        substitution, replay = Substitution(values), replaying(plan.flow, chosen, tensors)
        with plan.final.scope(), decoded_kernels(values), substitution, replay:
            outputs = plan.traced(*args)
        if read is not None:
            read.update(substitution.read)
        return outputs

    return tf.function(forward, autograph=False)


def make_plan(endpoint, final, batch_sizes, budget, changed=(), others=(), verbose=0):
    """Times all kernels of a model and chooses.

    Args:
        endpoint: A `tfcomp.exporters.signature.Endpoint`.
        final: The model's `FinalWeights`.
        batch_sizes: The sizes that matter, where the specs leave them free. Batches of other
            buckets are computed by Keras's layers, and what is never slower.
        budget: A `Budget`.
        changed: Ids of variables that a call of the endpoint changes.
        others: Ids of variables that calls of other endpoints change.
        verbose: 0 or 1, for a progress bar.

    Returns:
        A `Plan`.
    """
    specs, begin = endpoint.specs, budget.used
    _check(endpoint)
    flow = layer_flow(endpoint.traced, specs, final.scope, {*changed, *others})
    units, left = find_units(flow, final)
    if endpoint.python is not None:
        left.append(LeftOut(endpoint.name, "layers within a `tf.function` are left to Keras"))
    plan = Plan(endpoint.traced, specs, final, flow, left)
    values = {id(v): tf.constant(final.value(v)) for v in final.model.variables}
    alike = {}
    trials = [Trial(unit, final.scope, values, alike) for unit in units]
    fixed = batch_of(specs)
    batch_sizes = batch_sizes if fixed is None else [fixed]
    sizes = {bucket_of(size): size for size in sorted(batch_sizes, reverse=True)}
    if trials and max(batch_sizes) > 1:
        _try_apart(plan, endpoint, values, changed)
    bar = Progress(len(sizes), verbose, "batch size")
    for index, size in sorted(sizes.items()):
        tried = _tried(plan, size, trials, budget)
        _choose(plan, index, size, tried, values)
        bar.step()
    plan.result.seconds = budget.used - begin
    return plan


def _try_apart(plan, endpoint, values, changed):
    """Finds out whether batches may be computed in parts."""
    reason = "a call of it changes variables, once"
    if not changed:
        specs = keras.tree.map_structure(
            lambda spec: tf.TensorSpec([None, *spec.shape[1:]], spec.dtype), plan.specs
        )
        model = tf.function(_whole(plan, [], values), input_signature=specs, autograph=False)

        def compute(args):
            # A model of one batch size fails here, where it is traced.
            with keras.StatelessScope():
                return outputs(model(*args))

        if are_apart(compute, specs):
            return
        reason = "its samples depend on each other, or on their number"
    plan.is_apart = False
    reason = f"{reason}: batches are not computed in parts"
    plan.result.left_out.append(LeftOut(endpoint.name, reason))


def _tried(plan, size, trials, budget):
    """The trials that have been made of a batch size, those of the slowest layers first."""
    done = set()
    for trial in sorted(trials, key=lambda trial: -trial.keras_seconds(size)):
        if budget.is_used_up:
            plan.result.left_out.append(budget.left_out(f"{trial.unit.path}", size))
            continue
        for batch in {size, part_of(size), 1 if plan.is_apart else size}:
            trial.seconds(batch)
        done.add(trial)
    return [trial for trial in trials if trial in done]


def _check(endpoint):
    for spec in keras.tree.flatten(endpoint.specs):
        shape = getattr(spec, "shape", None)
        if not isinstance(spec, tf.TensorSpec) or not shape or None in shape[1:]:
            raise ValueError(
                "Invalid value for argument `input_signature`. Kernels are timed on inputs of one "
                "size: give all sizes but that of the batch, which comes first. Received: "
                f"{spec} for endpoint {endpoint.name!r}"
            )
    sizes = {spec.shape[0] for spec in keras.tree.flatten(endpoint.specs)}
    if len(sizes) > 1 or 0 in sizes:
        raise ValueError(
            "Invalid value for argument `input_signature`. Kernels are chosen by the size of the "
            "batch, the first axis, which has to be free, or the same for all inputs. Received: "
            f"{endpoint.specs} for endpoint {endpoint.name!r}"
        )


def _fastest(trials, size, part, is_warm):
    """Pairs of unit and candidate, what is fastest of each, for a batch or parts of it."""
    chosen, batch = [], size if part is None else part
    for trial in trials:
        seconds = trial.warm_seconds(batch) if is_warm else trial.seconds(batch)[0]
        candidates = [None, *trial.unit.candidates]
        can = np.array([part is not None or c is None or not c.is_static for c in candidates])
        # Keras's layers are no choice beside what does less.
        can[0] = not _never_slower([trial], size)
        place = int(np.argmin(np.where(can, seconds, np.inf)))
        if place:
            chosen.append((trial.unit, candidates[place]))
    return chosen


def _never_slower(trials, size):
    return [
        (trial.unit, candidate)
        for trial in trials
        for candidate, seconds in zip(trial.unit.candidates, trial.seconds(size)[0][1:])
        if candidate.is_never_slower and seconds < np.inf
    ]


def _ways(trials, size, one, is_apart=True):
    """Pairs of the samples in a part, or `None`, and the kernels to compute with.

    Args:
        trials: List of `Trial`.
        size: Size of the batch.
        one: The kernels that were chosen for one sample, `None` if it is not among the sizes.
        is_apart: Whether the batch may be computed in parts.
    """
    ways = []
    less, is_apart = _never_slower(trials, size), is_apart or size == 1
    parts = (None, part_of(size)) if is_apart else (None,)
    for part, is_warm in itertools.product(parts, (False, True)):
        chosen = _fastest(trials, size, part, is_warm)
        # Shapes are known where one sample is computed, and nothing has to find them out.
        is_static = any(candidate.is_static or size == 1 for _, candidate in chosen)
        known = [*ways, (part, less)]
        if chosen and is_static == (part is not None) and (part, chosen) not in known:
            ways.append((part, chosen))
    if less:
        ways.append((None, less))
    if is_apart and size > 1:
        # What lies between layers is in the caches if samples are computed one after the other.
        one = _fastest(trials, 1, 1, is_warm=False) if one is None else one
        if one and (1, one) not in ways:
            ways.append((1, one))
    return ways


def _choose(plan, index, size, trials, values):
    # Each alternative as a whole model, since layers around the kernels have a say.
    ways = _ways(trials, size, plan.chosen.get(0), plan.is_apart)
    seconds, faster = _compared(plan, ways, size, values)
    place = int(np.argmax(faster))
    part, chosen = [(None, []), *ways][place if faster[place] >= WORTH else 0]
    plan.chosen[index], plan.parts[index] = chosen, part
    used = {id(unit): candidate for unit, candidate in chosen}
    for trial in trials:
        plan.result.rows.append(_row(trial, size, part, used.get(id(trial.unit))))
    place = 0 if not chosen else place
    name = "kernels" if chosen else KERAS
    plan.result.rows.append(Kernel(WHOLE, size, name, 1e3 * seconds[place], 1e3 * seconds[0], {}))


def _row(trial, size, part, candidate):
    """The row of a unit: its kernel, and why it is not another."""

    def milliseconds(at, batch):
        # Of warm and cold caches, which were added up.
        return float(trial.seconds(batch)[0][at]) * 500 * size / batch

    candidates = trial.unit.candidates
    at = 0 if candidate is None else 1 + candidates.index(candidate)
    chosen, others = milliseconds(at, size if part is None else part), dict(trial.unit.refused)
    for number, other in enumerate(candidates, 1):
        batch = part_of(size) if other.is_static else size
        reason = trial.seconds(batch)[1].get(other.name)
        if number == at:
            continue
        found = milliseconds(number, batch)
        beside = "slower" if found >= chosen else "faster alone, and not in the whole model"
        others[other.name] = reason or f"{beside}: {found:.3f} ms"
    name = candidate.name if candidate else KERAS
    return Kernel(trial.unit.path, size, name, chosen, milliseconds(0, size), others)


def _compared(plan, ways, size, values):
    """Seconds of Keras's model and of each way, and how many times faster they are."""
    inputs = drawn_inputs(plan.specs, size)
    calls = []
    for part, chosen in [(None, []), *ways]:
        arrays = {
            (id(c), number): tf.constant(array)
            for _, c in chosen
            for number, array in enumerate(c.arrays)
        }
        call = _whole(plan, chosen, {**values, **arrays})
        calls.append(_timed(Way(call, part, call), plan.specs, inputs))
    seconds = interleaved(calls, 9)
    return np.median(seconds, axis=0), ratios(seconds, 0)


def _timed(way, specs, inputs):
    """A callable that computes the inputs by one way."""
    size = len(_first(inputs))

    def forward(*args):
        if size == way.part:
            return at_once(list(args), way)
        return in_parts(list(args), way, tf.shape(_first(args))[0])

    function = tf.function(forward, input_signature=specs, autograph=False)
    with keras.StatelessScope():
        # A trial changes no variable of the model.
        traced = function.get_concrete_function()
    flat = keras.tree.flatten(inputs)
    return lambda: _first(traced(*flat)).numpy()


def _first(structure):
    return keras.tree.flatten(structure)[0]
