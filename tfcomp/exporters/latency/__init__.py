"""Which kernels compute the layers of an exported model fastest."""
