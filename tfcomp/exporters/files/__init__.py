"""Files of other engines whose layers are computed by kernels of these engines' own."""
