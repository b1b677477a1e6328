"""How far a call has come."""

import keras

from tfcomp.validation import check_verbose


class Progress:
    """A bar for `verbose=1`, a line for each step for `verbose=2`, nothing for 0.

    Args:
        total: Number of steps, or `None` where that is not known.
        verbose: 0, 1 or 2.
        unit_name: What a step is.
    """

    def __init__(self, total, verbose, unit_name="step"):
        self.verbose = check_verbose(verbose)
        bar = int(self.verbose == 1)
        self.bar = keras.utils.Progbar(total, verbose=bar, unit_name=unit_name)

    def step(self, values=None):
        """One step further; `values` are shown beside the bar, as `keras.utils.Progbar` does."""
        self.bar.add(1, values)

    def line(self, text):
        """A line about what has been done."""
        if self.verbose == 2:
            print(text)

    def left_out(self, left_out):
        """Names what was left out, and why, unless silence was wanted."""
        if self.verbose and left_out:
            shown = "; ".join(f"{left.path} ({left.reason})" for left in left_out[:10])
            more = f"; and {len(left_out) - 10} more" if len(left_out) > 10 else ""
            print(f"Left out: {shown}{more}.")
