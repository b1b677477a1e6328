"""Keras's own layers with quantized weights and inputs.

Each layer here is the Keras layer of the same name plus an argument for every kernel it has and one
for its inputs; with all of them `None` it is exactly the Keras layer. What is trained and saved are
the latent weights; the forward pass reads their quantized values.

Strings, `tfcomp.quantizers` objects and plain callables serve as quantizers. Strings are shortest,
objects take arguments, and callables cannot be saved unless they are registered with Keras.
"""

import contextlib
import warnings

import keras

# Keras casts a variable to the compute dtype wherever it is read inside a layer's `call`. In half
# precision a small weight becomes zero and loses its sign, so quantizers need the variable as it is
# stored, which only this private scope gives.
from keras.src.backend import AutocastScope

from tfcomp import quantizers
from tfcomp.layers.padding import pad_widths
from tfcomp.quantizers.base import are_weights_as_stored


class QuantizedMixin:
    """Quantizes the weights and inputs of the Keras layer it is mixed into.

    Subclasses name their weights in `quantized_weights`, a dict from variable name to the name of
    the argument, and say in `output_axes` along which axes a kernel's output channels lie.
    """

    quantized_weights = {"kernel": "kernel_quantizer"}
    output_axes = {"kernel": (-1,)}

    def __init__(self, *args, input_quantizer=None, **kwargs):
        chosen = {name: kwargs.pop(name, None) for name in self.quantized_weights.values()}
        super().__init__(*args, **kwargs)
        self.input_quantizer = quantizers.get(input_quantizer)
        for name, identifier in chosen.items():
            quantizer = quantizers.get(identifier)
            setattr(self, name, quantizer)
            self._warn_if_unclipped(name.replace("quantizer", "constraint"), quantizer)

    def _warn_if_unclipped(self, constraint, quantizer):
        clip = getattr(quantizer, "clip_value", None)
        if clip is not None and getattr(self, constraint, None) is None:
            warnings.warn(
                f"Layer {self.name!r}: a latent weight beyond ±{clip} gets no gradient from "
                f"{quantizer} and never comes back. Keep it inside with "
                f"`{constraint}=tfcomp.layers.WeightClip({clip})`.",
                stacklevel=4,
            )

    @property
    def weight_quantizers(self):
        """The `(variable, quantizer)` pairs of the weights this layer quantizes in `call`."""
        pairs = []
        for variable in self.variables if self.built else ():
            argument = self.quantized_weights.get(variable.name)
            quantizer = getattr(self, argument) if argument else None
            if quantizer is not None:
                if isinstance(quantizer, quantizers.Quantizer):
                    quantizer = quantizer.for_kernel(self._output_axes(variable.name))
                pairs.append((variable, quantizer))
        return pairs

    def _output_axes(self, name):
        return self.output_axes[name]

    @contextlib.contextmanager
    def _reading_quantized(self):
        pairs = [] if are_weights_as_stored() else self.weight_quantizers
        if not pairs:
            yield
            return
        values = {id(variable): variable.value for variable in self.variables}
        with AutocastScope(None):
            values.update({id(v): quantizer(v.value) for v, quantizer in pairs})
        mapping = [(variable, values[id(variable)]) for variable in self.variables]
        with keras.StatelessScope(mapping) as scope:
            before = [scope.get_current_value(variable) for variable in self.variables]
            yield
            after = [scope.get_current_value(variable) for variable in self.variables]
        # Whatever else the call changed, such as the statistics of a layer used as activation.
        for variable, old, new in zip(self.variables, before, after):
            if new is not old:
                variable.assign(new)

    def call(self, inputs):
        if self.input_quantizer is not None:
            inputs = self.input_quantizer(inputs)
        with self._reading_quantized():
            return self._keras_call(inputs)

    def _keras_call(self, inputs):
        return super().call(inputs)

    def get_config(self):
        config = super().get_config()
        for name in ("input_quantizer", *self.quantized_weights.values()):
            config[name] = quantizers.serialize(getattr(self, name))
        return config


