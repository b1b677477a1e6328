"""One wording for every rejected argument."""


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
