"""Run by test_distribution.py: trains on two devices and prints what each of them holds."""

import json
import os
import pathlib
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf

import tfcomp

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from fixtures import own_method

CALLBACKS = {
    "own method": own_method,
    "pruning": lambda: tfcomp.callbacks.GradualPruning(
        tfcomp.schedules.PolynomialDecay(0, 0.8, begin_step=1, end_step=7, frequency=2)
    ),
    "quantization": lambda: tfcomp.callbacks.IncrementalQuantization(bits=4),
    "surgery": lambda: tfcomp.callbacks.DynamicNetworkSurgery(c=0.5),
    "magnitude": lambda: tfcomp.callbacks.MagnitudePruning(quality=0.8),
    "sensitivity": lambda: tfcomp.callbacks.SensitivityPruning(
        tfcomp.schedules.PolynomialDecay(0, 0.8, begin_step=4, end_step=7, frequency=1)
    ),
    "sharing": lambda: tfcomp.callbacks.WeightSharing(bits=2),
    "soft sharing": lambda: tfcomp.callbacks.SoftWeightSharing(samples=32, components=3),
    "quantized": lambda: tfcomp.callbacks.QuantizedTraining("binary"),
    "relax": lambda: tfcomp.callbacks.BinaryRelax("binary"),
}


def replicas(variable):
    return [component.numpy() for component in variable.value.values]


def main(folder):
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    rng = np.random.default_rng(0)
    data = tf.data.Dataset.from_tensor_slices(
        (rng.normal(size=(32, 8)).astype("float32"), rng.normal(size=(32, 3)).astype("float32"))
    ).batch(8)
    report = {}
    # One for all: TensorFlow numbers the sums over devices anew for each, and mixes them up.
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    for name, make in CALLBACKS.items():
        with strategy.scope():
            model = keras.Sequential(
                [keras.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(3)]
            )
            model.compile("adam", "mse")
        history = model.fit(data, epochs=2, verbose=0, callbacks=[make()])
        state = [v for v in model.optimizer.variables if "mask_mask" in v.path or "fixed" in v.path]
        state += [v for v in model.optimizer.variables if "latent" in v.path]
        state += [v for v in model.optimizer.variables if "codebook" in v.path]
        kernels = [layer.kernel for layer in model.layers]
        path = os.path.join(folder, f"{name}.keras")
        model.save(path)
        loaded = keras.models.load_model(path)
        report[name] = {
            "replicas": strategy.num_replicas_in_sync,
            "states": len(state),
            "equal": all(np.array_equal(*replicas(v), equal_nan=True) for v in (*state, *kernels)),
            "sparsity": [float(np.mean(replicas(kernel)[1] == 0)) for kernel in kernels],
            "mantissas": sorted(
                {float(m) for k in kernels for m in np.abs(np.frexp(replicas(k)[1])[0]).ravel()}
            )[:3],
            "values": [len(np.unique(replicas(kernel)[1])) for kernel in kernels],
            "loaded": all(
                np.array_equal(layer.kernel.numpy(), replicas(kernel)[0])
                for layer, kernel in zip(loaded.layers, kernels)
            ),
            "logged": history.history[make().measures][-1],
        }
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1])
