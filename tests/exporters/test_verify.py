"""What is exported is inference, and is compared with the model before it takes its place."""

import keras
import numpy as np
import pytest
from export_models import stateful

from tfcomp.exporters import export

pytestmark = pytest.mark.tensorflow
layers = keras.layers


def load(path):
    import tensorflow as tf

    return tf.saved_model.load(str(path))


def test_layers_that_train_by_default_infer(tmp_path):
    x = keras.Input((16, 16, 3))
    y = layers.RandomRotation(0.2)(layers.RandomFlip()(x))
    model = keras.Model(x, layers.GaussianNoise(1.0)(layers.Dropout(0.5)(y)))
    result = export(model, tmp_path / "model", verbose=0)
    x = np.random.default_rng(0).standard_normal((2, 16, 16, 3)).astype("float32")
    for _ in range(3):
        np.testing.assert_allclose(load(tmp_path / "model").serve(x), x, atol=1e-6)
    assert [row.path for row in result] == ["serve/output_0"] and not result.left_out
    assert result[0].difference == 0


class Silent(keras.Model):
    """Does not pass on whether it is trained."""

    def __init__(self):
        super().__init__()
        self.flip, self.drop = layers.RandomFlip(), layers.Dropout(0.5)

    def call(self, x):
        return self.drop(self.flip(x))


def test_models_without_the_argument_infer_as_well(tmp_path):
    model, x = Silent(), np.random.default_rng(0).random((2, 4, 4, 1), "float32")
    model(x)
    export(model, tmp_path / "model", verbose=0)
    np.testing.assert_array_equal(load(tmp_path / "model").serve(x), x)


@pytest.mark.parametrize("masked", [False, True])
def test_a_layer_that_is_traced_wrong_is_an_error_and_leaves_nothing(tmp_path, masked):
    model = keras.Sequential([keras.Input((None, 4))])
    if masked:
        model.add(layers.Masking())
    model.add(layers.TimeDistributed(layers.Dense(3)))
    if masked:
        model.add(layers.LSTM(2))
    how = "by [0-9.]+" if masked else r"\(2, 2, 3\) for \(2, 5, 3\)"
    with pytest.raises(ValueError, match=f"'serve' does not compute.*'output_0' .*{how}"):
        export(model, tmp_path / "model", verbose=0)
    assert not list(tmp_path.iterdir())
    result = export(model, tmp_path / "model", verbose=0, verify=False)
    assert "verify=False" in result.left_out[0].reason
    # With the lengths known, Keras's layer is right.
    spec = [keras.InputSpec(shape=(None, 6, 4), dtype="float32")]
    assert export(model, tmp_path / "model", verbose=0, input_signature=spec)[0].difference < 1e-6


def test_large_enough_inputs_are_drawn(tmp_path):
    convolutions = [layers.Conv2D(4, 3, 2) for _ in range(4)]
    model = keras.Sequential(
        [keras.Input((None, None, 3)), *convolutions, layers.GlobalMaxPooling2D()]
    )
    (row,) = export(model, tmp_path / "model", verbose=0)
    assert 0 < row.largest < 1e3


def test_inputs_of_every_kind_are_drawn(tmp_path):
    inputs = {
        "number": keras.Input((3,)),
        "small": keras.Input((2,), dtype="int32"),
        "mask": keras.Input((3,), dtype="bool"),
        "word": keras.Input((1,), dtype="string"),
    }
    words = layers.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")(inputs["word"])
    few = layers.Flatten()(layers.Embedding(2, 2)(inputs["small"]))
    kept = keras.ops.where(inputs["mask"], inputs["number"], 0.0)
    outputs = {"all": layers.Concatenate()([words, few, kept]), "sign": inputs["number"] > 0}
    result = export(keras.Model(inputs, outputs), tmp_path / "model", verbose=0)
    assert [row.path for row in result] == ["serve/all", "serve/sign"]


def test_what_draws_numbers_itself_is_compared_with_the_same_seeds(tmp_path):
    x = keras.Input((40,))
    model = keras.Model(x, layers.Dropout(0.5)(x, training=True))
    seeds = [np.array(v) for v in model.layers[-1].variables]
    assert export(model, tmp_path / "model", verbose=0)[0].difference == 0
    for before, variable in zip(seeds, model.layers[-1].variables):
        np.testing.assert_array_equal(before, variable)


def test_what_cannot_be_compared_is_said(tmp_path):
    x = keras.Input((4,))
    model = keras.Model(x, keras.ops.log(-1 - keras.ops.abs(x)))
    with pytest.warns(UserWarning, match=r"'serve' was not compared.*NaN"):
        result = export(model, tmp_path / "model", verbose=0)
    assert "NaN" in result.left_out[0].reason and not result.rows


def test_data_of_the_user(tmp_path):
    x = keras.Input((4,))
    model = keras.Model(x, keras.ops.sqrt(x - 1000))
    result = export(model, tmp_path / "model", verbose=0, data=np.full((5, 4), 1004, "float32"))
    assert result[0].largest == 2 and result[0].difference == 0


def test_every_endpoint_is_compared_from_the_same_state(tmp_path):
    """The first changes what the second reads: the model itself has been called by neither."""
    model, _ = stateful(np.random.default_rng(0))
    signatures = {"other": keras.InputSpec(shape=(None, 30), dtype="float32", name="x")}
    done = export(model, tmp_path / "m", verbose=0, signatures=signatures)
    assert [row.path.split("/")[0] for row in done.rows] == ["serve", "other"]
    assert all(row.difference < 1e-5 for row in done.rows)
