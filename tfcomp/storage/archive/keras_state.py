"""A Keras model as a config, arrays and files, and back.

Keras walks the model's objects and is given a store of weights: what is saved is what `model.save`
saves, under the same paths, and what a layer does in `save_own_variables` and `save_assets` is
respected.
"""

import contextlib
import json
import os

import keras
import numpy as np

from tfcomp import keras_private
from tfcomp.model.final_weights import MARK, FinalWeights, quantized_as_latent
from tfcomp.storage.archive.container import ArchiveError, Contents


class _Store(keras_private.WeightStore):
    """Groups of arrays by path."""

    def __init__(self, groups):
        self.groups = groups

    def make(self, path, metadata=None):
        self.groups[path] = {}
        return self.groups[path]

    def get(self, path):
        return self.groups.get(path, {})

    def has_path(self, path):
        return any(group == path or group.startswith(path + "/") for group in self.groups)


class _Group:
    """The weights of one object, decoded when it takes them."""

    def __init__(self, archive):
        self._archive, self._entries = archive, {}

    def add(self, entry):
        self._entries[entry.name] = entry

    def keys(self):
        return self._entries.keys()

    def __len__(self):
        return len(self._entries)

    def __iter__(self):
        return iter(self._entries)

    def __contains__(self, name):
        return name in self._entries

    def __getitem__(self, name):
        return self._archive.decode(self._entries[name])


def _skipped(model, include_optimizer):
    optimizer = getattr(model, "optimizer", None)
    return set() if include_optimizer or optimizer is None else {id(optimizer)}


def _files(folder):
    found = {}
    for where, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(where, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, folder).replace(os.sep, "/")] = file.read()
    return dict(sorted(found.items()))


def renumbered(config):
    """The config with its shared objects numbered; Keras tells them by their addresses."""
    numbers = {}

    def walk(item):
        if isinstance(item, list):
            return [walk(part) for part in item]
        if not isinstance(item, dict):
            return item
        item = {key: walk(value) for key, value in item.items()}
        if "shared_object_id" in item:
            number = item["shared_object_id"]
            item["shared_object_id"] = numbers.setdefault(number, len(numbers))
        return item

    return walk(config)


def _quantized(state, final):
    """Puts final weights in the place of latent ones; their groups say that they are quantized."""
    left = final.quantized
    for group in state.values():
        own = {name: value for name, value in group.items() if id(value) in left}
        group.update((name, final.value(value)) for name, value in own.items())
        if own:
            group[MARK] = np.ones(1, np.uint8)
        left = left - {id(value) for value in own.values()}
    for variable in (variable for variable in final.model.variables if id(variable) in left):
        raise ValueError(
            f"The latent weight {variable.path!r} cannot be left out: its layer does not save it "
            "as a variable in `save_own_variables`."
        )


def contents_of(model, include_optimizer, latent=True):
    """Returns the `Contents` of a built model; `latent` says whether latent weights are kept."""
    groups = {}
    store = keras_private.AssetStore("assets", mode="w")
    try:
        skipped = _skipped(model, include_optimizer)
        keras_private.save_state(model, _Store(groups), store, skipped)
        assets = _files(store.working_dir)
    finally:
        store.close()
    if not latent:
        _quantized(groups, FinalWeights(model))
    state = {
        path: {name: np.asarray(keras.ops.convert_to_numpy(value)) for name, value in group.items()}
        for path, group in groups.items()
        if group
    }
    config = json.dumps(renumbered(json.loads(keras_private.model_to_json(model))))
    return Contents(keras.__version__, config, state, assets)


def _load_assets(archive):
    store = keras_private.AssetStore("assets", mode="w")
    try:
        for path, data in archive.assets.items():
            # Keras's own check, too, that a path does not lead out of the folder.
            path = keras_private.asset_path(store, path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(data)
    except Exception:
        store.close()
        raise
    return store


def _check_shapes(model, archive, include_optimizer):
    """Raises where a weight has another shape than the variable that would take it.

    Nothing is decoded yet: a few bytes can declare a tensor of any size.
    """
    groups = {}
    skipped = _skipped(model, include_optimizer)
    keras_private.save_state(model, _Store(groups), None, skipped)
    for entry in archive.entries:
        variable = groups.get(entry.path, {}).get(entry.name)
        if variable is not None and tuple(variable.shape) != entry.shape:
            raise ArchiveError(
                f"Weight {entry.path}/{entry.name}: the archive has the shape {entry.shape}, the "
                f"model that its config describes {tuple(variable.shape)}."
            )


def _load_state(model, archive, include_optimizer):
    groups = {path: _Group(archive) for path in archive.header["state"]}
    for entry in archive.entries:
        groups[entry.path].add(entry)
    assets = _load_assets(archive) if archive.assets else None
    try:
        skipped = _skipped(model, include_optimizer)
        failed = keras_private.load_state(model, _Store(groups), assets, skipped)
    finally:
        if assets is not None:
            assets.close()
    if failed:
        owner, error = failed[0]
        if isinstance(error, ArchiveError):
            raise error
        raise ValueError(f"{getattr(owner, 'name', owner)}: {error}") from error


def _compile(model, archive, custom_objects, safe_mode):
    config = archive.header["config"].get("compile_config")
    trusting = contextlib.nullcontext() if safe_mode else keras_private.trusting()
    if config:
        with keras.saving.custom_object_scope(custom_objects or {}), trusting:
            model.compile_from_config(config)


def model_of(archive, custom_objects, compile, safe_mode, train_on=False):
    """Builds the model of an `Archive`; arguments as those of `tfcomp.load`.

    Raises:
        ArchiveError: If Keras cannot.
    """
    include_optimizer = any(path.split("/")[0] == "optimizer" for path in archive.header["state"])
    try:
        # An optimizer is made for what is trained, once that is known.
        later = compile and not train_on and any(entry.name == MARK for entry in archive.entries)
        compile = compile and not later
        model = keras_private.model_from_json(archive.config, custom_objects, compile, safe_mode)
        if not isinstance(model, keras.Model):
            raise TypeError(f"the config is one of {type(model).__name__}, not of a model.")
        _check_shapes(model, archive, include_optimizer)
        with quantized_as_latent() if train_on else contextlib.nullcontext():
            _load_state(model, archive, include_optimizer)
        if later:
            _compile(model, archive, custom_objects, safe_mode)
    except ArchiveError:
        raise
    except Exception as error:
        raise ArchiveError(
            f"The archive is whole, but Keras cannot build its model: {error}"
        ) from error
    return model
