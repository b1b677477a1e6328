"""For what kernels are looked for, and how long."""

import time
from typing import NamedTuple

from tfcomp.model.result import LeftOut


class Search(NamedTuple):
    """What a user asks for.

    Attributes:
        batch_sizes: Tuple of the batch sizes that matter.
        seconds: How long kernels are tried.
    """

    batch_sizes: tuple
    seconds: float


class Budget:
    """Seconds for trials, from now on.

    Args:
        seconds: After so many no further trial begins.
    """

    def __init__(self, seconds):
        self.seconds, self._begin = seconds, time.monotonic()

    @property
    def used(self):
        """Seconds since the beginning."""
        return time.monotonic() - self._begin

    @property
    def is_used_up(self):
        return self.used >= self.seconds

    def left_out(self, path, batch=None):
        """The `LeftOut` of a layer that there was no time for."""
        where = "" if batch is None else f" for a batch of {batch}"
        return LeftOut(path, f"not tried{where}: the {self.seconds:g} seconds were used up")
