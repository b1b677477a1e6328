"""ShuffleNet, version 1.

Xiangyu Zhang et al., "ShuffleNet", arXiv:1707.01083.
"""

import keras

from tfcomp.applications.frame import Frame
from tfcomp.layers.shuffle import ShuffleUnit
from tfcomp.validation import check_integer, check_number, invalid

# Groups and the channels of stage 2, which each later stage doubles; units of stages 2 to 4.
_CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
_UNITS = (4, 8, 4)


def ShuffleNet(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name=None,
    *,
    groups=3,
    scale=1.0,
):
    """Returns a ShuffleNet, sixteen `tfcomp.layers.ShuffleUnit`s in three stages.

    The first convolution has 24 channels: half of them below a scale of 1 and twice as many from 2
    on, as in the authors' code, rounded up to a multiple of `groups`. The paper's 0.25×, 0.5×, 1×,
    1.5× and 2× then cost about what its tables say.

    Args:
        include_top, weights, input_tensor, input_shape: As in `keras.applications`; `weights` is
            `None` or a path. Images are 224×224×3 by default, and may have any size.
        pooling, classes, classifier_activation, name: As there.
        groups: Groups of the convolutions 1×1: 1, 2, 3, 4 or 8.
        scale: The paper's `s×`: a factor of the channels of all stages.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: For an argument that cannot be used.

    Reference:
        Xiangyu Zhang et al., "ShuffleNet: An Extremely Efficient Convolutional Neural Network for
        Mobile Devices", arXiv:1707.01083.

    Example:

    >>> import tfcomp
    >>> small = tfcomp.applications.ShuffleNet(
    ...     input_shape=(32, 32, 3), classes=10, groups=8, scale=0.25
    ... )
    >>> small.output_shape
    (None, 10)
    """
    if check_integer("groups", groups, 1) not in _CHANNELS:
        raise invalid("groups", groups, f"one of {list(_CHANNELS)}")
    check_number("scale", scale, above=0)
    frame = Frame(
        include_top,
        weights,
        input_tensor,
        input_shape,
        pooling,
        classes,
        classifier_activation,
        name or f"shufflenet_g{groups}_{scale:g}".replace(".", "_"),
    )
    images = frame.images(224)
    first = -(-(12 if scale < 1 else 24 if scale < 2 else 48) // groups) * groups
    channels = groups * round(_CHANNELS[groups] * scale / groups)
    if channels <= first:
        raise invalid("scale", scale, f"a number at which stage 2 has more than {first} channels")
    x = keras.layers.Conv2D(first, 3, 2, padding="same", use_bias=False, name="conv1")(images)
    x = keras.layers.BatchNormalization(axis=frame.channel_axis, name="conv1_norm")(x)
    x = keras.layers.ReLU(name="conv1_relu")(x)
    x = keras.layers.MaxPooling2D(3, 2, padding="same", name="pool1")(x)
    for stage, units in enumerate(_UNITS, 2):
        for unit in range(units):
            x = ShuffleUnit(
                channels * 2 ** (stage - 2),
                groups=groups,
                strides=1 if unit else 2,
                first_grouped=(stage, unit) != (2, 0),
                name=f"stage{stage}_unit{unit + 1}",
            )(x)
    return frame.model(images, x, frame.classifier)
