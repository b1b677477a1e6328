"""Parts for `tfcomp.distill`: where fresh inputs come from, and how good they are."""

from tfcomp.methods.distillation.distill import Distillation
from tfcomp.methods.distillation.mixture import mixture
from tfcomp.methods.gan_assisted.conditional_gan import ConditionalGAN
from tfcomp.methods.gan_assisted.networks import image_gan, table_gan
from tfcomp.methods.gan_assisted.sample_images import SampleImages
from tfcomp.methods.gan_assisted.score import compression_score
from tfcomp.methods.gan_assisted.sources import Augmented, Munge

__all__ = [
    "Augmented",
    "ConditionalGAN",
    "Distillation",
    "Munge",
    "SampleImages",
    "compression_score",
    "image_gan",
    "mixture",
    "table_gan",
]
