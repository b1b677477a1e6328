"""The options of a callback that single weights may override."""


def options_of(callback, options):
    """Dict of what holds for a weight: the attributes named in `overrides`, and its own options.

    Args:
        callback: `ProjectionCallback`.
        options: The `options` of a `Target`; `{}` for those of the callback itself.
    """
    return {**{name: getattr(callback, name) for name in callback.overrides}, **options}
