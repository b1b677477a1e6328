"""The distillation loss, and what may change in it while a model trains.

Geoffrey Hinton, Oriol Vinyals, Jeff Dean, "Distilling the Knowledge in a Neural Network",
arXiv:1503.02531.
"""

import functools

import keras
import numpy as np

from tfcomp.core.entry import as_numpy
from tfcomp.core.optimizers import current_step

# Of a probability, for its logarithm: a teacher's of 0 stays 0 when it is divided by a temperature.
# The gradient of a student's, one over it, has to be a number.
_LEAST = float(np.finfo("float32").tiny), 1e-30


@keras.saving.register_keras_serializable("tfcomp")
class SoftTargets(keras.distillation.LogitsDistillation):
    """Keras's loss between logits, in single precision, of probabilities, too.

    `T² KL(softmax(t / T) ‖ softmax(s / T))`, with logits `t` of the teacher and `s` of the student.
    Of probabilities the logarithm is taken, which differs from their logits by a constant that
    softmax does not see. Any other loss compares the logits divided by `T`.

    The name `"kl_divergence"` means the divergence above. (Keras 3.13 to 3.15 turn that name, their
    own default, into a function which they apply to the logits as they are, and leave out `T²`.)

    Args:
        temperature: `T`, a positive number or a variable.
        loss: A loss or its name, or a structure of them like that of the outputs.
        probabilities: Pair of booleans, whether the teacher and the student return probabilities;
            or of structures of booleans like that of their outputs.
    """

    def __init__(self, temperature=3.0, loss="kl_divergence", probabilities=(False, False)):
        # What is a variable is no number to Keras.
        super().__init__(1.0, keras.tree.map_structure(as_loss, loss))
        self.temperature, self.probabilities = temperature, tuple(probabilities)

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        both = teacher_outputs, student_outputs
        teacher, student = (
            _logits(least, are, outputs)
            for are, least, outputs in zip(self.probabilities, _LEAST, both)
        )
        return super().compute_loss(teacher, student, **kwargs)

    def get_config(self):
        plain = {"temperature": float(self.temperature), "probabilities": list(self.probabilities)}
        return {**plain, "loss": keras.saving.serialize_keras_object(self.loss)}

    @classmethod
    def from_config(cls, config):
        loss = keras.saving.deserialize_keras_object(config["loss"])
        return cls(**{**config, "loss": loss})


def _logits(least, are, outputs):
    def logits(are, output):
        output = keras.ops.cast(output, "float32")
        return keras.ops.log(keras.ops.maximum(output, least)) if are else output

    if isinstance(are, bool):
        return keras.tree.map_structure(functools.partial(logits, are), outputs)
    return keras.tree.map_structure(logits, are, outputs)


@keras.saving.register_keras_serializable("tfcomp")
class MeanLoss(keras.losses.Loss):
    """A function as a loss.

    Of a function alone Keras's distiller takes a mean that knows nothing of other devices, and its
    gradients are then as many times too large.

    Args:
        function: Function of true and predicted values.
        **kwargs: As `keras.losses.Loss` takes them.
    """

    def __init__(self, function, **kwargs):
        super().__init__(**{"name": getattr(function, "__name__", None), **kwargs})
        self.function = keras.losses.get(function)

    def call(self, y_true, y_pred):
        return self.function(y_true, y_pred)

    def get_config(self):
        return {**super().get_config(), "function": keras.losses.serialize(self.function)}


def as_loss(loss):
    """A `keras.losses.Loss` of a loss, a function or a name; `None` as it is."""
    if loss is None or isinstance(loss, keras.losses.Loss):
        return loss
    found = keras.losses.get(loss)
    if found is keras.losses.kl_divergence:
        return keras.losses.KLDivergence()
    return found if isinstance(found, keras.losses.Loss) else MeanLoss(found)


class Following(keras.callbacks.Callback):
    """Has variables follow schedules by the steps of the optimizer, and says so in `logs`.

    Args:
        followed: Dict from a name to a pair of a variable and a `tfcomp.schedules.Schedule`.
    """

    def __init__(self, followed):
        super().__init__()
        self._followed = followed

    def on_train_batch_begin(self, batch, logs=None):
        # Asking for the model brings its variables up to date on JAX.
        step = current_step(self.model.optimizer)
        for variable, schedule in self._followed.values():
            point = schedule.last_point(step)
            value = np.float32(schedule.value(schedule.first_step if point is None else point))
            if value != as_numpy(variable):
                variable.assign(value)

    def on_epoch_end(self, epoch, logs=None):
        for name, (variable, _) in self._followed.items():
            logs[name] = float(as_numpy(variable))
