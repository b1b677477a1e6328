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
        *args, **kwargs: Those of `keras.layers.Dense`.
        kernel_quantizer: `"ternary"`, or a `tfcomp.quantizers.Ternary` with its arguments.
        input_quantizer: Quantizer of the inputs; `None` for none.

    Reference:
        Fengfu Li, Bo Zhang, Bin Liu, "Ternary Weight Networks", arXiv:1605.04711.
    """


@keras.saving.register_keras_serializable("tfcomp")
class TernaryConv2D(_TernaryMixin, quantized.QuantizedConv2D):
    """`keras.layers.Conv2D` with weights in `{-α, 0, α}`.

    Args:
        *args, **kwargs: Those of `keras.layers.Conv2D`.
        kernel_quantizer: `"ternary"`, or a `tfcomp.quantizers.Ternary` with its arguments.
        input_quantizer: Quantizer of the inputs; `None` for none.
        pad_value: What `padding="same"` pads with.

    Reference:
        Fengfu Li, Bo Zhang, Bin Liu, "Ternary Weight Networks", arXiv:1605.04711.
    """


class _TrainedTernaryMixin:
    def __init__(self, *args, kernel_quantizer="trained_ternary", **kwargs):
        super().__init__(*args, kernel_quantizer=kernel_quantizer, **kwargs)


def _serializable(cls):
    base = next(b for b in cls.__mro__ if b.__module__.startswith("keras."))
    cls.__doc__ = f"""`keras.layers.{base.__name__}` with weights in `{{-W_n, 0, W_p}}`.

    `W_p` and `W_n` are two more trainable weights of the layer. They begin at the best scales for
    its latent weights, those it is given by `tfcomp.swap_layers` included. For other layers give
    any `Quantized*` the quantizer `"trained_ternary"`.

    Args:
        *args, **kwargs: Those of `keras.layers.{base.__name__}`.
        kernel_quantizer: `"trained_ternary"`, or a `tfcomp.quantizers.TrainedTernary` with its
            threshold.
        input_quantizer: Quantizer of the inputs; `None` for none.

    Reference:
        Chenzhuo Zhu et al., "Trained Ternary Quantization", arXiv:1612.01064.
    """
    return keras.saving.register_keras_serializable("tfcomp")(cls)


@_serializable
class TrainedTernaryDense(_TrainedTernaryMixin, quantized.QuantizedDense):
    pass


@_serializable
class TrainedTernaryConv1D(_TrainedTernaryMixin, quantized.QuantizedConv1D):
    pass


@_serializable
class TrainedTernaryConv2D(_TrainedTernaryMixin, quantized.QuantizedConv2D):
    pass


@_serializable
class TrainedTernaryConv3D(_TrainedTernaryMixin, quantized.QuantizedConv3D):
    pass
