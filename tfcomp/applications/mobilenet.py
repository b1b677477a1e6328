"""MobileNet.

Andrew Howard et al., "MobileNets", arXiv:1704.04861.
"""

import keras

from tfcomp.applications.frame import Frame
from tfcomp.layers.depthwise_separable import DepthwiseSeparableBlock
from tfcomp.validation import check_integer, check_number

# Filters and strides of each block.
_BLOCKS = [
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
]


def MobileNet(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name=None,
    *,
    alpha=1.0,
    depth_multiplier=1,
    dropout=1e-3,
):
    """Returns a MobileNet of thirteen `tfcomp.layers.DepthwiseSeparableBlock`s.

    With images whose height and width are multiples of 32 it computes what
    `keras.applications.MobileNet` does, whose weights it takes in their order.

    Args:
        include_top, weights, input_tensor, input_shape: As in `keras.applications`; `weights` is
            `None` or a path. Images are 224×224×3 by default, and may have any size.
        pooling, classes, classifier_activation, name: As there.
        alpha: The paper's width multiplier.
        depth_multiplier: Depthwise filters for each channel.
        dropout: Rate of the dropout before the classifier.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: For an argument that cannot be used.

    Reference:
        Andrew Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
        Applications", arXiv:1704.04861.

    Example:

    >>> import tfcomp
    >>> tfcomp.applications.MobileNet(input_shape=(32, 32, 3), classes=10).output_shape
    (None, 10)
    """
    check_number("alpha", alpha, above=0)
    check_integer("depth_multiplier", depth_multiplier, 1)
    check_number("dropout", dropout, least=0, below=1)
    frame = Frame(
        include_top,
        weights,
        input_tensor,
        input_shape,
        pooling,
        classes,
        classifier_activation,
        name or f"mobilenet_{alpha:.2f}",
    )
    images = frame.images(224)

    def width(filters):
        return max(1, int(filters * alpha))

    x = keras.layers.Conv2D(width(32), 3, 2, padding="same", use_bias=False, name="conv1")(images)
    x = keras.layers.BatchNormalization(axis=frame.channel_axis, name="conv1_norm")(x)
    x = keras.layers.Activation("relu6", name="conv1_activation")(x)
    for number, (filters, strides) in enumerate(_BLOCKS, 1):
        x = DepthwiseSeparableBlock(
            width(filters), strides, depth_multiplier, "relu6", name=f"block{number}"
        )(x)
    return frame.model(images, x, lambda features: frame.classifier(features, dropout))
