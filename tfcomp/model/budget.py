"""What a model costs, and what it may cost."""

import numpy as np

from tfcomp.model import macs
from tfcomp.model.calls import layer_calls
from tfcomp.validation import check_number, invalid


def multiplications(model):
    """List of triples of a layer, a variable of it or `None`, and the MACs that it takes part in.

    Raises:
        ValueError: Where they are not known.
    """
    calls, found = layer_calls(model), []
    if calls is None:
        raise invalid("macs", model.name, "a model whose calls can be traced")
    for first, second in calls:
        counted = macs.count(first)
        if counted is None or counted != macs.count(second):
            name = first.layer.name
            expected = f"None: those of {name!r} are not known, or depend on the size of the input"
            raise invalid("macs", name, expected)
        found += [(first.layer, variable, number) for variable, number in counted]
    return found


def budget_of(kind, value, whole):
    """The largest cost that is asked for: a part of the whole, or a number.

    Args:
        kind: `"macs"` or `"params"`.
        value: Float in (0, 1), or an integer.
        whole: What the model costs.
    """
    if isinstance(value, (float, np.floating)) and value <= 1:
        check_number(kind, value, above=0)
        return value * whole
    check_number(kind, value, 1)
    return float(value)
