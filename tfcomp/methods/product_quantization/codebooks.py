"""Product quantization of a matrix: codebooks of sub-vectors, and codes that choose from them.

Jiaxiang Wu et al., "Quantized Convolutional Neural Networks for Mobile Devices", arXiv:1512.06473.
A weight is an array `(positions, spaces, size, outputs)`; for each space there is a codebook
`(codewords, size)` that all positions and outputs share, and codes are `(positions, spaces,
outputs)`.
"""

import numpy as np


def decode(codebooks, codes):
    """Returns the weight: codeword `codes[p, m, t]` of codebook `m` is `[p, m, :, t]`."""
    spaces = np.arange(len(codebooks))[:, None]
    return codebooks[spaces, codes].swapaxes(-1, -2)


def cluster(weight, codewords, seed):
    """Codebooks by k-means over the sub-vectors of each space.

    Args:
        weight: Array `(positions, spaces, size, outputs)`.
        codewords: Sub-vectors in a codebook.
        seed: Seed of the first centres.

    Returns:
        Codebooks and codes.
    """
    from sklearn.cluster import KMeans

    positions, spaces, size, outputs = weight.shape
    codebooks = np.empty((spaces, codewords, size))
    codes = np.empty((positions, spaces, outputs), np.int64)
    for m in range(spaces):
        vectors = weight[:, m].swapaxes(1, 2).reshape(-1, size)
        # With fewer different sub-vectors than codewords, each is a codeword.
        different, which = np.unique(vectors, axis=0, return_inverse=True)
        if len(different) <= codewords:
            codebooks[m] = np.resize(different, (codewords, size))
            labels = which
        else:
            means = KMeans(codewords, n_init=1, random_state=seed).fit(vectors)
            codebooks[m], labels = means.cluster_centers_, means.labels_
        codes[:, m] = np.reshape(labels, (positions, outputs))
    return codebooks, codes


def error(weight, gram, cross, energy):
    """`|Y - X w|**2`, from `gram = X.T @ X`, `cross = X.T @ Y` and `energy = |Y|**2`."""
    flat = weight.reshape(len(gram), -1)
    return float(energy + np.sum(flat * (gram @ flat - 2 * cross)))


def correct(codebooks, codes, gram, cross, sweeps):
    """Lowers `|Y - X w|**2` over codebooks and codes, one space after the other.

    In each space, with the others as they are, codewords are the least-squares solution, and then
    each position's codes are those that leave the least error. No step raises the error.

    Args:
        codebooks: Array `(spaces, codewords, size)`.
        codes: Array `(positions, spaces, outputs)`.
        gram: `X.T @ X` of the inputs `(samples, positions * spaces * size)`.
        cross: `X.T @ Y` with the outputs that are to be met.
        sweeps: Times to go over all spaces.

    Returns:
        New codebooks and codes.
    """
    codebooks, codes = codebooks.copy(), codes.copy()
    positions, spaces, _ = codes.shape
    size = codebooks.shape[2]
    rows = np.arange(len(gram)).reshape(positions, spaces, size)
    flat = decode(codebooks, codes).reshape(len(gram), -1)
    # What the inputs of each weight still correlate with in the outputs.
    left = cross - gram @ flat

    def put(place, new):
        left[...] -= gram[:, place] @ (new - flat[place])
        flat[place] = new

    for _ in range(sweeps):
        for m in range(spaces):
            own = rows[:, m].reshape(-1)
            wanted = left[own] + gram[np.ix_(own, own)] @ flat[own]
            codebooks[m] = _codewords(codebooks[m], codes[:, m], gram, rows[:, m], wanted)
            put(own, codebooks[m][codes[:, m]].swapaxes(1, 2).reshape(len(own), -1))
            for p in range(positions):
                place = rows[p, m]
                block = gram[np.ix_(place, place)]
                codes[p, m] = _nearest(codebooks[m], block, left[place] + block @ flat[place])
                put(place, codebooks[m][codes[p, m]].T)
    return codebooks, codes


def _codewords(codebook, codes, gram, rows, wanted):
    """The least-squares codewords of one space, given which of them is where."""
    count, size = codebook.shape
    chosen = codes[:, None, :] == np.arange(count)[:, None]
    chosen = chosen.astype(np.float64)
    matrix = np.zeros((count, size, count, size))
    right = np.zeros((count, size))
    for p, here in enumerate(chosen):
        right += here @ wanted[p * size : (p + 1) * size].T
        for q, there in enumerate(chosen):
            together = here @ there.T
            block = gram[np.ix_(rows[p], rows[q])]
            matrix += together[:, None, :, None] * block[None, :, None, :]
    matrix = matrix.reshape(count * size, count * size)
    # Towards the codewords there are: one that is nowhere, or an input that is always zero, stays.
    ridge = 1e-9 * np.trace(matrix) / len(matrix) or 1.0
    matrix[np.diag_indices(len(matrix))] += ridge
    return np.linalg.solve(matrix, (right + ridge * codebook).reshape(-1)).reshape(count, size)


def _nearest(codebook, gram, wanted):
    """For each output, the codeword that leaves the least error."""
    cost = np.sum(codebook @ gram * codebook, axis=1)
    return np.argmin(cost[:, None] - 2 * codebook @ wanted, axis=0)
