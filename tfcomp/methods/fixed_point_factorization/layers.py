"""Layers whose kernel is a scaled product of two ternary factors.

Peisong Wang, Jian Cheng, "Fixed-point Factorized Networks", arXiv:1611.01972.
"""

import math

import keras
from keras import ops

from tfcomp.layers.base.arguments import NamedArguments
from tfcomp.layers.base.in_call import apply_as_stored
from tfcomp.layers.base.quantized_weight import QuantizedWeight
from tfcomp.layers.base.without_latent import WithoutLatent
from tfcomp.layers.constraints import WeightClip
from tfcomp.methods.fixed_point_factorization.quantizer import RoundedTernary
from tfcomp.model.macs import positions
from tfcomp.quantizers.base import are_weights_as_stored
from tfcomp.validation import check_integer, check_number

# Latent factors are kept where one step back makes them round to another value.
_BOUND = 1.5


class Factorized(WithoutLatent, NamedArguments, keras.layers.Layer):
    """The base of layers whose kernel is `X diag(d) Yᵀ`, with ternary `X` and `Y`.

    Three weights: `input_factor`, which is `X` in the shape of the kernel it replaces, with
    `rank` outputs; `scale`, which is `d`; and `output_factor`, which is `Yᵀ`, shape
    `(rank, outputs)`. Only `scale` multiplies; the factors add and subtract.

    What is stored are latent factors, which the forward pass rounds, with the gradient of the
    identity. So that a step of an optimizer means as much to them as to any weight, they are
    balanced: rounded to `-λ, 0, λ` with `λ_X = balance * sqrt(2 / (inputs + rank))`,
    `λ_Y = balance * sqrt(2 / (rank + outputs))`, clipped to ±1.5 λ, and `scale` is
    `d / (λ_X λ_Y)`.
    """

    quantized_input_factor = QuantizedWeight("input_factor")
    quantized_output_factor = QuantizedWeight("output_factor")

    def __init__(
        self,
        rank,
        balance=0.6,
        activation=None,
        use_bias=True,
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.rank = check_integer("rank", rank, 1)
        check_number("balance", balance, above=0)
        self.balance = balance
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.quantizers = {}

    def _build(self, kernel_shape):
        """Adds the weights of a layer with a kernel of this shape, inputs before outputs."""
        inputs, outputs = math.prod(kernel_shape[:-1]), kernel_shape[-1]
        self.input_factor = self._add_factor(
            "input_factor", (*kernel_shape[:-1], self.rank), inputs + self.rank
        )
        steps = [self.quantizers["input_factor"].step]
        self.output_factor = self._add_factor(
            "output_factor", (self.rank, outputs), self.rank + outputs
        )
        steps.append(self.quantizers["output_factor"].step)
        # Two thirds of each new factor are not zero: so the kernel has Glorot's variance.
        variance = 2 / (inputs + outputs) / self.rank
        self.scale = self.add_weight(
            name="scale",
            shape=(self.rank,),
            initializer=keras.initializers.Constant(1.5 * math.sqrt(variance) / math.prod(steps)),
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(outputs,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def _add_factor(self, name, shape, fan):
        step = self.balance * math.sqrt(2 / fan)
        self.quantizers[name] = RoundedTernary(step)
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=keras.initializers.RandomUniform(-_BOUND * step, _BOUND * step),
            regularizer=self.kernel_regularizer,
            constraint=WeightClip(_BOUND * step),
        )

    @property
    def weight_quantizers(self):
        """The `(variable, quantizer)` pairs of the weights this layer quantizes in `call`."""
        return [
            (getattr(self, name), self.quantizer_or_as_stored(quantizer))
            for name, quantizer in self.quantizers.items()
        ]

    def count_macs(self, call):
        """Multiplications by the scale, and the additions of the two ternary factors."""
        number = positions(call.output, self.output_factor.shape[-1])
        parts = (self.input_factor, self.scale, self.output_factor)
        return [(variable, number * math.prod(variable.shape)) for variable in parts]

    def set_factors(self, factors):
        """Sets the kernel.

        Args:
            factors: A `Semidiscrete` of the kernel as a matrix `(inputs, outputs)`, as it is or
                after `recover`.
        """
        step_x, step_y = (quantizer.step for quantizer in self.quantizers.values())
        self.input_factor.assign((step_x * factors.x).reshape(self.input_factor.shape))
        self.output_factor.assign(step_y * factors.y.T)
        self.scale.assign(factors.d / (step_x * step_y))

    @property
    def kernel(self):
        """The kernel as one tensor, in the shape it would have in the Keras layer."""
        x, y = (self.quantized_weight(name) for name in self.quantizers)
        return ops.matmul(x * self.scale, y)

    def quantized_weight(self, name):
        """The factor called `name` as inference uses it."""
        factor = getattr(self, name)
        if self.is_quantized:
            self.check_frozen(factor)
        if self.is_quantized or are_weights_as_stored():
            return ops.convert_to_tensor(factor)
        return apply_as_stored(self.quantizers[name], lambda: factor)

    def get_config(self):
        return {
            **super().get_config(),
            "rank": self.rank,
            "balance": self.balance,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": keras.regularizers.serialize(self.activity_regularizer),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
        }


@keras.saving.register_keras_serializable("tfcomp")
class FactorizedDense(Factorized):
    """`keras.layers.Dense` with a kernel `X diag(d) Yᵀ` of ternary factors.

    Each output takes `rank` multiplications and no more; the factors only add and subtract.
    `tfcomp.factorize` makes these layers from trained ones.

    Args:
        units: Size of the output.
        rank: `k`, the number of columns of `X` and `Y`; may exceed the inputs and outputs.
        balance: λ, which says how large the stored factors are: they round to `±λ sqrt(2 / fan)`,
            with the sum of the two sides of a factor as fan.
        activation: As in `keras.layers.Dense`.
        use_bias: As in `keras.layers.Dense`.
        bias_initializer: As in `keras.layers.Dense`.
        kernel_regularizer: Regularizer of each of the latent factors.
        bias_regularizer: As in `keras.layers.Dense`.
        activity_regularizer: As in `keras.layers.Dense`.
        bias_constraint: As in `keras.layers.Dense`.

    Input shape:
        `(batch, ..., features)`.

    Output shape:
        `(batch, ..., units)`.

    Raises:
        ValueError: If `units`, `rank` or `balance` is out of range.

    Reference:
        Peisong Wang, Jian Cheng, "Fixed-point Factorized Networks", arXiv:1611.01972.

    Example:

    >>> import keras, tfcomp
    >>> layer = tfcomp.layers.FactorizedDense(10, rank=40)
    >>> tuple(layer(keras.ops.ones((2, 64))).shape)
    (2, 10)
    >>> [tuple(weight.shape) for weight in layer.weights]
    [(64, 40), (40, 10), (40,), (10,)]
    """

    def __init__(self, units, rank, **kwargs):
        super().__init__(rank, **kwargs)
        self.units = check_integer("units", units, 1)
        self.input_spec = keras.layers.InputSpec(min_ndim=2)

    def build(self, input_shape):
        self._build((input_shape[-1], self.units))
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: input_shape[-1]})

    def call(self, inputs):
        outputs = ops.matmul(inputs, self.quantized_weight("input_factor")) * self.scale
        outputs = ops.matmul(outputs, self.quantized_weight("output_factor"))
        if self.bias is not None:
            outputs = ops.add(outputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class _FactorizedConv(Factorized):
    """A convolution with `rank` ternary filters, a scale, and a ternary convolution 1×1."""

    plain = None

    def __init__(
        self,
        filters,
        kernel_size,
        rank,
        strides=1,
        padding="valid",
        data_format=None,
        dilation_rate=1,
        **kwargs,
    ):
        super().__init__(rank, **kwargs)
        self.filters = check_integer("filters", filters, 1)
        # Keras checks the arguments and fills them up.
        plain = self.plain(filters, kernel_size, strides, padding, data_format, dilation_rate)
        self.kernel_size = plain.kernel_size
        self.strides = plain.strides
        self.padding = plain.padding
        self.data_format = plain.data_format
        self.dilation_rate = plain.dilation_rate
        self.input_spec = keras.layers.InputSpec(ndim=len(self.kernel_size) + 2)

    @property
    def _channel_axis(self):
        return -1 if self.data_format == "channels_last" else 1

    def build(self, input_shape):
        channels = input_shape[self._channel_axis]
        self._build((*self.kernel_size, channels, self.filters))
        self.input_spec = keras.layers.InputSpec(
            ndim=len(input_shape), axes={self._channel_axis: channels}
        )

    def _along_channels(self, vector):
        shape = [1] * (len(self.kernel_size) + 2)
        shape[self._channel_axis] = -1
        return ops.reshape(vector, shape)

    def call(self, inputs):
        padding = self.padding
        if padding == "causal":
            reach = (self.kernel_size[0] - 1) * self.dilation_rate[0]
            widths = [[0, 0], [0, 0], [0, 0]]
            widths[1 if self.data_format == "channels_last" else 2] = [reach, 0]
            inputs, padding = ops.pad(inputs, widths), "valid"
        outputs = ops.conv(
            inputs,
            self.quantized_weight("input_factor"),
            self.strides,
            padding,
            self.data_format,
            self.dilation_rate,
        )
        outputs = outputs * self._along_channels(self.scale)
        pointwise = self.quantized_weight("output_factor")
        pointwise = ops.reshape(pointwise, (*[1] * len(self.kernel_size), *pointwise.shape))
        outputs = ops.conv(outputs, pointwise, 1, "valid", self.data_format)
        if self.bias is not None:
            outputs = ops.add(outputs, self._along_channels(self.bias))
        return outputs if self.activation is None else self.activation(outputs)

    def _geometry(self):
        return {
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
            "dilation_rate": self.dilation_rate,
        }

    def compute_output_shape(self, input_shape):
        return self.plain(self.filters, **self._geometry()).compute_output_shape(input_shape)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, **self._geometry()}


