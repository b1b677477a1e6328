"""The command line: `python -m tfcomp pack|unpack|inspect|benchmark`."""

import argparse
import json
import os
import sys

from rich.console import Console

from tfcomp.storage.archive.container import CODINGS, MAX_BYTES, Archive, to_bytes
from tfcomp.storage.replace import replaced_file


def _pack(arguments):
    from tfcomp.storage.archive import keras_file

    contents = keras_file.read(arguments.keras, arguments.include_optimizer)
    data = to_bytes(contents, arguments.coding)
    with replaced_file(arguments.archive) as file:
        file.write(data)
    before, after = os.path.getsize(arguments.keras), len(data)
    print(f"{arguments.archive}: {before:,} -> {after:,} bytes, {before / after:.1f} times smaller")


def _unpack(arguments):
    from tfcomp.storage.archive import keras_file

    with open(arguments.archive, "rb") as file:
        contents = Archive(file.read(), arguments.max_bytes).contents()
    keras_file.write(contents, arguments.keras)


def _inspect(arguments):
    from tfcomp.storage.archive.inspection import Inspection

    console = Console() if sys.stdout.isatty() else Console(width=120)
    console.print(Inspection(arguments.archive, arguments.max_bytes).table())


def _benchmark(arguments):
    from tfcomp.report.benchmark import benchmark

    result = benchmark(
        arguments.models,
        batch_size=arguments.batch_size,
        rounds=arguments.rounds,
        threads=arguments.threads,
    )
    if arguments.json:
        with replaced_file(arguments.json) as file:
            file.write(json.dumps(result.to_dict(), indent=1).encode())


def _parser():
    parser = argparse.ArgumentParser(prog="python -m tfcomp")
    commands = parser.add_subparsers(dest="command", required=True)
    pack = commands.add_parser("pack", help="a .keras file into an archive")
    pack.add_argument("keras", help="the .keras file")
    pack.add_argument("archive", help="the archive to write, usually .tfc")
    pack.add_argument("--coding", choices=CODINGS, default="ans")
    pack.add_argument(
        "--include-optimizer", action="store_true", help="keep the optimizer's variables"
    )
    pack.set_defaults(run=_pack)
    unpack = commands.add_parser("unpack", help="an archive into a .keras file")
    unpack.add_argument("archive", help="the archive")
    unpack.add_argument("keras", help="the .keras file to write")
    unpack.set_defaults(run=_unpack)
    inspect = commands.add_parser("inspect", help="a table of the weights in an archive")
    inspect.add_argument("archive", help="the archive")
    inspect.set_defaults(run=_inspect)
    for command in (unpack, inspect):
        command.add_argument(
            "--max-bytes", type=int, default=MAX_BYTES, help="refuse weights that take more memory"
        )
    timed = commands.add_parser("benchmark", help="latencies of models, side by side")
    timed.add_argument("models", nargs="+", help="SavedModels, .keras, .tfc, .tflite, .onnx, .xml")
    timed.add_argument("--batch-size", type=int, default=1, help="samples in a batch")
    timed.add_argument("--rounds", type=int, default=30, help="how often each is timed")
    timed.add_argument("--threads", type=int, help="threads of each engine")
    timed.add_argument("--json", help="file to write the figures to")
    timed.set_defaults(run=_benchmark)
    return parser


def main(arguments=None):
    """Runs a command.

    Args:
        arguments: List of strings, those of the command line by default.

    Returns:
        0, or 1 after an error, which is printed.
    """
    arguments = _parser().parse_args(arguments)
    try:
        arguments.run(arguments)
    except (ImportError, OSError, ValueError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
