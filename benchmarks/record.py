"""How every benchmark writes what it measured: the results, and what somebody needs to repeat them.

Files in `benchmarks/results/` are what README and docs quote, by way of `benchmarks/tables.py`.
"""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import shlex
import sys
import tempfile

PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy")


def versions():
    """Dict from Python and each package that is at work here to its version."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        if name in sys.modules:
            found[name] = importlib.metadata.version(name)
    if "keras" in sys.modules:
        found["backend"] = sys.modules["keras"].backend.backend()
    return found


def command():
    """The command line, as it is repeated from the root of the repository."""
    script = pathlib.Path(sys.argv[0]).resolve()
    words = ["python", f"{script.parent.name}/{script.name}", *map(_nameless, sys.argv[1:])]
    backend = os.environ.get("KERAS_BACKEND")
    return (f"KERAS_BACKEND={backend} " if backend else "") + shlex.join(words)


def _nameless(word):
    # Where data and interpreters lie on this machine is of no use on another.
    return pathlib.Path(word).name if os.sep in word else word


def write(path, results, **other_versions):
    """Writes a JSON file, whole or not at all.

    Args:
        path: The file. `None` writes none.
        results: What was measured, of dicts, lists, strings and numbers.
        **other_versions: Versions of what ran beside Keras, by name.
    """
    if path is None:
        return
    record = {
        "command": command(),
        "date": datetime.date.today().isoformat(),
        "versions": {**versions(), **other_versions},
        "machine": {"processor": processor(), "cores": os.cpu_count()},
        "results": results,
    }
    path, text = pathlib.Path(path), text_of(record)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(text)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


class Rows:
    """Rows of results, each written as soon as it is there; those that a file has are kept.

    Args:
        path: The file. `None` writes none.
        order: Optional callable, the key by which rows are sorted.
    """

    def __init__(self, path, order=None):
        self.path, self.order, self.rows = None if path is None else pathlib.Path(path), order, []
        if self.path and self.path.exists():
            self.rows = json.loads(self.path.read_text(encoding="utf-8"))["results"]["rows"]

    def has(self, **key):
        """Whether there is a row with these values."""
        return any(key.items() <= row.items() for row in self.rows)

    def drop(self, **key):
        """Leaves out the rows with these values."""
        self.rows = [row for row in self.rows if not key.items() <= row.items()]

    def add(self, **row):
        """Adds a row, and writes all of them."""
        self.rows.append(row)
        if self.order:
            self.rows.sort(key=self.order)
        write(self.path, {"rows": self.rows})
        print(row, flush=True)


def text_of(record):
    """The text of a record's file."""
    return json.dumps(record, indent=1, ensure_ascii=False) + "\n"


def processor():
    """Name of the processor, as far as the system tells it."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
