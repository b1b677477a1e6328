"""Writes `tfcomp/layers/__init__.pyi`, where an editor that runs no code finds signatures.

python tests/layers/stub.py > tfcomp/layers/__init__.pyi
"""

import inspect

import keras

from tfcomp import layers
from tfcomp.layers.base.arguments import NamedArguments

HEAD = '''"""Signatures of the layers, written by `tests/layers/stub.py` with Keras {}."""

# fmt: off
# ruff: noqa: B008, E501, I001
'''


def stub():
    """Returns the text of the stub."""
    classes = {name: getattr(layers, name) for name in layers.__all__}
    composed = {name: cls for name, cls in classes.items() if issubclass(cls, NamedArguments)}
    modules = {cls.__module__ for cls in composed.values()}
    lines = [HEAD.format(keras.__version__), *(f"import {module}" for module in sorted(modules))]
    for name, cls in classes.items():
        if name not in composed:
            lines.append(f"from {cls.__module__} import {name} as {name}")
    for name, cls in composed.items():
        signature = str(inspect.signature(cls)).replace("(", "(self, ", 1)
        lines += [f"class {name}({cls.__module__}.{name}):", f"    def __init__{signature}: ..."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(stub(), end="")
