"""Models with holes, which an engine's own kernels are put into.

Keras's exporters know nothing of an engine's kernels for a few bits. They are given the model with
one more input for each product that such a kernel is to compute, which stands for what it answers,
and one more output, which it is to be given. In the file that they write, the two are connected.
"""

from typing import ClassVar, NamedTuple

import keras

from tfcomp.exporters.compared import batch_of, dtype_of
from tfcomp.exporters.latency.replay import replaying
from tfcomp.exporters.latency.units import Unit

# What the input that fills a hole is called, by its number.
NAME = "tfcomp_hole_{}"


class Hole:
    """A product that a kernel of an engine is to compute.

    Args:
        unit: A `Unit`, the layers that it stands for.
        shape: Shape of the outputs, without the batch axis.

    Attributes:
        name: What a table calls the kernel.
        settings: Dict from names of settings of the engine to what they have to be.
        is_for_one_size: Whether the kernel is for fixed batch sizes.
    """

    name = ""
    settings: ClassVar = {}
    is_for_one_size = False

    def __init__(self, unit, shape):
        self.unit, self.shape = unit, tuple(shape)

    @property
    def path(self):
        """Paths of the layers."""
        return self.unit.path

    def take(self, inputs):
        """What the kernel is given of the layers' inputs."""
        return inputs

    def finish(self, outputs, inputs):
        """What the layers make of the product, such as the last one's bias and activation."""
        return outputs

    def alone(self):
        """The same hole in a model of nothing but its layers."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.unit = self.unit._replace(numbers=list(range(len(self.unit.layers))))
        return other


class Pierced(NamedTuple):
    """A model with holes.

    Attributes:
        call: Function that computes the model.
        flow: What `layer_flow` returned for it.
        holes: List of `Hole`.
    """

    call: object
    flow: dict
    holes: list

    def __call__(self, *args, **kwargs):
        """From the model's arguments and what fills the holes: outputs, and what the holes take."""
        count = len(args) - len(self.holes)
        opened = [_Opened(hole) for hole in self.holes]
        chosen = [(hole.unit, one) for hole, one in zip(self.holes, opened)]
        tensors = {id(one): filling for one, filling in zip(opened, args[count:])}
        with replaying(self.flow, chosen, tensors):
            outputs = self.call(*args[:count], **kwargs)
        return (outputs, [one.inputs for one in opened]) if self.holes else outputs


def single(specs):
    """The same specs for one sample."""
    return keras.tree.map_structure(
        lambda spec: keras.InputSpec(
            shape=(1, *spec.shape[1:]), dtype=dtype_of(spec), name=getattr(spec, "name", None)
        ),
        specs,
    )


def with_holes(specs, holes):
    """Specs of a `Pierced` model's arguments, for those of a model's.

    Args:
        specs: List of structures of specs, one for each argument.
        holes: List of `Hole`.
    """
    batch = batch_of(specs)
    return [
        *specs,
        *(
            keras.InputSpec(shape=(batch, *hole.shape), dtype="float32", name=NAME.format(number))
            for number, hole in enumerate(holes)
        ),
    ]


class _Opened:
    def __init__(self, hole):
        self.hole, self.inputs = hole, None

    def compute(self, inputs, filling):
        self.inputs = self.hole.take(inputs)
        return self.hole.finish(filling, inputs)


def layers_of(unit, flow):
    """A function that calls a unit's layers, and the flow of it."""

    def call(inputs, **kwargs):
        for layer in unit.layers:
            inputs = layer(inputs, **kwargs)
        return inputs

    last = len(unit.numbers) - 1
    alone = {
        place: flow[number]._replace(number=place, following=place + 1 if place < last else None)
        for place, number in enumerate(unit.numbers)
    }
    return call, alone


def unit_of(numbers, flow):
    """A `Unit` of the calls with some numbers, for which no kernel is named."""
    first = flow[numbers[0]]
    layers = [flow[number].layer for number in numbers]
    return Unit(list(numbers), layers, first.shape[1:], first.dtype, [], {})
