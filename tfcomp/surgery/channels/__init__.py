"""The channels of a model: which are tied, and a model without some of them."""

from tfcomp.surgery.channels.groups import channels

__all__ = ["channels"]
