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


def print_report(path, functions, before, after):
    """Prints where the artifact is, what it computes and how small it became.

    Args:
        path: Path of the artifact.
        functions: Dict from the name of an endpoint to its `tf.function`.
        before: Bytes of the weights.
        after: Bytes of the artifact.
    """
    lines = [f"Saved artifact at [bold]{escape(repr(path))}[/bold]."]
    for name, function in functions.items():
        function = function.get_concrete_function()
        inputs, outputs = function.structured_input_signature, function.structured_outputs
        lines.append(
            f"  endpoint [bold]{escape(name)}[/bold]: {escape(_specs(list(inputs)))} -> "
            f"{escape(_specs(outputs))}"
        )
    smaller = f" ({before / after:.1f} times smaller)" if before > after else ""
    lines.append(f"  weights {_bytes(before)} -> folder {_bytes(after)}{smaller}")
    rich.print("\n".join(lines))
