"""Run by test_mirrored.py: a step on two devices, and the same step on one."""

import json
import os
import pathlib
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))
from distilling import network, taught

import tfcomp


def one_step(strategy):
    with strategy.scope():
        teacher, student = network(12, "teacher"), network(12, "student", seed=4)
        for model in (teacher, student):
            # Statistics and dropout are those of a device.
            model.get_layer("norm").trainable = False
            model.get_layer("drop").rate = 0.0
        student.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
        student.layers[-1].activation = keras.activations.softmax
    taught(
        teacher,
        student,
        epochs=1,
        batch_size=48,
        temperature=tfcomp.schedules.PiecewiseLinear([0], [4]),
        hints=["hidden"],
    )
    return [np.array(weight) for weight in student.get_weights()]


def generator(strategy):
    """How many samples of each class a device has seen, and whether its losses are numbers."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(48, 6)).astype("float32"), np.arange(48) % 3
    with strategy.scope():
        gan = tfcomp.distillation.table_gan(x, 3, latent=4, width=8)
    logs = gan.fit(x, y, batch_size=16, verbose=0).history
    return np.array(gan.seen).tolist(), bool(np.isfinite(logs["loss"]).all())


def main():
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    one, two = one_step(tf.distribute.get_strategy()), one_step(strategy)
    differences = [float(np.abs(a - b).max()) for a, b in zip(one, two, strict=True)]
    print(json.dumps([differences, *generator(strategy)]))


if __name__ == "__main__":
    main()
