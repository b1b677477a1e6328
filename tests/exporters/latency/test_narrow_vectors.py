"""On a processor without AVX-512 kernels compute the same."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("tensorflow")
pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]
NARROW = {"XLA_FLAGS": "--xla_cpu_max_isa=AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
# Exports for latency in a process of its own: flags count when TensorFlow starts.
RUN = """
import json, sys
import keras, numpy as np, tensorflow as tf
sys.path.insert(0, {tests!r})
import tfcomp
from few_bits import network
from file_kernels import settled

K, T = keras.layers, tfcomp.layers

def binary():
    keras.utils.set_random_seed(1)
    layers = [T.BinaryConv2D(64, 3, padding="same"), K.BatchNormalization()]
    layers = [keras.Input((14, 14, 64)), *layers, T.BinaryConv2D(64, 3, padding="same")]
    return settled(keras.Sequential(layers))

found = {{}}
for name, model in (("binary", binary()), ("few bits", network())):
    x = np.random.default_rng(2).standard_normal((1, *model.input_shape[1:])).astype("float32")
    path = sys.argv[1] + "/" + name
    result = tfcomp.export(model, path, optimize="latency", search_seconds=1e4, verbose=0)
    # Its variables go with it.
    loaded = tf.saved_model.load(path)
    outputs = loaded.serve(x).numpy()
    found[name] = {{
        "off": float(np.abs(outputs - model.predict(x, verbose=0)).max()),
        "why": [row.why for row in result.kernels["serve"]],
    }}
json.dump(found, open(sys.argv[1] + "/found.json", "w"))
"""


def test_the_same(tmp_path):
    tests = os.path.dirname(os.path.dirname(__file__))
    code = RUN.format(tests=tests)
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=os.environ | NARROW)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["binary"]["off"] == 0 and found["few bits"]["off"] < 1e-3
    for name, each in found.items():
        # No kernel, chosen or not, has been refused because it computes something else.
        assert not any("differ" in why for why in each["why"]), (name, each)
