"""Every architecture of `keras.applications` and of a few of keras-hub, through tfcomp.

    python benchmarks/zoo.py [--only NAME ...] [--quick] [--checks CHECK ...] [--json FILE]

Each network is made at the smallest size it takes, with random weights and perturbed statistics of
batch normalization, and goes through every check:

    identity    `swap_layers` with a rule that keeps everything: outputs differ by exactly 0
    quantized   all kernels to `Quantized*` layers without a quantizer: by 0, too
    binary      to `Binary*` layers: each of them is one, and has the weights of the one before

A cell is `ok`, `refused` where an error names the layer that stands in the way, or what is wrong.
The exit status is 1 if something is wrong. `--only` takes names of architectures or parts of them;
`--quick` five that differ most. Networks of keras-hub are left out where it is not installed.
"""

import argparse
import gc
import json
import os
import platform
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import tfcomp

QUICK = ("ConvNeXtTiny", "MobileNetV3Small", "EfficientNetV2B0", "DenseNet121", "NASNetMobile")
# Some networks shrink their input more often than others.
SIZES = (32, 71, 75, 96, 128, 224, 331)
SEED = 0


def application(name):
    """A function that makes a network of `keras.applications` and a batch for it."""

    def make():
        for size in SIZES:
            try:
                model = getattr(keras.applications, name)(
                    weights=None, input_shape=(size, size, 3), classes=10
                )
            except ValueError:
                continue
            return model, np.random.default_rng(SEED).normal(size=(2, size, size, 3))
        raise RuntimeError(f"{name} takes none of the sizes {SIZES}")

    return make


def hub(name, image=None, **config):
    """A function that makes a small network of keras-hub and a batch for it."""

    def make():
        import keras_hub

        model = getattr(keras_hub.models, name)(**config)
        random = np.random.default_rng(SEED)
        if image is not None:
            return model, random.normal(size=(2, *image))
        batch = {
            tensor.name: random.integers(0, 2, (2, 8))
            if "segment" in tensor.name
            else random.integers(1, config["vocabulary_size"], (2, 8))
            for tensor in model.inputs
        }
        if "padding_mask" in batch:
            batch["padding_mask"] = np.ones((2, 8), "int32")
        return model, batch

    return make


def networks():
    """Dict from name to a function that returns a model and a batch."""
    names = [name for name in dir(keras.applications) if name[0].isupper()]
    found = {name: application(name) for name in names}
    try:
        import keras_hub  # noqa: F401
    except ImportError:
        return found
    text = {"vocabulary_size": 50, "num_layers": 2, "hidden_dim": 16, "intermediate_dim": 32}
    found["BertBackbone"] = hub("BertBackbone", num_heads=2, max_sequence_length=16, **text)
    found["GPT2Backbone"] = hub("GPT2Backbone", num_heads=2, max_sequence_length=16, **text)
    found["LlamaBackbone"] = hub("LlamaBackbone", num_query_heads=4, num_key_value_heads=2, **text)
    found["ViTBackbone"] = hub(
        "ViTBackbone",
        image=(32, 32, 3),
        image_shape=(32, 32, 3),
        patch_size=8,
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        mlp_dim=32,
    )
    return found


def perturb(model):
    """Weights as if trained: no zeros or ones left that would hide what is not carried over."""
    random = np.random.default_rng(SEED)
    for weight in model.weights:
        if "seed" in weight.path or not keras.backend.is_float_dtype(weight.dtype):
            continue
        value = keras.ops.convert_to_numpy(weight)
        noise = random.normal(size=value.shape).astype(value.dtype)
        if weight.path.endswith("moving_variance"):
            weight.assign(0.5 + np.abs(noise))
        else:
            weight.assign(value + 0.05 * noise)


def outputs(model, batch):
    return [
        keras.ops.convert_to_numpy(tensor).astype("float64")
        for tensor in keras.tree.flatten(model(batch, training=False))
    ]


