"""Layers with binary weights and inputs.

Itay Hubara, Matthieu Courbariaux et al., "Binarized Neural Networks", arXiv:1602.02830. With
`scale=True` the weights are XNOR-Net's, and with `input_scale=True` the inputs, too; its
Binary-Weight-Networks are `scale=True` with `input_quantizer=None`: Mohammad Rastegari et al.,
arXiv:1603.05279.
"""

import keras

from tfcomp.layers import quantized
from tfcomp.layers.constraints import WeightClip
from tfcomp.methods.binary.input_scale import ConvInputScale, DenseInputScale, DepthwiseInputScale
from tfcomp.quantizers import Binary
from tfcomp.validation import invalid


class _BinaryMixin:
    """Gives a quantized layer the defaults of a binary network.

    Kernels become ±1 (±α with `scale`), and inputs ±1. Latent weights are clipped to [-1, 1]. The
    first layer of a network takes real inputs: `input_quantizer=None`. Put batch normalization
    before the next binary layer, and pooling before that.
    """

    def __init__(self, *args, scale=False, input_quantizer="binary", input_scale=False, **kwargs):
        for argument in self.quantized_weights.values():
            quantizer = kwargs.setdefault(argument, "binary")
            if quantizer == "binary":
                kwargs[argument] = Binary(scale=scale)
            elif scale:
                raise invalid("scale", scale, f"False where `{argument}` is given")
            kwargs.setdefault(argument.replace("quantizer", "constraint"), WeightClip(1.0))
        super().__init__(*args, input_quantizer=input_quantizer, **kwargs)
        self.input_scale = bool(input_scale)
        if self.input_scale and getattr(self.input_quantizer, "levels", None) != (-1.0, 1.0):
            raise invalid(
                "input_scale",
                input_scale,
                f"False where `input_quantizer` does not give ±1, as {self.input_quantizer!r}",
            )

    @property
    def scale(self):
        """Whether weights are multiplied by their mean magnitude."""
        return any(
            getattr(getattr(self, a), "scale", False) for a in self.quantized_weights.values()
        )

    def get_config(self):
        return {**super().get_config(), "input_scale": self.input_scale}


class _BinaryConvMixin(_BinaryMixin):
    def __init__(self, *args, pad_value=1, **kwargs):
        super().__init__(*args, pad_value=pad_value, **kwargs)


class _BinarySeparableMixin(_BinaryConvMixin):
    def __init__(self, *args, input_scale=False, **kwargs):
        if input_scale:
            raise invalid(
                "input_scale",
                input_scale,
                "False in a separable convolution: its pointwise part sums over channels whose "
                "scales differ, so no scale of the outputs stands for them. Use a "
                "BinaryDepthwiseConv2D and a BinaryConv2D of size 1, which has binary inputs",
            )
        super().__init__(*args, **kwargs)


def _serializable(cls):
    base = next(b for b in cls.__mro__ if b.__module__.startswith("keras."))
    padded = (
        "        pad_value: What `padding='same'` pads with, ±1; zero is not a binary value.\n"
        if issubclass(cls, _BinaryConvMixin)
        else ""
    )
    scaled = (
        "`True` multiplies the outputs, before the bias, by the mean magnitude of their inputs."
    )
    if issubclass(cls, _BinarySeparableMixin):
        scaled = "`False`: there is no such scale for the two products together."
    cls.__doc__ = f"""`keras.layers.{base.__name__}` with binary weights and inputs.

    The first layer of a network takes real inputs: give it `input_quantizer=None`.

    Args:
        *args, **kwargs: Those of `keras.layers.{base.__name__}`. Kernel constraints default to
            `tfcomp.layers.WeightClip(1.0)`.
        scale: `True` multiplies the weights of an output channel by their mean magnitude.
        input_quantizer: Quantizer of the inputs, `"binary"` by default.
        input_scale: {scaled}
        {", ".join(cls.quantized_weights.values())}: `"binary"` by default; a
            `tfcomp.quantizers.Binary` with its arguments takes the place of `scale`.
{padded}
    Reference:
        Hubara, Courbariaux et al., "Binarized Neural Networks", arXiv:1602.02830;
        Rastegari et al., "XNOR-Net", arXiv:1603.05279.
    """
    return keras.saving.register_keras_serializable("tfcomp")(cls)


@_serializable
class BinaryDense(DenseInputScale, _BinaryMixin, quantized.QuantizedDense):
    pass


@_serializable
class BinaryConv1D(ConvInputScale, _BinaryConvMixin, quantized.QuantizedConv1D):
    pass


@_serializable
class BinaryConv2D(ConvInputScale, _BinaryConvMixin, quantized.QuantizedConv2D):
    pass


@_serializable
class BinaryConv3D(ConvInputScale, _BinaryConvMixin, quantized.QuantizedConv3D):
    pass


@_serializable
class BinaryDepthwiseConv2D(
    DepthwiseInputScale, _BinaryConvMixin, quantized.QuantizedDepthwiseConv2D
):
    pass


@_serializable
class BinarySeparableConv2D(_BinarySeparableMixin, quantized.QuantizedSeparableConv2D):
    pass
