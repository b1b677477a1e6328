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


class EpochLog(keras.callbacks.Callback):
    """Notes the logs of several runs one after the other, and shows them.

    Args:
        history: Dict that gets a list for each name, `None` in epochs whose logs had no such name.
        progress: The `Progress` of the epochs.
    """

    def __init__(self, history, progress):
        super().__init__()
        self.seen, self.progress, self.epochs = history, progress, 0

    def on_epoch_end(self, epoch, logs=None):
        for name in {**self.seen, **logs}:
            # Runs log different names.
            self.seen.setdefault(name, [None] * self.epochs).append(logs.get(name))
        self.epochs += 1
        shown = [(name, value) for name, value in logs.items() if "/" not in name]
        self.progress.step(shown)
        logged = ", ".join(f"{name} {value:.4g}" for name, value in shown)
        self.progress.line(f"epoch {self.epochs}: {logged}")
