"""Layers with weights, inputs and gradients of few bits.

Shuchang Zhou et al., "DoReFa-Net: Training Low Bitwidth Convolutional Neural Networks with Low
Bitwidth Gradients", arXiv:1606.06160.
"""

import keras

from tfcomp.layers import quantized
from tfcomp.layers.base.in_call import ReadInCall
from tfcomp.methods.dorefa.gradient import GradientQuantization
from tfcomp.methods.dorefa.quantizer import DoReFa
from tfcomp.quantizers.base import check_bits


def _activation(layer, name, stored):
    return stored() if layer.gradient_bits == 32 else None


class _DoReFaMixin:
    """Sets a quantized layer up by the paper's three numbers of bits: W, A and G."""

    refused_arguments = ("kernel_quantizer", "input_quantizer")
    activation = ReadInCall(_activation)

    def __init__(
        self, *args, weight_bits=1, activation_bits=2, gradient_bits=32, seed=None, **kwargs
    ):
        weight_bits = check_bits(weight_bits, "weight_bits")
        activation_bits = check_bits(activation_bits, "activation_bits")
        super().__init__(
            *args,
            kernel_quantizer=None if weight_bits == 32 else DoReFa(weight_bits),
            input_quantizer=(
                None if activation_bits == 32 else DoReFa(activation_bits, mode="activations")
            ),
            **kwargs,
        )
        self.weight_bits = weight_bits
        self.activation_bits = activation_bits
        self.gradient_bits = check_bits(gradient_bits, "gradient_bits")
        self.gradient_quantization = GradientQuantization(
            self.gradient_bits, seed, dtype=self.dtype_policy, name="gradient_quantization"
        )
        self.seed = self.gradient_quantization.seed

    def call(self, inputs, training=None):
        outputs = super().call(inputs, training=training)
        if self.gradient_bits == 32:
            return outputs
        # Between product and activation: what goes back into the product is what has few bits.
        outputs = self.gradient_quantization(outputs, training=training)
        return outputs if self.activation is None else self.activation(outputs)

    def get_config(self):
        config = super().get_config()
        del config["kernel_quantizer"], config["input_quantizer"]
        return {
            **config,
            "weight_bits": self.weight_bits,
            "activation_bits": self.activation_bits,
            "gradient_bits": self.gradient_bits,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable("tfcomp")
class DoReFaDense(_DoReFaMixin, quantized.QuantizedDense):
    """`keras.layers.Dense` with weights, inputs and gradients of few bits.

    A network of such layers is what the paper calls W-A-G, "1-2-6" for instance. Inputs are
    activations in [0, 1], so batch normalization goes before them; its first and last layer stay in
    float.

    Args:
        weight_bits: Bits of the weights, 1 to 8; 32 for weights as they are. See
            `tfcomp.quantizers.DoReFa`.
        activation_bits: Bits of the inputs, 1 to 8; 32 for inputs as they are.
        gradient_bits: Bits of the gradients of the product in training, 1 to 8; 32 for gradients as
            they are. See `tfcomp.layers.GradientQuantization`.
        seed: Seed of the noise in the gradients.
        **kwargs: All other arguments, and the shapes of inputs and outputs, are those of
            `keras.layers.Dense`.

    Raises:
        ValueError: For other numbers of bits.

    Reference:
        Shuchang Zhou et al., "DoReFa-Net: Training Low Bitwidth Convolutional Neural Networks with
        Low Bitwidth Gradients", arXiv:1606.06160.

    Example:

    >>> import tfcomp
    >>> layer = tfcomp.layers.DoReFaDense(8, weight_bits=1, activation_bits=2, gradient_bits=6)
    >>> layer.kernel_quantizer, layer.gradient_bits
    (DoReFa(bits=1, mode='weights'), 6)
    """


@keras.saving.register_keras_serializable("tfcomp")
class DoReFaConv2D(_DoReFaMixin, quantized.QuantizedConv2D):
    """`keras.layers.Conv2D` with weights, inputs and gradients of few bits.

    A network of such layers is what the paper calls W-A-G, "1-2-6" for instance. Inputs are
    activations in [0, 1], so batch normalization goes before them; its first and last layer stay in
    float.

    Args:
        weight_bits: Bits of the weights, 1 to 8; 32 for weights as they are. See
            `tfcomp.quantizers.DoReFa`.
        activation_bits: Bits of the inputs, 1 to 8; 32 for inputs as they are.
        gradient_bits: Bits of the gradients of the product in training, 1 to 8; 32 for gradients as
            they are. See `tfcomp.layers.GradientQuantization`.
        seed: Seed of the noise in the gradients.
        pad_value: What `padding="same"` and `"causal"` pad with.
        **kwargs: All other arguments, and the shapes of inputs and outputs, are those of
            `keras.layers.Conv2D`.

    Raises:
        ValueError: For other numbers of bits.

    Reference:
        Shuchang Zhou et al., "DoReFa-Net: Training Low Bitwidth Convolutional Neural Networks with
        Low Bitwidth Gradients", arXiv:1606.06160.

    Example:

    >>> import tfcomp
    >>> layer = tfcomp.layers.DoReFaConv2D(8, 3, weight_bits=1, activation_bits=2, gradient_bits=6)
    >>> layer.kernel_quantizer, layer.gradient_bits
    (DoReFa(bits=1, mode='weights'), 6)
    """


@keras.saving.register_keras_serializable("tfcomp")
class DoReFaConv1D(_DoReFaMixin, quantized.QuantizedConv1D):
    """`keras.layers.Conv1D` with weights, inputs and gradients of few bits.

    `weight_bits`, `activation_bits`, `gradient_bits`, `seed` and `pad_value` are as in
    `DoReFaConv2D`; all other arguments, and the shapes, as in `keras.layers.Conv1D`.
    """


@keras.saving.register_keras_serializable("tfcomp")
class DoReFaConv3D(_DoReFaMixin, quantized.QuantizedConv3D):
    """`keras.layers.Conv3D` with weights, inputs and gradients of few bits.

    `weight_bits`, `activation_bits`, `gradient_bits`, `seed` and `pad_value` are as in
    `DoReFaConv2D`; all other arguments, and the shapes, as in `keras.layers.Conv3D`.
    """
