"""Batches of models whose samples depend on each other are computed as a whole."""

import keras
import numpy as np
import pytest
from export_models import CentredBatch, Shares
from latency_plans import always, drawn, exported, later_is_faster, random_weights

import tfcomp

tf = pytest.importorskip("tensorflow")

from tfcomp.exporters.latency import batches  # noqa: E402

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


@pytest.mark.parametrize("name", ["at_once", "_looped"])
def test_every_way_to_compute_a_batch_is_compared_with_the_model(tmp_path, monkeypatch, name):
    """Something wrong with one sample, or with what is left over of parts, is found on export."""
    kept = getattr(batches, name)

    def wrong(*args):
        return keras.tree.map_structure(lambda y: y + 1, kept(*args))

    kernel = np.zeros((96, 64), "float32")
    kernel[:10] = drawn(10, 64)
    model = keras.Sequential([keras.Input((96,)), K.Dense(64)])
    model.layers[0].kernel.assign(kernel)
    monkeypatch.setattr(batches, name, wrong)
    sizes = {"batch_sizes": (1,) if name == "at_once" else (8,)}
    always(monkeypatch, "shared inputs, 64 outputs, compiled")
    with pytest.raises(ValueError, match="does not compute"):
        tfcomp.export(model, tmp_path / "m", optimize="latency", verbose=0, **sizes)
    assert not list(tmp_path.iterdir())
