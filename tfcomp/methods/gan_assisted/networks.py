"""Generators and discriminators of a usual size.

Augustus Odena, Christopher Olah, Jonathon Shlens, "Conditional Image Synthesis with Auxiliary
Classifier GANs", arXiv:1610.09585.
"""

import keras
import numpy as np

from tfcomp.methods.gan_assisted.conditional_gan import ConditionalGAN
from tfcomp.validation import check_integer, invalid

layers = keras.layers


def image_gan(
    shape, classes, latent=32, width=32, rate=5e-4, diversity=0.5, value_range=(0.0, 1.0)
):
    """Makes a `ConditionalGAN` of convolutional networks for images.

    Args:
        shape: `(height, width, channels)` of the images; height and width are multiples of 4.
        classes: Number of classes.
        latent: Number of the noise's components.
        width: Channels where images are largest, twice as many at half the size, and so on.
        rate: The learning rate.
        diversity: See `ConditionalGAN`.
        value_range: Smallest and largest value of the images.

    Returns:
        The model, compiled with `Adam(rate, beta_1=0.5)`.

    Raises:
        ValueError: If an argument is out of range.
    """
    if len(tuple(shape)) != 3 or any(side % 4 for side in tuple(shape)[:2]):
        raise invalid("shape", shape, "(height, width, channels), sides of multiples of 4")
    height, breadth, channels = (check_integer("shape", side, 1) for side in shape)
    classes, latent, width = _checked(classes, latent, width)
    low, high = value_range
    generator = keras.Sequential(
        [
            keras.Input((latent + classes,)),
            layers.Dense(height // 4 * (breadth // 4) * 4 * width, use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.Reshape((height // 4, breadth // 4, 4 * width)),
            layers.Conv2DTranspose(2 * width, 4, 2, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.Conv2DTranspose(channels, 4, 2, padding="same", activation="sigmoid"),
            layers.Rescaling(high - low, low, dtype="float32"),
        ],
        name="generator",
    )
    image = keras.Input((height, breadth, channels))
    x = layers.Rescaling(2 / (high - low), -1 - 2 * low / (high - low))(image)
    for factor, strides in ((1, 1), (2, 2), (4, 2)):
        x = layers.Conv2D(factor * width, 3, strides, padding="same")(x)
        x = layers.LeakyReLU(0.2)(x)
        x = layers.Dropout(0.3)(x)
    judge = _judge(image, layers.Flatten()(x), classes)
    return _compiled(ConditionalGAN(generator, judge, diversity, name="image_gan"), rate)


def table_gan(x, classes, latent=32, width=128, rate=5e-4):
    """Makes a `ConditionalGAN` of dense networks for a table of numbers.

    Each column is scaled to mean 0 and variance 1 inside, so samples have the data's own scale.

    Args:
        x: Array `(samples, columns)`, the data.
        classes: Number of classes.
        latent: Number of the noise's components.
        width: Units of the hidden layers.
        rate: The learning rate.

    Returns:
        The model, compiled with `Adam(rate, beta_1=0.5)`.

    Raises:
        ValueError: If an argument is out of range.
    """
    x = np.asarray(x, "float64")
    if x.ndim != 2 or not len(x) or not np.isfinite(x).all():
        raise invalid("x", x.shape, "finite numbers, of shape (samples, columns)")
    classes, latent, width = _checked(classes, latent, width)
    # Of a constant column the scale is of no account.
    deviation = np.where(x.std(0) > 0, x.std(0), 1.0)
    scale = {"mean": x.mean(0).tolist(), "variance": (deviation**2).tolist()}
    generator = keras.Sequential(
        [
            keras.Input((latent + classes,)),
            layers.Dense(width, use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.Dense(width, use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.Dense(x.shape[1]),
            layers.Normalization(invert=True, dtype="float32", **scale),
        ],
        name="generator",
    )
    rows = keras.Input((x.shape[1],))
    hidden = layers.Normalization(**scale)(rows)
    for _ in range(2):
        hidden = layers.Dense(width)(hidden)
        hidden = layers.LeakyReLU(0.2)(hidden)
        hidden = layers.Dropout(0.3)(hidden)
    judge = _judge(rows, hidden, classes)
    return _compiled(ConditionalGAN(generator, judge, name="table_gan"), rate)


def _compiled(gan, rate):
    gan.compile(keras.optimizers.Adam(rate, beta_1=0.5))
    return gan


def _judge(inputs, hidden, classes):
    outputs = [layers.Dense(units, dtype="float32")(hidden) for units in (1, classes)]
    return keras.Model(inputs, outputs, name="discriminator")


def _checked(classes, latent, width):
    classes = check_integer("classes", classes, 2)
    return classes, check_integer("latent", latent, 1), check_integer("width", width, 1)
