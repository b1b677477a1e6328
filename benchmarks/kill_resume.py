"""Kills runs with `kill -9` at random steps, resumes them, and compares each with an unbroken one.

    python benchmarks/kill_resume.py --kills 100 [--json FILE]

Each run is a process of its own, with `keras.callbacks.BackupAndRestore`; a resumed one may be
killed again. It prints a line for each callback and ends with an error unless every resumed run
holds the same bits as the unbroken one: weights, slots of the optimizer and tfcomp's state.
"""

import argparse
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile

from record import write

EPOCHS, STEPS = 4, 8

CALLBACKS = {
    "GradualPruning": lambda c, s: c.GradualPruning(s.PolynomialDecay(0, 0.9, 2, 26, frequency=3)),
    "MagnitudePruning": lambda c, s: c.MagnitudePruning(0.8),
    "DynamicNetworkSurgery": lambda c, s: c.DynamicNetworkSurgery(0.5, gamma=0.1),
    "SensitivityPruning": lambda c, s: c.SensitivityPruning(s.PolynomialDecay(0, 0.9, 4, 26)),
    "IncrementalQuantization": lambda c, s: c.IncrementalQuantization(4),
    "QuantizedTraining": lambda c, s: c.QuantizedTraining("ternary"),
    "BinaryRelax": lambda c, s: c.BinaryRelax("ternary"),
    "WeightSharing": lambda c, s: c.WeightSharing(3),
    "SoftWeightSharing": lambda c, s: c.SoftWeightSharing(64, 3),
    "PreserveSparsity": lambda c, s: c.PreserveSparsity(),
    "HashContinuation": lambda c, s: c.HashContinuation(0.1),
}


def train(name, folder, dies_at):
    """One run; it kills itself after `dies_at` batches of its own, counted over epochs."""
    import keras
    import numpy as np

    import tfcomp

    class Kill(keras.callbacks.Callback):
        left = dies_at

        def on_train_batch_end(self, batch, logs=None):
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8 * STEPS, 8, 8, 3)), rng.normal(size=(8 * STEPS, 6))
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            tfcomp.layers.HashCode(6) if name == "HashContinuation" else keras.layers.Dense(6),
        ]
    )
    if name == "PreserveSparsity":
        kernel = model.layers[0].kernel
        kernel.assign(keras.ops.where(kernel > 0, kernel, 0.0))
    model.compile(keras.optimizers.Adam(0.01), "mse")
    callbacks = [
        keras.callbacks.BackupAndRestore(folder / "backup"),
        CALLBACKS[name](tfcomp.callbacks, tfcomp.schedules),
    ]
    if dies_at:
        callbacks.append(Kill())
    model.fit(x, y, batch_size=8, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=callbacks)
    variables = [*model.variables, *model.optimizer.variables]
    arrays = [keras.ops.convert_to_numpy(variable.value) for variable in variables]
    np.savez(folder / "end.npz", *arrays)


def run(name, folder, dies_at=0):
    """The exit code of a process that trains."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, "--train", name, str(folder), str(dies_at)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode not in (0, -signal.SIGKILL):
        sys.exit(done.stderr)
    return done.returncode


def bits(folder):
    import numpy as np

    with np.load(folder / "end.npz") as arrays:
        return [(array.shape, array.tobytes()) for array in arrays.values()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--callbacks", nargs="+", default=list(CALLBACKS), choices=CALLBACKS)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--train", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        name, folder, dies_at = options.train
        return train(name, pathlib.Path(folder), int(dies_at))
    chance, rows = random.Random(options.seed), {}
    for place, name in enumerate(options.callbacks):
        wanted = len(range(place, options.kills, len(options.callbacks)))
        with tempfile.TemporaryDirectory() as folder:
            folder, kills, runs, same = pathlib.Path(folder), 0, 0, 0
            run(name, folder / "unbroken")
            while kills < wanted:
                killed = folder / f"killed{runs}"
                # In a later life there may be fewer steps left than that; then it comes to its end.
                while kills < wanted and run(name, killed, chance.randint(1, EPOCHS * STEPS)):
                    kills += 1
                if not (killed / "end.npz").exists():
                    run(name, killed)
                runs += 1
                same += bits(killed) == bits(folder / "unbroken")
        print(f"{name:26}{kills:4} kills, {same} of {runs} resumed runs bit-identical", flush=True)
        rows[name] = {"kills": kills, "resumed": runs, "identical": same}
        write(options.json, {"seed": options.seed, "callbacks": rows})
    print(f"{sum(row['kills'] for row in rows.values())} kills")
    wrong = [name for name, row in rows.items() if row["identical"] < row["resumed"]]
    return f"Not the same: {', '.join(wrong)}" if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
