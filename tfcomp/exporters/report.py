"""What an export prints."""

import keras
import rich
from rich.markup import escape


def _bytes(count):
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def _specs(structure):
    leaves = keras.tree.flatten(structure)
    return ", ".join(f"{spec.dtype.name}{list(spec.shape)}" for spec in leaves)


def print_report(path, function, before, after):
    """Prints where the artifact is, what it computes and how small it became.

    Args:
        path: Path of the artifact.
        function: Its concrete function.
        before: Bytes of the weights.
        after: Bytes of the artifact.
    """
    args, kwargs = function.structured_input_signature
    rich.print(
        f"Saved artifact at [bold]{escape(repr(path))}[/bold].\n"
        f"  endpoint [bold]serve[/bold]: {escape(_specs([args, kwargs]))} -> "
        f"{escape(_specs(function.structured_outputs))}\n"
        f"  weights {_bytes(before)} -> folder {_bytes(after)}"
        + (f" ({before / after:.1f} times smaller)" if before > after else "")
    )
