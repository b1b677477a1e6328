"""Which kernels were chosen, and why not others."""

from typing import NamedTuple

from tfcomp.model.result import Result

KERAS = "Keras"
WHOLE = "(whole model)"
# Other kernels have to take so many times less than Keras's layers to be worth other rounding.
WORTH = 1.03


class Kernel(NamedTuple):
    """One row of `Kernels`.

    Attributes:
        path: Paths of the layers, or `"(whole model)"`.
        batch: Batch size.
        kernel: Name of the kernel that was chosen.
        milliseconds: Of a call with it, warm and cold caches averaged.
        keras_milliseconds: The same of Keras's layers.
        others: Dict from the names of other kernels to why it is none of them.
    """

    path: str
    batch: int
    kernel: str
    milliseconds: float
    keras_milliseconds: float
    others: dict

    @property
    def faster(self):
        """How many times faster than Keras's layers."""
        return self.keras_milliseconds / self.milliseconds

    @property
    def why(self):
        """Why it is no other kernel, as one line."""
        return joined(self.others)


def joined(reasons):
    """A dict of reasons by name as one line, each reason once."""
    names = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(own)}: {reason}" for reason, own in names.items())


_COLUMNS = {
    "layers": "{0.path}",
    "batch": "{0.batch}",
    "kernel": "{0.kernel}",
    "ms": "{0.milliseconds:.3f}",
    "Keras ms": "{0.keras_milliseconds:.3f}",
    "times faster": "{0.faster:.2f}",
    "not": "{0.why}",
}


class Kernels(Result):
    """The kernels of a model; see `tfcomp.Result`.

    Attributes:
        rows: List of `Kernel`.
        left_out: Layers for which there are none, or that were not tried, and why.
        seconds: Seconds that choosing took.
    """

    def __init__(self, model, rows, left_out, seconds=0.0, where=""):
        super().__init__(model, rows, left_out, columns=_COLUMNS)
        self.seconds, self._where = seconds, where

    def table(self):
        self.title = (
            f"Kernels of {self.model.name!r}{self._where}, chosen in {self.seconds:.1f} seconds"
        )
        return super().table()

    def as_dict(self):
        """What it says, as JSON can hold it."""
        return {
            "seconds": self.seconds,
            "kernels": [row._asdict() for row in self.rows],
            "left_out": [left._asdict() for left in self.left_out],
        }
