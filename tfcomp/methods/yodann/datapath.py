"""The data path of the YodaNN accelerator in integers.

Renzo Andri et al., "YodaNN: An Architecture for Ultra-Low Power Binary-Weight CNN Acceleration",
arXiv:1606.05487.
"""

from typing import NamedTuple

import keras
import numpy as np

from tfcomp.methods.yodann import integers as formats_lib
from tfcomp.validation import invalid

# Input channels, and output channels, that the chip works on at a time.
TILE = 32
KERNEL_SIZES = range(1, 8)
ROUNDINGS = ("truncate", "nearest")


class DataPath(NamedTuple):
    """The formats of the numbers on their way through the chip.

    Attributes:
        activations: Format of inputs and outputs.
        weights: Format of the scale α and the bias β of each output channel.
        sums: Format of the sums over input channels; as many fraction bits as `activations`.
        products: Format of `α * sum + β`; the fraction bits of `weights` and `sums` together.
        rounding: How products become activations: `"truncate"` drops bits, which rounds down;
            `"nearest"` adds half a step before.
    """

    activations: formats_lib.Format
    weights: formats_lib.Format
    sums: formats_lib.Format
    products: formats_lib.Format
    rounding: str = "truncate"

    @property
    def dropped(self):
        """Bits of a product below the last one of an activation."""
        return self.products.fraction_bits - self.activations.fraction_bits


def data_path(
    activations="Q2.9", weights="Q2.9", sums="Q7.9", products="Q10.18", rounding="truncate"
):
    """Returns a `DataPath`; formats are given by name or as pairs, the published ones by default.

    Raises:
        ValueError: If the formats do not fit together, or products do not fit into 32 bits.

    Example:

    >>> from tfcomp.hardware import yodann
    >>> yodann.data_path().dropped
    9
    """
    named = {"activations": activations, "weights": weights, "sums": sums, "products": products}
    path = DataPath(*(formats_lib.get(value, name) for name, value in named.items()), rounding)
    # So that 49 activations, and a sum and they, are integers that a float32 holds.
    for name, most in (("activations", 18), ("weights", 24), ("sums", 24)):
        if getattr(path, name).bits > most:
            raise invalid(name, str(getattr(path, name)), f"a format of at most {most} bits")
    if path.sums.fraction_bits != path.activations.fraction_bits:
        raise invalid("sums", sums, f"as many fraction bits as {path.activations}, no rounding")
    exact = path.sums.fraction_bits + path.weights.fraction_bits
    if path.products.fraction_bits != exact:
        raise invalid("products", products, f"{exact} fraction bits, all of a product's")
    # |α sum| and |β| before anything saturates.
    largest = path.weights.least * path.sums.least - (path.weights.least << path.sums.fraction_bits)
    if largest + (1 << path.dropped) > 2**31 - 1:
        raise invalid("sums", sums, f"products with {path.weights} that fit into 32 bits")
    if rounding not in ROUNDINGS:
        raise invalid("rounding", rounding, "'truncate' or 'nearest'")
    return path


def _saturated(numbers, format):
    return np.clip(numbers, format.least, format.most)


def convolve(inputs, kernel, scale, bias, path=None):
    """Convolves integers as the chip does.

    For each tile of 32 input channels the sums of products of one channel after the other are
    added up in the format of sums, saturating; the sums in one window of one channel are exact.
    Sums of several tiles are added likewise, in order. Then `α * sum + β` saturates in the format
    of products, is rounded, and saturates as an activation.

    Args:
        inputs: Integer array `(batch, height, width, channels)`, padded already: activations in
            units of their step.
        kernel: Integer array `(size, size, channels, filters)` of ±1.
        scale: Integer array `(filters,)`, α in units of its step.
        bias: Integer array `(filters,)`, β likewise.
        path: A `DataPath`; the published one if `None`.

    Returns:
        Integer array `(batch, height - size + 1, width - size + 1, filters)`.

    Raises:
        ValueError: If the kernel is none that the chip has.

    Example:

    >>> import numpy as np
    >>> from tfcomp.hardware import yodann
    >>> one = np.ones((1, 1, 1, 1), int)
    >>> yodann.convolve(512 * one, -one, scale=[256], bias=[0]).item()  # 1 * -1 * 0.5
    -256
    """
    path = data_path() if path is None else path
    inputs, kernel = np.asarray(inputs, np.int64), np.asarray(kernel, np.int64)
    size = kernel.shape[0]
    if kernel.shape[1] != size or size not in KERNEL_SIZES or not (np.abs(kernel) == 1).all():
        raise invalid("kernel", kernel.shape, "a square kernel of ±1, 1x1 to 7x7")
    windows = np.lib.stride_tricks.sliding_window_view(inputs, (size, size), (1, 2))
    total = np.zeros((*windows.shape[:3], kernel.shape[-1]), np.int64)
    for first in range(0, kernel.shape[2], TILE):
        tile = np.zeros_like(total)
        for channel in range(first, min(first + TILE, kernel.shape[2])):
            products = np.tensordot(windows[:, :, :, channel], kernel[:, :, channel], 2)
            tile = _saturated(tile + products, path.sums)
        total = _saturated(total + tile, path.sums)
    shifted_bias = np.asarray(bias, np.int64) << path.sums.fraction_bits
    products = _saturated(np.asarray(scale, np.int64) * total + shifted_bias, path.products)
    if path.rounding == "nearest" and path.dropped:
        products = products + (1 << (path.dropped - 1))
    return _saturated(products >> path.dropped, path.activations)


def emulate(layer, inputs):
    """What the chip computes for a layer.

    Args:
        layer: A built `tfcomp.layers.YodaConv2D`.
        inputs: Array, a batch in the layer's data format.

    Returns:
        The outputs as an integer array in the layer's data format, in units of the step of
        activations, before the layer's `activation` function.

    Reference:
        Renzo Andri et al., "YodaNN", arXiv:1606.05487.
    """
    path = layer.data_path
    inputs = _integers(layer.input_quantizer(np.asarray(inputs, np.float32)), path.activations)
    scale = _integers(layer.quantized_scale, path.weights)
    bias = _integers(layer.quantized_bias, path.weights)
    kernel = keras.ops.convert_to_numpy(layer.quantized_kernel).astype(np.int64)
    first = layer.data_format == "channels_first"
    inputs = np.moveaxis(inputs, 1, -1) if first else inputs
    if layer.padding == "same":
        before, after = (kernel.shape[0] - 1) // 2, kernel.shape[0] // 2
        inputs = np.pad(inputs, [(0, 0), (before, after), (before, after), (0, 0)])
    outputs = convolve(inputs, kernel, scale, bias, path)
    return np.moveaxis(outputs, -1, 1) if first else outputs


def _integers(numbers, format):
    return np.rint(keras.ops.convert_to_numpy(numbers) / format.step).astype(np.int64)
