"""Layers and models of the kind that other packages have, whose code makes layers of its own."""

import keras


class Mixer(keras.layers.Layer):
    """Makes layers in its constructor and in `build`, and holds them in every kind of container."""

    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.listed = [keras.layers.Dense(units), keras.layers.LayerNormalization()]
        self.named = {"first": keras.layers.Dense(units)}
        self.paired = (keras.layers.Dense(units), keras.layers.Dropout(0.5))
        self.stack = keras.Sequential([keras.layers.Dense(units, activation="relu")])
        # A name that begins as TensorFlow's bookkeeping does.
        self._self_attention = keras.layers.MultiHeadAttention(1, 2)

    def build(self, shape):
        self.late = keras.layers.Dense(self.units)
        inner = [*self.listed, self.named["first"], *self.paired, self.stack, self.late]
        for layer in inner:
            layer.build(shape)
        steps = (shape[0], 1, shape[1])
        self._self_attention.build(steps, steps)

    def call(self, x):
        for layer in (*self.listed, self.named["first"], *self.paired, self.stack, self.late):
            x = layer(x)
        steps = keras.ops.expand_dims(x, 1)
        return x + self._self_attention(steps, steps)[:, 0]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class Network(keras.Model):
    """A subclassed model with two outputs, a functional part and a head that has two names."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        inputs = keras.Input((4,))
        self.encoder = keras.Model(inputs, keras.layers.Dense(4, name="encode")(inputs))
        self.blocks = [Mixer() for _ in range(2)]
        self.heads = {"a": keras.layers.Dense(3), "b": keras.layers.Dense(2)}
        self.alias = self.heads["a"]

    def call(self, x):
        x = self.encoder(x)
        for block in self.blocks:
            x = block(x)
        return {"a": self.alias(x), "b": self.heads["b"](x)}


class Backbone(keras.Model):
    """A functional model that connects itself in its constructor."""

    def __init__(self, units=4, **kwargs):
        inputs = keras.Input((4,), name="features")
        first = keras.layers.Dense(units, name="first")
        outputs = keras.layers.Dense(2, name="last")(Mixer(units, name="mix")(first(inputs)))
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)
        self.units, self.first = units, first

    def greet(self):
        return "hello"

    def get_config(self):
        return {"units": self.units, "name": self.name}


CLASSES = {"Mixer": Mixer, "Network": Network, "Backbone": Backbone}
