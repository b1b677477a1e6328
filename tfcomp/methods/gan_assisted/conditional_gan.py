"""An auxiliary-classifier GAN, whose discriminator knows the classes.

Augustus Odena, Christopher Olah, Jonathon Shlens, "Conditional Image Synthesis with Auxiliary
Classifier GANs", arXiv:1610.09585; against generators that make one sample of each class, Qi Mao et
al., "Mode Seeking Generative Adversarial Networks for Diverse Image Synthesis", arXiv:1903.05628;
for distillation, Ruishan Liu, Nicolo Fusi, Lester Mackey, "Teacher-Student Compression with
Generative Adversarial Networks", arXiv:1812.02271.
"""

import keras
import numpy as np

from tfcomp.keras_private import SavesSeeds
from tfcomp.validation import check_integer, check_number, invalid


@keras.saving.register_keras_serializable("tfcomp")
class ConditionalGAN(SavesSeeds, keras.Model):
    """A generator of samples of given classes, trained against a discriminator by `fit(x, y)`.

    The discriminator says of a sample whether it is real, and of which class. It learns
    `log P(real | x) + log P(fake | g) + log P(c | x) + log P(c | g)` for real samples `x` and fakes
    `g = G(z, c)`, and the generator `log P(real | g) + log P(c | g)`. Both are updated by the same
    step, from the same fakes, and neither's loss reaches the other's weights. It is Keras's own
    step, so it runs on every backend, on several devices and in mixed precision. `compile` takes an
    optimizer and no loss.

    A generator may leave the noise out of account: one prototype of each class satisfies both
    logits. Where `diversity` is above 0 it also learns `diversity / r`, where `r` is how far two
    fakes of the same class and of different noise are apart, over how far two real samples are.

    Fakes have the classes of the batch in training, and those of all of the data in `sample`.

    Args:
        generator: `keras.Model` from `(batch, latent + classes)`, noise beside a one-hot class, to
            samples. `tfcomp.distillation.image_gan` and `table_gan` make both models.
        discriminator: `keras.Model` from samples to a list of two logits: `(batch, 1)`, is it real,
            and `(batch, classes)`.
        diversity: Weight of what keeps fakes of a class apart, 0 for none.
        label_smoothing: What is taken off the target 1 of a real sample, in [0, 1).
        name: Name of the model.

    Attributes:
        classes: Number of classes.
        latent: Number of the noise's components.

    Raises:
        ValueError: If the two models do not go together; in `fit`, if there are no labels.

    Reference:
        Augustus Odena, Christopher Olah, Jonathon Shlens, "Conditional Image Synthesis with
        Auxiliary Classifier GANs", arXiv:1610.09585; diversity: Qi Mao et al., "Mode Seeking
        Generative Adversarial Networks for Diverse Image Synthesis", arXiv:1903.05628.

    Example:

    >>> import numpy as np, tfcomp
    >>> x, y = np.random.default_rng(0).random((32, 8, 8, 1), "float32"), np.arange(32) % 4
    >>> gan = tfcomp.distillation.image_gan((8, 8, 1), classes=4, width=4)
    >>> _ = gan.fit(x, y, verbose=0)
    >>> gan.sample(5, seed=0).shape
    (5, 8, 8, 1)
    """

    def __init__(self, generator, discriminator, diversity=0.0, label_smoothing=0.0, name=None):
        super().__init__(name=name)
        check_number("diversity", diversity, 0)
        check_number("label_smoothing", label_smoothing, 0, below=1)
        judged = getattr(discriminator, "output_shape", None)
        if not isinstance(judged, list) or len(judged) != 2 or judged[0][1:] != (1,):
            expected = "a model with two outputs, of shapes (None, 1) and (None, classes)"
            raise invalid("discriminator", judged, expected)
        if generator.output_shape != discriminator.input_shape:
            expected = f"a model with outputs of shape {discriminator.input_shape}"
            raise invalid("generator", generator.output_shape, expected)
        self.classes = judged[1][-1]
        self.latent = check_integer("latent", generator.input_shape[-1] - self.classes, 1)
        self.generator, self.discriminator = generator, discriminator
        self.diversity, self.label_smoothing = diversity, label_smoothing
        self.noise = keras.random.SeedGenerator()
        # How many samples of each class a device has seen.
        self.seen = self.add_weight(
            shape=(self.classes,), initializer="zeros", trainable=False, aggregation="mean"
        )
        self._truth = keras.losses.BinaryCrossentropy(from_logits=True)
        self._kind = keras.losses.CategoricalCrossentropy(from_logits=True)
        self.generator_loss = keras.metrics.Mean(name="generator_loss")
        self.discriminator_loss = keras.metrics.Mean(name="discriminator_loss")
        self.built = True

    def call(self, x, training=None):
        return self.discriminator(x, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if y is None:
            raise ValueError("A ConditionalGAN learns from samples with labels: `fit(x, y)`.")
        if sample_weight is not None:
            raise invalid("sample_weight", sample_weight, "None")
        kinds = self._one_hot(y)
        if training:
            self.seen.assign_add(keras.ops.sum(kinds, axis=0))
        fakes, others = self._fakes(kinds, training)
        judged = self.discriminator(keras.ops.stop_gradient(fakes), training=training)
        critical = self._judgement(y_pred, kinds, 1.0 - self.label_smoothing)
        critical = critical + self._judgement(judged, kinds, 0.0)
        creative = self._judgement(self.discriminator(fakes, training=training), kinds, 1.0)
        # What that teaches the discriminator is taken off again; with dropout, on average. Weights
        # that no gradient flows to would do the same, but TensorFlow may read them too late.
        taught = self._judgement(judged, kinds, 1.0)
        if self.diversity:
            apart, usual = _distance(fakes, others), _distance(x, keras.ops.roll(x, 1, axis=0))
            creative = creative + self.diversity * (usual / (apart + 1e-3 * usual))
        self.discriminator_loss.update_state(critical)
        self.generator_loss.update_state(creative)
        return critical + (creative - taught)

    def _fakes(self, kinds, training):
        """Fakes of some classes, and others of the same; `None` where these are not asked for."""
        kinds = keras.ops.concatenate([kinds, kinds]) if self.diversity else kinds
        noise = keras.random.normal((keras.ops.shape(kinds)[0], self.latent), seed=self.noise)
        fakes = self.generator(keras.ops.concatenate([noise, kinds], -1), training=training)
        return keras.ops.split(fakes, 2) if self.diversity else (fakes, None)

    def _judgement(self, judged, kinds, real):
        truth, kind = judged
        return self._truth(real * keras.ops.ones_like(truth), truth) + self._kind(kinds, kind)

    def _one_hot(self, y):
        if len(y.shape) > 1 and y.shape[-1] == self.classes and self.classes > 1:
            return keras.ops.cast(y, "float32")
        return keras.ops.one_hot(keras.ops.reshape(keras.ops.cast(y, "int32"), (-1,)), self.classes)

    def sample(self, count, seed=0, labels=None):
        """Draws samples, the same for the same seed and weights.

        Args:
            count: How many.
            seed: Integer.
            labels: Class numbers `(count,)`; `None` to draw them as often as the data had them.

        Returns:
            Array of samples, `(count, ...)`.

        Raises:
            ValueError: If labels are not as many, or not classes; if there are none, and the model
                was never trained.
        """
        rng = np.random.default_rng(check_integer("seed", seed, 0))
        noise = rng.normal(size=(check_integer("count", count, 1), self.latent))
        if labels is None:
            labels = rng.choice(self.classes, count, p=self._shares())
        labels = np.asarray(labels)
        if labels.shape != (count,) or not np.isin(labels, np.arange(self.classes)).all():
            raise invalid("labels", labels, f"{count} integers from 0 to {self.classes - 1}")
        inputs = np.concatenate([noise, np.eye(self.classes)[labels]], -1).astype("float32")
        return self.generator.predict(inputs, batch_size=256, verbose=0)

    def _shares(self):
        seen = keras.ops.convert_to_numpy(self.seen.value).astype("float64")
        if not seen.any():
            raise ValueError("This ConditionalGAN was never trained: call `fit(x, y)` first.")
        return seen / seen.sum()

    def get_config(self):
        return {
            "generator": keras.saving.serialize_keras_object(self.generator),
            "discriminator": keras.saving.serialize_keras_object(self.discriminator),
            "diversity": self.diversity,
            "label_smoothing": self.label_smoothing,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        made = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("generator", "discriminator")
        }
        return cls(**{**config, **made})


def _distance(samples, others):
    difference = keras.ops.subtract(
        *(keras.ops.cast(each, "float32") for each in (samples, others))
    )
    return keras.ops.mean(keras.ops.abs(difference))
