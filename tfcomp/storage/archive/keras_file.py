"""A `.keras` file into an archive and back, without building the model in it.

So no class of the model need be known, and nothing in either file is called. The stores of weights
are Keras's own because they hold its checks of damaged files.
"""

import json
import zipfile
import zlib

import keras

from tfcomp.keras_private import H5Store, reject_zip_bomb
from tfcomp.storage.archive.container import Contents
from tfcomp.storage.archive.keras_state import renumbered
from tfcomp.storage.replace import replaced_file
from tfcomp.validation import invalid

_WEIGHTS = "model.weights.h5"
_ASSETS = "assets/"


def _groups(store):
    """The paths of all groups of weights in a file, in order."""
    names = []
    # Links that lead elsewhere are not visited.
    store.h5_file.visit(names.append)
    return [name[: -len("vars")].rstrip("/") for name in names if name.split("/")[-1] == "vars"]


def _state(archive, include_optimizer):
    store = H5Store(_WEIGHTS, archive=archive, mode="r")
    try:
        state = {}
        for path in _groups(store):
            group = store.get(path)
            # As in the model, not "0", "1", "10", "2".
            names = sorted(group.keys(), key=lambda name: (len(name), name))
            if names and (include_optimizer or path.split("/")[0] != "optimizer"):
                state[path] = {name: group[name] for name in names}
        return state
    finally:
        store.close()


def read(path, include_optimizer):
    """Returns the `Contents` of a `.keras` file.

    Raises:
        ValueError: If it is none.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            reject_zip_bomb(archive)
            config = json.loads(archive.read("config.json"))
            version = json.loads(archive.read("metadata.json"))["keras_version"]
            files = [name for name in archive.namelist() if name.startswith(_ASSETS)]
            assets = {name[len(_ASSETS) :]: archive.read(name) for name in sorted(files)}
            state = _state(archive, include_optimizer)
    except (zipfile.BadZipFile, zlib.error, KeyError, TypeError, ValueError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(
            f"{str(path)!r} is not a .keras file with weights in {_WEIGHTS}: {error}"
        ) from error
    return Contents(version, json.dumps(renumbered(config)), state, assets)


def write(contents, path):
    """Writes `Contents` as a `.keras` file."""
    if not str(path).endswith(".keras"):
        raise invalid("path", str(path), "a name that ends in .keras, which Keras asks for")
    with replaced_file(path) as file, zipfile.ZipFile(file, "w") as archive:
        metadata = {"keras_version": contents.keras_version, "date_saved": ""}
        archive.writestr("metadata.json", json.dumps(metadata))
        archive.writestr("config.json", contents.config)
        store = H5Store(_WEIGHTS, archive=archive, mode="w")
        for group, weights in contents.state.items():
            entry = store.make(group)
            for name, value in weights.items():
                entry[name] = keras.ops.convert_to_numpy(value)
        store.close()
        for name, data in contents.assets.items():
            archive.writestr(_ASSETS + name, data)
