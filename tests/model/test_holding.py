import threading

import keras
import numpy as np

import tfcomp
from tfcomp.model.holding import holding, method_of

X = np.ones((1, 3), "float32")


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def built():
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    return layer


def test_layers_are_as_before_whatever_they_are_made_to_hold():
    layer = built()
    before, method = dict(vars(layer)), layer.call
    with holding(layer, call=lambda x: x, compute_output_shape=lambda shape: shape):
        assert layer(X).shape == (1, 3) and layer.compute_output_shape((4, 3)) == (4, 3)
        with holding(layer, call=lambda x: x[:, :1]):
            assert layer(X).shape == (1, 1)
        assert layer(X).shape == (1, 3)
        # Keras tracks nothing of it.
        assert len(layer.weights) == 2 and not layer._layers
    assert layer(X).shape == (1, 2) and layer.call == method
    assert vars(layer).keys() == before.keys()


def test_one_may_call_the_method_that_it_replaces():
    layer = built()
    plain = keras.ops.convert_to_numpy(layer(X))
    with holding(layer, call=lambda x: x * 0 + 1):
        inner = method_of(layer, "call")
        with holding(layer, call=lambda x: inner(x) + 1):
            np.testing.assert_array_equal(numpy(layer(X)), np.full((1, 3), 2))
    np.testing.assert_array_equal(numpy(layer(X)), plain)


def test_an_error_leaves_nothing_behind():
    layer = keras.layers.Dense(2)
    try:
        with holding(layer, call=None):
            raise KeyError
    except KeyError:
        pass
    assert "call" not in vars(layer)


def test_a_method_of_the_users_own_comes_back():
    layer = built()
    object.__setattr__(layer, "call", own := lambda x: x)
    with holding(layer, call=lambda x: x[:, :1]):
        assert layer(X).shape == (1, 1)
    assert vars(layer)["call"] is own


def test_another_thread_sees_nothing_of_it():
    """Two threads hold one layer, and the one that began first ends first."""
    layer, shapes = built(), {}
    first_holds, second_holds, first_is_done = (threading.Event() for _ in range(3))

    def first():
        with holding(layer, call=lambda x: x):
            first_holds.set()
            assert second_holds.wait(10)
            shapes["first"] = layer(X).shape
        first_is_done.set()

    def second():
        assert first_holds.wait(10)
        shapes["before"] = layer(X).shape
        with holding(layer, call=lambda x: x[:, :1]):
            second_holds.set()
            assert first_is_done.wait(10)
            shapes["second"] = layer(X).shape
        shapes["after"] = layer(X).shape

    threads = [threading.Thread(target=target) for target in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shapes == {"first": (1, 3), "before": (1, 2), "second": (1, 1), "after": (1, 2)}
    assert "call" not in vars(layer)


def test_a_model_is_summed_up_while_another_thread_sums_it_up_and_predicts():
    x = keras.Input((8,))
    model = keras.Model(x, keras.ops.relu(keras.layers.Dense(4)(keras.layers.Dense(6)(x))))
    macs, before = tfcomp.summary(model, print_table=False).macs, set(vars(model.layers[1]))
    batch, found, wanted = np.ones((2, 8), "float32"), [], numpy(model(np.ones((2, 8))))

    def sum_up():
        found.extend(tfcomp.summary(model, print_table=False).macs == macs for _ in range(5))

    def predict():
        found.extend(np.array_equal(numpy(model(batch)), wanted) for _ in range(20))

    threads = [threading.Thread(target=target) for target in (sum_up, sum_up, predict)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 30 and all(found)
    assert set(vars(model.layers[1])) == before
    # Symbolic calls are forgotten: the layer has one output still.
    assert model.layers[1].output.shape == (None, 6)
