"""Batch normalization at inference: part of the product before it, or one product and one sum."""

import keras
import numpy as np
import tensorflow as tf

from tfcomp.exporters.latency.candidate import Candidate
from tfcomp.exporters.trace import Substitution
from tfcomp.keras_private import stored_kernel
from tfcomp.layers.base.decoded import DecodedKernel
from tfcomp.layers.base.quantized import QuantizedMixin
from tfcomp.model.choice import Unsuited, why_not_plain
from tfcomp.model.intercepting import intercepting

_K = keras.layers
_DEPTHWISE = (_K.DepthwiseConv1D, _K.DepthwiseConv2D)
_SEPARABLE = (_K.SeparableConv1D, _K.SeparableConv2D)
_TRANSPOSED = (_K.Conv1DTranspose, _K.Conv2DTranspose, _K.Conv3DTranspose)
_PRODUCTS = (
    *_DEPTHWISE,
    *_SEPARABLE,
    *_TRANSPOSED,
    _K.Dense,
    _K.Conv1D,
    _K.Conv2D,
    _K.Conv3D,
)


class Norm:
    """What a batch normalization does at inference: `inputs * factor + shift`.

    Attributes:
        layer: The layer.
        axis: The axis of its channels.
        factor: float64 array of shape `(channels,)`.
        shift: Likewise.
    """

    def __init__(self, seen, final):
        self.layer = layer = seen.layer
        if type(layer) is not _K.BatchNormalization:
            raise Unsuited("it is a subclass of BatchNormalization")
        if seen.dtype != "float32" or layer.compute_dtype != "float32":
            raise Unsuited(f"it computes in {layer.compute_dtype}")
        if None in seen.shape[1:]:
            raise Unsuited("the size of its inputs is not known")
        self.rank, self.axis = len(seen.shape), layer.axis % len(seen.shape)

        def value(variable):
            return final.value(variable).astype(np.float64)

        with np.errstate(all="ignore"):
            self.factor = 1 / np.sqrt(value(layer.moving_variance) + layer.epsilon)
            self.factor = self.factor * (value(layer.gamma) if layer.scale else 1)
            self.shift = -value(layer.moving_mean) * self.factor
            self.shift = self.shift + (value(layer.beta) if layer.center else 0)
            if not np.all(np.isfinite(np.float32([self.factor, self.shift]))):
                raise Unsuited("its statistics make infinite numbers, or none")

    @property
    def arrays(self):
        """The factor and the shift in the shape in which inputs are multiplied by them."""
        shape = [1] * self.rank
        shape[self.axis] = -1
        shape = [-1] if self.axis == self.rank - 1 else shape
        return [np.float32(part).reshape(shape) for part in (self.factor, self.shift)]


class Multiplied(Candidate):
    """A batch normalization alone, as one product and one sum."""

    name = "one product and sum"
    is_never_slower = True

    def __init__(self, norm):
        self.arrays = norm.arrays

    def compute(self, inputs, tensors):
        return inputs * tensors[0] + tensors[1]


class Behind(Candidate):
    """A batch normalization behind another kernel.

    Args:
        first: The `Candidate` for the layer before it.
        norm: A `Norm`.
    """

    def __init__(self, first, norm):
        self._first, self.name, self.is_static = first, first.name, first.is_static
        self.arrays = [*first.arrays, *norm.arrays]

    def compute(self, inputs, tensors):
        return self._first.compute(inputs, tensors[:-2]) * tensors[-2] + tensors[-1]


class Scaled(Candidate):
    """A kernel whose arrays hold the factors of the batch normalization behind it.

    The arrays are stored as they were, and multiplied on loading.

    Args:
        first: The `Candidate` for the layer before it, one with `factors` and `multiplied`.
        norm: A `Norm`.
        bias: float32 array of shape `(outputs,)`, the layer's and the norm's.
        like: Optional `Scaled` of another kernel with the same arrays.
    """

    def __init__(self, first, norm, bias, like=None):
        self._first, self.name, self.is_static = first, first.name, first.is_static
        self._factors = [*first.factors(np.float32(norm.factor)), None]
        if like is not None:
            self.arrays = like.arrays
            return
        arrays = [*first.arrays, bias]
        self.arrays = [a if f is None else a * f for a, f in zip(arrays, self._factors)]

    def add_to(self, weights, owner=None):
        for number, array in enumerate(self.arrays):
            factor, key = self._factors[number], (id(owner or self), number)
            if factor is None:
                weights.add_array(key, self.symbol, array)
            else:
                stored = self._first.arrays[number]
                weights.add_product(key, self.symbol, stored, factor)

    def compute(self, inputs, tensors):
        return tf.nn.bias_add(self._first.multiplied(inputs, tensors[:-1]), tensors[-1])


