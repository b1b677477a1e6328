"""Search by binary codes."""

from tfcomp.methods.hashnet.retrieval import hamming_distances, mean_average_precision, pack_bits

__all__ = ["hamming_distances", "mean_average_precision", "pack_bits"]
