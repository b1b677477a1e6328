"""AdaMax by shifts.

Itay Hubara, Matthieu Courbariaux et al., "Binarized Neural Networks", arXiv:1602.02830.
"""

import keras
from keras import ops

from tfcomp.keras_private import adamax_moments
from tfcomp.methods.binary.ap2 import ap2
from tfcomp.validation import check_integer, check_number


@keras.saving.register_keras_serializable("tfcomp")
class ShiftBasedAdaMax(keras.optimizers.Adamax):
    """AdaMax whose factors are powers of two, so that nothing is multiplied.

    With `AP2(x) = sign(x) 2**round(log2 |x|)` and the gradient g of step t:

        m = β1 m + (1 - β1) g
        v = max(β2 v, |g|)
        w = w - AP2(α / (1 - β1**t)) m AP2(1 / v)

    `β1 = 1 - 2**-3` and `β2 = 1 - 2**-10` make shifts of the moments' factors, too.

    Args:
        learning_rate: α, a float, a schedule such as `tfcomp.optimizers.Halving`, or a callable.
        beta_1: β1.
        beta_2: β2.
        epsilon: What v counts as where it is smaller.
        **kwargs: Those of every Keras optimizer.

    Raises:
        ValueError: If β1 or β2 is not in [0, 1).

    Reference:
        Hubara, Courbariaux et al., "Binarized Neural Networks: Training Neural Networks with
        Weights and Activations Constrained to +1 or -1", arXiv:1602.02830, algorithm 4.

    Example:

    >>> import keras, tfcomp
    >>> w = keras.Variable([1.0, 1.0])
    >>> optimizer = tfcomp.optimizers.ShiftBasedAdaMax(0.25)
    >>> optimizer.apply([keras.ops.array([3.0, -4.0])], [w])
    >>> keras.ops.convert_to_numpy(w.value).tolist()
    [0.8125, 1.25]
    """

    def __init__(
        self,
        learning_rate=2.0**-10,
        beta_1=1 - 2.0**-3,
        beta_2=1 - 2.0**-10,
        epsilon=1e-7,
        **kwargs,
    ):
        for name, beta in (("beta_1", beta_1), ("beta_2", beta_2)):
            check_number(name, beta, least=0, below=1)
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **kwargs)

    def update_step(self, gradient, variable, learning_rate):
        gradient = ops.cast(gradient, variable.dtype)
        m, v = adamax_moments(self, variable)
        self.assign_add(m, (gradient - m) * (1 - self.beta_1))
        self.assign(v, ops.maximum(v * self.beta_2, ops.abs(gradient)))

        # Half precision does not hold the inverse of a small norm.
        t, m, v = (ops.cast(x, "float32") for x in (self.iterations + 1, m, v))
        step = ap2(ops.cast(learning_rate, "float32") / (1 - ops.power(self.beta_1, t)))
        update = step * m * ap2(1 / ops.maximum(v, self.epsilon))
        self.assign_sub(variable, ops.cast(update, variable.dtype))


@keras.saving.register_keras_serializable("tfcomp")
class Halving(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that is halved, shifted right by one, every so many steps.

    Args:
        initial_learning_rate: Of the first steps; a power of two stays one.
        every: Optimizer steps between two halvings; those of 50 epochs in the paper.

    Raises:
        ValueError: If the rate is negative, or `every` is no positive integer.

    Reference:
        Hubara, Courbariaux et al., "Binarized Neural Networks", arXiv:1602.02830.

    Example:

    >>> import tfcomp
    >>> rate = tfcomp.optimizers.Halving(0.5, every=100)
    >>> [float(rate(step)) for step in (0, 99, 100, 250)]
    [0.5, 0.5, 0.25, 0.125]
    """

    def __init__(self, initial_learning_rate, every):
        check_number("initial_learning_rate", initial_learning_rate, least=0)
        self.initial_learning_rate = initial_learning_rate
        self.every = check_integer("every", every, 1)

    def __call__(self, step):
        halvings = ops.floor_divide(ops.cast(step, "int32"), self.every)
        # A power of one half is exact only after it was rounded to one.
        return self.initial_learning_rate * ap2(ops.power(0.5, ops.cast(halvings, "float32")))

    def get_config(self):
        return {"initial_learning_rate": self.initial_learning_rate, "every": self.every}
