"""Train LeNet-5 on digits, prune it, quantize it, export it, and load it without tfcomp.

python examples/quickstart.py                      # scikit-learn's digits, about a minute
python examples/quickstart.py --data mnist.npz     # MNIST in the layout of keras.datasets
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

SPARSITY = 0.95


def digits():
    """Scikit-learn's 1,797 digits of 8 x 8 pixels, enlarged to 28 x 28."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.kron(data.images / 16, np.ones((1, 3, 3)))
    images = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    order = np.random.default_rng(0).permutation(len(images))
    train, test = order[:1400], order[1400:]
    return (images[train], data.target[train]), (images[test], data.target[test])


def mnist(path):
    """MNIST from a file in the layout of `keras.datasets.mnist`."""
    with np.load(path) as data:
        return (
            (data["x_train"] / 255, data["y_train"]),
            (data["x_test"] / 255, data["y_test"]),
        )


def lenet5():
    """Caffe's LeNet-5: 431,080 parameters, no non-linearity after the convolutions."""
    import keras

    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(20, 5, name="conv1"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(50, 5, name="conv2"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(500, activation="relu", name="dense1"),
            keras.layers.Dense(10, name="dense2"),
        ],
        name="lenet5",
    )


def compile_model(model, learning_rate):
    import keras

    model.compile(
        keras.optimizers.Adam(learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )


def folder_bytes(folder):
    return sum(file.stat().st_size for file in pathlib.Path(folder).rglob("*") if file.is_file())


def reload(folders, inputs):
    """Runs in a process of its own: loads SavedModels with TensorFlow alone and times them."""
    import tensorflow as tf

    assert "tfcomp" not in sys.modules
    x = tf.constant(np.load(inputs))
    models, report = {}, {}
    for folder in folders:
        begin = time.perf_counter()
        models[folder] = tf.saved_model.load(folder)
        report[folder] = {"load": time.perf_counter() - begin, "calls": []}
    for turn in range(21):
        for folder, model in models.items():
            begin = time.perf_counter()
            logits = model.serve(x[:64]).numpy()
            if turn:
                report[folder]["calls"].append(time.perf_counter() - begin)
    for folder, model in models.items():
        logits = np.concatenate([model.serve(part).numpy() for part in tf.split(x, 4)])
        report[folder]["call"] = statistics.median(report[folder].pop("calls"))
        report[folder]["predictions"] = logits.argmax(-1).tolist()
    print(json.dumps(report))


def in_new_process(folders, images, folder):
    """Calls `reload` in a fresh interpreter."""
    inputs = os.path.join(folder, "inputs.npy")
    np.save(inputs, images[: len(images) // 4 * 4])
    done = subprocess.run(
        [sys.executable, __file__, "--reload", inputs, *folders],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main(arguments):
    import keras
    from rich.console import Console
    from rich.table import Table

    import tfcomp

    keras.utils.set_random_seed(arguments.seed)
    (x, y), (x_test, y_test) = mnist(arguments.data) if arguments.data else digits()
    x, x_test = (images[..., None].astype("float32") for images in (x, x_test))
    epochs = arguments.epochs or (6 if arguments.data else 20)
    fit = {"batch_size": 128 if arguments.data else 32, "verbose": arguments.verbose}
    steps = -(-len(x) // fit["batch_size"])

    def accuracy(model):
        return model.evaluate(x_test, y_test, verbose=0, return_dict=True)["accuracy"]

    with tempfile.TemporaryDirectory() as folder:
        model = lenet5()
        compile_model(model, 1e-3)
        model.fit(x, y, epochs=epochs, **fit)
        float_accuracy = accuracy(model)
        plain = os.path.join(folder, "plain")
        model.export(plain, verbose=False)

        # Prune: sparsity rises during three quarters of the run, then the survivors settle.
        compile_model(model, 1e-3)
        schedule = tfcomp.schedules.PolynomialDecay(
            0.0,
            SPARSITY,
            begin_step=0,
            end_step=steps * epochs * 3 // 4,
            frequency=min(100, steps // 2),
        )
        model.fit(x, y, epochs=epochs, callbacks=[tfcomp.callbacks.GradualPruning(schedule)], **fit)
        pruned_accuracy = accuracy(model)

        # Quantize: every weight that is left becomes a power of two of five bits.
        compile_model(model, 3e-4)
        model.fit(
            x, y, epochs=epochs, callbacks=[tfcomp.callbacks.IncrementalQuantization(5)], **fit
        )
        final_accuracy = accuracy(model)
        report = tfcomp.summary(model)

        compact = os.path.join(folder, "compact")
        tfcomp.export(model, compact, verbose=False)
        served = in_new_process([plain, compact], x_test, folder)
        sizes = {name: folder_bytes(name) for name in (plain, compact)}

    predictions = model.predict(x_test, verbose=0).argmax(-1)
    loaded = np.array(served[compact]["predictions"])
    agree = bool(np.array_equal(predictions[: len(loaded)], loaded))

    table = Table(title=f"LeNet-5 on {'MNIST' if arguments.data else 'digits'}")
    for heading in ("", "accuracy", "sparsity", "bytes on disk", "load", "call, 64 images"):
        table.add_column(heading, justify="left" if not heading else "right")
    rows = [
        ("trained, Keras's export", float_accuracy, 0.0, plain),
        ("pruned", pruned_accuracy, SPARSITY, None),
        ("pruned and quantized, tfcomp's export", final_accuracy, report.sparsity, compact),
    ]
    for name, value, sparsity, path in rows:
        disk = ("", "", "")
        if path:
            found = served[path]
            disk = (
                f"{sizes[path]:,}",
                f"{found['load'] * 1e3:.0f} ms",
                f"{found['call'] * 1e3:.2f} ms",
            )
        table.add_row(name, f"{value:.2%}", f"{sparsity:.1%}", *disk)
    Console(width=100).print(table)
    print(f"{sizes[plain] / sizes[compact]:.1f} times smaller on disk.")
    print(f"The loaded model's predictions {'agree' if agree else 'DISAGREE'} with Keras's.")
    if arguments.json:
        results = {
            "data": "MNIST" if arguments.data else "scikit-learn digits",
            "seed": arguments.seed,
            "epochs": epochs,
            "accuracy": [float_accuracy, pruned_accuracy, final_accuracy],
            "sparsity": report.sparsity,
            "weights": report.weights,
            "bytes": [sizes[plain], sizes[compact]],
            "load seconds": [served[plain]["load"], served[compact]["load"]],
            "call seconds": [served[plain]["call"], served[compact]["call"]],
            "agree": agree,
        }
        sys.path.append(os.path.join(os.path.dirname(__file__), "..", "benchmarks"))
        from record import write

        write(arguments.json, results)
    return 0 if agree else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="MNIST as an .npz file; scikit-learn's digits if absent")
    parser.add_argument("--epochs", type=int, help="epochs of each of the three runs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--verbose", type=int, default=0)
    parser.add_argument("--json", help="file to write the results to")
    parser.add_argument("--reload", nargs="+", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.reload:
        reload(parsed.reload[1:], parsed.reload[0])
    else:
        sys.exit(main(parsed))
