"""Layers with binary weights and inputs.

Itay Hubara, Matthieu Courbariaux et al., "Binarized Neural Networks", arXiv:1602.02830. With
`scale=True` the weights are XNOR-Net's, and with `input_scale=True` the inputs, too; its
Binary-Weight-Networks are `scale=True` with `input_quantizer=None`: Mohammad Rastegari et al.,
arXiv:1603.05279.
"""

import keras

from tfcomp.layers import quantized
from tfcomp.layers.base.quantized import by_name
from tfcomp.layers.constraints import WeightClip
from tfcomp.methods.binary.input_scale import ConvInputScale, DenseInputScale, DepthwiseInputScale
from tfcomp.methods.binary.quantizer import Binary
from tfcomp.quantizers.base import get
from tfcomp.validation import invalid

_CLIP = WeightClip(1.0)


class _BinaryMixin:
    """Gives a layer whose quantizers are `"binary"` scales of weights and of inputs."""

    def __init__(self, *args, scale=False, input_scale=False, **kwargs):
        for argument in self.quantized_weights.values():
            if kwargs[argument] == "binary":
                kwargs[argument] = Binary(scale=scale)
            kwargs[argument] = get(kwargs[argument], argument)
            if scale and not getattr(kwargs[argument], "scale", False):
                raise invalid("scale", scale, f"False, as `{argument}` has none")
        super().__init__(*args, **kwargs)
        self.input_scale = bool(input_scale)
        if self.input_scale and getattr(self.input_quantizer, "levels", None) != (-1.0, 1.0):
            raise invalid(
                "input_scale",
                input_scale,
                f"False where `input_quantizer` does not give ±1, as {self.input_quantizer!r}",
            )

    @property
    def scale(self):
        """Whether weights are multiplied by their mean magnitude, all of them."""
        weights = self.quantized_weights.values()
        found = {getattr(getattr(self, argument), "scale", False) for argument in weights}
        return found.pop() if len(found) == 1 else False

    def get_config(self):
        made = Binary(scale=self.scale)
        weights = self.quantized_weights.values()
        chosen = {argument: by_name(self, argument, "binary", made) for argument in weights}
        scales = {"scale": self.scale, "input_scale": self.input_scale}
        return {**super().get_config(), **chosen, **scales}


class _BinaryKernelMixin(_BinaryMixin):
    def __init__(
        self,
        *args,
        kernel_constraint=_CLIP,
        kernel_quantizer="binary",
        input_quantizer="binary",
        **kwargs,
    ):
        super().__init__(
            *args,
            kernel_constraint=kernel_constraint,
            kernel_quantizer=kernel_quantizer,
            input_quantizer=input_quantizer,
            **kwargs,
        )


class _BinaryConvMixin(ConvInputScale, _BinaryKernelMixin):
    def __init__(self, *args, pad_value=1, **kwargs):
        super().__init__(*args, pad_value=pad_value, **kwargs)


@keras.saving.register_keras_serializable("tfcomp")
class BinaryDense(DenseInputScale, _BinaryKernelMixin, quantized.QuantizedDense):
    """`keras.layers.Dense` with binary weights and inputs.

    Latent weights are clipped to [-1, 1] after every update. The first layer of a network takes
    real inputs: `input_quantizer=None`. Put batch normalization before the next binary layer.

    Args:
        kernel_quantizer: `"binary"`, or a quantizer with its own arguments, such as
            `tfcomp.quantizers.Binary(stochastic=True)`, which takes the place of `scale`.
        input_quantizer: Quantizer of the inputs; `None` for real ones.
        scale: `True` multiplies the weights of an output channel by their mean magnitude.
        input_scale: `True` multiplies the outputs, before the bias, by the mean magnitude of the
            sample's inputs.
        **kwargs: All other arguments, and the shapes of inputs and outputs, are those of
            `keras.layers.Dense`; `kernel_constraint=None` leaves latent weights unclipped.

    Raises:
        ValueError: If `scale` or `input_scale` contradicts a quantizer.

    Reference:
        Hubara, Courbariaux et al., "Binarized Neural Networks", arXiv:1602.02830;
        Rastegari et al., "XNOR-Net", arXiv:1603.05279.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> layer = tfcomp.layers.BinaryDense(1, kernel_initializer="ones", input_scale=True)
    >>> keras.ops.convert_to_numpy(layer(np.array([[0.5, -3.0, 1.0]]))).tolist()
    [[1.5]]
    """


