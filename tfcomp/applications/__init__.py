"""Small networks of the papers, with the arguments of `keras.applications`."""

from tfcomp.applications.googlenet import GoogLeNet
from tfcomp.applications.mobilenet import MobileNet
from tfcomp.applications.shufflenet import ShuffleNet
from tfcomp.applications.squeezenet import SqueezeNet

__all__ = ["GoogLeNet", "MobileNet", "ShuffleNet", "SqueezeNet"]
