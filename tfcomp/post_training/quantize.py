"""Quantizing the weights of a trained model as they are."""

import contextlib
import functools
from typing import NamedTuple

import keras
import numpy as np

from tfcomp.core.projection import check_weights
from tfcomp.model.axes import output_axes
from tfcomp.model.choice import choose
from tfcomp.model.data import Batches
from tfcomp.model.progress import Progress
from tfcomp.model.result import Result
from tfcomp.post_training import _statistics
from tfcomp.quantizers.base import Quantizer, applied, get
from tfcomp.validation import check_verbose, invalid


class QuantizedTarget(NamedTuple):
    """What `quantize` did to one weight.

    Attributes:
        path: Path of the weight.
        error: Squared error relative to the squared norm.
    """

    path: str
    error: float


class Quantized(Result):
    """What `tfcomp.quantize` did; see `tfcomp.Result`.

    Attributes:
        statistics: Dict from the path of each `BatchNormalization` to the statistics it has now,
            `"data"` or `"before"`.
        output_errors: Dict from `"data"` and `"before"` to the squared error of the model's outputs
            on `data` with these statistics, relative to the squared outputs it had before; `None`
            where there was nothing to choose.
    """

    def __init__(self, model, rows, left_out, statistics, output_errors):
        columns = {"Weight": "{0.path}", "Squared error": "{0.error:.3%}"}
        super().__init__(model, rows, left_out, "Quantized weights", columns)
        self.statistics, self.output_errors = statistics, output_errors

    def table(self):
        table = super().table()
        if self.statistics:
            lines = [f"{path}: statistics of {kept}" for path, kept in self.statistics.items()]
            errors = (self.output_errors or {}).items()
            lines += [f"error of the outputs with {kept}: {error:.3%}" for kept, error in errors]
            table.caption = "\n".join(lines)
        return table


def quantize(model, quantizer, data=None, targets=None, *, batch_size=32, verbose=1):
    """Quantizes weights of a trained model, without training.

    Works in place.

    With `data`, the statistics of every `BatchNormalization` are estimated anew afterwards, as
    ternary networks with fine-grained quantization need it (arXiv:1705.01462): they were those of
    the original weights. Every other layer runs as in inference meanwhile. They are kept where they
    bring the outputs on `data` nearer to those of the model as it was; otherwise the old ones come
    back. A layer that has never been trained, its means all 0 and its variances all 1, has no old
    ones, and is given those of the data.

    Args:
        model: A built `keras.Model` of any kind.
        quantizer: A name, an object such as `tfcomp.quantizers.FineGrainedTernary(4)`, or a
            function from tensor to tensor.
        data: `None`, or inputs of the model: an array, a tuple `(x, y)`, a dict, a dataset ...
        targets: Which weights, in any form `tfcomp.targets.find` takes; `None` for every
            kernel-like weight. In a dict, `quantizer` can be overridden.
        batch_size: Samples in a batch, where `data` are arrays.
        verbose: 0 for silence, 1 for a progress bar over the data, 2 for a line for each weight.

    Returns:
        A `tfcomp.Result`: `rows` of `QuantizedTarget`, what was `left_out`, the `statistics` that
        were kept and the `output_errors` they were chosen by.

    Raises:
        ValueError: For an argument that cannot be used, or a weight with NaN; nothing is changed.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="a")])
    >>> done = tfcomp.quantize(model, "ternary", verbose=0)
    >>> done[0].path, 0 < done[0].error < 1
    ('a/kernel', True)
    >>> len(np.unique(np.abs(model.layers[0].kernel.numpy())))
    2
    """
    progress = Progress(None, check_verbose(verbose), "batch")
    batches = None if data is None else Batches(model, data, batch_size)
    chosen, left_out = choose(model, targets, functools.partial(_plan, quantizer), ["quantizer"])
    with _all_or_nothing(model) as kept:
        rows = []
        for target, function in chosen:
            rows.append(QuantizedTarget(target.path, _assign(target.variable, function)))
            progress.line(f"{target.path}: squared error {rows[-1].error:.3%}")
        statistics, errors = {}, None
        if batches is not None:
            variables = [target.variable for target, _ in chosen]
            statistics, errors = _estimated(model, variables, kept, batches, progress)
    progress.left_out(left_out)
    return Quantized(model, rows, left_out, statistics, errors)


def _plan(quantizer, target):
    """The target and a function from tensor to tensor."""
    function = get(target.options.get("quantizer", quantizer), "quantizer")
    if function is None:
        raise invalid("quantizer", quantizer, "a quantizer")
    if isinstance(function, Quantizer):
        function = function.for_kernel(output_axes(target.layer, target.variable.name))
    check_weights(target.path, keras.ops.convert_to_numpy(target.variable.value))
    return target, function


def _assign(variable, function):
    """Quantizes a variable and returns its squared error."""
    # By way of numpy: TensorFlow casts a variable to its own dtype by handing it back.
    before = keras.ops.convert_to_numpy(variable.value)
    before = keras.ops.cast(keras.ops.convert_to_tensor(before), "float32")
    after = keras.ops.cast(applied(function, before), "float32")
    variable.assign(after)
    whole = float(keras.ops.sum(before**2))
    error = float(keras.ops.sum((after - before) ** 2))
    return error / whole if whole else 0.0


@contextlib.contextmanager
def _all_or_nothing(model):
    """Gives all variables their values back where something goes wrong."""
    kept = [(v, np.array(keras.ops.convert_to_numpy(v.value))) for v in model.variables]
    try:
        yield kept
    except BaseException:
        for variable, value in kept:
            variable.assign(value)
        raise


def _estimated(model, quantized, kept, batches, progress):
    """Which statistics each normalization has got, and the errors with either."""
    found = _statistics.normalizations(model)
    if not found:
        # One batch, to say what is wrong with data that are not needed.
        model(batches.first(), training=False)
        return {}, None
    _statistics.estimate(model, found, batches, progress)
    changed = {id(variable) for variable in quantized}
    weights = {
        "before": [(variable, value) for variable, value in kept if id(variable) in changed],
        "data": [(v, np.array(keras.ops.convert_to_numpy(v.value))) for v in quantized],
    }

    def put(of_weights, of_statistics):
        for variable, value in weights[of_weights]:
            variable.assign(value)
        for each in found:
            before = of_statistics == "before" and not (of_weights == "data" and each.untrained)
            each.assign(each.before if before or each.after is None else each.after)

    errors, better = None, "data"
    if any(each.after and not each.untrained for each in found):
        pairs = [("before", "before"), ("data", "before"), ("data", "data")]
        states = [functools.partial(put, *pair) for pair in pairs]
        old, new = _statistics.output_errors(model, batches, states)
        errors, better = {"data": new, "before": old}, "data" if new < old else "before"
        put("data", better)
    _put_back(model, kept, changed | {id(v) for each in found for v in each.variables})
    given = {each.path: each.after and (each.untrained or better == "data") for each in found}
    return {path: "data" if new else "before" for path, new in given.items()}, errors


def _put_back(model, kept, changed):
    """What else training steps of normalizations have moved, averages of renormalization."""
    for variable, value in kept:
        if id(variable) not in changed and not variable.trainable:
            variable.assign(value)
