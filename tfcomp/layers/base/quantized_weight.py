"""How the quantized weights of a layer are read from outside."""


class QuantizedWeight:
    """Attribute of a layer that reads one of its weights as inference uses it.

    It is computed anew at every look, in the variable's own precision. The layer says in
    `quantized_weight(name)` what it is.

    Args:
        name: Attribute of the layer that holds the latent weight.
    """

    def __init__(self, name):
        self._name = name
        self.__doc__ = f"The `{name}` as inference uses it: a tensor of quantized values."

    def __get__(self, layer, cls=None):
        if layer is None:
            return self
        if not layer.built:
            raise AttributeError(f"Build the layer before you read its quantized {self._name!r}.")
        return layer.quantized_weight(self._name)
