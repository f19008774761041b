"""Lets a long command step back behind a server on the same machine."""

import os
from contextlib import suppress

NICENESS = 10
"""How much the priority for the processor is lowered. It only counts while others want the processor: on an idle
machine a command is as fast as ever. The lowest priority, 19, would be too low: `purge` holds SQLite's write lock for a
moment, and a busy server would then wait for a command that never gets a turn."""


def step_back_entirely() -> None:
    """Let this process run only while a core is free: for commands that hold nothing that a server waits for.

    With a low priority alone, a server that wakes up still waits some milliseconds until the command's turn is over;
    Linux takes it away from a command of this class at once (SCHED_IDLE, sched(7)). While every core is busy, such a
    command gets less than a hundredth of one. Elsewhere it steps back as the other commands do.
    """
    step_back()
    with suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def step_back() -> None:
    """Give this process a low priority. It goes on as before where the system has or allows no priorities.

    A server answers within milliseconds, and shares its cores with a command that runs for minutes. Without this, the
    server would often wait for a turn of the command's. Python cannot set the priority for the disk; Linux derives it
    from this one (ioprio_set(2)).
    """
    with suppress(OSError, AttributeError):
        os.nice(NICENESS)
