"""Finds out that a run does not go on although no child has died.

A child may be stopped, or sleep, or Processes may wait for each other.

A child is idle where the system has not run it at all between two looks, and does not want to: it
is asleep or stopped, not runnable and not in the middle of reading a disk. Where all children have
been idle for some seconds, nothing can wake them any more. A slow network is never idle, on however
busy a machine, because the child that holds up the others computes or wants to. A child that
computes for ever cannot be told from a slow one. The looks are counted, not the clock, so that a
program that was suspended as a whole (Ctrl-Z) goes on when it is resumed.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from pascal_nm.common.arrays import Array
from pascal_nm.process_models.channel import BUSY, POLLING

_INTERVAL = 0.25
"""Seconds between two looks."""

PATIENCE = 3.0
"""Seconds for which all children must be idle."""

_TRACE_WAIT = 0.5
"""Seconds that a stuck child has to write its traceback."""

_STOPPED, _WANTING = "Tt", "RD"
"""States of a process in /proc that are told apart here: stopped by a signal or debugger; running
or waiting for a disk."""


class Watchdog:
    """Watches the children of one run.

    Args:
        pulses: what each child notes that it does, in their order
            (:class:`pascal_nm.process_models.channel.Pulse`).
        traces: the file to which a child writes its traceback at SIGUSR1.
        patience: seconds for which all children must be idle.
    """

    def __init__(self, pulses: Array, traces: IO[bytes], patience: float) -> None:
        self._pulses, self._traces = pulses, traces
        self._limit = max(1, round(patience / _INTERVAL))
        self.reset()

    def reset(self) -> None:
        """A run begins."""
        self._next = time.monotonic() + _INTERVAL
        self._before: list[Any] = []
        self._idle = 0

    def look(self, pids: Mapping[str, int]) -> str | None:
        """What is wrong with the children of these names and process numbers, or None.

        Looks every :data:`_INTERVAL` seconds, however often it is called.
        """
        if time.monotonic() < self._next:
            return None
        self._next = time.monotonic() + _INTERVAL
        now = [None if pulse == POLLING else ran(pid) for pid, pulse in zip(pids.values(), self._pulses, strict=False)]
        wanting = any(done is not None and done[0] in _WANTING for done in now)
        self._idle = self._idle + 1 if now == self._before and not wanting else 0
        self._before = now
        return self._verdict(pids) if self._idle >= self._limit else None

    def _verdict(self, pids: Mapping[str, int]) -> str:
        states = {name: done[0] for name, done in zip(pids, self._before, strict=True) if done is not None}
        if stopped := [name for name, state in states.items() if state in _STOPPED]:
            return f"{', '.join(stopped)} stopped (by a signal or a debugger) and holds up the network"
        busy = [name for name, pulse in zip(pids, self._pulses, strict=False) if pulse == BUSY]
        if busy:
            return f"{', '.join(busy)} is stuck: it sleeps and waits for no channel"
        return (
            "all Processes wait for each other: one of them sends or receives less than its neighbours expect; a "
            "network that waits for the program, through an Injector or Extractor, takes Session(..., patience=None)"
        )

    def trace(self, pids: Mapping[str, int]) -> str:
        """The tracebacks of the children that wait for no channel."""
        for pid, pulse in zip(pids.values(), self._pulses, strict=False):
            if pulse == BUSY:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGUSR1)
        deadline, before, size = time.monotonic() + _TRACE_WAIT, 0, 0
        while time.monotonic() < deadline and (size == 0 or size != before):
            time.sleep(_INTERVAL / 5)
            before, size = size, os.fstat(self._traces.fileno()).st_size
        self._traces.seek(0)
        return self._traces.read().decode(errors="replace")


def ran(pid: int) -> tuple[str, int, int] | None:
    """A process's state and how long the system has run it; None where it has ended.

    Gives (letter, clock ticks of all threads, nanoseconds of the main one).
    """
    with suppress(OSError):
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        main = Path(f"/proc/{pid}/schedstat")
        nanoseconds = int(main.read_text().split()[0]) if main.exists() else 0
        return after_name[0], int(after_name[11]) + int(after_name[12]), nanoseconds
    return None
