"""A distillation that was killed and resumed in a new process ends like one that was not."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from distilling import data, network, taught, values
from killing import Kill, Killed

import tfcomp


def run(folder, killed=False, **arguments):
    """Five epochs with all that moves: schedules, pruning, hints, dropout, fresh inputs."""
    schedule = tfcomp.schedules.PiecewiseLinear
    pruning = tfcomp.schedules.PolynomialDecay(0, 0.6, 1, 12, frequency=2)
    backup = [] if folder is None else [keras.callbacks.BackupAndRestore(folder)]
    x, y = data()
    return taught(
        network(12, "teacher"),
        network(5, "student", seed=4),
        (x, y),
        epochs=5,
        temperature=schedule([0, 12], [8, 2]),
        student_loss_weight=schedule([0, 12], [0.1, 0.9]),
        hints=["hidden"],
        source=tfcomp.distillation.Munge(x),
        callbacks=[
            *backup,
            tfcomp.callbacks.GradualPruning(pruning),
            *([Kill()] if killed else []),
        ],
        **arguments,
    ).model


def main(folder, file):
    np.savez(file, *values(run(folder)))


@pytest.mark.slow
def test_bit_for_bit(tmp_path):
    whole = values(run(None))
    with pytest.raises(Killed):
        run(tmp_path / "backup", killed=True)
    tests = pathlib.Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}"}
    words = [sys.executable, __file__, tmp_path / "backup", tmp_path / "end.npz"]
    subprocess.run(words, check=True, timeout=300, env=environment)
    with np.load(tmp_path / "end.npz") as found:
        resumed = [found[name] for name in found.files]
    for a, b in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(a, b)


if __name__ == "__main__":
    main(*sys.argv[1:])
