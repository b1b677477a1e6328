"""On a processor without AVX-512 kernels compute the same, and are chosen for what they take."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("tensorflow")
pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]
NARROW = {"XLA_FLAGS": "--xla_cpu_max_isa=AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
# Exports for latency and for size in one process, and times both beside each other.
RUN = """
import json, sys, time
import keras, numpy as np, tensorflow as tf
sys.path.insert(0, {tests!r})
import tfcomp
from few_bits import network
from file_kernels import settled
from tfcomp.model.timing import interleaved, ratios

K, T = keras.layers, tfcomp.layers

def binary():
    keras.utils.set_random_seed(1)
    layers = [T.BinaryConv2D(64, 3, padding="same"), K.BatchNormalization()]
    layers = [keras.Input((14, 14, 64)), *layers, T.BinaryConv2D(64, 3, padding="same")]
    return settled(keras.Sequential(layers))

found = {{}}
for name, model in (("binary", binary()), ("few bits", network())):
    x = np.random.default_rng(2).standard_normal((1, *model.input_shape[1:])).astype("float32")
    served = []
    for optimize in ("size", "latency"):
        path = sys.argv[1] + "/" + name + optimize
        result = tfcomp.export(model, path, optimize=optimize, search_seconds=1e4, verbose=0)
        served.append(tf.saved_model.load(path))
    calls = [lambda f=f: f.serve(x).numpy() for f in served]
    off = float(np.abs(calls[1]() - model.predict(x, verbose=0)).max())
    seconds = interleaved(calls, 15, clock=time.process_time)
    found[name] = {{
        "off": off,
        "faster": float(ratios(seconds, 0)[1]),
        "why": [row.why for row in result.kernels["serve"]],
    }}
json.dump(found, open(sys.argv[1] + "/found.json", "w"))
"""


def test_the_same_and_not_slower(tmp_path):
    tests = os.path.dirname(os.path.dirname(__file__))
    code = RUN.format(tests=tests)
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=os.environ | NARROW)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["binary"]["off"] == 0 and found["few bits"]["off"] < 1e-3
    for name, each in found.items():
        assert each["faster"] > 0.8, (name, each)
        # Nor has a kernel been refused because it computes something else.
        assert not any("differ" in why for why in each["why"]), (name, each)
