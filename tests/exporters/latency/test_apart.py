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


class Counted(K.Layer):
    """Counts its calls, and nothing reads how many there were."""

    def build(self, input_shape):
        self.count = self.add_weight(shape=(), dtype="int32", trainable=False, name="count")

    def call(self, inputs):
        self.count.assign_add(1)
        return inputs * 1.0


class Read(Counted):
    """What it computes is another thing at each call."""

    def call(self, inputs):
        return super().call(inputs) + keras.ops.cast(self.count, inputs.dtype)


class Noise(keras.Model):
    """Drops out at inference, too."""

    def __init__(self):
        super().__init__()
        self.first, self.dropout = K.Dense(6), K.Dropout(0.5, seed=3)

    def call(self, inputs):
        return self.dropout(self.first(inputs), training=True)


@pytest.mark.parametrize("layer", [Counted, Read])
def test_a_call_changes_variables_once(tmp_path, monkeypatch, layer):
    later_is_faster(monkeypatch)
    layers = [keras.Input((6,)), K.Dense(5), K.BatchNormalization(), layer()]
    model = random_weights(keras.Sequential(layers))
    count = model.layers[-1].count
    count.assign(4)
    done = tfcomp.export(
        model, tmp_path / "m", optimize="latency", batch_sizes=(1, 4, 8), verbose=0
    )
    assert int(count) == 4 and len(done.rows) == 1
    assert "changes variables" in done.kernels["serve"].left_out[-1].reason
    served = tf.saved_model.load(str(tmp_path / "m"))
    for size in (1, 2, 3, 4, 7, 8, 9, 17):
        x = drawn(size, 6)
        np.testing.assert_allclose(served.serve(x), model(x), rtol=1e-4, atol=1e-5)
    (number,) = (v for v in served.captured if v.dtype == tf.int32)
    assert number.numpy() == int(count) == 12


def test_random_numbers_at_inference(tmp_path, monkeypatch):
    later_is_faster(monkeypatch)
    model = Noise()
    model(drawn(2, 6))
    before = model.get_weights(), np.array(model.dropout.seed_generator.state)
    tfcomp.export(model, tmp_path / "m", optimize="latency", batch_sizes=(1, 8), verbose=0)
    after = model.get_weights(), np.array(model.dropout.seed_generator.state)
    keras.tree.map_structure(np.testing.assert_array_equal, before, after)
    served = tf.saved_model.load(str(tmp_path / "m"))
    for size in (1, 8, 5):
        x = drawn(size, 6)
        np.testing.assert_allclose(served.serve(x), model(x), rtol=1e-5, atol=1e-6)
