"""The cost model against the published figures and sums made by hand."""

import io

import keras
import pytest
import rich.console

from tfcomp import layers
from tfcomp.hardware import ConvShape, yodann_cost

FULL = ConvShape("full", 7, 32, 32, 100, 100)


def cost(model, **arguments):
    return yodann_cost(model, print_table=False, **arguments)


def test_a_full_tile_runs_at_the_published_figures():
    operations = 2 * 49 * 32 * 32 * 100 * 100
    slow = cost([FULL])
    assert slow.operations == operations and slow.tiles == 1
    assert slow.operations / slow.energy == pytest.approx(61.2e12)
    assert slow.energy / slow.seconds == pytest.approx(895e-6)
    assert slow.throughput == pytest.approx(54.774e9)
    fast = cost([FULL], voltage=1.2)
    assert fast.throughput == pytest.approx(1510e9)
    assert fast.energy is None and fast.layers[0].energy is None
    assert fast.frames_per_second == pytest.approx(1510e9 / operations)


def test_tiles_are_whole():
    # 33 and 65 channels take 2 by 3 tiles of 32 by 32.
    row = cost([ConvShape("odd", 3, 33, 65, 4, 5)]).layers[0]
    assert row.tiles == 6 and row.operations == 2 * 9 * 33 * 65 * 20
    assert row.seconds == pytest.approx(6 * 2 * 1024 * 9 * 20 / 54.774e9)
    assert row.throughput / 54.774e9 == pytest.approx(33 * 65 / (6 * 1024))
    assert row.frames_per_second == pytest.approx(1 / row.seconds)


def test_efficiency_of_a_kernel_size():
    whole = cost([FULL])
    half = cost([FULL], efficiency={7: 0.5, 3: 0.1})
    assert half.seconds == pytest.approx(2 * whole.seconds)
    assert half.energy == pytest.approx(2 * whole.energy)


def make_model():
    shared = layers.YodaConv2D(40, 3, padding="same", name="shared")
    x = inputs = keras.Input((10, 12, 40))
    x = shared(shared(x))
    x = keras.layers.Conv2D(8, 3, strides=2, name="strided")(x)
    x = layers.BinaryConv2D(8, (1, 3), name="flat")(x)
    x = layers.BinaryConv2D(8, 2, name="small")(x)
    x = keras.layers.DepthwiseConv2D(2, name="depthwise")(x)
    x = keras.layers.BatchNormalization()(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(keras.layers.Flatten()(x)))


def test_model():
    found = cost(make_model())
    rows = {row.name: row for row in found.layers}
    # Twice, on 10 by 12 positions.
    assert rows["shared"].operations == 2 * 2 * 120 * 9 * 40 * 40
    assert rows["shared"].seconds == pytest.approx(2 * 4 * 2 * 1024 * 9 * 120 / 54.774e9)
    # (10 - 3) / 2 + 1 = 4 by 5, then 4 by 3, then 3 by 2.
    assert rows["small"].operations == 2 * 6 * 4 * 8 * 8
    assert found.operations == rows["shared"].operations + rows["small"].operations
    off = {name: row.reason for name, row in rows.items() if row.seconds is None}
    assert off == {
        "strided": "strides",
        "flat": "kernel 1x3",
        "depthwise": "no 2D convolution",
        "head": "no 2D convolution",
    }
    flat, strided = 2 * 12 * 3 * 64, 2 * 20 * 9 * 40 * 8
    assert found.operations_off_chip == flat + strided + 2 * 2 * 4 * 8 + 2 * 2 * 8 * 3
    assert found.seconds == pytest.approx(rows["shared"].seconds + rows["small"].seconds)
    assert found.energy == pytest.approx(found.seconds * 895e-6)


class Bilinear(keras.layers.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], shape[-1]), name="kernel")

    def call(self, x):
        return keras.ops.sum(keras.ops.matmul(x, self.kernel) * x, axis=-1)


def test_operations_that_are_not_known():
    conv = layers.YodaConv2D(4, 3)
    own = keras.Sequential([keras.Input((8, 8, 3)), conv, Bilinear(name="own")])
    stream = io.StringIO()
    found = yodann_cost(own, console=rich.console.Console(file=stream, width=120))
    row = next(row for row in found.layers if row.name == "own")
    assert row.operations is None and row.seconds is None and found.operations_off_chip == 0
    assert found.operations == 2 * 36 * 27 * 4
    assert "unknown" in stream.getvalue()


def test_table():
    stream = io.StringIO()
    yodann_cost([FULL], voltage=1.2, console=rich.console.Console(file=stream, width=120))
    printed = stream.getvalue()
    for part in ("YodaNN at 1.2 V", "1,003,520,000", "1,510.0", "665 µs", "unknown"):
        assert part in printed
    assert "16.4 µJ" in repr(cost([FULL]))
    nothing = cost(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
    assert nothing.seconds is None and nothing.energy is None and nothing.operations == 0
    assert nothing.frames_per_second is None and "unknown" in repr(nothing)
    yodann_cost([FULL], console=rich.console.Console(file=stream, width=120))


def test_shapes_that_are_not_known():
    model = keras.Sequential([keras.Input((None, None, 3)), layers.YodaConv2D(4, 3)])
    with pytest.raises(ValueError, match="argument `input_shape`"):
        cost(model)
    assert cost(model, input_shape=(None, 8, 8, 3)).operations == 2 * 36 * 27 * 4


@pytest.mark.parametrize(
    ("layers", "arguments", "name"),
    [
        ([FULL], {"voltage": 0.9}, "voltage"),
        ([FULL], {"efficiency": {8: 0.5}}, "efficiency"),
        ([FULL], {"efficiency": {3: 0}}, "efficiency"),
        ([FULL], {"efficiency": {3: 1.5}}, "efficiency"),
        ([], {}, "model_or_layers"),
        ([3], {}, "model_or_layers"),
        ([FULL._replace(height=0)], {}, "model_or_layers"),
        ([FULL._replace(kernel_size=9)], {}, "kernel_size"),
    ],
)
def test_bad_arguments(layers, arguments, name):
    with pytest.raises(ValueError, match=f"argument `{name}`"):
        cost(layers, **arguments)
