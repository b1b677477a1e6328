"""Keras's own layers with quantized weights and inputs.

Each layer here is the Keras layer of the same name plus an argument for every kernel it has and one
for its inputs; with all of them `None` it is exactly the Keras layer. What is trained and saved are
the latent weights; the forward pass reads their quantized values.

Strings, `tfcomp.quantizers` objects and plain callables serve as quantizers. Strings are shortest,
objects take arguments, and callables cannot be saved unless they are registered with Keras.
"""

import keras

from tfcomp.layers.base.quantized import (
    BorderMixin,
    DepthwiseMixin,
    KernelMixin,
    PaddedMixin,
    SeparableMixin,
    TransposeMixin,
)
from tfcomp.model.axes import einsum_output_axes


@keras.saving.register_keras_serializable("tfcomp")
class QuantizedDense(KernelMixin, keras.layers.Dense):
    """`keras.layers.Dense` with quantized weights and inputs.

    Args:
        kernel_quantizer: Quantizer of the kernel: a name such as `"ternary"`, an object of
            `tfcomp.quantizers`, any function from tensor to tensor, or `None` for none.
        input_quantizer: Quantizer of the inputs, given likewise.
        **kwargs: All other arguments, and the shapes of inputs and outputs, are those of
            `keras.layers.Dense`.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> layer = tfcomp.layers.QuantizedDense(16, kernel_quantizer="ternary", use_bias=False)
    >>> outputs = layer(np.eye(4, dtype="float32"))
    >>> len(np.unique(keras.ops.convert_to_numpy(outputs)))
    3
    """


@keras.saving.register_keras_serializable("tfcomp")
class QuantizedEinsumDense(KernelMixin, keras.layers.EinsumDense):
    """`keras.layers.EinsumDense` with quantized weights and inputs.

    Args:
        kernel_quantizer: Quantizer of the kernel: a name such as `"ternary"`, an object of
            `tfcomp.quantizers`, any function from tensor to tensor, or `None` for none.
        input_quantizer: Quantizer of the inputs, given likewise.
        **kwargs: All other arguments, and the shapes of inputs and outputs, are those of
            `keras.layers.EinsumDense`.
    """

    def _output_axes(self, name):
        return einsum_output_axes(self.equation)


@keras.saving.register_keras_serializable("tfcomp")
class QuantizedConv1D(PaddedMixin, KernelMixin, keras.layers.Conv1D):
    """`keras.layers.Conv1D` with quantized weights and inputs.

    `kernel_quantizer`, `input_quantizer` and `pad_value` are as in `QuantizedConv2D`; all other
    arguments, and the shapes, as in `keras.layers.Conv1D`.
    """


@keras.saving.register_keras_serializable("tfcomp")
class QuantizedConv2D(BorderMixin, KernelMixin, keras.layers.Conv2D):
    """`keras.layers.Conv2D` with quantized weights and inputs.

    Args:
        kernel_quantizer: Quantizer of the kernel: a name such as `"ternary"`, an object of
            `tfcomp.quantizers`, any function from tensor to tensor, or `None` for none.
        input_quantizer: Quantizer of the inputs, given likewise.
        pad_value: What `padding="same"` and `"causal"` pad quantized inputs with; a binary input
            has no zero, so 1 or -1 suits it.
        **kwargs: All other arguments, and the shapes of inputs and outputs, are those of
            `keras.layers.Conv2D`.

    Example:

    >>> import keras, tfcomp
    >>> layer = tfcomp.layers.QuantizedConv2D(8, 3, kernel_quantizer="ternary", pad_value=1)
    >>> layer(keras.Input((6, 6, 4))).shape
    (None, 4, 4, 8)
    """


@keras.saving.register_keras_serializable("tfcomp")
class QuantizedConv3D(BorderMixin, KernelMixin, keras.layers.Conv3D):
    """`keras.layers.Conv3D` with quantized weights and inputs.

    `kernel_quantizer`, `input_quantizer` and `pad_value` are as in `QuantizedConv2D`; all other
    arguments, and the shapes, as in `keras.layers.Conv3D`.
    """


