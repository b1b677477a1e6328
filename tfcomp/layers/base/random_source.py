"""Random numbers that go on where they stopped."""

import keras


class RandomSource(keras.layers.Layer):
    """Holds a seed generator for the layer whose attribute it is, and saves its state.

    Keras hands a seed generator through the compiled step on every backend but leaves its state
    out of files, so that a resumed run would draw other numbers. It saves the layers it finds on
    attributes, hence this one. A file without the state leaves the generator as it is.

    Args:
        seed: Integer, or `None` for one that follows `keras.utils.set_random_seed`.
    """

    is_part = True

    def __init__(self, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator(seed)
        self.built = True

    def save_own_variables(self, store):
        store["state"] = keras.ops.convert_to_numpy(self.generator.state.value)

    def load_own_variables(self, store):
        if "state" in store.keys():  # noqa: SIM118, an entry of a file is no dict
            self.generator.state.assign(store["state"])
