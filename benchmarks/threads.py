"""Four threads in each of two processes load, export, save and predict on the same paths.

    python benchmarks/threads.py [--rounds 100] [--json FILE]

Every round of every thread predicts with the model that all threads of its process share, saves it,
exports it, and loads what lies at the path, whoever wrote it last: all of them have the same
weights. In one round of ten it exports to LiteRT, ONNX and OpenVINO, too, as far as what writes and
runs their files is installed. Counts what went wrong: another prediction, a changed weight, an
error, a file left behind. Exits with 1 if anything did.
"""

import argparse
import collections
import importlib.util
import os
import subprocess
import sys
import tempfile
import threading
import time

import keras
import numpy as np
from record import write

import tfcomp
from tfcomp.exporters.engines import RUNTIMES

THREADS, PROCESSES = 4, 2
# What a format needs, and the files that it writes.
PACKAGES = {"litert": [], "onnx": ["onnxruntime", "tf2onnx"], "openvino": ["openvino"]}
SUFFIXES = {"litert": ".tflite", "onnx": ".onnx", "openvino": ".xml"}
FORMATS = [form for form, needed in PACKAGES.items() if all(map(importlib.util.find_spec, needed))]


def _model():
    """A network of binary and of plain layers, the same in every process."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((16,)),
            keras.layers.Dense(32, activation="relu"),
            tfcomp.layers.BinaryDense(32, scale=True, input_quantizer=None),
            keras.layers.Dense(4),
        ]
    )


def _loaded(path):
    import tensorflow as tf

    served = tf.saved_model.load(path)
    return lambda x: served.serve(x)


class Rounds:
    """The rounds of one process, and what they find."""

    def __init__(self, folder, rounds):
        self.folder, self.rounds = folder, rounds
        self.model = _model()
        self.x = np.random.default_rng(0).standard_normal((8, 16)).astype("float32")
        self.wanted = np.array(self.model(self.x))
        self.latent = [weight.copy() for weight in self.model.get_weights()]
        self.wrong = collections.Counter()

    def _compare(self, what, outputs, tolerance=0.0):
        if not np.allclose(outputs, self.wanted, rtol=tolerance, atol=tolerance):
            self.wrong[f"another prediction of {what}"] += 1
        if not all(map(np.array_equal, self.latent, self.model.get_weights())):
            self.wrong[f"weights changed by {what}"] += 1

    def _round(self, number):
        path = os.path.join(self.folder, "modèle")
        self._compare("the model", np.array(self.model(self.x)))
        tfcomp.save(self.model, f"{path}.tfc", latent=bool(number % 2))
        self._compare("an archive", np.array(tfcomp.load(f"{path}.tfc")(self.x)))
        tfcomp.export(self.model, path, verbose=0)
        self._compare("a SavedModel", _loaded(path)(self.x).numpy(), 1e-5)
        if number // THREADS % 10 == 0:
            tfcomp.summary(self.model, print_table=False)
            for form in FORMATS:
                file = path + SUFFIXES[form]
                tfcomp.export(self.model, file, format=form, verbose=0)
                (outputs,) = RUNTIMES[form](file, 1).prepare([self.x])()
                self._compare(form, outputs, 1e-5)

    def _thread(self, first):
        for number in range(first, self.rounds, THREADS):
            try:
                self._round(number)
            except Exception as error:
                self.wrong[f"{type(error).__name__}: {str(error)[:200]}"] += 1

    def run(self):
        """Returns a `Counter` of what went wrong."""
        threads = [threading.Thread(target=self._thread, args=(n,)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self.wrong


def _worker(folder, rounds):
    wrong = Rounds(folder, rounds).run()
    for what, times in wrong.items():
        print(f"{times} x {what}", flush=True)
    return 1 if wrong else 0


def _all(rounds, json):
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--rounds", str(rounds), "--folder", folder]
        workers = [subprocess.Popen(command) for _ in range(PROCESSES)]
        failed = [worker.wait() for worker in workers]
        left = sorted(os.listdir(folder))
    files = [SUFFIXES[form] for form in FORMATS] + [".bin"] * ("openvino" in FORMATS)
    expected = sorted(["modèle", "modèle.tfc", *(f"modèle{suffix}" for suffix in files)])
    seconds, lost = time.perf_counter() - began, any(failed) or left != expected
    print(
        f"{PROCESSES} processes of {THREADS} threads, {rounds} rounds each, {seconds:.0f} s: "
        f"{'failed' if lost else 'nothing lost'}; left: {', '.join(left)}"
    )
    counts = {"processes": PROCESSES, "threads": THREADS, "rounds": rounds, "formats": FORMATS}
    write(json, {**counts, "seconds": seconds, "left": left, "lost": lost})
    return int(lost)


def main():
    """Runs all processes, or, with a folder, one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--json")
    parser.add_argument("--folder", help="internal: be one of the processes, in this folder")
    arguments = parser.parse_args()
    if arguments.folder:
        return _worker(arguments.folder, arguments.rounds)
    return _all(arguments.rounds, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
