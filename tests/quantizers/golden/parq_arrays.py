"""Writes `parq.npz`: torchao's PARQ on fixed weights, its level sets and binary relaxation.

Run in an environment of its own:

    pip install torch torchao "numpy<3"
    python parq_arrays.py
"""

import pathlib

import numpy as np
import torch
from torchao.prototype.parq.optim import ProxBinaryRelax, QuantOptimizer
from torchao.prototype.parq.quant import LSBQuantizer

STEPS, RATE = 9, 0.125


def relaxed_training(latent, gradients, bits, start, end):
    """SGD with given gradients; yields the relaxed weight after each step."""
    weight = torch.nn.Parameter(torch.tensor(latent))
    groups = [{"params": [weight], "quant_bits": bits}]
    optimizer = QuantOptimizer(
        torch.optim.SGD(groups, lr=RATE),
        LSBQuantizer(),
        ProxBinaryRelax(start, end),
        quant_period=1,
    )
    for gradient in gradients:
        weight.grad = torch.tensor(gradient)
        optimizer.step()
        yield weight.detach().numpy().copy()


def main():
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(6, 10)).astype("float32")
    gradients = rng.normal(size=(STEPS, *latent.shape)).astype("float32")
    arrays = {"latent": latent, "gradients": gradients, "rate": np.float32(RATE)}
    ternary, _ = LSBQuantizer(optimal=True).quantize(torch.tensor(latent), 0)
    arrays["ternary/quantized"] = ternary.numpy()
    for name, bits in (("binary", 1), ("residual", 2)):
        quantized, _ = LSBQuantizer().quantize(torch.tensor(latent), bits)
        arrays[f"{name}/quantized"] = quantized.numpy()
        # The share of the quantized value rises from 0 at step 2 to 1 at step 7.
        run = relaxed_training(latent, gradients, bits, start=2, end=7)
        arrays[f"{name}/weights"] = np.stack(list(run))
    np.savez_compressed(pathlib.Path(__file__).with_name("parq.npz"), **arrays)


if __name__ == "__main__":
    main()
