"""GoogLeNet.

Christian Szegedy et al., "Going Deeper with Convolutions", arXiv:1409.4842.
"""

import keras

from tfcomp.applications.frame import Frame
from tfcomp.layers.inception import InceptionModule
from tfcomp.layers.local_response import LocalResponseNormalization
from tfcomp.validation import invalid

# Filters of the four branches of each module; `None` is pooling.
_MODULES = {
    "3a": (64, (96, 128), (16, 32), 32),
    "3b": (128, (128, 192), (32, 96), 64),
    "pool3": None,
    "4a": (192, (96, 208), (16, 48), 64),
    "4b": (160, (112, 224), (24, 64), 64),
    "4c": (128, (128, 256), (24, 64), 64),
    "4d": (112, (144, 288), (32, 64), 64),
    "4e": (256, (160, 320), (32, 128), 128),
    "pool4": None,
    "5a": (256, (160, 320), (32, 128), 128),
    "5b": (384, (192, 384), (48, 128), 128),
}
_AUXILIARY = ("4a", "4d")


def GoogLeNet(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name=None,
    *,
    auxiliary=False,
    use_lrn=True,
):
    """Returns a GoogLeNet, nine `tfcomp.layers.InceptionModule`s behind three convolutions.

    With `auxiliary` the model has three outputs: the classifier's, and those of the two auxiliary
    classifiers, which take part in training alone: `compile(loss_weights=[1.0, 0.3, 0.3])`. Behind
    it `keras.Model(model.inputs, model.outputs[0])` is the network without them.

    Args:
        include_top, weights, input_tensor, input_shape: As in `keras.applications`; `weights` is
            `None` or a path. Images are 224×224×3 by default, and may have any size.
        pooling, classes, classifier_activation, name: As there.
        auxiliary: Whether to add the auxiliary classifiers; the size of images must be known then.
        use_lrn: Whether the first layers have local response normalization.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: For an argument that cannot be used.

    Reference:
        Christian Szegedy et al., "Going Deeper with Convolutions", arXiv:1409.4842.

    Example:

    >>> import tfcomp
    >>> tfcomp.applications.GoogLeNet().count_params()
    6998552
    """
    frame = Frame(
        include_top,
        weights,
        input_tensor,
        input_shape,
        pooling,
        classes,
        classifier_activation,
        name or "googlenet",
    )
    images = frame.images(224)
    if auxiliary and (not include_top or None in images.shape[1:]):
        raise invalid("auxiliary", auxiliary, "False without top, or for images of unknown size")
    x, heads = _stem(images, use_lrn), []
    for module, filters in _MODULES.items():
        if filters is None:
            x = _pool(x, module)
            continue
        x = InceptionModule(*filters, name=f"inception_{module}")(x)
        if auxiliary and module in _AUXILIARY:
            heads.append(_auxiliary(frame, x, len(heads) + 1))
    return frame.model(images, x, lambda features: _outputs(frame, features, heads))


def _conv(x, filters, size, name, strides=1):
    layer = keras.layers.Conv2D(
        filters, size, strides, padding="same", activation="relu", name=name
    )
    return layer(x)


def _pool(x, name):
    return keras.layers.MaxPooling2D(3, 2, padding="same", name=name)(x)


def _stem(x, use_lrn):
    x = _pool(_conv(x, 64, 7, "conv1", 2), "pool1")
    if use_lrn:
        x = LocalResponseNormalization(name="lrn1")(x)
    x = _conv(_conv(x, 64, 1, "conv2_reduce"), 192, 3, "conv2")
    if use_lrn:
        x = LocalResponseNormalization(name="lrn2")(x)
    return _pool(x, "pool2")


def _auxiliary(frame, x, number):
    name = f"auxiliary{number}"
    sizes = list(x.shape[1:])
    sizes.pop(frame.channel_axis - 1)
    # Of small images there is not as much left as the paper's window covers.
    window = [min(5, size) for size in sizes]
    x = keras.layers.AveragePooling2D(window, 3, name=f"{name}_pool")(x)
    x = _conv(x, 128, 1, f"{name}_conv")
    x = keras.layers.Flatten(name=f"{name}_flatten")(x)
    x = keras.layers.Dense(1024, activation="relu", name=f"{name}_dense")(x)
    x = keras.layers.Dropout(0.7, name=f"{name}_dropout")(x)
    return frame.predictions(x, f"{name}_predictions")


def _outputs(frame, features, heads):
    predictions = frame.classifier(features, 0.4)
    return [predictions, *heads] if heads else predictions
