"""Two devices under MirroredStrategy hold the same masks and the same weights."""

import json
import pathlib
import subprocess
import sys

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
