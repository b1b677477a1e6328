"""What `import tfcomp` costs and pulls in, in fresh processes."""

import os
import subprocess
import sys

import pytest


def run(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_import_leaves_tensorflow_and_tfmot_alone():
    pytest.importorskip("jax")
    code = (
        "import sys, tfcomp\n"
        "print([m for m in ('tensorflow', 'tensorflow_model_optimization', 'tf_keras')"
        " if m in sys.modules])"
    )
    assert run(code, KERAS_BACKEND="jax") == "[]"


@pytest.mark.tensorflow
def test_import_does_not_bring_in_tfmot():
    code = "import sys, tfcomp; print('tensorflow_model_optimization' in sys.modules)"
    assert run(code) == "False"


def test_import_adds_little_to_keras():
    code = (
        "import time, keras\n"
        "begin = time.process_time()\n"
        "import tfcomp\n"
        "print(time.process_time() - begin)"
    )
    # Time of the processor, and the best of three, since the machine may be busy.
    assert min(float(run(code)) for _ in range(3)) < 0.2
