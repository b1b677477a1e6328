"""What a function without weights does to dyes, found out by experiment.

Dyes are numbered in binary. For each digit the values of the dyes that have it are drawn anew, then
those of the dyes that have it not: an output that changes in exactly one of the two spells the dye
that it depends on. So `2 log2(N) + 1` calls tell `N` channels apart.
"""

import keras
import numpy as np

from tfcomp.surgery.channels.tensors import compact, dye, dyes_of, flat, is_symbolic

_TRIALS = 2


def _draw(rng, x):
    dtype = keras.backend.standardize_dtype(x.dtype)
    if "float" not in dtype:
        return rng.integers(0, 2, x.shape).astype(dtype)
    return rng.uniform(0.1, 2.9, x.shape).astype("float32")


def _numbered(array, shape):
    """The dyes there are, 0 first, and the place of each in that list."""
    dyes, code = np.unique(np.broadcast_to(array, shape), return_inverse=True)
    code = code.reshape(shape)
    return (dyes, code) if dyes[0] == 0 else (np.concatenate([[0], dyes]), code + 1)


def probe(function, x, rng):
    """Finds which dye each number of the outputs depends on.

    Args:
        function: Function from an array to a list of arrays.
        x: Symbolic tensor with one array of dyes.
        rng: NumPy generator.

    Returns:
        List of arrays of dyes, 0 for what is no channel and -1 for what depends on none at all;
        `None` where a number depends on several dyes.
    """
    (array,) = dyes_of(x)
    dyes, code = _numbered(array, x.shape)
    digits = max(1, int(len(dyes) - 1).bit_length())
    changed = None
    for _ in range(_TRIALS):
        base = _draw(rng, x)
        before = function(base)
        if changed is None:
            changed = [np.zeros((digits, 2, *y.shape), bool) for y in before]
        for digit in range(digits):
            has = (code >> digit & 1).astype(bool)
            for side, which in enumerate((~has, has)):
                after = function(np.where(which, _draw(rng, x), base))
                for seen, old, new in zip(changed, before, after):
                    seen[digit, side] |= np.not_equal(old, new)
    if any((seen[:, 0] & seen[:, 1]).any() for seen in changed):
        return None
    return [_spelled(seen, dyes) for seen in changed]


def _spelled(seen, dyes):
    digits = np.arange(len(seen)).reshape(-1, *[1] * (seen.ndim - 2))
    number = np.sum(seen[:, 1].astype(np.int64) << digits, axis=0)
    known = dyes[np.minimum(number, len(dyes) - 1)]
    return compact(np.where(seen.any((0, 1)), known, -1).astype(np.int32))


def ask(dyes, function, inputs, outputs):
    """Dyes the outputs of a function without weights.

    Args:
        dyes: The `Dyes`.
        function: Function from a dict, from the id of each symbolic input to an array, to outputs.
        inputs: List of the inputs.
        outputs: List of the symbolic outputs.

    Returns:
        Whether that could be found out: whether no number depends on several channels.
    """
    rng, inputs = np.random.default_rng(0), [x for x in inputs if is_symbolic(x)]
    fixed = {id(x): _draw(rng, x) for x in inputs}
    found = []
    for x in inputs:
        if not dyes_of(x):
            continue
        if len(dyes_of(x)) > 1:
            return False

        def alone(value, x=x):
            made = flat(function({**fixed, id(x): value}))
            return [np.asarray(keras.ops.convert_to_numpy(y)) for y in made]

        found.append(probe(alone, x, rng))
        if found[-1] is None:
            return False
    for number, output in enumerate(outputs):
        total = np.zeros((1,) * len(output.shape), np.int32)
        for arrays in found:
            array = np.maximum(arrays[number], 0)
            both = (total > 0) & (array > 0)
            dyes.tie(np.where(both, total, 0), np.where(both, array, 0))
            total = np.where(total > 0, total, array)
        dye(output, [total])
    return True
