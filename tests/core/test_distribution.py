"""Devices and processes that train together hold the same masks and the same weights."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest


@pytest.mark.slow
@pytest.mark.tensorflow
def test_mirrored_strategy(tmp_path):
    script = pathlib.Path(__file__).with_name("mirrored.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    states = {"surgery": 4, "quantized": 6, "relax": 6, "own method": 0}
    for name, found in report.items():
        assert found["replicas"] == 2
        assert found["states"] == states.get(name, 2)
        assert found["equal"] and found["loaded"]
    assert report["pruning"]["sparsity"] == pytest.approx([0.8, 0.8], abs=0.011)
    assert report["pruning"]["logged"] == pytest.approx(0.8, abs=0.01)
    assert min(report["own method"]["sparsity"]) > 0.82
    assert report["quantization"]["mantissas"] in ([0.5], [0.0, 0.5])
    assert report["quantization"]["logged"] == 1.0
    for name in ("quantized", "relax"):
        assert report[name]["mantissas"] == [0.5]
        assert report[name]["logged"] == 1.0
    assert 0.4 < report["surgery"]["logged"] < 1
    assert 0.3 < report["magnitude"]["logged"] < 1
    assert report["sharing"]["values"] == [4, 4] and report["sharing"]["logged"] == 1.0
    assert max(report["soft sharing"]["values"]) <= 4
    assert report["sensitivity"]["sparsity"] == pytest.approx([0.8, 0.8], abs=0.011)


ROOT = pathlib.Path(__file__).parent.parent.parent


def train(folder, processes, number=0, workers=()):
    """Starts worker.py; see there."""
    folder.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "KERAS_BACKEND": keras.backend.backend(),
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={processes}",
    }
    if workers:
        task = {"type": "worker", "index": number}
        cluster = {"worker": workers}
        environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
    script = pathlib.Path(__file__).with_name("worker.py")
    return subprocess.Popen(
        [sys.executable, script, folder / f"{number}.npz", str(processes)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def held(folder, *workers):
    """What each of several workers holds in the end."""
    for worker in workers:
        _, errors = worker.communicate(timeout=300)
        assert worker.returncode == 0, errors
    return [dict(np.load(folder / f"{number}.npz")) for number in range(len(workers))]


def assert_same(ours, theirs, **tolerance):
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], err_msg=name, **tolerance)


def check_compressed(values):
    kernels = {k: v for k, v in values.items() if k.endswith("kernel") and "sequential" in k}
    for name, kernel in kernels.items():
        callback = name.split("/")[0]
        if callback in ("pruning", "sensitivity_pruning"):
            assert np.mean(kernel == 0) == pytest.approx(0.9, abs=0.5 / kernel.size), name
        if callback == "quantization":
            assert np.all(np.isin(np.frexp(kernel)[0], [-0.5, 0, 0.5])), name
    assert any("latent" in name for name in values) and any("fixed" in name for name in values)


@pytest.mark.slow
@pytest.mark.tensorflow
def test_two_processes(tmp_path):
    sockets = [socket.socket() for _ in range(2)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    workers = [train(tmp_path / "two", 2, number, addresses) for number in range(2)]
    first, second = held(tmp_path / "two", *workers)
    (alone,) = held(tmp_path / "one", train(tmp_path / "one", 1))
    check_compressed(first)
    assert_same(first, second, rtol=0, atol=0)
    assert_same(first, alone, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "jax", reason="needs the JAX backend")
def test_two_virtual_devices(tmp_path):
    (several,) = held(tmp_path / "two", train(tmp_path / "two", 2))
    (alone,) = held(tmp_path / "one", train(tmp_path / "one", 1))
    check_compressed(several)
    assert_same(several, alone, rtol=1e-3, atol=1e-5)
