"""Saving a model in one small file, and loading it."""

import os

import keras

from tfcomp.storage.archive.container import CODINGS, MAX_BYTES, Archive, to_bytes
from tfcomp.storage.replace import replaced_file
from tfcomp.validation import invalid


def _check_path(path):
    if not isinstance(path, (str, os.PathLike)) or "://" in os.fspath(path):
        raise invalid("path", path, "a path on this machine")
    return os.fspath(path)


def save(model, path, coding="ans", include_optimizer=False, latent=True):
    """Saves a Keras model with every weight in its smallest exact form, entropy coded.

    The file holds what `model.save` would: the config, with that of `compile` where the model is
    compiled, all variables and the files of layers that have some. Training methods need not be
    named: zeros, few distinct values and scales per channel are found by looking. Layers that
    quantize in their forward pass keep their latent weights, to be trained on, unless `latent` is
    false. Weights come back bit for bit: -0.0 and every NaN are values of their own.

    If it fails, whatever was at `path` is still there, whole.

    Args:
        model: A built `keras.Model` of any kind.
        path: Where to write, usually a name that ends in `.tfc`. A file there is replaced.
        coding: `"ans"` codes positions and values in their entropy. `"huffman"` is the format of
            Deep Compression: gaps of 8 bits for convolutions and 5 for dense layers, padding zeros,
            and a Huffman code of each.
        include_optimizer: Whether to save the optimizer's variables, too. They are two floats for
            each weight, with Adam, and hardly become smaller.
        latent: Whether layers that quantize in their forward pass keep their latent weights.
            Without them the file is as small as what `tfcomp.export` writes. `tfcomp.load` makes a
            model of it that predicts the same, bit for bit; its quantized weights are frozen, and
            all others can be trained. With `tfcomp.load(path, train_on=True)` the quantized values
            are the new latent weights: all of these are then at a level, and training has to move
            them far before one changes to another. A quantizer with scales of its own finds them
            anew, so that predictions may differ in the last bit, or more where a quantizer does not
            give its own levels back, as DoReFa-Net's.

    Raises:
        ValueError: If the model is not built, or an argument is none of these.

    Reference:
        - [Duda, Asymmetric numeral systems](https://arxiv.org/abs/1311.2540)
        - [Han et al., Deep Compression](https://arxiv.org/abs/1510.00149)

    Example:

    >>> import os, tempfile, keras, tfcomp
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> path = os.path.join(tempfile.mkdtemp(), "model.tfc")
    >>> tfcomp.save(model, path)
    >>> loaded = tfcomp.load(path)
    >>> bool((loaded.get_weights()[0] == model.get_weights()[0]).all())
    True
    """
    path = _check_path(path)
    if not isinstance(model, keras.Model):
        raise invalid("model", model, "a keras.Model")
    if not model.built:
        raise ValueError(
            f"Invalid value for argument `model`. Model {model.name!r} has no weights yet. Build "
            "it first: give it an `Input`, or call it once on a batch of data."
        )
    if coding not in CODINGS:
        raise invalid("coding", coding, f"one of {list(CODINGS)}")
    if include_optimizer and not latent:
        raise invalid("latent", latent, "True with `include_optimizer`, which belongs to them")
    # Imported here because Keras loads a storage library for it.
    from tfcomp.storage.archive import keras_state

    with replaced_file(path) as file:
        contents = keras_state.contents_of(model, include_optimizer, latent)
        file.write(to_bytes(contents, coding))


def load(
    path,
    custom_objects=None,
    compile=True,
    safe_mode=True,
    max_bytes=MAX_BYTES,
    train_on=False,
):
    """Loads a model that `tfcomp.save` wrote.

    Nothing in the file is executed: as in `keras.saving.load_model`, a config that holds a
    serialized lambda is refused unless `safe_mode` is false.

    Args:
        path: The file.
        custom_objects: Optional dict from names to classes and functions of your own; those of
            Keras and tfcomp are known.
        compile: Whether to compile the model as it was.
        safe_mode: Whether to refuse Python code in the file.
        max_bytes: Refuse files whose weights would take more than this in memory.
        train_on: Whether quantized weights of a file without latent ones become latent weights. By
            default they are used as they are, and frozen.

    Returns:
        A `keras.Model`.

    Raises:
        tfcomp.ArchiveError: If the file is no archive, is damaged in any way, declares more than
            `max_bytes`, or holds a model that cannot be built; a `ValueError`.
    """
    from tfcomp.storage.archive import keras_state

    with open(_check_path(path), "rb") as file:
        archive = Archive(file.read(), max_bytes)
    return keras_state.model_of(archive, custom_objects, compile, safe_mode, train_on)
