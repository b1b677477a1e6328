"""A layer of binary codes, trained by continuation.

Zhangjie Cao et al., "HashNet: Deep Learning to Hash by Continuation", arXiv:1702.00758.
"""

import keras
from keras import ops

from tfcomp.layers.base.arguments import NamedArguments
from tfcomp.validation import check_integer, check_number, invalid


@keras.saving.register_keras_serializable("tfcomp")
class HashCode(NamedArguments, keras.layers.Dense):
    """`keras.layers.Dense` whose outputs are ±1 at inference.

    In training the outputs are `tanh(β z)`, where `z` is the projection; with a growing `β` they
    approach `sign(z)`, which is what inference returns (+1 at zero). `beta` is a variable that is
    saved and not trained; `tfcomp.callbacks.HashContinuation` raises it. An infinite `beta`
    makes training exact too, and ends it for all below, since a sign has no gradient.

    Args:
        bits: Length of a code.
        initial_beta: `β` at the start, a positive number.
        **kwargs: All other arguments, and the shape of inputs, are those of `keras.layers.Dense`,
            but for `units`, `activation`, LoRA's and Keras's own quantization.

    Raises:
        ValueError: If `bits` or `initial_beta` is out of range.

    Reference:
        Zhangjie Cao et al., "HashNet: Deep Learning to Hash by Continuation", arXiv:1702.00758.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> layer = tfcomp.layers.HashCode(4, kernel_initializer="ones")
    >>> keras.ops.convert_to_numpy(layer(np.array([[2.0], [-3.0]])))
    array([[ 1.,  1.,  1.,  1.],
           [-1., -1., -1., -1.]], dtype=float32)
    """

    refused_arguments = ("units", "activation", "lora_rank", "lora_alpha", "quantization_config")

    def __init__(self, bits, initial_beta=1.0, **kwargs):
        bits = check_integer("bits", bits, 1)
        check_number("initial_beta", initial_beta, above=0)
        for name in self.refused_arguments:
            value = kwargs.pop(name, None)
            if value is not None:
                raise invalid(name, value, "no such argument: the layer has `bits` and a sign")
        super().__init__(bits, **kwargs)
        self.initial_beta = initial_beta

    @property
    def bits(self):
        """Length of a code."""
        return self.units

    def build(self, input_shape):
        super().build(input_shape)
        self.beta = self.add_weight(
            name="beta",
            shape=(),
            # In half precision it would overflow.
            dtype="float32",
            autocast=False,
            initializer=keras.initializers.Constant(self.initial_beta),
            trainable=False,
        )

    def call(self, inputs, training=None):
        projection = super().call(inputs)
        one = ops.ones_like(projection)
        sign = ops.where(projection >= 0, one, -one)
        if not training:
            return sign
        beta = ops.convert_to_tensor(self.beta)
        finite = ops.isfinite(beta)
        scaled = ops.where(finite, beta, 1.0) * ops.cast(projection, "float32")
        return ops.where(finite, ops.cast(ops.tanh(scaled), projection.dtype), sign)

    # Keras's Dense saves its kernel and bias, whatever variables there are.
    def save_own_variables(self, store):
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store):
        keras.layers.Layer.load_own_variables(self, store)

    def get_config(self):
        config = super().get_config()
        config = {name: v for name, v in config.items() if name not in self.refused_arguments}
        return {**config, "bits": self.bits, "initial_beta": self.initial_beta}
