"""A way to compute one layer, or several in a row."""

import re


class Candidate:
    """A way to compute one layer, or several in a row.

    Attributes:
        name: What a table calls it.
        arrays: List of the NumPy arrays that it needs, laid out.
        is_static: Whether it is compiled for one batch size.
        is_never_slower: Whether it does less than Keras's layers whatever the batch size.
        factors: Function of an array of shape `(outputs,)` that returns what each of `arrays` is
            to be multiplied by for the outputs to be, a list of arrays and `None`. Itself `None`
            where there is no such thing.
    """

    name = ""
    arrays = ()
    is_static = False
    is_never_slower = False
    factors = None

    @property
    def symbol(self):
        """The name as one that TensorFlow allows for variables."""
        return re.sub(r"[^A-Za-z0-9]+", "_", self.name)

    def add_to(self, weights, owner=None):
        """Adds the arrays to `Weights`, each by the key `(id(owner), place)`.

        Args:
            weights: A `Weights`.
            owner: The `Candidate` that they are added for, this one by default.
        """
        for number, array in enumerate(self.arrays):
            weights.add_array((id(owner or self), number), self.symbol, array)

    def compute(self, inputs, tensors):
        """Computes the outputs of the last layer.

        Args:
            inputs: Tensor of shape `(batch, ...)`, the inputs of the first layer.
            tensors: List of tensors, one for each of `arrays`.
        """
        raise NotImplementedError
