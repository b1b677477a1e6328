"""What a quantizer is, and how it is named, saved and found again."""

import contextlib
import contextvars

import keras

from tfcomp.config import Configured
from tfcomp.validation import check_integer, invalid


class Quantizer(Configured):
    """Maps a tensor to few values; its gradient is one that it is trained by.

    Subclasses define `quantize(inputs)`, most easily by `with_gradient`.

    Attributes:
        bits: Bits that tell the levels apart, without scales, or `None` where it is not known.
        levels: Tuple of the values, ascending, or `None` where they are scaled or not known.
        axis: Axes with one scale for each of their positions, or `None` for one scale in all.
        stochastic: Whether it is random in training. A layer that holds such a quantizer keeps a
            seed generator for it; without one, the quantizer is deterministic.
    """

    bits = None
    levels = None
    axis = None
    stochastic = False

    def __call__(self, inputs, seed_generator=None):
        # TensorFlow takes a Keras variable for a tensor, but cannot differentiate a function of it.
        inputs = inputs.value if isinstance(inputs, keras.Variable) else inputs
        inputs = keras.ops.convert_to_tensor(inputs)
        if hasattr(inputs, "assign"):
            # So is TensorFlow's own variable, which lacks some attributes of a tensor.
            inputs = keras.ops.reshape(inputs, inputs.shape)
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        if not keras.backend.is_float_dtype(dtype):
            raise ValueError(
                f"Invalid value for argument `inputs` of {type(self).__name__}. Expected a "
                f"floating point tensor. Received: dtype {dtype}"
            )
        return (
            self.quantize(inputs) if seed_generator is None else self.draw(inputs, seed_generator)
        )

    def quantize(self, inputs):
        """Returns the quantized tensor, of the same shape and dtype."""
        raise NotImplementedError

    def draw(self, inputs, seed_generator):
        """Returns a random one, where the quantizer is stochastic."""
        raise NotImplementedError

    def for_kernel(self, axis):
        """Returns the quantizer for a kernel whose output channels lie along `axis`.

        Args:
            axis: Tuple of axes, negative.
        """
        return self

    def make_scales(self, weight, **kwargs):
        """Returns what holds the scales that are trained for one weight of a layer, or `None`.

        A quantizer with trained scales returns a part of the layer: a `keras.layers.Layer` with the
        attribute `is_part`, `bind()`, which returns the quantizer with these scales,
        and `fit_to_weight()`, which sets them to the best ones for the weight as it is.

        Args:
            weight: Function that returns the latent weight.
            **kwargs: Those of `keras.layers.Layer` for the part.
        """
        return None


class AsStored(Quantizer):
    """Leaves weights as they are, which another quantizer has quantized.

    Args:
        quantizer: The other one, any callable.
    """

    def __init__(self, quantizer):
        self.bits = getattr(quantizer, "bits", None)
        self.levels = getattr(quantizer, "levels", None)
        self.axis = getattr(quantizer, "axis", None)

    def quantize(self, inputs):
        return inputs


def with_gradient(inputs, levels, gradient):
    """Returns `levels(inputs)`, differentiated as `gradient` says.

    Both are computed in single precision or higher: sums, counts and large powers of two leave the
    range of half precision.

    Args:
        inputs: Tensor.
        levels: Function from a tensor to its quantized values, exact to the last bit.
        gradient: Function of inputs and upstream gradient to the gradient of the inputs.
    """
    if _WITHOUT_GRADIENTS.get():
        return keras.ops.cast(levels(widened(inputs)), inputs.dtype)

    @keras.ops.custom_gradient
    def quantized(x):
        def grad(*args, upstream=None):
            # Some backends pass the upstream gradient by position, others by name.
            upstream = args[0] if upstream is None else upstream
            return keras.ops.cast(gradient(widened(x), widened(upstream)), x.dtype)

        return keras.ops.cast(levels(widened(x)), x.dtype), grad

    return quantized(inputs)


def widened(inputs):
    """A tensor of half precision in single precision, any other as it is."""
    half = keras.backend.standardize_dtype(inputs.dtype) in ("float16", "bfloat16")
    return keras.ops.cast(inputs, "float32") if half else inputs


def check_bits(bits, name="bits"):
    """Returns `bits`, an argument called `name`, if it is an integer from 1 to 8, or 32."""
    bits = check_integer(name, bits, 1, 32)
    if 8 < bits < 32:
        raise invalid(name, bits, "an integer from 1 to 8, or 32")
    return bits


_KNOWN = {}


def register(name):
    """Class decorator: makes a quantizer serializable, and known under a short name."""

    def decorate(cls):
        _KNOWN[name] = cls
        return keras.saving.register_keras_serializable("tfcomp")(cls)

    return decorate


def alias(name, make):
    """Makes the quantizers that `make()` returns known under a short name."""
    _KNOWN[name] = make


def get(identifier, name="identifier"):
    """Returns a quantizer from a name, a config, a quantizer or any callable.

    Args:
        identifier: `None`, a name such as `"binary"`, a `Quantizer`, a config dict as `serialize`
            makes it, or a callable from tensor to tensor.
        name: Name of the argument, for the error message.

    Raises:
        ValueError: If it is none of these.

    Example:

    >>> import tfcomp
    >>> tfcomp.quantizers.get("ternary")
    Ternary(threshold=0.7, scale=True, per_channel=False, delta=None, clip_value=None)
    """
    if identifier is None or isinstance(identifier, Quantizer):
        return identifier
    if isinstance(identifier, dict) and identifier:
        return keras.saving.deserialize_keras_object(identifier)
    if isinstance(identifier, str) and identifier in _KNOWN:
        return _KNOWN[identifier]()
    if callable(identifier) and not isinstance(identifier, type):
        return identifier
    raise invalid(
        name,
        identifier,
        f"a quantizer, a callable, or one of the names {sorted(_KNOWN)}",
    )


def applied(quantizer, inputs):
    """Returns `quantizer(inputs)`, whoever wrote the quantizer.

    Raises:
        ValueError: If its shape is not that of `inputs`.
    """
    outputs = quantizer(inputs)
    if tuple(outputs.shape) != tuple(inputs.shape):
        raise invalid("quantizer", quantizer, f"a function that keeps a shape of {inputs.shape}")
    return outputs


def serialize(quantizer):
    """Returns the config dict of a quantizer, or `None`."""
    return None if quantizer is None else keras.saving.serialize_keras_object(quantizer)


def deserialize(config, custom_objects=None):
    """Makes the quantizer from what `serialize` returned."""
    return keras.saving.deserialize_keras_object(config, custom_objects=custom_objects)


_WITHOUT_GRADIENTS = contextvars.ContextVar("tfcomp_without_gradients", default=False)


@contextlib.contextmanager
def without_gradients():
    """Context in which quantizers compute their levels alone, by plain operations.

    For code that traces a model for inference: tracers of PyTorch refuse functions whose gradients
    are their own, and what others make of them is a function in the graph for every call.
    """
    token = _WITHOUT_GRADIENTS.set(True)
    try:
        yield
    finally:
        _WITHOUT_GRADIENTS.reset(token)


_AS_STORED = contextvars.ContextVar("tfcomp_weights_as_stored", default=False)


@contextlib.contextmanager
def weights_as_stored():
    """Context in which quantized layers use their stored weights as they are.

    For code that has put quantized weights in the place of the latent ones, such as an exporter.
    """
    token = _AS_STORED.set(True)
    try:
        yield
    finally:
        _AS_STORED.reset(token)


def are_weights_as_stored():
    """Whether the caller is inside `weights_as_stored`."""
    return _AS_STORED.get()