@keras.saving.register_keras_serializable("tfcomp")
class QuantizedConv1DTranspose(TransposeMixin, keras.layers.Conv1DTranspose):
    """`keras.layers.Conv1DTranspose` with quantized weights and inputs.

    `kernel_quantizer` and `input_quantizer` are as in `QuantizedDense`; all other arguments,
    and the shapes, as in `keras.layers.Conv1DTranspose`.
    """


@keras.saving.register_keras_serializable("tfcomp")
class QuantizedConv2DTranspose(TransposeMixin, keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` with quantized weights and inputs.

    `kernel_quantizer` and `input_quantizer` are as in `QuantizedDense`; all other arguments,
    and the shapes, as in `keras.layers.Conv2DTranspose`.
    """


@keras.saving.register_keras_serializable("tfcomp")
class QuantizedConv3DTranspose(TransposeMixin, keras.layers.Conv3DTranspose):
    """`keras.layers.Conv3DTranspose` with quantized weights and inputs.

    `kernel_quantizer` and `input_quantizer` are as in `QuantizedDense`; all other arguments,
    and the shapes, as in `keras.layers.Conv3DTranspose`.
    """


@keras.saving.register_keras_serializable("tfcomp")
class QuantizedDepthwiseConv1D(PaddedMixin, DepthwiseMixin, keras.layers.DepthwiseConv1D):
    """`keras.layers.DepthwiseConv1D` with quantized weights and inputs.

    `depthwise_quantizer`, `input_quantizer` and `pad_value` are as in
    `QuantizedDepthwiseConv2D`; all other arguments, and the shapes, as in
    `keras.layers.DepthwiseConv1D`.
    """


@keras.saving.register_keras_serializable("tfcomp")
class QuantizedDepthwiseConv2D(PaddedMixin, DepthwiseMixin, keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with quantized weights and inputs.

    Args:
        depthwise_quantizer: Quantizer of the depthwise kernel: a name such as `"ternary"`, an
            object of `tfcomp.quantizers`, any function from tensor to tensor, or `None` for none.
        input_quantizer: Quantizer of the inputs, given likewise.
        pad_value: What `padding="same"` and `"causal"` pad quantized inputs with; a binary input
            has no zero, so 1 or -1 suits it.
        **kwargs: All other arguments, and the shapes of inputs and outputs, are those of
            `keras.layers.DepthwiseConv2D`.
    """


@keras.saving.register_keras_serializable("tfcomp")
class QuantizedSeparableConv1D(PaddedMixin, SeparableMixin, keras.layers.SeparableConv1D):
    """`keras.layers.SeparableConv1D` with quantized weights and inputs.

    `depthwise_quantizer`, `pointwise_quantizer`, `input_quantizer` and `pad_value` are as in
    `QuantizedSeparableConv2D`; all other arguments, and the shapes, as in
    `keras.layers.SeparableConv1D`.
    """


@keras.saving.register_keras_serializable("tfcomp")
class QuantizedSeparableConv2D(PaddedMixin, SeparableMixin, keras.layers.SeparableConv2D):
    """`keras.layers.SeparableConv2D` with quantized weights and inputs.

    Args:
        depthwise_quantizer: Quantizer of the depthwise kernel: a name such as `"ternary"`, an
            object of `tfcomp.quantizers`, any function from tensor to tensor, or `None` for none.
        pointwise_quantizer: Quantizer of the pointwise kernel, given likewise.
        input_quantizer: Quantizer of the inputs, given likewise.
        pad_value: What `padding="same"` and `"causal"` pad quantized inputs with; a binary input
            has no zero, so 1 or -1 suits it.
        **kwargs: All other arguments, and the shapes of inputs and outputs, are those of
            `keras.layers.SeparableConv2D`.
    """
