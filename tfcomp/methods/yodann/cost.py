"""What a network costs on the YodaNN chip, from its published figures.

Renzo Andri et al., "YodaNN: An Architecture for Ultra-Low Power Binary-Weight CNN Acceleration",
arXiv:1606.05487.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import keras
from rich.table import Table

from tfcomp import targets
from tfcomp.console import show
from tfcomp.methods.yodann.datapath import KERNEL_SIZES, TILE
from tfcomp.model import macs
from tfcomp.model.calls import layer_calls
from tfcomp.validation import check_number, invalid


class OperatingPoint(NamedTuple):
    """The chip at one supply voltage.

    Attributes:
        throughput: Peak operations per second; a multiply-accumulate is two.
        power: Watts of the core, or `None` where it is not known.
    """

    throughput: float
    power: float | None


# 61.2 TOp/s/W at 895 µW make 54.8 GOp/s.
VOLTAGES = {
    0.6: OperatingPoint(61.2e12 * 895e-6, 895e-6),
    1.2: OperatingPoint(1510e9, None),
}


class ConvShape(NamedTuple):
    """A convolution of stride 1, for a network that is not there as a model.

    Attributes:
        name: Any name.
        kernel_size: Size of the square kernel.
        inputs: Number of input channels.
        outputs: Number of output channels.
        height: Height of the output.
        width: Width of the output.
    """

    name: str
    kernel_size: int
    inputs: int
    outputs: int
    height: int
    width: int


class _Rates:
    """What follows from the time of some operations."""

    @property
    def frames_per_second(self):
        """How often a second the chip could do this and nothing else."""
        return 1 / self.seconds if self.seconds else None

    @property
    def throughput(self):
        """Useful operations per second."""
        return self.operations / self.seconds if self.seconds else None


@dataclass(frozen=True)
class LayerCost(_Rates):
    """One row of a `YodannCost`, for one inference.

    Attributes:
        name: Name of the layer.
        type: Name of its class.
        operations: Two for each multiply-accumulate, or `None` where their number is not known.
        tiles: Pairs of at most 32 input and at most 32 output channels; 0 off the chip.
        seconds: Time on the chip, or `None` off the chip.
        energy: Joules of the core, or `None` off the chip and where the power is not known.
        reason: Why the layer is not on the chip; empty where it is.
    """

    name: str
    type: str
    operations: int | None
    tiles: int
    seconds: float | None
    energy: float | None
    reason: str = ""


class YodannCost(_Rates):
    """What a network costs on the chip, layer by layer.

    Attributes:
        voltage: Supply of the core in volts.
        layers: List of `LayerCost`.
    """

    def __init__(self, voltage, layers):
        self.voltage, self.layers = voltage, layers

    @property
    def on_chip(self):
        """The rows of the layers that the chip does."""
        return [row for row in self.layers if row.seconds is not None]

    @property
    def operations(self):
        """Operations on the chip for one inference."""
        return sum(row.operations for row in self.on_chip)

    @property
    def operations_off_chip(self):
        """Operations of the layers that the chip cannot do, as far as they are known.

        They are in no other total.
        """
        return sum(row.operations or 0 for row in self.layers) - self.operations

    @property
    def tiles(self):
        """Tiles of all layers."""
        return sum(row.tiles for row in self.layers)

    @property
    def seconds(self):
        """Time on the chip for one inference, or `None` where it does no layer."""
        return sum(row.seconds for row in self.on_chip) if self.on_chip else None

    @property
    def energy(self):
        """Joules of the core for one inference, or `None` where that is not known."""
        energies = [row.energy for row in self.on_chip]
        return None if not energies or None in energies else sum(energies)

    def table(self):
        """Returns a `rich.table.Table`."""
        title = f"YodaNN at {self.voltage} V, one inference"
        table = Table(title=title, show_footer=True, title_justify="left")
        numbers = _numbers(self)
        headers = ("Operations", "Tiles", "GOp/s", "Time", "Frames/s", "Core energy")
        for header, footer in zip(("Layer", "Type", *headers), ("On the chip", "", *numbers)):
            table.add_column(header, footer, justify="right" if header in headers else "left")
        for row in self.layers:
            if row.seconds is None:
                operations = "unknown" if row.operations is None else f"{row.operations:,}"
                table.add_row(row.name, row.type, operations, row.reason)
            else:
                table.add_row(row.name, row.type, *_numbers(row))
        return table

    def __repr__(self):
        return (
            f"YodannCost({self.voltage} V: {self.operations:,} operations, "
            f"{_quantity(self.seconds, 's')}, {_quantity(self.energy, 'J')} an inference)"
        )


def _numbers(row):
    """The cells of a row or of the total."""
    return (
        f"{row.operations:,}",
        f"{row.tiles:,}",
        f"{row.throughput / 1e9:,.1f}" if row.throughput else "",
        _quantity(row.seconds, "s"),
        f"{row.frames_per_second:,.1f}" if row.frames_per_second else "",
        _quantity(row.energy, "J"),
    )


def _quantity(value, unit):
    if value is None:
        return "unknown"
    prefixes = {1: "", 1e-3: "m", 1e-6: "µ", 1e-9: "n"}
    scale = next((scale for scale in prefixes if value >= scale), 1e-9)
    return f"{value / scale:.3g} {prefixes[scale]}{unit}"


def yodann_cost(
    model_or_layers,
    voltage=0.6,
    efficiency=None,
    input_shape=None,
    print_table=True,
    console=None,
):
    """Estimates time and core energy of one inference on the YodaNN chip.

    It rests on the paper's headline figures and nothing else: 1510 GOp/s at 1.2 V, and
    61.2 TOp/s/W at 0.6 V with a core power of 895 µW, which make 54.8 GOp/s. The power at 1.2 V is
    not among them, so energies there are unknown. Assumed is that

    * every kernel from 1×1 to 7×7 runs at the peak; where more is known, say so by `efficiency`;
    * a tile of 32 input and 32 output channels takes its time and its power whole, also where
      channels are missing;
    * input and output, memory outside of the core, and what lies between layers cost nothing.

    The chip does convolutions of stride 1 with a square kernel up to 7×7, without dilation or
    groups, whatever values the weights of the layer have now. All other layers that multiply are
    listed with their operations as off the chip.

    Args:
        model_or_layers: A built `keras.Model` of any kind, or a list of `ConvShape`.
        voltage: 0.6 or 1.2, the core's supply in volts.
        efficiency: Optional dict from kernel size to the fraction of the peak throughput that it
            reaches, in (0, 1].
        input_shape: Shape of the input with its batch axis, where the model's is not known.
        print_table: Whether to print the table.
        console: Optional `rich.console.Console` to print to.

    Returns:
        A `YodannCost`, with the rows in `layers`.

    Raises:
        ValueError: For a voltage without figures, or a model of unknown shapes.

    Reference:
        Renzo Andri, Lukas Cavigelli, Davide Rossi, Luca Benini, "YodaNN: An Architecture for
        Ultra-Low Power Binary-Weight CNN Acceleration", arXiv:1606.05487.

    Example:

    >>> from tfcomp.hardware import ConvShape

    >>> from tfcomp.hardware import yodann_cost
    >>> cost = yodann_cost([ConvShape("conv", 7, 32, 32, 100, 100)], print_table=False)
    >>> cost.operations, round(1e6 * cost.energy, 1)
    (1003520000, 16.4)
    """
    if voltage not in VOLTAGES:
        raise invalid("voltage", voltage, f"one of {list(VOLTAGES)} V, which have figures")
    efficiency = dict(efficiency or {})
    for size, fraction in efficiency.items():
        if size not in KERNEL_SIZES:
            raise invalid("efficiency", efficiency, "kernel sizes from 1 to 7 as keys")
        check_number("efficiency", fraction, above=0)
        if fraction > 1:
            raise invalid("efficiency", efficiency, "fractions in (0, 1]")
    if isinstance(model_or_layers, keras.Model):
        works = _works(model_or_layers, input_shape)
    else:
        works = [_of_shape(shape) for shape in model_or_layers]
        if not works:
            raise invalid("model_or_layers", model_or_layers, "at least one layer")
    point = VOLTAGES[voltage]
    cost = YodannCost(voltage, [_cost(work, point, efficiency) for work in works])
    if print_table:
        show(cost.table(), console)
    return cost


class _Work(NamedTuple):
    """What a layer has to do, in all of its calls."""

    name: str
    type: str
    operations: int | None
    shape: ConvShape | None = None
    times: int = 1
    reason: str = ""


def _cost(work, point, efficiency):
    if work.shape is None:
        return LayerCost(work.name, work.type, work.operations, 0, None, None, work.reason)
    shape = work.shape
    tiles = math.ceil(shape.inputs / TILE) * math.ceil(shape.outputs / TILE)
    window = shape.kernel_size**2 * shape.height * shape.width
    whole = work.times * tiles * 2 * TILE * TILE * window
    seconds = whole / (point.throughput * efficiency.get(shape.kernel_size, 1.0))
    energy = None if point.power is None else point.power * seconds
    return LayerCost(work.name, work.type, work.operations, tiles, seconds, energy)


def _of_shape(shape):
    if not isinstance(shape, ConvShape) or min(shape[1:]) < 1:
        raise invalid("model_or_layers", shape, "a keras.Model or a list of ConvShape")
    if shape.kernel_size not in KERNEL_SIZES:
        raise invalid("kernel_size", shape.kernel_size, "an integer from 1 to 7")
    operations = 2 * math.prod(shape[2:]) * shape.kernel_size**2
    return _Work(shape.name, "ConvShape", operations, shape)


def _works(model, input_shape):
    targets.check_built(model)
    calls = layer_calls(model, input_shape)
    if calls is None or any(first.output != second.output for first, second in calls):
        raise invalid("input_shape", input_shape, "a shape that fixes all others in the model")
    works = {}
    for call, _ in calls:
        counted = macs.count(call)
        operations = None if counted is None else 2 * sum(number for _, number in counted)
        if operations != 0:
            work = _of_call(call, operations)
            # A layer that is called again has its row already.
            key = (id(call.layer), work.shape)
            old = works.get(key, work._replace(operations=0, times=0))
            known = operations is not None and old.operations is not None
            works[key] = old._replace(
                operations=old.operations + operations if known else None,
                times=old.times + work.times,
            )
    if not works:
        raise invalid("model_or_layers", model.name, "a model with layers that multiply")
    return list(works.values())


def _of_call(call, operations):
    layer = call.layer
    work = _Work(layer.name, type(layer).__name__, operations)
    reason = _reason(layer)
    if reason:
        return work._replace(reason=reason)
    first = layer.data_format == "channels_first"
    height, width = call.output[2:] if first else call.output[1:3]
    size = layer.kernel_size[0]
    inputs = call.inputs[1 if first else -1]
    shape = ConvShape(layer.name, size, inputs, layer.filters, height, width)
    return work._replace(shape=shape, times=call.times)


def _reason(layer):
    """Why the chip cannot do a layer, or nothing."""
    # The face of all layers, which is loaded with the first of them, takes this one in.
    from tfcomp.methods.yodann.layer import YodaConv2D

    if not isinstance(layer, YodaConv2D):
        if not isinstance(layer, keras.layers.Conv2D):
            return "no 2D convolution"
        if layer.strides != (1, 1):
            return "strides"
        if layer.dilation_rate != (1, 1):
            return "dilation"
        if layer.groups != 1:
            return "groups"
    size = layer.kernel_size
    return "" if size[0] == size[1] in KERNEL_SIZES else f"kernel {size[0]}x{size[1]}"