@keras.saving.register_keras_serializable("tfcomp")
class BinaryConv2D(_BinaryConvMixin, quantized.QuantizedConv2D):
    """`keras.layers.Conv2D` with binary weights and inputs.

    Latent weights are clipped to [-1, 1] after every update. The first layer of a network takes
    real inputs: `input_quantizer=None`. Put batch normalization before the next binary layer, and
    pooling before that.

    Args:
        kernel_quantizer: `"binary"`, or a quantizer with its own arguments, such as
            `tfcomp.quantizers.Binary(stochastic=True)`, which takes the place of `scale`.
        input_quantizer: Quantizer of the inputs; `None` for real ones.
        pad_value: What `padding="same"` pads with, ±1; zero is not a binary value.
        scale: `True` multiplies the weights of a filter by their mean magnitude.
        input_scale: `True` multiplies the outputs, before the bias, by the mean magnitude of the
            inputs under the filter: XNOR-Net's map K.
        **kwargs: All other arguments, and the shapes of inputs and outputs, are those of
            `keras.layers.Conv2D`; `kernel_constraint=None` leaves latent weights unclipped.

    Raises:
        ValueError: If `scale` or `input_scale` contradicts a quantizer.

    Reference:
        Hubara, Courbariaux et al., "Binarized Neural Networks", arXiv:1602.02830;
        Rastegari et al., "XNOR-Net", arXiv:1603.05279.

    Example:

    >>> import keras, tfcomp
    >>> layer = tfcomp.layers.BinaryConv2D(16, 3, padding="same", scale=True)
    >>> layer(keras.Input((8, 8, 4))).shape, layer.scale
    ((None, 8, 8, 16), True)
    """


@keras.saving.register_keras_serializable("tfcomp")
class BinaryConv1D(_BinaryConvMixin, quantized.QuantizedConv1D):
    """`keras.layers.Conv1D` with binary weights and inputs.

    `kernel_constraint`, `kernel_quantizer`, `input_quantizer`, `pad_value`, `scale` and
    `input_scale` are as in `BinaryConv2D`; all other arguments, and the shapes, as in
    `keras.layers.Conv1D`.
    """


@keras.saving.register_keras_serializable("tfcomp")
class BinaryConv3D(_BinaryConvMixin, quantized.QuantizedConv3D):
    """`keras.layers.Conv3D` with binary weights and inputs.

    `kernel_constraint`, `kernel_quantizer`, `input_quantizer`, `pad_value`, `scale` and
    `input_scale` are as in `BinaryConv2D`; all other arguments, and the shapes, as in
    `keras.layers.Conv3D`.
    """


@keras.saving.register_keras_serializable("tfcomp")
class BinaryDepthwiseConv2D(DepthwiseInputScale, _BinaryMixin, quantized.QuantizedDepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with binary weights and inputs.

    `depthwise_quantizer` and `depthwise_constraint` are as those of the kernel in `BinaryConv2D`,
    and `input_quantizer`, `pad_value`, `scale` and `input_scale` are as there, with a map K for
    each channel; all other arguments, and the shapes, as in `keras.layers.DepthwiseConv2D`.
    """

    def __init__(
        self,
        *args,
        depthwise_constraint=_CLIP,
        depthwise_quantizer="binary",
        input_quantizer="binary",
        pad_value=1,
        **kwargs,
    ):
        super().__init__(
            *args,
            depthwise_constraint=depthwise_constraint,
            depthwise_quantizer=depthwise_quantizer,
            input_quantizer=input_quantizer,
            pad_value=pad_value,
            **kwargs,
        )


@keras.saving.register_keras_serializable("tfcomp")
class BinarySeparableConv2D(_BinaryMixin, quantized.QuantizedSeparableConv2D):
    """`keras.layers.SeparableConv2D` with binary weights and inputs.

    `depthwise_quantizer`, `pointwise_quantizer`, `depthwise_constraint` and `pointwise_constraint`
    are as those of the kernel in `BinaryConv2D`, and `input_quantizer`, `pad_value` and `scale` are
    as there; `input_scale` can only be `False`, as there is no such scale for the two products
    together. All other arguments, and the shapes, are as in `keras.layers.SeparableConv2D`.
    """

    def __init__(
        self,
        *args,
        depthwise_constraint=_CLIP,
        pointwise_constraint=_CLIP,
        depthwise_quantizer="binary",
        pointwise_quantizer="binary",
        input_quantizer="binary",
        pad_value=1,
        input_scale=False,
        **kwargs,
    ):
        if input_scale:
            raise invalid(
                "input_scale",
                input_scale,
                "False in a separable convolution: its pointwise part sums over channels whose "
                "scales differ, so no scale of the outputs stands for them. Use a "
                "BinaryDepthwiseConv2D and a BinaryConv2D of size 1, which has binary inputs",
            )
        super().__init__(
            *args,
            depthwise_constraint=depthwise_constraint,
            pointwise_constraint=pointwise_constraint,
            depthwise_quantizer=depthwise_quantizer,
            pointwise_quantizer=pointwise_quantizer,
            input_quantizer=input_quantizer,
            pad_value=pad_value,
            **kwargs,
        )
