"""SqueezeNet.

Forrest Iandola et al., "SqueezeNet", arXiv:1602.07360.
"""

import keras

from tfcomp.applications.frame import Frame
from tfcomp.layers.fire import FireModule
from tfcomp.validation import invalid

# Filters and size of the first convolution, the modules that pooling comes behind (1 is the first
# convolution), and the smallest images.
_VERSIONS = {"1.0": (96, 7, (1, 4, 8), 21), "1.1": (64, 3, (1, 3, 5), 17)}
# Squeeze and expand filters, from module 2 on.
_MODULES = [(16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)]


def SqueezeNet(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name=None,
    *,
    version="1.1",
    bypass=None,
):
    """Returns a SqueezeNet: AlexNet's accuracy with 1.2 million parameters.

    A convolution, eight `tfcomp.layers.FireModule`s, and a convolution 1×1 to the classes, whose
    mean over all positions is the prediction. The geometry is that of the authors' model files:
    images of 227, no padding of the first convolution, and pooling that reaches over the edge by
    one where the size is even.

    Args:
        include_top, weights, input_tensor, input_shape: As in `keras.applications`; `weights` is
            `None` or a path. Images are 227×227×3 by default, and may have any
            size from 21 (version 1.1: 17) on.
        pooling, classes, classifier_activation, name: As there.
        version: `"1.0"`, the paper's, or `"1.1"`, the authors' later one, as accurate with less
            than half the work.
        bypass: `None`, `"simple"` (modules 3, 5, 7, 9 add their input) or `"complex"` (the
            others add a convolution 1×1 of it, too).

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: For an argument that cannot be used.

    Reference:
        Forrest Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and
        <0.5MB model size", arXiv:1602.07360.

    Example:

    >>> import tfcomp
    >>> tfcomp.applications.SqueezeNet(version="1.0").count_params()
    1248424
    """
    if version not in _VERSIONS:
        raise invalid("version", version, f"one of {sorted(_VERSIONS)}")
    if bypass not in (None, "simple", "complex"):
        raise invalid("bypass", bypass, "None, 'simple' or 'complex'")
    default = "squeezenet_" + "_".join(version.split("."))
    frame = Frame(
        include_top,
        weights,
        input_tensor,
        input_shape,
        pooling,
        classes,
        classifier_activation,
        name or default,
    )
    filters, size, pooled, least = _VERSIONS[version]
    images = frame.images(227, least)
    x = keras.layers.Conv2D(filters, size, 2, activation="relu", name="conv1")(images)
    for number, (squeeze, expand) in enumerate(_MODULES, 2):
        if number - 1 in pooled:
            x = _pool(x, number - 1)
        around = _bypass(bypass, number)
        x = FireModule(squeeze, expand, bypass=around, name=f"fire{number}")(x)
    return frame.model(images, x, lambda features: _top(frame, features))


def _bypass(bypass, number):
    if number % 2:
        return bypass is not None
    return "convolution" if bypass == "complex" else False


def _pool(x, number):
    """Caffe's pooling, which counts windows that begin in the image; activations are positive."""
    x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"pool{number}_pad")(x)
    return keras.layers.MaxPooling2D(3, 2, name=f"pool{number}")(x)


def _top(frame, features):
    x = keras.layers.Dropout(0.5, name="dropout")(features)
    x = keras.layers.Conv2D(frame.classes, 1, activation="relu", name="conv10")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.layers.Activation(frame.classifier_activation, name="predictions")(x)
