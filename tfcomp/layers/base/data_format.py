"""Where the channels of images are."""

import keras

from tfcomp.validation import invalid


def checked_data_format(data_format):
    """Returns `"channels_last"` or `"channels_first"`; Keras's default for `None`."""
    data_format = keras.config.image_data_format() if data_format is None else data_format
    if data_format not in ("channels_first", "channels_last"):
        raise invalid("data_format", data_format, "'channels_first' or 'channels_last'")
    return data_format
