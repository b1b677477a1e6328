"""What keeps a variable compressed at all times, to build methods of your own on."""

from tfcomp.core.latent import Latent
from tfcomp.core.mask import Mask
from tfcomp.core.projection import Projection, over_replicas

__all__ = ["Latent", "Mask", "Projection", "over_replicas"]
