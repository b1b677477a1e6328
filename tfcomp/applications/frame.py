"""What all networks have in common: the images that go in, the head, the weights.

These are the arguments of every network, as in `keras.applications`:

    include_top: Whether the classifier is there; without it the outputs are feature maps, or what
        `pooling` makes of them.
    weights: `None`, or the path of a file of weights that `load_weights` reads.
    input_tensor: `None`, or a symbolic tensor of images to build on.
    input_shape: `None` for the paper's, or the shape of an image: three axes in the order of
        `keras.config.image_data_format()`, height and width `None` where any will do.
    pooling: Without `include_top`: `None`, `"avg"` or `"max"`, over all positions.
    classes: Number of classes.
    classifier_activation: Activation of the last layer, `None` for logits.
    name: Name of the model.
"""

import os
from typing import Any, NamedTuple

import keras

from tfcomp.validation import check_integer, invalid


class Frame(NamedTuple):
    """The arguments of a network, checked, and the tensors and model that they ask for."""

    include_top: bool
    weights: Any
    input_tensor: Any
    input_shape: tuple | None
    pooling: str | None
    classes: int
    classifier_activation: Any
    name: str

    @property
    def channel_axis(self):
        """Axis of the channels in a batch."""
        return 3 if keras.config.image_data_format() == "channels_last" else 1

    def images(self, size, least=1):
        """The symbolic images that the network begins with.

        Args:
            size: Height and width where none are asked for.
            least: The smallest height and width that the network can take.
        """
        check_integer("classes", self.classes, 1)
        keras.activations.get(self.classifier_activation)
        if self.pooling not in (None, "avg", "max"):
            raise invalid("pooling", self.pooling, "None, 'avg' or 'max'")
        if self.weights is not None and not os.path.exists(self.weights):
            raise invalid("weights", self.weights, "None or the path of a file that is there")
        images, name = self.input_tensor, "input_tensor"
        if images is None:
            shape, name = self.input_shape, "input_shape"
            if shape is None:
                shape = (size, size, 3) if self.channel_axis == 3 else (3, size, size)
            self._check(name, shape, least)
            return keras.Input(tuple(shape))
        if not isinstance(images, keras.KerasTensor):
            raise invalid(name, images, "None or a symbolic tensor")
        self._check(name, images.shape[1:], least)
        given = self.input_shape
        if given is not None and tuple(given) != tuple(images.shape[1:]):
            raise invalid("input_shape", given, f"None or that of `input_tensor`, {images.shape}")
        return images

    def _check(self, name, shape, least):
        expected = f"three axes, height and width None or at least {least}, channels known"
        if not isinstance(shape, (tuple, list)) or len(shape) != 3:
            raise invalid(name, shape, expected)
        sizes = list(shape)
        channels = sizes.pop(self.channel_axis - 1)
        try:
            check_integer(name, channels, 1)
            for size in sizes:
                if size is not None:
                    check_integer(name, size, least)
        except ValueError as error:
            raise invalid(name, shape, expected) from error

    def classifier(self, features, dropout=0.0):
        """Classes by a dense layer behind the mean of every channel."""
        x = keras.layers.GlobalAveragePooling2D(name="pool")(features)
        if dropout:
            x = keras.layers.Dropout(dropout, name="dropout")(x)
        return self.predictions(x)

    def predictions(self, x, name="predictions"):
        """The last dense layer of the classifier, or of an auxiliary one."""
        return keras.layers.Dense(self.classes, activation=self.classifier_activation, name=name)(x)

    def model(self, images, features, top):
        """The model from images to classes or features.

        Args:
            images: What `images` returned.
            features: The last feature maps.
            top: Function from these to the outputs with a classifier.
        """
        if self.include_top:
            outputs = top(features)
        elif self.pooling == "avg":
            outputs = keras.layers.GlobalAveragePooling2D(name="pool")(features)
        elif self.pooling == "max":
            outputs = keras.layers.GlobalMaxPooling2D(name="pool")(features)
        else:
            outputs = features
        if self.input_tensor is not None:
            sources = keras.utils.get_source_inputs(images)
            images = sources[0] if len(sources) == 1 else sources
        model = keras.Model(images, outputs, name=self.name)
        if self.weights is not None:
            model.load_weights(self.weights)
        return model
