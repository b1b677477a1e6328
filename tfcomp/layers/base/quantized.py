"""What quantizes the weights and inputs of the Keras layer it is mixed into."""

import functools
import warnings

import keras

from tfcomp.layers.base.arguments import NamedArguments
from tfcomp.layers.base.in_call import ReadInCall, apply_as_stored, in_call, training_in_call
from tfcomp.layers.base.padding import pad_widths
from tfcomp.layers.base.quantized_weight import QuantizedWeight
from tfcomp.layers.base.random_source import RandomSource
from tfcomp.layers.base.without_latent import WithoutLatent
from tfcomp.quantizers.base import Quantizer, are_weights_as_stored, get, serialize
from tfcomp.validation import check_number


def _quantized(layer, name, stored):
    if layer.is_quantized:
        layer.check_frozen(stored())
        return stored()
    quantizer = layer.quantizer_of(name)
    if quantizer is None or (are_weights_as_stored() and not layer.has_lora):
        return stored()
    return apply_as_stored(
        layer.drawing(layer.quantized_weights[name], quantizer, training_in_call()), stored
    )


def _source_name(name):
    return name.replace("quantizer", "random_source")


def _scales_of(weight):
    return f"{weight}_trained_scales"


def by_name(layer, argument, name, made):
    """Config of a layer's quantizer: its name alone, where it is the one other arguments make."""
    quantizer = getattr(layer, argument)
    same = type(quantizer) is type(made) and quantizer.get_config() == made.get_config()
    return name if same else serialize(quantizer)


class QuantizedMixin(WithoutLatent, NamedArguments):
    """Quantizes the weights and inputs of the Keras layer it is mixed into.

    Subclasses name their weights in `quantized_weights`, a dict from attribute to the name of the
    argument, read each through `ReadInCall(_quantized)`, show it from outside as
    `QuantizedWeight(name)`, and say in `output_axes` along which axes a kernel's output channels
    lie.
    """

    quantized_weights = {}
    output_axes = {}

    def __init__(self, *args, **kwargs):
        chosen = {name: kwargs.pop(name) for name in self._quantizer_arguments}
        super().__init__(*args, **kwargs)
        for name, identifier in chosen.items():
            quantizer = get(identifier, name)
            setattr(self, name, quantizer)
            if getattr(quantizer, "stochastic", False):
                source = RandomSource(quantizer.seed, name=_source_name(name))
                setattr(self, _source_name(name), source)
            self._warn_if_unclipped(name.replace("quantizer", "constraint"), quantizer)
        for weight, name in self.quantized_weights.items():
            if isinstance(getattr(self, name), Quantizer):
                scales = getattr(self, name).make_scales(
                    functools.partial(getattr, self, weight),
                    name=_scales_of(weight),
                    dtype=self.dtype_policy,
                )
                if scales is not None:
                    setattr(self, scales.name, scales)

    @property
    def _quantizer_arguments(self):
        return (*self.quantized_weights.values(), "input_quantizer")

    def build(self, input_shape):
        super().build(input_shape)
        for weight in self.quantized_weights:
            if hasattr(self, _scales_of(weight)):
                getattr(self, _scales_of(weight)).build()

    def _warn_if_unclipped(self, constraint, quantizer):
        clip = getattr(quantizer, "clip_value", None)
        if clip is not None and getattr(self, constraint, 0) is None:
            warnings.warn(
                f"Layer {self.name!r}: a latent weight beyond ±{clip} gets no gradient from "
                f"{quantizer} and never comes back. Keep it inside with "
                f"`{constraint}=tfcomp.layers.WeightClip({clip})`.",
                stacklevel=4,
            )

    def quantizer_of(self, name):
        """The quantizer of the weight called `name`, with the axes of its scales; or `None`."""
        if hasattr(self, _scales_of(name)):
            return getattr(self, _scales_of(name)).bind()
        quantizer = getattr(self, self.quantized_weights[name])
        if isinstance(quantizer, Quantizer):
            quantizer = quantizer.for_kernel(self._output_axes(name))
        return quantizer

    def _output_axes(self, name):
        return self.output_axes[name]

    @property
    def has_lora(self):
        """Whether LoRA is enabled; what is quantized then is the sum that Keras saves."""
        return getattr(self, "lora_enabled", False)

    @property
    def weight_quantizers(self):
        """The `(variable, quantizer)` pairs of the weights this layer quantizes in `call`.

        Empty under LoRA, where no single variable holds what is quantized: save and load first.
        """
        if not self.built or self.has_lora:
            return []
        pairs = [(getattr(self, name), self.quantizer_of(name)) for name in self.quantized_weights]
        return [(v, self.quantizer_or_as_stored(q)) for v, q in pairs if q is not None]

    def quantized_weight(self, name):
        """The weight called `name` as inference uses it, LoRA's part included."""
        with in_call(self):
            return keras.ops.convert_to_tensor(getattr(self, name))

    def drawing(self, name, quantizer, training):
        """The quantizer, which was given as `name`, with what it draws from in training."""
        source = getattr(self, _source_name(name), None) if training else None
        if source is None:
            return quantizer
        return functools.partial(quantizer, seed_generator=source.generator)

    def _prepare(self, inputs, training):
        if self.input_quantizer is None:
            return inputs
        return self.drawing("input_quantizer", self.input_quantizer, training)(inputs)

    def call(self, inputs, training=None):
        inputs = self._prepare(inputs, training)
        with in_call(self, training):
            return super().call(inputs)

    def get_config(self):
        chosen = {name: serialize(getattr(self, name)) for name in self._quantizer_arguments}
        return {**super().get_config(), **chosen}


