"""How long calls take beside each other."""

import time

import numpy as np

# A measurement is at least this long, so that the clock and the call of it do not show.
_LEAST = 2e-3


def interleaved(calls, rounds=30, warmup=3, clock=time.perf_counter):
    """Times calls in turns, so that what disturbs the machine disturbs all of them.

    Args:
        calls: List of callables without arguments, each of which returns once its work is done.
        rounds: How often each is measured. Every round begins with another one.
        warmup: Calls of each beforehand that do not count.
        clock: Callable that returns seconds; `time.process_time` counts this process alone.

    Returns:
        Array of shape `(rounds, len(calls))`, seconds for one call.
    """
    repeats = [_repeats(call, warmup, clock) for call in calls]
    seconds = np.empty((rounds, len(calls)))
    for number in range(rounds):
        for place in range(len(calls)):
            which = (number + place) % len(calls)
            begin = clock()
            for _ in range(repeats[which]):
                calls[which]()
            seconds[number, which] = (clock() - begin) / repeats[which]
    return seconds


def _repeats(call, warmup, clock):
    for _ in range(warmup):
        call()
    begin = clock()
    call()
    return int(np.ceil(_LEAST / max(clock() - begin, 1e-6)))


def ratios(seconds, baseline):
    """How many times faster than one of them each call is, by the median over the rounds.

    Args:
        seconds: What `interleaved` returns.
        baseline: Index of the call to compare with.

    Returns:
        Array of shape `(calls,)`; above 1 is faster.
    """
    return np.median(seconds[:, [baseline]] / seconds, axis=0)
