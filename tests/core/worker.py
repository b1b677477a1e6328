"""Run by test_distribution.py: one of two processes that train together, or one by itself.

    python worker.py FILE PROCESSES

It writes what it holds in the end to FILE. On TensorFlow two processes train under
MultiWorkerMirroredStrategy; on JAX one process trains on as many virtual devices.
"""

import pathlib
import sys

import keras
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
import fixtures

CALLBACKS = [
    fixtures.pruning,
    fixtures.quantization,
    fixtures.network_surgery,
    fixtures.quantized_training,
    fixtures.weight_sharing,
    fixtures.sensitivity_pruning,
]


EPOCHS, STEPS = 4, 4


def data():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(32, size)).astype("float32") for size in (8, 3)]


def make_model():
    keras.utils.set_random_seed(5)
    model = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(16, "tanh"), keras.layers.Dense(3)]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


def train_on_devices(callback, processes):
    if processes > 1:
        parallel = keras.distribution.DataParallel(devices=keras.distribution.list_devices())
        keras.distribution.set_distribution(parallel)
    model, (x, y) = make_model(), data()
    model.fit(x, y, batch_size=8, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=[callback])
    return model


def train_in_processes(callback, strategy):
    """A loop of one's own: `fit` of Keras 3.15 fails under this strategy, without us, too."""
    import tensorflow as tf

    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    batches = tf.data.Dataset.from_tensor_slices(tuple(data())).batch(8).with_options(options)
    batches = strategy.experimental_distribute_dataset(batches)
    with strategy.scope():
        model = make_model()
    callbacks = keras.callbacks.CallbackList([callback], model=model, epochs=EPOCHS, steps=STEPS)
    take_step = tf.function(lambda batch: strategy.run(model.train_step, args=(batch,)))
    callbacks.on_train_begin()
    for epoch in range(EPOCHS):
        callbacks.on_epoch_begin(epoch)
        for step, batch in enumerate(batches):
            callbacks.on_train_batch_begin(step)
            take_step(batch)
            callbacks.on_train_batch_end(step)
        callbacks.on_epoch_end(epoch)
    callbacks.on_train_end()
    return model


def main(file, processes):
    held = {}
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        several = tf.distribute.MultiWorkerMirroredStrategy
        strategy = several() if processes > 1 else tf.distribute.get_strategy()
    for make in CALLBACKS:
        if keras.backend.backend() == "tensorflow":
            model = train_in_processes(make(), strategy)
        else:
            model = train_on_devices(make(), processes)
        for variable in (*model.variables, *model.optimizer.variables):
            value = keras.ops.convert_to_numpy(variable.value)
            held[f"{make.__name__}/{len(held):03}/{variable.path}"] = value
    np.savez(file, **held)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