class _PaddedMixin(QuantizedMixin):
    """Adds `pad_value` to a convolution."""

    def __init__(self, *args, pad_value=0, **kwargs):
        super().__init__(*args, **kwargs)
        self.pad_value = pad_value

    def build(self, input_shape):
        super().build(input_shape)
        if self._pads_itself():
            pad_widths(self, input_shape)

    def _pads_itself(self):
        return self.pad_value != 0 and self.padding != "valid"

    def convolution_op(self, inputs, kernel):
        if not self._pads_itself():
            return super().convolution_op(inputs, kernel)
        return keras.ops.conv(
            keras.ops.pad(inputs, pad_widths(self, inputs.shape), constant_values=self.pad_value),
            kernel,
            strides=list(self.strides),
            padding="valid",
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )

    def get_config(self):
        return {**super().get_config(), "pad_value": self.pad_value}


def _serializable(cls):
    base = next(b for b in cls.__mro__ if b.__module__.startswith("keras."))
    weights = "\n".join(
        f"        {argument}: Quantizer of the {name.replace('_', ' ')}; `None` for none."
        for name, argument in cls.quantized_weights.items()
    )
    padded = (
        "        pad_value: What `padding='same'` and `'causal'` pad quantized inputs with; a\n"
        "            binary input has no zero, so 1 or -1 suits it.\n"
        if issubclass(cls, _PaddedMixin)
        else ""
    )
    cls.__doc__ = f"""`keras.layers.{base.__name__}` with quantized weights and inputs.

    Args:
        *args, **kwargs: Those of `keras.layers.{base.__name__}`.
        input_quantizer: Quantizer of the inputs; `None` for none.
{weights}
{padded}    """
    return keras.saving.register_keras_serializable("tfcomp")(cls)


@_serializable
class QuantizedDense(QuantizedMixin, keras.layers.Dense):
    pass


@_serializable
class QuantizedEinsumDense(QuantizedMixin, keras.layers.EinsumDense):
    def _output_axes(self, name):
        _, kernel = self.equation.split("->")[0].split(",")
        output = self.equation.split("->")[1]
        kernel = kernel.replace("...", "").strip()
        return tuple(i - len(kernel) for i, label in enumerate(kernel) if label in output)


@_serializable
class QuantizedConv1D(_PaddedMixin, keras.layers.Conv1D):
    def _keras_call(self, inputs):
        if self._pads_itself():
            # Conv1D pads in a `call` of its own; the one of all convolutions leaves it to
            # `convolution_op`.
            return super(keras.layers.Conv1D, self).call(inputs)
        return super()._keras_call(inputs)


@_serializable
class QuantizedConv2D(_PaddedMixin, keras.layers.Conv2D):
    pass


@_serializable
class QuantizedConv3D(_PaddedMixin, keras.layers.Conv3D):
    pass


class _TransposeMixin(QuantizedMixin):
    output_axes = {"kernel": (-2,)}


@_serializable
class QuantizedConv1DTranspose(_TransposeMixin, keras.layers.Conv1DTranspose):
    pass


@_serializable
class QuantizedConv2DTranspose(_TransposeMixin, keras.layers.Conv2DTranspose):
    pass


@_serializable
class QuantizedConv3DTranspose(_TransposeMixin, keras.layers.Conv3DTranspose):
    pass


class _DepthwiseMixin(QuantizedMixin):
    quantized_weights = {"kernel": "depthwise_quantizer"}
    output_axes = {"kernel": (-2, -1)}


@_serializable
class QuantizedDepthwiseConv1D(_DepthwiseMixin, keras.layers.DepthwiseConv1D):
    pass


@_serializable
class QuantizedDepthwiseConv2D(_DepthwiseMixin, keras.layers.DepthwiseConv2D):
    pass


class _SeparableMixin(QuantizedMixin):
    quantized_weights = {
        "depthwise_kernel": "depthwise_quantizer",
        "pointwise_kernel": "pointwise_quantizer",
    }
    output_axes = {"depthwise_kernel": (-2, -1), "pointwise_kernel": (-1,)}


@_serializable
class QuantizedSeparableConv1D(_SeparableMixin, keras.layers.SeparableConv1D):
    pass


@_serializable
class QuantizedSeparableConv2D(_SeparableMixin, keras.layers.SeparableConv2D):
    pass
