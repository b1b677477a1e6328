"""How long calls take beside each other."""

import time

import numpy as np

# A turn lasts at least so many seconds, if nothing else is asked for, and calls, so that caches and
# threads are warm in most.
_LEAST, _FEWEST = 1e-2, 3
# Bytes that are written before a cold call, more than caches hold.
_CACHES = 1 << 26


def interleaved(calls, rounds=30, warmup=3, clock=time.perf_counter, least=_LEAST):
    """Times calls in turns, so that what disturbs the machine disturbs all of them.

    A turn is several calls, one right after the other, of which the median counts: the first ones
    find caches that hold what the turn before has read, and threads that sleep.

    Args:
        calls: List of callables without arguments, each of which returns once its work is done.
        rounds: How often each is measured. Every round begins with another one.
        warmup: Calls of each beforehand that do not count.
        clock: Callable that returns seconds; `time.process_time` counts this process alone.
        least: Seconds of a turn.

    Returns:
        Array of shape `(rounds, len(calls))`, seconds for one call.
    """
    repeats = [_repeats(call, warmup, clock, least) for call in calls]
    seconds = np.empty((rounds, len(calls)))
    for number in range(rounds):
        for place in range(len(calls)):
            which = (number + place) % len(calls)
            turn = [_timed(calls[which], clock) for _ in range(repeats[which])]
            seconds[number, which] = np.median(turn)
    return seconds


def cold(calls, rounds=9, clock=time.perf_counter):
    """Times single calls, each with caches full of something else.

    Args:
        calls, clock: As `interleaved` takes them.
        rounds: How often each is measured.

    Returns:
        Array of shape `(rounds, len(calls))`, seconds of a call.
    """
    other = np.ones(_CACHES // 8)
    seconds = np.empty((rounds, len(calls)))
    for number in range(rounds):
        for place, call in enumerate(calls):
            other += 1.0
            seconds[number, place] = _timed(call, clock)
    return seconds


def _timed(call, clock):
    begin = clock()
    call()
    return clock() - begin


def _repeats(call, warmup, clock, least):
    for _ in range(warmup):
        call()
    return max(_FEWEST, int(np.ceil(least / max(_timed(call, clock), 1e-6))))


def ratios(seconds, baseline):
    """How many times faster than one of them each call is, by the median over the rounds.

    Args:
        seconds: What `interleaved` returns.
        baseline: Index of the call to compare with.

    Returns:
        Array of shape `(calls,)`; above 1 is faster.
    """
    return np.median(seconds[:, [baseline]] / seconds, axis=0)
