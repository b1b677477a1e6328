"""Batches of models whose samples depend on each other are computed as a whole."""

import keras
import numpy as np
import pytest
from export_models import CentredBatch, Shares
from latency_plans import drawn, exported, later_is_faster, random_weights

tf = pytest.importorskip("tensorflow")

pytestmark = pytest.mark.tensorflow
K = keras.layers


class Scores(K.Layer):
    """All samples beside all others."""

    def call(self, inputs):
        return keras.ops.matmul(inputs, keras.ops.transpose(inputs))


@pytest.mark.parametrize(
    "layer,apart", [(K.Softmax, True)] + [(x, False) for x in (CentredBatch, Shares, Scores)]
)
def test_any_batch_size(tmp_path, monkeypatch, layer, apart):
    later_is_faster(monkeypatch)
    layers = [keras.Input((6,)), K.Dense(5), K.BatchNormalization(), layer()]
    model = random_weights(keras.Sequential(layers))
    _, done = exported(model, tmp_path / "m", drawn(1, 6), batch_sizes=(1, 2, 4, 9))
    served = tf.saved_model.load(str(tmp_path / "m"))
    for size in (1, 2, 3, 4, 7, 8, 9, 17):
        x = drawn(size, 6)
        np.testing.assert_allclose(served.serve(x), model(x), rtol=1e-4, atol=1e-5)
    # The last way, samples one after the other, is the fastest here.
    kernels = done.kernels["serve"]
    assert {row.kernel for row in kernels} == {"norm folded", "kernels"}
    said = ["depend on each other" in left.reason for left in kernels.left_out]
    assert said == ([] if apart else [True])
