"""Keras layers whose kernel is computed from fewer numbers, which alone are trained and saved."""

import contextlib
import contextvars
import math

import keras

from tfcomp import targets
from tfcomp.layers.base.arguments import NamedArguments
from tfcomp.model.macs import positions

_GIVEN = contextvars.ContextVar("tfcomp_decoded_kernels", default=None)


@contextlib.contextmanager
def decoded_kernels(kernels):
    """Context in which layers take their kernels from a dict instead of computing them.

    For code that has computed them once and for all, such as an exporter.

    Args:
        kernels: Dict from `id(layer)` to a tensor.
    """
    token = _GIVEN.set(kernels)
    try:
        yield
    finally:
        _GIVEN.reset(token)


class DecodedKernel(NamedArguments):
    """Replaces the kernel of Keras's Dense or Conv* by one that is computed from other variables.

    Subclasses define `add_parts`, which makes these variables, `parts`, which lists them, and
    `decode`, which computes the kernel of shape `kernel_shape` from them.

    Attributes:
        calls_kernel: Whether inference reads the kernel. Then an exporter computes it once.
    """

    refused_arguments = ("lora_rank", "lora_alpha", "quantization_config")
    calls_kernel = True

    def add_parts(self, initializer, regularizer, constraint):
        """Adds the variables of the layer, given what its user chose for the kernel.

        Args:
            initializer: Initializer that makes the value of a whole kernel.
            regularizer: Regularizer, or `None`.
            constraint: Constraint, or `None`.

        Returns:
            The trainable one.
        """
        raise NotImplementedError

    @property
    def parts(self):
        """List of the variables that the kernel is computed from."""
        raise NotImplementedError

    def decode(self):
        """Returns the kernel as a tensor."""
        raise NotImplementedError

    def count_macs(self, call):
        """Those of the Keras layer, whatever the kernel is computed from."""
        return [(self.parts[0], self.positions(call) * math.prod(self.kernel_shape))]

    def positions(self, call):
        """Number of positions that the kernel is applied at in a `tfcomp.model.calls.Call`."""
        return positions(call.output, self.kernel_shape[-1])

    @property
    def kernel_matrix(self):
        """Shape of the kernel with its output channels along one axis and all else on the other."""
        return math.prod(self.kernel_shape[:-1]), self.kernel_shape[-1]

    def build(self, input_shape):
        if self.lora_rank:
            raise ValueError(
                f"Layer {self.name!r}, a {type(self).__name__}, has no kernel of its own that "
                f"LoRA could be added to. Received: lora_rank={self.lora_rank}"
            )
        super().build(input_shape)

    def add_weight(self, *args, name=None, **kwargs):
        # Keras's `build` checks the shape and makes the bias. Where it asks for the kernel, it gets
        # what the layer has in its stead.
        if name != "kernel":
            return super().add_weight(*args, name=name, **kwargs)
        self.kernel_shape = tuple(kwargs["shape"])
        return self.add_parts(
            self.kernel_initializer, self.kernel_regularizer, self.kernel_constraint
        )

    @property
    def kernel(self):
        """The whole kernel, of the shape that the Keras layer has."""
        if not self.built:
            raise AttributeError("Build the layer before you read its `kernel`.")
        given = (_GIVEN.get() or {}).get(id(self))
        return self.decode() if given is None else keras.ops.cast(given, self.compute_dtype)

    # Keras's Dense and Conv* save their kernel and bias, whatever variables there are.
    def save_own_variables(self, store):
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store):
        keras.layers.Layer.load_own_variables(self, store)

    def enable_lora(self, *args, **kwargs):
        raise NotImplementedError(
            f"Layer {self.name!r}, a {type(self).__name__}, has no kernel that LoRA could add to."
        )


def decoded_layers(model):
    """Lists the built layers of a model, itself included, that read a computed kernel."""
    layers = [site.layer for site in targets.layer_sites(model)] + [model]
    return [v for v in layers if isinstance(v, DecodedKernel) and v.built and v.calls_kernel]
