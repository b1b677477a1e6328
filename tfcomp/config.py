"""Objects that are their constructor arguments."""


class Configured:
    """Gives a class Keras's `get_config` and `from_config`, and a `repr` that reads like a call."""

    def get_config(self):
        """Returns the constructor arguments."""
        return {}

    @classmethod
    def from_config(cls, config):
        """Makes the object from what `get_config` returned."""
        return cls(**config)

    def __repr__(self):
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"
