"""Four threads in each of two processes load, export, save and predict on the same paths.

    python benchmarks/threads.py [--rounds 100] [--json FILE]

Every round of every thread predicts with the model that all threads of its process share, saves it,
exports it, and loads what lies at the path, whoever wrote it last: all of them have the same
weights. Counts what went wrong: another prediction, a changed weight, an error, a file left behind.
Exits with 1 if anything did.
"""

import argparse
import collections
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

THREADS, PROCESSES = 4, 2


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
        if number % 10 == 0:
            tfcomp.export(self.model, f"{path}.tflite", format="litert", verbose=0)
            tfcomp.summary(self.model, print_table=False)
            self._compare("LiteRT", self._interpreted(f"{path}.tflite"), 1e-5)

    def _interpreted(self, path):
        import tensorflow as tf

        interpreter = tf.lite.Interpreter(path)
        put, get = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        interpreter.resize_tensor_input(put["index"], self.x.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(put["index"], self.x)
        interpreter.invoke()
        return interpreter.get_tensor(get["index"])

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
    expected = ["modèle", "modèle.tfc", "modèle.tflite"]
    seconds, lost = time.perf_counter() - began, any(failed) or left != expected
    print(
        f"{PROCESSES} processes of {THREADS} threads, {rounds} rounds each, {seconds:.0f} s: "
        f"{'failed' if lost else 'nothing lost'}; left: {', '.join(left)}"
    )
    counts = {"processes": PROCESSES, "threads": THREADS, "rounds": rounds}
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
