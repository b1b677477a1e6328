"""A binary network, trained on MNIST, in every format: are all predictions the same?

    python benchmarks/bnn_formats.py --data mnist.npz [--epochs 2] [--json FILE]

Two binary convolutions and two binary dense layers behind a first convolution of floats, with
batch normalization, pooling and XNOR-Net's scales in the last; wide enough for binary kernels to
take less time than others. What each file predicts for all 10,000 images of the test set, one by
one and in batches of 100, is compared with what the model predicts: classes, and logits.
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
    parser.add_argument("--json")
    arguments = parser.parse_args()
    with np.load(arguments.data) as data:
        train, labels, test, wanted = (
            data[name] for name in ("x_train", "y_train", "x_test", "y_test")
        )
    train, test = (x[..., None].astype("float32") / 255 for x in (train, test))
    model = trained(train, labels, arguments.epochs)
    expected = model.predict(test, batch_size=BATCH, verbose=0)
    classes = expected.argmax(-1)
    results = {"error": float(np.mean(classes != wanted)), "images": len(test), "formats": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name, (file, options) in EXPORTS.items():
            path = os.path.join(folder, file)
            exported = tfcomp.export(model, path, verbose=0, data=test[:BATCH], **options)
            found = predicted(path, test)
            kernels = [row.kernel for row in exported.kernels.get("serve", []) if row.batch == 1]
            results["formats"][name] = {
                "bytes": exported.file_bytes,
                # Of images that either way are in another class.
                "other classes": int(np.sum(np.any(found.argmax(-1) != classes, axis=0))),
                "error": float(np.mean(found.argmax(-1) != wanted)),
                "difference": float(np.abs(found - expected).max()),
                "largest": float(np.abs(expected).max()),
                "kernels": kernels[:-1],
            }
            print(name, results["formats"][name], flush=True)
    write(arguments.json, results)


if __name__ == "__main__":
    main()
