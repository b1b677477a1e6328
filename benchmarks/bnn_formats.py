"""A binary network, trained on MNIST, in every format: are all predictions the same?

    python benchmarks/bnn_formats.py --data mnist.npz [--epochs 2] [--model KEPT] [--json FILE]

Two binary convolutions and two binary dense layers behind a first convolution of floats, with
batch normalization, pooling and XNOR-Net's scales in the last; wide enough for binary kernels to
take less time than others. What each file predicts for all 10,000 images of the test set, one by
one and in batches of 100, is compared with what the model predicts: classes, and logits. A model
that was kept is not trained again.

Where an input of the first binary layer is almost zero, rounding in the layers of floats before it
decides on its sign, and logits move. So, of the images whose logits move by more than rounding
moves a sum, the largest distance from zero of their input that is nearest to it is shown, too.
"""

import argparse
import os
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from record import write

import tfcomp
from tfcomp.exporters.engines import engine

K, T = keras.layers, tfcomp.layers
BATCH = 100
# Sums in another order differ by less, as a share of the largest logit.
MOVED = 1e-4
EXPORTS = {
    "SavedModel, size": ("size", {}),
    "SavedModel, latency": ("latency", {"optimize": "latency", "batch_sizes": (1, BATCH)}),
    "OpenVINO, size": ("size.xml", {"format": "openvino"}),
    "OpenVINO, latency": ("latency.xml", {"format": "openvino", "optimize": "latency"}),
    "ONNX, size": ("size.onnx", {"format": "onnx"}),
    "ONNX, latency": ("latency.onnx", {"format": "onnx", "optimize": "latency"}),
    "LiteRT, size": ("size.tflite", {"format": "litert"}),
    "LiteRT, latency": ("latency.tflite", {"format": "litert", "optimize": "latency"}),
}


def network():
    layers = [keras.Input((28, 28, 1)), K.Conv2D(64, 3, 2, "same"), K.BatchNormalization()]
    for channels in (128, 256):
        layers += [T.BinaryConv2D(channels, 3, padding="same"), K.MaxPooling2D()]
        layers += [K.BatchNormalization()]
    layers += [K.Flatten(), T.BinaryDense(1024), K.BatchNormalization()]
    layers += [T.BinaryDense(10, scale=True), K.BatchNormalization()]
    return keras.Sequential(layers)


def trained(images, labels, epochs):
    keras.utils.set_random_seed(1)
    model = network()
    steps = epochs * (len(images) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    model.fit(images, labels, batch_size=BATCH, epochs=epochs, verbose=2)
    return model


def model_of(arguments, images, labels):
    """The trained model, the one that was kept if there is one."""
    path = arguments.model
    if path and os.path.exists(path):
        return keras.models.load_model(path)
    model = trained(images, labels, arguments.epochs)
    if path:
        model.save(path)
    return model


def nearest(model, images):
    """Of each image the input of the first binary layer that is nearest to zero."""
    first = next(layer for layer in model.layers if isinstance(layer, T.BinaryConv2D))
    inputs = keras.Model(model.inputs, first.input).predict(images, batch_size=BATCH, verbose=0)
    return np.abs(inputs).min(axis=(1, 2, 3))


def beside(found, expected, near, wanted):
    """How what a file predicts, both ways, differs from what the model predicts."""
    difference, largest = np.abs(found - expected), np.abs(expected).max()
    moved = np.any(difference > MOVED * largest, axis=(0, 2))
    classes = found.argmax(-1)
    return {
        # Of images that either way are in another class.
        "other classes": int(np.sum(np.any(classes != expected.argmax(-1), axis=0))),
        "error": float(np.mean(classes != wanted)),
        "difference": float(difference.max()),
        "largest": float(largest),
        "moved": int(moved.sum()),
        "nearest": float(near[moved].max(initial=0)),
    }


def predicted(path, images):
    """Logits of all images, one by one and in batches: of shape `(2, images, classes)`."""
    opened = engine(path, None)
    return np.stack(
        [
            np.concatenate(
                [
                    opened.prepare([images[begin : begin + size]])()[0]
                    for begin in range(0, len(images), size)
                ]
            )
            for size in (1, BATCH)
        ]
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--model", help="where the trained model is kept; by default it is not")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    with np.load(arguments.data) as data:
        train, labels, test, wanted = (
            data[name] for name in ("x_train", "y_train", "x_test", "y_test")
        )
    train, test = (x[..., None].astype("float32") / 255 for x in (train, test))
    model = model_of(arguments, train, labels)
    expected = model.predict(test, batch_size=BATCH, verbose=0)
    near, error = nearest(model, test), np.mean(expected.argmax(-1) != wanted)
    results = {"error": float(error), "images": len(test), "nearest": float(np.median(near))}
    results["formats"] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (file, options) in EXPORTS.items():
            path = os.path.join(folder, file)
            exported = tfcomp.export(model, path, verbose=0, data=test[:BATCH], **options)
            kernels = [row.kernel for row in exported.kernels.get("serve", []) if row.batch == 1]
            results["formats"][name] = {
                "bytes": exported.file_bytes,
                **beside(predicted(path, test), expected, near, wanted),
                "kernels": kernels[:-1],
            }
            print(name, results["formats"][name], flush=True)
    write(arguments.json, results)


if __name__ == "__main__":
    main()
