"""Layers with ternary weights.

Fengfu Li, Bo Zhang, Bin Liu, "Ternary Weight Networks", arXiv:1605.04711; with trained scales,
Chenzhuo Zhu, Song Han, Huizi Mao, William J. Dally, "Trained Ternary Quantization",
arXiv:1612.01064.
"""

import keras

from tfcomp.layers import quantized


class _TernaryMixin:
    def __init__(self, *args, kernel_quantizer="ternary", **kwargs):
        super().__init__(*args, kernel_quantizer=kernel_quantizer, **kwargs)


@keras.saving.register_keras_serializable("tfcomp")
class TernaryDense(_TernaryMixin, quantized.QuantizedDense):
    """`keras.layers.Dense` with weights in `{-α, 0, α}`.

    Args:
        kernel_quantizer: `"ternary"`, or a `tfcomp.quantizers.Ternary` with its arguments.
        input_quantizer: Quantizer of the inputs; `None` for none.
        **kwargs: All other arguments, and the shapes of inputs and outputs, are those of
            `keras.layers.Dense`.

    Reference:
        Fengfu Li, Bo Zhang, Bin Liu, "Ternary Weight Networks", arXiv:1605.04711.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> layer = tfcomp.layers.TernaryDense(1, kernel_initializer="ones")
    >>> keras.ops.convert_to_numpy(layer(np.array([[0.5, -3.0]]))).tolist()
    [[-2.5]]
    """


@keras.saving.register_keras_serializable("tfcomp")
class TernaryConv2D(_TernaryMixin, quantized.QuantizedConv2D):
    """`keras.layers.Conv2D` with weights in `{-α, 0, α}`.

    Args:
        kernel_quantizer: `"ternary"`, or a `tfcomp.quantizers.Ternary` with its arguments.
        input_quantizer: Quantizer of the inputs; `None` for none.
        pad_value: What `padding="same"` and `"causal"` pad with.
        **kwargs: All other arguments, and the shapes of inputs and outputs, are those of
            `keras.layers.Conv2D`.

    Reference:
        Fengfu Li, Bo Zhang, Bin Liu, "Ternary Weight Networks", arXiv:1605.04711.
    """


class _TrainedTernaryMixin:
    def __init__(self, *args, kernel_quantizer="trained_ternary", **kwargs):
        super().__init__(*args, kernel_quantizer=kernel_quantizer, **kwargs)


@keras.saving.register_keras_serializable("tfcomp")
class TrainedTernaryDense(_TrainedTernaryMixin, quantized.QuantizedDense):
    """`keras.layers.Dense` with weights in `{-W_n, 0, W_p}`.

    `W_p` and `W_n` are two more trainable weights of the layer. They begin at the best scales for
    its latent weights, those it is given by `tfcomp.swap_layers` included. For other layers give
    any `Quantized*` the quantizer `"trained_ternary"`.

    Args:
        kernel_quantizer: `"trained_ternary"`, or a `tfcomp.quantizers.TrainedTernary` with its
            threshold.
        input_quantizer: Quantizer of the inputs; `None` for none.
        **kwargs: All other arguments, and the shapes of inputs and outputs, are those of
            `keras.layers.Dense`.

    Reference:
        Chenzhuo Zhu et al., "Trained Ternary Quantization", arXiv:1612.01064.

    Example:

    >>> import tfcomp
    >>> layer = tfcomp.layers.TrainedTernaryDense(10)
    >>> layer.build((None, 64))
    >>> [weight.name for weight in layer.weights]
    ['kernel', 'bias', 'positive', 'negative']
    """


@keras.saving.register_keras_serializable("tfcomp")
class TrainedTernaryConv2D(_TrainedTernaryMixin, quantized.QuantizedConv2D):
    """`keras.layers.Conv2D` with weights in `{-W_n, 0, W_p}`.

    `W_p` and `W_n` are two more trainable weights of the layer. They begin at the best scales for
    its latent weights, those it is given by `tfcomp.swap_layers` included. For other layers give
    any `Quantized*` the quantizer `"trained_ternary"`.

    Args:
        kernel_quantizer: `"trained_ternary"`, or a `tfcomp.quantizers.TrainedTernary` with its
            threshold.
        input_quantizer: Quantizer of the inputs; `None` for none.
        pad_value: What `padding="same"` and `"causal"` pad with.
        **kwargs: All other arguments, and the shapes of inputs and outputs, are those of
            `keras.layers.Conv2D`.

    Reference:
        Chenzhuo Zhu et al., "Trained Ternary Quantization", arXiv:1612.01064.
    """


@keras.saving.register_keras_serializable("tfcomp")
class TrainedTernaryConv1D(_TrainedTernaryMixin, quantized.QuantizedConv1D):
    """`keras.layers.Conv1D` with weights in `{-W_n, 0, W_p}`.

    `kernel_quantizer`, `input_quantizer` and `pad_value` are as in `TrainedTernaryConv2D`; all
    other arguments, and the shapes, as in `keras.layers.Conv1D`.
    """


@keras.saving.register_keras_serializable("tfcomp")
class TrainedTernaryConv3D(_TrainedTernaryMixin, quantized.QuantizedConv3D):
    """`keras.layers.Conv3D` with weights in `{-W_n, 0, W_p}`.

    `kernel_quantizer`, `input_quantizer` and `pad_value` are as in `TrainedTernaryConv2D`; all
    other arguments, and the shapes, as in `keras.layers.Conv3D`.
    """
