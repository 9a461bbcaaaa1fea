"""Bounds of time as ratios to the machine's own pace: machines differ, and are busy."""

import time

USUAL = 0.02
"""Seconds of :func:`_stroke` on the machine on which the bounds were set, when it is idle."""


def usual(seconds, clock=time.process_time):
    """What took ``seconds`` by ``clock`` a moment ago, in seconds of the machine of :data:`USUAL`.

    A machine that is faster is not held to more.
    """
    if seconds < 0.2:  # no bound is that short
        return seconds
    return seconds / max(1, max(_stroke(clock) for _ in range(5)) / USUAL)


def since(start, clock=time.process_time):
    """:func:`usual` seconds since ``start`` by ``clock``."""
    return usual(clock() - start, clock)


def _stroke(clock):
    start = clock()
    names = {}
    for i in range(90_000):
        names[i % 1000] = (i, names.get(i - 1))
        names[i % 1000] = i
    return clock() - start


if __name__ == "__main__":
    print(sorted(_stroke(time.process_time) for _ in range(9))[4])
