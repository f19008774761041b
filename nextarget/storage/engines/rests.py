"""Rests of a command that works for minutes, so that a server on the same machine gets the processor and the disk."""

import time

REST = 4
"""A rest takes this many times as long as the slice of work before it, but at most MAX_REST_SECONDS. So a command works
a fifth of the time."""
MAX_REST_SECONDS = 1.0


class Rests:
    """The rests between the slices of some work. The first slice begins now."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def take(self) -> None:
        """Rest after a slice, on this thread. The next slice begins afterwards."""
        time.sleep(rest_after(time.monotonic() - self._began))
        self._began = time.monotonic()


def rest_after(seconds: float) -> float:
    """How long to rest after a slice of work that took `seconds`."""
    return min(REST * seconds, MAX_REST_SECONDS)