def difference(model, other, batch):
    pairs = zip(outputs(model, batch), outputs(other, batch), strict=True)
    return max(float(np.max(np.abs(a - b))) for a, b in pairs)


def rules(model, prefix):
    """Rules from Keras's layers to those of tfcomp, of the classes that the model has."""
    found = {}
    for site in tfcomp.targets.layer_sites(model):
        cls = type(site.layer)
        new = getattr(tfcomp.layers, prefix + cls.__name__, None)
        if new is not None and cls.__module__.startswith("keras."):
            found[cls] = new
    return found


def exact(model, other, batch):
    gap = difference(model, other, batch)
    return "ok" if gap == 0 else f"differs by {gap:.3g}"


def identity(model, batch):
    return exact(model, tfcomp.swap_layers(model, {...: None}), batch)


def quantized(model, batch):
    return exact(model, tfcomp.swap_layers(model, rules(model, "Quantized")), batch)


def binary(model, batch):
    chosen = rules(model, "Binary")
    if not chosen:
        return "nothing to do"
    other = tfcomp.swap_layers(model, chosen)
    left = [s.path for s in tfcomp.targets.layer_sites(other) if type(s.layer) in chosen]
    if left:
        return f"{len(left)} layers left as they were: {left[0]}"
    if not all(np.all(np.isfinite(value)) for value in outputs(other, batch)):
        return "outputs are not finite"
    for old, new in zip(model.weights, other.weights, strict=True):
        if not np.array_equal(old.numpy(), new.numpy()):
            return f"{new.path} was not carried over"
    return "ok" if difference(model, other, batch) > 0 else "changes nothing"


# Further columns: functions from a model and a batch to "ok" or what is wrong.
CHECKS = {"identity": identity, "quantized": quantized, "binary": binary}


def run(make, checks):
    """Returns a dict from check to its result, with seconds, for one network."""
    row = {}
    keras.utils.set_random_seed(SEED)
    model, batch = make()
    perturb(model)
    row["parameters"] = model.count_params()
    for name in checks:
        begin = time.perf_counter()
        try:
            row[name] = CHECKS[name](model, batch)
        except ValueError as error:
            named = any(repr(s.layer.name) in str(error) for s in tfcomp.targets.layer_sites(model))
            row[name] = f"refused: {error}" if named else f"ValueError: {error}"
        except Exception as error:
            row[name] = f"{type(error).__name__}: {error}"
        row[name + "_seconds"] = round(time.perf_counter() - begin, 1)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--checks", nargs="+", default=list(CHECKS), choices=list(CHECKS))
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    found = networks()
    if arguments.quick:
        found = {name: found[name] for name in QUICK}
    if arguments.only:
        found = {n: f for n, f in found.items() if any(part in n for part in arguments.only)}
    print(f"{keras.backend.backend()}, Keras {keras.__version__}, {platform.processor()}")
    print(f"{'network':20} {'parameters':>11}", *(f"{name:>18}" for name in arguments.checks))
    table, wrong = {}, 0
    for name, make in found.items():
        table[name] = row = run(make, arguments.checks)
        cells = [row[check] for check in arguments.checks]
        wrong += sum(not cell.startswith(("ok", "refused", "nothing to do")) for cell in cells)
        shown = [
            f"{cell.split(':')[0][:18]:>11} {row[check + '_seconds']:4.0f} s"
            for check, cell in zip(arguments.checks, cells)
        ]
        print(f"{name:20} {row['parameters']:11,}", *shown, flush=True)
        for cell in cells:
            if cell != "ok":
                print(f"    {cell[:300]}", flush=True)
        keras.backend.clear_session()
        gc.collect()
        if arguments.json:
            with open(arguments.json, "w") as file:
                json.dump({"backend": keras.backend.backend(), "networks": table}, file, indent=1)
    print(f"{len(found)} networks, {wrong} wrong")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