class KernelMixin(QuantizedMixin):
    """Quantizes the one kernel of a layer."""

    quantized_weights = {"kernel": "kernel_quantizer"}
    output_axes = {"kernel": (-1,)}
    kernel = ReadInCall(_quantized)
    quantized_kernel = QuantizedWeight("kernel")

    def __init__(self, *args, kernel_quantizer=None, input_quantizer=None, **kwargs):
        super().__init__(
            *args, kernel_quantizer=kernel_quantizer, input_quantizer=input_quantizer, **kwargs
        )


class PadValueMixin(QuantizedMixin):
    """Adds `pad_value` to a convolution."""

    def __init__(self, *args, pad_value=0, **kwargs):
        super().__init__(*args, **kwargs)
        check_number("pad_value", pad_value)
        self.pad_value = pad_value

    def get_config(self):
        return {**super().get_config(), "pad_value": self.pad_value}


def _padding(layer, name, stored):
    return "valid" if layer.pad_value != 0 else stored()


class PaddedMixin(PadValueMixin):
    """Pads the inputs before Keras's call, with no rest for that."""

    padding = ReadInCall(_padding)

    def _prepare(self, inputs, training):
        inputs = super()._prepare(inputs, training)
        if self.pad_value == 0 or self.padding == "valid":
            return inputs
        widths = pad_widths(self, keras.ops.shape(inputs))
        return keras.ops.pad(inputs, widths, constant_values=self.pad_value)


class BorderMixin(PadValueMixin):
    """Pads by itself in layers with a `convolution_op`.

    In training, what lies outside is added to the outputs: Keras's padding with zeros costs
    nothing, and the share of the border is the same for all samples, so it is the convolution of
    one image, zero but for its border. Inference may be of one image, and pads it.
    """

    def convolution_op(self, inputs, kernel):
        if self.pad_value == 0 or self.padding != "same":
            return super().convolution_op(inputs, kernel)
        if not training_in_call():
            return self._padded_convolution(inputs, kernel)
        empty = keras.ops.zeros([1, *keras.ops.shape(inputs)[1:]], inputs.dtype)
        border = self._padded_convolution(empty, kernel)
        return super().convolution_op(inputs, kernel) + border

    def _padded_convolution(self, inputs, kernel):
        widths = pad_widths(self, keras.ops.shape(inputs))
        return keras.ops.conv(
            keras.ops.pad(inputs, widths, constant_values=self.pad_value),
            kernel,
            strides=list(self.strides),
            padding="valid",
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )


class TransposeMixin(KernelMixin):
    """Quantizes the kernel of a transposed convolution."""

    output_axes = {"kernel": (-2,)}


class DepthwiseMixin(QuantizedMixin):
    """Quantizes the kernel of a depthwise convolution."""

    quantized_weights = {"kernel": "depthwise_quantizer"}
    output_axes = {"kernel": (-2, -1)}
    kernel = ReadInCall(_quantized)
    quantized_kernel = QuantizedWeight("kernel")

    def __init__(self, *args, depthwise_quantizer=None, input_quantizer=None, **kwargs):
        super().__init__(
            *args,
            depthwise_quantizer=depthwise_quantizer,
            input_quantizer=input_quantizer,
            **kwargs,
        )


class SeparableMixin(QuantizedMixin):
    """Quantizes both kernels of a separable convolution."""

    quantized_weights = {
        "depthwise_kernel": "depthwise_quantizer",
        "pointwise_kernel": "pointwise_quantizer",
    }
    output_axes = {"depthwise_kernel": (-2, -1), "pointwise_kernel": (-1,)}
    depthwise_kernel = ReadInCall(_quantized)
    pointwise_kernel = ReadInCall(_quantized)
    quantized_depthwise_kernel = QuantizedWeight("depthwise_kernel")
    quantized_pointwise_kernel = QuantizedWeight("pointwise_kernel")

    def __init__(
        self,
        *args,
        depthwise_quantizer=None,
        pointwise_quantizer=None,
        input_quantizer=None,
        **kwargs,
    ):
        super().__init__(
            *args,
            depthwise_quantizer=depthwise_quantizer,
            pointwise_quantizer=pointwise_quantizer,
            input_quantizer=input_quantizer,
            **kwargs,
        )
