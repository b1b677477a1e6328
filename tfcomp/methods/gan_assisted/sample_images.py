"""Pictures of what a GAN has learned.

Augustus Odena, Christopher Olah, Jonathon Shlens, "Conditional Image Synthesis with Auxiliary
Classifier GANs", arXiv:1610.09585.
"""

import pathlib

import keras
import numpy as np

from tfcomp.methods.gan_assisted.conditional_gan import ConditionalGAN
from tfcomp.validation import check_integer, invalid


class SampleImages(keras.callbacks.Callback):
    """Writes a picture of generated images after epochs of a `ConditionalGAN`: `epoch_0001.png` ...

    A row for each class, of the same noise every time. Pillow writes it, as in `keras.utils`.

    Args:
        folder: Where to; it is made if need be.
        columns: Images of each class.
        frequency: Epochs between pictures.
        scale: Pixels for each pixel.
        seed: Integer.

    Raises:
        ValueError: If an argument is out of range; when `fit` begins, if the model is no
            `ConditionalGAN` of images.

    Example:

    >>> import numpy as np, pathlib, tempfile, tfcomp
    >>> x, y = np.random.default_rng(0).random((32, 8, 8, 1), "float32"), np.arange(32) % 4
    >>> gan = tfcomp.distillation.image_gan((8, 8, 1), classes=4, width=4)
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> pictures = tfcomp.distillation.SampleImages(folder)
    >>> _ = gan.fit(x, y, epochs=2, callbacks=[pictures], verbose=0)
    >>> sorted(path.name for path in folder.iterdir())
    ['epoch_0001.png', 'epoch_0002.png']
    """

    def __init__(self, folder, columns=8, frequency=1, scale=4, seed=0):
        super().__init__()
        self.folder, self.seed = pathlib.Path(folder), check_integer("seed", seed, 0)
        self.columns = check_integer("columns", columns, 1)
        self.frequency = check_integer("frequency", frequency, 1)
        self.scale = check_integer("scale", scale, 1)

    def set_model(self, model):
        super().set_model(model)
        if not isinstance(model, ConditionalGAN) or len(model.generator.output_shape) != 4:
            raise invalid("model", model.name, "a ConditionalGAN of images")

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.frequency == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            keras.utils.save_img(self.folder / f"epoch_{epoch + 1:04}.png", self.picture())

    def picture(self):
        """Array `(height, width, channels)`, one picture of all images."""
        labels = np.repeat(np.arange(self.model.classes), self.columns)
        images = self.model.sample(len(labels), self.seed, labels)
        _, height, width, channels = images.shape
        grid = images.reshape(-1, self.columns, height, width, channels).swapaxes(1, 2)
        grid = grid.reshape(-1, self.columns * width, channels)
        return grid.repeat(self.scale, 0).repeat(self.scale, 1)
