"""Layers with ternary weights.

Fengfu Li, Bo Zhang, Bin Liu, "Ternary Weight Networks", arXiv:1605.04711.
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
