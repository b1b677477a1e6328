"""On two devices a distillation does the step of one, and a GAN is trained."""

import json
import os
import pathlib
import subprocess
import sys

import pytest


@pytest.mark.tensorflow
def test_two_devices_do_the_step_of_one():
    program = pathlib.Path(__file__).with_name("mirrored.py")
    environment = {**os.environ, "PYTHONPATH": str(program.parents[3])}
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr
    differences, seen, finite = json.loads(done.stdout.splitlines()[-1])
    assert differences and max(differences) < 1e-5
    assert seen == [8, 8, 8] and finite
