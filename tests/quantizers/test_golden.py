"""Values and gradients against arrays that Larq and torchao's PARQ made (scripts in `golden/`)."""

import pathlib

import keras
import numpy as np
import pytest
from gradients import gradient

from tfcomp import quantizers
from tfcomp.methods.binary_relax import Relaxed
from tfcomp.quantizers import Binary, DoReFa, FineGrainedTernary, ResidualBinary, Ternary

GOLDEN = pathlib.Path(__file__).parent / "golden"
LARQ = dict(np.load(GOLDEN / "larq.npz"))
PARQ = dict(np.load(GOLDEN / "parq.npz"))
X, G = LARQ["inputs"], LARQ["upstream"]


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def compare(quantizer, name, difference=0.0, skip=()):
    """Values equal, and gradients equal but for a stated difference."""
    np.testing.assert_allclose(numpy(quantizer(X)), LARQ[f"{name}/value"], rtol=1e-6, atol=1e-7)
    found = gradient(lambda x: keras.ops.multiply(quantizer(x), G), X)
    kept = np.ones(X.shape, bool)
    for index in skip:
        kept[index] = False
    expected = LARQ[f"{name}/gradient"] + difference
    np.testing.assert_allclose(found[kept], expected[kept], rtol=2e-5, atol=1e-6)
    return found


@pytest.mark.parametrize(
    "quantizer, name",
    [
        ("binary", "ste_sign"),
        (Binary(0.5), "ste_sign_clip_half"),
        ("approx_sign", "approx_sign"),
        ("swish_sign", "swish_sign"),
        (Binary(None, gradient="swish", beta=2.0), "swish_sign_beta_2"),
        ("ste_tern", "ste_tern"),
        (Ternary(scale=False, clip_value=1.0), "ste_tern_networks"),
        *((DoReFa(bits, "activations"), f"dorefa_activations_{bits}") for bits in (2, 3, 8)),
    ],
)
def test_larqs(quantizer, name):
    compare(quantizers.get(quantizer), name)


def test_magnitude_aware():
    """Bi-Real Net's gradient, and XNOR-Net's, which adds `1 / n` for the scale."""
    channel = (-1,)
    compare(quantizers.get("magnitude_aware_sign").for_kernel(channel), "magnitude_aware_sign")
    xnor = Binary(scale=True).for_kernel(channel)
    compare(xnor, "magnitude_aware_sign", difference=G / len(X))


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_dorefa_weights(bits):
    """Larq takes the maximum for a constant; the paper's formula is differentiated with it.

    With `t = tanh w` and `m = max |t|` the two differ at the largest weight alone, by
    `-sign(t) (1 - t**2) sum(g t) / m**2`.
    """
    t = np.tanh(X.astype(np.float64))
    largest = np.unravel_index(np.argmax(np.abs(t)), t.shape)
    found = compare(DoReFa(bits), f"dorefa_weights_{bits}", skip=[largest])
    m = np.abs(t[largest])
    through_maximum = -np.sign(t[largest]) * (1 - m**2) * np.sum(G * t) / m**2
    expected = LARQ[f"dorefa_weights_{bits}/gradient"][largest] + through_maximum
    np.testing.assert_allclose(found[largest], expected, rtol=1e-3)


SETS = {"binary": Binary(None, scale=True), "residual": ResidualBinary(2)}


def as_one_row(quantizer, latent):
    return keras.ops.reshape(quantizer(keras.ops.reshape(latent, (1, -1))), latent.shape)


@pytest.mark.parametrize("name", SETS)
def test_parqs_sets(name):
    """One bit is the mean magnitude with a sign, and of two the second that of what it leaves."""
    found = numpy(as_one_row(SETS[name], PARQ["latent"]))
    np.testing.assert_allclose(found, PARQ[f"{name}/quantized"], rtol=1e-5)


def test_parqs_ternary_has_half_of_the_best_scale():
    """PARQ notes that its derivation may be wrong: it finds the threshold, and takes it for α."""
    latent, theirs = PARQ["latent"], PARQ["ternary/quantized"]
    ours = numpy(as_one_row(FineGrainedTernary(latent.size), latent))
    np.testing.assert_allclose(theirs.max() * 2, ours.max(), rtol=1e-6)
    assert np.sum((ours - latent) ** 2) < 0.6 * np.sum((theirs - latent) ** 2)


@pytest.mark.parametrize("name", SETS)
def test_parqs_binary_relaxation(name):
    """The weight after each step of SGD, while the share of the quantized value rises to 1.

    PARQ raises the share by the same amount each step, the paper by `λ / (λ + 1)`: given the same
    share, both relax alike.
    """
    relaxed = Relaxed(lambda latent: as_one_row(SETS[name], latent))
    value = PARQ["latent"]
    state = relaxed.init(value)
    for step, (step_gradient, expected) in enumerate(
        zip(PARQ["gradients"], PARQ[f"{name}/weights"])
    ):
        state["share"] = np.float32(min(max((step - 2) / 5, 0), 1))
        tensors = {key: keras.ops.convert_to_tensor(array) for key, array in state.items()}
        value = keras.ops.convert_to_tensor(value)
        seen, latent, tensors = relaxed.before(step_gradient, value, tensors)
        shown, new = relaxed.after(latent - PARQ["rate"] * seen, tensors)
        value, state = numpy(shown), {key: numpy(tensor) for key, tensor in new.items()}
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
    assert len(np.unique(value)) == 2 ** SETS[name].bits
