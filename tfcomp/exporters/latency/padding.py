"""Layers of zeros around inputs become the padding of the convolution behind them."""

import keras

from tfcomp.exporters.latency.candidate import Candidate
from tfcomp.exporters.latency.norms import Folded
from tfcomp.layers.base.padding import pad_widths
from tfcomp.model.intercepting import intercepting

_K = keras.layers
_ZEROS = (_K.ZeroPadding1D, _K.ZeroPadding2D, _K.ZeroPadding3D)
_DEPTHWISE = (_K.DepthwiseConv1D, _K.DepthwiseConv2D)
_CONVOLUTIONS = (*_DEPTHWISE, _K.Conv1D, _K.Conv2D, _K.Conv3D)


class Around(Candidate):
    """A kernel for what comes behind a layer that pads.

    Args:
        layer: The layer that pads.
        first: The `Candidate`.
    """

    def __init__(self, layer, first):
        self._layer, self._first = layer, first
        self.name, self.arrays, self.is_static = first.name, first.arrays, first.is_static
        self.is_never_slower = first.is_never_slower

    def add_to(self, weights, owner=None):
        self._first.add_to(weights, owner or self)

    def compute(self, inputs, tensors):
        with intercepting(None):
            inputs = self._layer(inputs)
        return self._first.compute(inputs, tensors)


class Padded(Around):
    """A convolution that pads by itself, with the batch normalization behind it.

    Args:
        layer: The layer that pads.
        folded: The `Folded` of both.
    """

    def __init__(self, layer, folded):
        super().__init__(layer, folded)
        self.name = "norm and padding folded"

    def compute(self, inputs, tensors):
        layer, (kernel, bias) = self._first.layer, tensors
        op = keras.ops.depthwise_conv if isinstance(layer, _DEPTHWISE) else keras.ops.conv
        how = layer.strides, "same", layer.data_format, layer.dilation_rate
        return self._first.moved(op(inputs, kernel, *how), bias)


def with_paddings(units, flow, make):
    """Adds layers of zeros to the units of convolutions that can pad by themselves.

    Args:
        units: List of `Unit`.
        flow: Dict from number to `Seen`.
        make: As of `tfcomp.exporters.latency.folding.with_norms`.

    Returns:
        List of `Unit`.
    """
    heads = {unit.numbers[0]: unit for unit in units}
    for number, seen in flow.items():
        unit = heads.get(seen.following)
        if unit is None or type(seen.layer) not in _ZEROS or not _is_same(seen, unit):
            continue
        folded, *others = unit.candidates
        candidates = [Padded(seen.layer, folded), *(Around(seen.layer, each) for each in others)]
        del heads[seen.following]
        heads[number] = make([number, *unit.numbers], flow, candidates, unit.refused)
    return [heads[number] for number in sorted(heads)]


def _is_same(seen, unit):
    """Whether a convolution with a norm behind it computes the same with `padding="same"`."""
    layer, pads = unit.layers[0], seen.layer.padding
    if type(unit.candidates[0]) is not Folded or not isinstance(layer, _CONVOLUTIONS):
        return False
    if layer.padding != "valid" or layer.data_format != seen.layer.data_format:
        return False
    first = 1 if layer.data_format == "channels_last" else 2
    pads = [pads] if layer.rank == 1 else pads
    return list(map(list, pads)) == pad_widths(layer, seen.shape)[first : first + layer.rank]
