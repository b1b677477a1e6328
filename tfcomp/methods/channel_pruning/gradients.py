"""Gradients of a compiled model's loss, on any backend.

Keras computes gradients where it trains, and nowhere else; so the model is trained by an optimizer
that changes nothing.
"""

import keras

from tfcomp import keras_private


class _Recorder(keras.optimizers.Optimizer):
    """Keeps the gradients of a step times the weights."""

    def build(self, variables):
        if not self.built:
            super().build(variables)
            self.products = [
                self.add_variable_from_reference(variable, name="product") for variable in variables
            ]

    def update_step(self, gradient, variable, learning_rate):
        product = self.products[keras_private.place_of(self, variable)]
        self.assign(product, keras.ops.multiply(gradient, variable))


class _AtInference(keras.Model):
    """A model that trains as it infers: without dropout, and with the statistics it has."""

    def __init__(self, model):
        super().__init__(name="at_inference")
        self.model = model
        if getattr(model, "output_names", None):
            self.output_names = model.output_names

    def call(self, inputs):
        return self.model(inputs, training=False)


class _Tells(keras.callbacks.Callback):
    def __init__(self, recorder, see):
        super().__init__()
        self._recorder, self._see = recorder, see

    def on_train_batch_end(self, batch, logs=None):
        # Asking for the model brings its variables up to date on JAX.
        variables = self.model.trainable_variables
        products = (keras.ops.convert_to_numpy(p.value) for p in self._recorder.products)
        self._see(dict(zip(map(id, variables), products)))


def gradient_products(model, batches, see):
    """Tells, for each batch, the gradients of the loss times the weights.

    Args:
        model: A compiled model; it is not changed.
        batches: `Batches` of inputs and targets.
        see: Function of a dict from the id of each trainable variable to a NumPy array.
    """
    compiled = keras_private.compile_arguments(model)
    recorder, trained = _Recorder(0.0, name="recorder"), _AtInference(model)
    known = {name: compiled[name] for name in ("loss", "loss_weights") if compiled.get(name)}
    trained.compile(recorder, **known)
    words = {"shuffle": False} if "y" in batches.keywords() else {}
    trained.fit(**batches.keywords(), **words, callbacks=[_Tells(recorder, see)], verbose=0)
