"""Layers whose weights are codewords of product quantization.

Jiaxiang Wu et al., "Quantized Convolutional Neural Networks for Mobile Devices", arXiv:1512.06473.
"""

import math

import keras
import numpy as np
from keras import ops

from tfcomp.layers.base.decoded import DecodedKernel
from tfcomp.layers.base.padding import pad_widths
from tfcomp.methods.hashed import buckets_and_signs
from tfcomp.validation import check_integer, invalid


def code_dtype(codewords):
    """The dtype that codes below `codewords` are kept in."""
    return "uint8" if codewords <= 256 else "int32"


class ProductQuantizedMixin(DecodedKernel):
    """Stores codebooks and codes in place of the kernel of the layer it is mixed into."""

    def __init__(self, *args, subvector_size=4, codewords=32, lookup=False, seed=0, **kwargs):
        super().__init__(*args, **kwargs)
        self.subvector_size = check_integer("subvector_size", subvector_size, 1)
        self.codewords = check_integer("codewords", codewords, 2)
        self.lookup = bool(lookup)
        self.seed = check_integer("seed", seed, 0, 2**31 - 1)

    def add_parts(self, initializer, regularizer, constraint):
        *window, channels, filters = self.kernel_shape
        size = min(self.subvector_size, channels)
        spaces = -(-channels // size)
        groups = getattr(self, "groups", 1)
        most = math.prod(window) * filters // groups
        if self.codewords > most:
            raise invalid(
                "codewords",
                self.codewords,
                f"at most {most}, the sub-vectors that share a codebook",
            )

        def values_of_kernel(shape, dtype=None):
            kernel = initializer((*window, spaces * size, filters), dtype=dtype)
            return ops.reshape(ops.reshape(kernel, (-1,))[: math.prod(shape)], shape)

        def hashed(shape, dtype=None):
            rows = math.prod(shape[:-1])
            index, _ = buckets_and_signs(rows, filters, self.codewords, self.seed)
            return ops.cast(ops.reshape(index, shape), dtype)

        self.codebooks = self.add_weight(
            name="codebooks",
            shape=(groups * spaces, self.codewords, size),
            initializer=values_of_kernel,
            regularizer=regularizer,
            constraint=constraint,
        )
        self.codes = self.add_weight(
            name="codes",
            shape=(*window, spaces, filters),
            dtype=code_dtype(self.codewords),
            initializer=hashed,
            trainable=False,
        )
        return self.codebooks

    @property
    def parts(self):
        return [self.codebooks, self.codes]

    @property
    def calls_kernel(self):
        return not self.lookup

    def count_macs(self, call):
        if self.calls_kernel:
            return super().count_macs(call)
        # Every input times every codeword of its sub-space, and an addition for each code.
        tables = math.prod(call.inputs) * self.codewords
        additions = self.positions(call) * math.prod(self.codes.shape)
        return [(self.codebooks, tables), (self.codes, additions)]

    def _index(self):
        """Codes as positions among the codewords of all codebooks."""
        spaces, filters = self.codes.shape[-2:]
        groups = self.codebooks.shape[0] // spaces
        # Two vectors, and not their sum: a SavedModel would hold that beside the codes.
        first_of_group = np.arange(filters) // (filters // groups) * spaces * self.codewords
        first_of_space = np.arange(spaces)[:, None] * self.codewords
        codes = ops.cast(ops.convert_to_tensor(self.codes), "int32")
        return codes + first_of_group.astype("int32") + first_of_space.astype("int32")

    def decode(self):
        *window, channels, filters = self.kernel_shape
        count, codewords, size = self.codebooks.shape
        # A product, so that TensorFlow's gradient is a tensor and not a list of slices.
        table = ops.reshape(ops.convert_to_tensor(self.codebooks) * 1.0, (count * codewords, size))
        vectors = ops.swapaxes(ops.take(table, self._index(), axis=0), -1, -2)
        return ops.reshape(vectors, (*window, -1, filters))[..., :channels, :]

    def call(self, inputs, training=None):
        if not self.lookup or training:
            return super().call(inputs)
        outputs = self._look_up(inputs)
        if self.bias is not None:
            outputs = outputs + ops.convert_to_tensor(self.bias)
        if getattr(self, "data_format", None) == "channels_first":
            outputs = ops.moveaxis(outputs, -1, 1)
        return outputs if self.activation is None else self.activation(outputs)

    def _tables(self, inputs):
        """Inner products of each sub-vector of the inputs with each codeword of its sub-space."""
        channels = self.kernel_shape[-2]
        count, codewords, size = self.codebooks.shape
        spaces = self.codes.shape[-2]
        lead = ops.shape(inputs)[:-1]
        vectors = ops.reshape(inputs, (*lead, count // spaces, channels))
        missing = spaces * size - channels
        if missing:
            vectors = ops.pad(vectors, [[0, 0]] * (len(lead) + 1) + [[0, missing]])
        vectors = ops.reshape(vectors, (*lead, count, size))
        products = ops.einsum("...ms,mks->...mk", vectors, ops.convert_to_tensor(self.codebooks))
        return ops.reshape(products, (*lead, count * codewords))

    def _look_up(self, inputs):
        return ops.sum(ops.take(self._tables(inputs), self._index(), axis=-1), axis=-2)

    def get_config(self):
        return {
            **super().get_config(),
            "subvector_size": self.subvector_size,
            "codewords": self.codewords,
            "lookup": self.lookup,
            "seed": self.seed,
        }


class _ConvMixin(ProductQuantizedMixin):
    def _look_up(self, inputs):
        if self.padding != "valid":
            inputs = ops.pad(inputs, pad_widths(self, ops.shape(inputs)))
        if self.data_format == "channels_first":
            inputs = ops.moveaxis(inputs, 1, -1)
        tables, index = self._tables(inputs), self._index()
        lengths = ops.shape(inputs)[1:-1]
        total = 0
        for offset in np.ndindex(*self.kernel_size):
            parts = [slice(None)]
            for i, length, size, stride, dilation in zip(
                offset, lengths, self.kernel_size, self.strides, self.dilation_rate
            ):
                begin = i * dilation
                parts.append(slice(begin, length - (size - 1) * dilation + begin, stride))
            found = ops.take(tables[tuple(parts)], index[offset], axis=-1)
            total = total + ops.sum(found, axis=-2)
        return total


@keras.saving.register_keras_serializable("tfcomp")
class ProductQuantizedDense(ProductQuantizedMixin, keras.layers.Dense):
    """`keras.layers.Dense` whose weights are codewords of few codebooks.

    The input channels are split in sub-spaces of `subvector_size`. Each sub-space (in each group of
    a convolution) has a codebook of `codewords` sub-vectors, which output channels and positions of
    the window share: the kernel is an index into it for each of them. Codebooks are trained,
    codes stay. `tfcomp.product_quantize` makes these layers from trained ones; a new layer has
    codes by a hash, the same on every platform.

    There are two ways to compute. By default the kernel is decoded and used as ever; an exported
    model does that once, on loading. With `lookup=True`, inference takes the inner products of
    inputs and codewords from a table and adds them up, so that memory holds codes and codebooks
    alone. That takes fewer multiplications, but more time wherever matrix products are fast, and
    much memory for large batches: measure before you choose it.

    Args:
        subvector_size: Input channels in a sub-space; all, if there are fewer.
        codewords: Sub-vectors in a codebook, at least 2.
        lookup: Whether inference uses tables.
        seed: Seed of a new layer's codes.
        **kwargs: All other arguments, and the shapes of inputs and outputs, are those of
            `keras.layers.Dense`. `kernel_initializer`, `kernel_regularizer` and
            `kernel_constraint` are those of the codebooks.

    Raises:
        ValueError: If an argument is out of range, or a codebook has more codewords than there are
            sub-vectors.

    Reference:
        Jiaxiang Wu et al., "Quantized Convolutional Neural Networks for Mobile Devices",
        arXiv:1512.06473.

    Example:

    >>> import tfcomp
    >>> layer = tfcomp.layers.ProductQuantizedDense(64, subvector_size=4, codewords=16)
    >>> layer.build((None, 32))
    >>> [tuple(part.shape) for part in layer.parts]
    [(8, 16, 4), (8, 64)]
    """


@keras.saving.register_keras_serializable("tfcomp")
class ProductQuantizedConv2D(_ConvMixin, keras.layers.Conv2D):
    """`keras.layers.Conv2D` whose weights are codewords of few codebooks.

    The input channels are split in sub-spaces of `subvector_size`. Each sub-space (in each group of
    a convolution) has a codebook of `codewords` sub-vectors, which output channels and positions of
    the window share: the kernel is an index into it for each of them. Codebooks are trained,
    codes stay. `tfcomp.product_quantize` makes these layers from trained ones; a new layer has
    codes by a hash, the same on every platform.

    There are two ways to compute. By default the kernel is decoded and used as ever; an exported
    model does that once, on loading. With `lookup=True`, inference takes the inner products of
    inputs and codewords from a table and adds them up, so that memory holds codes and codebooks
    alone. That takes fewer multiplications, but more time wherever matrix products are fast, and
    much memory for large batches: measure before you choose it.

    Args:
        subvector_size: Input channels in a sub-space; all, if there are fewer.
        codewords: Sub-vectors in a codebook, at least 2.
        lookup: Whether inference uses tables.
        seed: Seed of a new layer's codes.
        **kwargs: All other arguments, and the shapes of inputs and outputs, are those of
            `keras.layers.Conv2D`. `kernel_initializer`, `kernel_regularizer` and
            `kernel_constraint` are those of the codebooks.

    Raises:
        ValueError: If an argument is out of range, or a codebook has more codewords than there are
            sub-vectors.

    Reference:
        Jiaxiang Wu et al., "Quantized Convolutional Neural Networks for Mobile Devices",
        arXiv:1512.06473.

    Example:

    >>> import tfcomp
    >>> layer = tfcomp.layers.ProductQuantizedConv2D(64, 3, subvector_size=4, codewords=16)
    >>> layer.build((None, 8, 8, 32))
    >>> [tuple(part.shape) for part in layer.parts]
    [(8, 16, 4), (3, 3, 8, 64)]
    """


@keras.saving.register_keras_serializable("tfcomp")
class ProductQuantizedConv1D(_ConvMixin, keras.layers.Conv1D):
    """`keras.layers.Conv1D` whose weights are codewords of few codebooks.

    `subvector_size`, `codewords`, `lookup` and `seed` are as in `ProductQuantizedConv2D`; all other
    arguments, and the shapes, as in `keras.layers.Conv1D`.
    """


@keras.saving.register_keras_serializable("tfcomp")
class ProductQuantizedConv3D(_ConvMixin, keras.layers.Conv3D):
    """`keras.layers.Conv3D` whose weights are codewords of few codebooks.

    `subvector_size`, `codewords`, `lookup` and `seed` are as in `ProductQuantizedConv2D`; all other
    arguments, and the shapes, as in `keras.layers.Conv3D`.
    """
