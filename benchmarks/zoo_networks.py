"""The networks of `benchmarks/zoo.py`, and what its checks look at in them."""

import ctypes
import gc
import pathlib
import re
import time

import keras
import numpy as np

SEED = 0
# Some networks shrink their input more often than others.
SIZES = (32, 71, 75, 96, 128, 224, 331)

# Height and width of the inputs, and millions of multiply-accumulate operations where they are
# published for a network as Keras has it. From the papers of the networks; those of Inception and
# Xception from that of NASNet (arXiv:1707.07012), of EfficientNetV2 from its repository, and of VGG
# and DenseNet from the documentation of torchvision.
PUBLISHED = {
    "MobileNetV3Small": (224, 56),
    "MobileNetV3Large": (224, 219),
    "MobileNetV2": (224, 300),
    "MobileNet": (224, 569),
    "NASNetMobile": (224, 564),
    "EfficientNetB0": (224, 390),
    "EfficientNetV2B0": (224, 720),
    "EfficientNetB1": (240, 700),
    "EfficientNetV2B1": (240, 1200),
    "EfficientNetB2": (260, 1000),
    "EfficientNetV2B2": (260, 1700),
    "DenseNet121": (224, 2830),
    "EfficientNetB3": (300, 1800),
    "EfficientNetV2B3": (300, 3000),
    "DenseNet169": (224, 3360),
    "ResNet50": (224, 3800),
    "ResNet50V2": (224, None),
    "DenseNet201": (224, 4290),
    "InceptionV3": (299, 5720),
    "ConvNeXtTiny": (224, 4500),
    "EfficientNetB4": (380, 4200),
    "ResNet101": (224, 7600),
    "ResNet101V2": (224, None),
    "Xception": (299, 8380),
    "EfficientNetV2S": (384, 8400),
    "ConvNeXtSmall": (224, 8700),
    "ResNet152": (224, 11300),
    "ResNet152V2": (224, None),
    "InceptionResNetV2": (299, 13200),
    "VGG16": (224, 15470),
    "EfficientNetB5": (456, 9900),
    "VGG19": (224, 19630),
    "ConvNeXtBase": (224, 15400),
    "EfficientNetB6": (528, 19000),
    "NASNetLarge": (331, 23800),
    "EfficientNetV2M": (480, 24700),
    "EfficientNetB7": (600, 37000),
    "ConvNeXtLarge": (224, 34400),
    "EfficientNetV2L": (480, 56300),
    "ConvNeXtXLarge": (224, 60900),
}


def application(name, size=None, classes=10):
    """A network of `keras.applications` with random weights, and a batch of two for it.

    Args:
        name: Its name.
        size: Height and width of its inputs; `None` for the smallest that it takes.
        classes: How many classes it tells apart.
    """
    for side in (size,) if size else SIZES:
        try:
            model = getattr(keras.applications, name)(
                weights=None, input_shape=(side, side, 3), classes=classes
            )
        except ValueError:
            continue
        batch = np.random.default_rng(SEED).normal(size=(2, side, side, 3))
        return model, batch.astype("float32")
    raise RuntimeError(f"{name} takes none of the sizes {size or SIZES}")


def hub(name, image=None, **config):
    """A small network of keras-hub, and a batch of two for it."""
    import keras_hub

    model = getattr(keras_hub.models, name)(**config)
    random = np.random.default_rng(SEED)
    if image is not None:
        return model, random.normal(size=(2, *image)).astype("float32")
    batch = {
        tensor.name: random.integers(0, 2, (2, 8))
        if "segment" in tensor.name
        else random.integers(1, config["vocabulary_size"], (2, 8))
        for tensor in model.inputs
    }
    if "padding_mask" in batch:
        batch["padding_mask"] = np.ones((2, 8), "int32")
    return model, batch


_TEXT = {"vocabulary_size": 50, "num_layers": 2, "hidden_dim": 16, "intermediate_dim": 32}
_IMAGE = {"image": (32, 32, 3), "image_shape": (32, 32, 3), "patch_size": 8}
OF_HUB = {
    "BertBackbone": {"num_heads": 2, "max_sequence_length": 16, **_TEXT},
    "GPT2Backbone": {"num_heads": 2, "max_sequence_length": 16, **_TEXT},
    "LlamaBackbone": {"num_query_heads": 4, "num_key_value_heads": 2, **_TEXT},
    "ViTBackbone": {"num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32, **_IMAGE},
}
OF_KERAS = {name for name in dir(keras.applications) if name[0].isupper()}
NETWORKS = [*OF_HUB, *PUBLISHED]
if set(PUBLISHED) != OF_KERAS:
    raise RuntimeError(f"Not in the table: {OF_KERAS ^ set(PUBLISHED)}")


def make(name, size=None, classes=10):
    """A network with weights as if trained: no zeros or ones are left that would hide a fault."""
    keras.utils.set_random_seed(SEED)
    if name in OF_HUB:
        model, batch = hub(name, **OF_HUB[name])
    else:
        model, batch = application(name, size, classes)
    random = np.random.default_rng(SEED)
    for weight in model.weights:
        if "seed" in weight.path or not keras.backend.is_float_dtype(weight.dtype):
            continue
        value = keras.ops.convert_to_numpy(weight)
        noise = random.standard_normal(value.shape, "float32").astype(value.dtype)
        if weight.path.endswith("moving_variance"):
            weight.assign(0.5 + np.abs(noise))
        else:
            # More would let the outputs of networks without normalization saturate.
            spread = min(float(value.std()) / 2, 0.05) if value.ndim > 1 else 0.05
            weight.assign(value + (spread or 0.05) * noise)
    return model, batch


def kernels(model):
    """The weights that every method covers by default, found without tfcomp."""
    return [w for w in model.trainable_weights if w.path.endswith("kernel")]


def outputs(model, batch):
    """List of the outputs as float64."""
    return [
        keras.ops.convert_to_numpy(tensor).astype("float64")
        for tensor in keras.tree.flatten(model(batch, training=False))
    ]


def gap(ones, others):
    """The largest difference between two lists of arrays."""
    pairs = zip(ones, others, strict=True)
    return max(float(np.max(np.abs(a - b), initial=0)) for a, b in pairs)


def measured(function, *args, **kwargs):
    """What a function returns, its seconds on the processor, and GB beyond what was held before."""
    # What was freed before is given back, since it would count as held.
    gc.collect()
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        ctypes.CDLL(None).malloc_trim(0)
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    held = _peak(status)
    begin = time.process_time()
    result = function(*args, **kwargs)
    seconds = time.process_time() - begin
    peak = _peak(status)
    return result, round(seconds, 2), peak and round(peak - held, 2)


def _peak(status):
    if not status.exists():
        return None
    return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) * 1024 / 1e9
