"""Writes `larq.npz`: values and gradients of Larq's quantizers on fixed inputs.

Run in an environment of its own, which holds Keras 2:

    pip install "tensorflow-cpu==2.15.*" larq "numpy<2"
    python larq_arrays.py
"""

import pathlib

import larq
import numpy as np
import tensorflow as tf

QUANTIZERS = {
    "ste_sign": larq.quantizers.SteSign(),
    "ste_sign_clip_half": larq.quantizers.SteSign(clip_value=0.5),
    "approx_sign": larq.quantizers.ApproxSign(),
    "swish_sign": larq.quantizers.SwishSign(),
    "swish_sign_beta_2": larq.quantizers.SwishSign(beta=2.0),
    "magnitude_aware_sign": larq.quantizers.MagnitudeAwareSign(),
    "ste_tern": larq.quantizers.SteTern(),
    "ste_tern_networks": larq.quantizers.SteTern(ternary_weight_networks=True),
    **{
        f"dorefa_{mode}_{bits}": larq.quantizers.DoReFa(bits, mode=mode)
        for mode in ("weights", "activations")
        for bits in (2, 3, 8)
    },
}


def values_and_gradients(quantizer, inputs, upstream):
    inputs = tf.constant(inputs)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = quantizer(inputs)
    return outputs.numpy(), tape.gradient(outputs, inputs, upstream).numpy()


def main():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(12, 8)).astype("float32")
    # Zeros, the ends of the clip, and values next to them.
    inputs[0] = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, np.nextafter(np.float32(1), 2), -0.04]
    upstream = rng.normal(size=inputs.shape).astype("float32")
    arrays = {"inputs": inputs, "upstream": upstream}
    for name, quantizer in QUANTIZERS.items():
        value, gradient = values_and_gradients(quantizer, inputs, upstream)
        arrays[f"{name}/value"], arrays[f"{name}/gradient"] = value, gradient
    np.savez_compressed(pathlib.Path(__file__).with_name("larq.npz"), **arrays)


if __name__ == "__main__":
    main()
