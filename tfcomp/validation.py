"""One wording for every rejected argument."""

import numpy as np


def invalid(name, value, expected):
    """Returns the `ValueError` for an argument whose value cannot be used.

    Args:
        name: Name of the argument as the caller wrote it.
        value: What was received.
        expected: What would have been accepted, as a noun phrase.
    """
    return ValueError(
        f"Invalid value for argument `{name}`. Expected {expected}. Received: {name}={value!r}"
    )


def check_number(name, value, least=None, below=None, above=None):
    """Raises unless `value` is a finite number, `>= least`, `< below` and `> above`."""
    known = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if (
        not known
        or not np.isfinite(value)
        or (least is not None and value < least)
        or (below is not None and value >= below)
        or (above is not None and value <= above)
    ):
        limits = [f">= {least}"] * (least is not None) + [f"> {above}"] * (above is not None)
        limits += [f"< {below}"] * (below is not None)
        raise invalid(name, value, " ".join(["a finite number", " and ".join(limits)]).strip())


def check_integer(name, value, least=None, most=None):
    """Returns `value` as an `int`; raises unless it is an integer `>= least` and `<= most`.

    NumPy's integers are integers; booleans, strings and floats are not, 3.0 included.
    """
    known = isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))
    if not known or (least is not None and value < least) or (most is not None and value > most):
        limits = [f">= {least}"] * (least is not None) + [f"<= {most}"] * (most is not None)
        raise invalid(name, value, " ".join(["an integer", " and ".join(limits)]).strip())
    return int(value)


def check_verbose(value):
    """Returns 0, 1 or 2; booleans count as 0 and 1, as in Keras."""
    return check_integer("verbose", int(value) if isinstance(value, bool) else value, 0, 2)
