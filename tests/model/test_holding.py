import keras
import numpy as np

from tfcomp.model.holding import holding


def test_layers_are_as_before_whatever_they_are_made_to_hold():
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    before, method = dict(vars(layer)), layer.call
    x = np.ones((1, 3), "float32")
    with holding(layer, call=lambda x: x, other=keras.layers.Dense(1)):
        assert layer(x).shape == (1, 3)
        with holding(layer, call=lambda x: x[:, :1]):
            assert layer(x).shape == (1, 1)
        assert layer(x).shape == (1, 3)
        # Keras tracks nothing of it.
        assert len(layer.weights) == 2 and not layer._layers
    assert layer(x).shape == (1, 2) and layer.call == method
    assert vars(layer).keys() == before.keys()


def test_an_error_leaves_nothing_behind():
    layer = keras.layers.Dense(2)
    try:
        with holding(layer, call=None):
            raise KeyError
    except KeyError:
        pass
    assert "call" not in vars(layer)