@keras.saving.register_keras_serializable("tfcomp")
class FactorizedConv2D(_FactorizedConv):
    """`keras.layers.Conv2D` with a kernel `X diag(d) Yᵀ` of ternary factors.

    It convolves with `rank` ternary filters, multiplies by `rank` scales, and convolves with
    ternary weights in a window of 1; so each position takes `rank` multiplications and no more.
    `tfcomp.factorize` makes these layers from trained ones.

    Args:
        filters: As in `keras.layers.Conv2D`.
        kernel_size: As in `keras.layers.Conv2D`.
        rank: `k`, the number of columns of `X` and `Y`; may exceed the inputs and outputs.
        strides: As in `keras.layers.Conv2D`.
        padding: As in `keras.layers.Conv2D`.
        data_format: As in `keras.layers.Conv2D`.
        dilation_rate: As in `keras.layers.Conv2D`.
        **kwargs: `balance`, `activation`, `use_bias`, `bias_initializer`, `kernel_regularizer`,
            `bias_regularizer`, `activity_regularizer` and `bias_constraint`, as in
            `tfcomp.layers.FactorizedDense`.

    Raises:
        ValueError: If an argument is out of range.

    Reference:
        Peisong Wang, Jian Cheng, "Fixed-point Factorized Networks", arXiv:1611.01972.

    Example:

    >>> import keras, tfcomp
    >>> layer = tfcomp.layers.FactorizedConv2D(16, 3, rank=8)
    >>> layer(keras.Input((8, 8, 4))).shape
    (None, 6, 6, 16)
    """

    plain = keras.layers.Conv2D


@keras.saving.register_keras_serializable("tfcomp")
class FactorizedConv1D(_FactorizedConv):
    """`keras.layers.Conv1D` with a kernel `X diag(d) Yᵀ` of ternary factors.

    All arguments are as in `FactorizedConv2D`: `filters`, `kernel_size`, `rank`, `strides`,
    `padding`, `data_format`, `dilation_rate`, `balance`, `activation`, `use_bias`,
    `bias_initializer`, `kernel_regularizer`, `bias_regularizer`, `activity_regularizer` and
    `bias_constraint`.
    """

    plain = keras.layers.Conv1D


@keras.saving.register_keras_serializable("tfcomp")
class FactorizedConv3D(_FactorizedConv):
    """`keras.layers.Conv3D` with a kernel `X diag(d) Yᵀ` of ternary factors.

    All arguments are as in `FactorizedConv2D`: `filters`, `kernel_size`, `rank`, `strides`,
    `padding`, `data_format`, `dilation_rate`, `balance`, `activation`, `use_bias`,
    `bias_initializer`, `kernel_regularizer`, `bias_regularizer`, `activity_regularizer` and
    `bias_constraint`.
    """

    plain = keras.layers.Conv3D
