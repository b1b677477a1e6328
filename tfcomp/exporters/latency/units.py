"""What a model computes that other kernels than Keras's can compute."""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfcomp.exporters.latency.binary import BinaryChain, chains, sign_product, takes_signs
from tfcomp.exporters.latency.flow import is_one_call
from tfcomp.exporters.latency.folding import with_norms
from tfcomp.exporters.latency.matrices import candidates
from tfcomp.exporters.latency.padding import with_paddings
from tfcomp.exporters.latency.product import product_of
from tfcomp.exporters.latency.recurrent import recurrent_candidates
from tfcomp.exporters.latency.table import joined
from tfcomp.exporters.trace import Substitution
from tfcomp.model.choice import Unsuited
from tfcomp.model.result import LeftOut
from tfcomp.targets import layer_sites


class Unit(NamedTuple):
    """A layer, or several in a row, that a kernel stands for.

    Attributes:
        numbers: Numbers of the calls, from the first to the last.
        layers: The layers.
        shape: Shape of the input, without the batch axis.
        dtype: Dtype of the input.
        candidates: List of `Candidate`.
        refused: Dict from the names of other kernels to why they are none for it.
    """

    numbers: list
    layers: list
    shape: tuple
    dtype: str
    candidates: list
    refused: dict

    @property
    def path(self):
        """Paths of the first layer, and of the last where there are several."""
        first, last = self.layers[0], self.layers[-1]
        return first.path if first is last else f"{first.path} ... {last.path}"

    @property
    def likeness(self):
        """What units have in common that take the same time: all but names and values."""
        layers = [_settings(layer) for layer in self.layers]
        arrays = [[(a.shape, a.dtype) for a in c.arrays] for c in self.candidates]
        names = [candidate.name for candidate in self.candidates]
        return repr((layers, self.shape, self.dtype, names, arrays))

    def draw(self, batch, seed=0):
        """Inputs to try kernels on."""
        random = np.random.default_rng(seed)
        return tf.constant(random.standard_normal((batch, *self.shape)), self.dtype)

    def by_keras(self, scope, values):
        """The function that calls the layers, with tensors in place of their weights."""

        def forward(inputs):
            with scope(), Substitution(values):
                for layer in self.layers:
                    inputs = layer(inputs, training=False)
                return inputs

        return forward


def find_units(flow, final):
    """Finds the units of a model.

    Args:
        flow: Dict from number to `Seen`.
        final: The model's `FinalWeights`.

    Returns:
        List of `Unit`, and list of `LeftOut`, the layers with a kernel, and batch normalizations,
        that no unit holds.
    """
    products, signs, units, left = {}, {}, [], []
    for number, seen in flow.items():
        try:
            if is_one_call(seen.layer):
                units.append(_unit([number], flow, recurrent_candidates(seen, final)))
            elif takes_signs(seen.layer) or has_kernel(seen.layer):
                products[number] = product_of(seen, final)
        except Unsuited as reason:
            left.append(LeftOut(seen.layer.path, str(reason)))
    refused = _add_signs(signs, products)
    known = {id(seen.layer) for seen in flow.values()}
    left += [
        LeftOut(site.layer.path, "its layer is recurrent, and called with masks or states")
        for site in layer_sites(final.model)
        if is_one_call(site.layer) and id(site.layer) not in known
    ]
    for links, numbers in chains(flow, signs):
        units.append(_unit(numbers, flow, [BinaryChain(links)]))
    for number in [number for number in products if number not in signs]:
        found, others = candidates(products[number])
        others = {**refused.get(number, {}), **others}
        if found:
            units.append(_unit([number], flow, found, others))
        else:
            left.append(LeftOut(flow[number].layer.path, joined(others)))
    units, left = with_norms(units, left, flow, final, _unit)
    return with_paddings(units, flow, _unit), left


def _add_signs(signs, products):
    """Adds the products of signs to a dict by number; returns another of why others are none."""
    refused = {}
    for number, product in products.items():
        if takes_signs(product.layer):
            try:
                signs[number] = product, sign_product(product)
            except Unsuited as reason:
                refused[number] = {BinaryChain.name: str(reason)}
    return refused


def _settings(layer):
    try:
        return type(layer), {**layer.get_config(), "name": None}
    except NotImplementedError:
        # What there is to know of such a layer is the layer itself.
        return id(layer)


def has_kernel(layer):
    """Whether a layer multiplies by a kernel."""
    return isinstance(getattr(layer, "kernel", None), keras.Variable) if layer.built else False


def _unit(numbers, flow, found, refused=()):
    first = flow[numbers[0]]
    layers = [flow[number].layer for number in numbers]
    return Unit(numbers, layers, first.shape[1:], first.dtype, found, dict(refused))