def behind(firsts, norm, folded):
    """A batch normalization behind each of some kernels, part of it if it can be.

    Args:
        firsts: List of `Candidate` for the layer before it.
        norm: A `Norm`.
        folded: The `Folded` of both.
    """
    found, scaled = [], {}
    for first in firsts:
        if first.factors is None:
            found.append(Behind(first, norm))
            continue
        place = id(first.arrays)
        found.append(Scaled(first, norm, folded.arrays[1], scaled.get(place)))
        scaled[place] = found[-1]
    return found


class Folded(Candidate):
    """A product whose kernel and bias are those of the batch normalization behind it.

    The kernel is stored as it was, and multiplied on loading, so that one of few values, or with
    many zeros, remains small.

    Args:
        layer: The layer that multiplies.
        norm: A `Norm`.
        final: The model's `FinalWeights`.

    Attributes:
        layer: As given.

    Raises:
        Unsuited: If it cannot be.
    """

    name = "norm folded"
    is_never_slower = True

    def __init__(self, layer, norm, final):
        self._variable = _kernel_of(layer)
        self._channels_first = getattr(layer, "data_format", None) == "channels_first"
        if norm.axis != (1 if self._channels_first else norm.rank - 1):
            raise Unsuited("it is along another axis than the channels before it")
        self.layer, self._final = layer, final
        self.stored = final.value(self._variable)
        self.factor = np.float32(_per_output(layer, norm.factor, self.stored.shape))
        bias = final.value(layer.bias) * norm.factor if layer.use_bias else 0
        self.arrays = [self.stored * self.factor, np.float32(bias + norm.shift)]

    def add_to(self, weights, owner=None):
        variable, key = self._variable, id(owner or self)
        weights.add_product((key, 0), variable.path, self.stored, self.factor)
        weights.add_array((key, 1), self.symbol, self.arrays[1])

    def compute(self, inputs, tensors):
        kernel, bias = tensors
        values = {id(self._variable): kernel}
        if self.layer.use_bias:
            values[id(self.layer.bias)] = bias
        with intercepting(None), self._final.scope(), Substitution(values):
            outputs = self.layer(inputs, training=False)
        return outputs if self.layer.use_bias else self.moved(outputs, bias)

    def moved(self, outputs, bias):
        """Outputs with the bias added."""
        return tf.nn.bias_add(outputs, bias, "NC..." if self._channels_first else "N...C")


def _kernel_of(layer):
    """The variable whose last product a layer adds its bias to."""
    kind = next((kind for kind in _PRODUCTS if isinstance(layer, kind)), None)
    if kind is None:
        raise Unsuited("what comes before it multiplies by no kernel")
    reason = why_not_plain(layer)
    is_known = type(layer).__module__.split(".")[0] in ("keras", "tfcomp")
    if reason is None and not (is_known and type(layer).call in (kind.call, QuantizedMixin.call)):
        # It may do anything with its kernel.
        reason = "its layer computes by code of its own"
    if reason is None and getattr(layer, "input_quantizer", None) is not None:
        reason = "its layer quantizes its inputs"
    if reason is None and layer.activation not in (None, keras.activations.linear):
        reason = "its layer has an activation"
    if reason is None and layer.compute_dtype != "float32":
        reason = f"its layer computes in {layer.compute_dtype}"
    kernel = _stored(layer)
    if reason is None and kernel is None:
        reason = "its kernel is computed from other weights"
    if reason is not None:
        raise Unsuited(f"of {layer.path!r} before it: {reason}")
    return kernel


def _stored(layer):
    if isinstance(layer, DecodedKernel):
        # Keras has one of its parts for the kernel.
        return None
    if isinstance(layer, _SEPARABLE):
        return layer.pointwise_kernel
    if isinstance(layer, (*_DEPTHWISE, *_TRANSPOSED)):
        return layer.kernel
    return stored_kernel(layer)


def _per_output(layer, factor, shape):
    """The factor of each output in the shape in which the kernel is multiplied by it."""
    if isinstance(layer, _DEPTHWISE):
        return factor.reshape(shape[-2:])
    return factor[:, None] if isinstance(layer, _TRANSPOSED) else factor
