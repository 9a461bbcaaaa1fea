"""When a Process works: windows that repeat, and the timesteps in which frames travel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.process_models.memory import shared_zeros


class Place(NamedTuple):
    """A timestep inside a window: its ``batch``, and its timestep ``t`` in that schedule."""

    batch: int
    t: int


class Cycle(NamedTuple):
    """Batches that follow each other, one every ``interval`` timesteps, with no reset in between.

    Attributes:
        interval: timesteps from one batch to the next, at least the length of the longest window
            (:attr:`pascal_nm.simulation.schedule.Schedule.initiation_interval`).
        batches: how many there are; None for no end.
        first: the timestep in which the first starts.
    """

    interval: int
    batches: int | None = None
    first: int = 0

    def locate(self, t: int, window: range) -> Place | None:
        """The place of timestep ``t`` in a window that is given for batch 0, or None outside."""
        batch, offset = divmod(t - self.first - window.start, self.interval)
        running = batch >= 0 and (self.batches is None or batch < self.batches)
        return Place(batch, window.start + offset) if running and offset < len(window) else None


class Turns:
    """Batches that take turns.

    The next one starts when the one before it is done, which nobody knows beforehand.

    Attributes:
        starts: the timestep in which each batch starts, (K,) int64, in memory that all Processes of
            a run share; :data:`_LATER` for those that the program has not started yet. It changes
            between calls of ``Session.run`` only, so that all Processes see the same.
    """

    def __init__(self, batches: int) -> None:
        self.starts: Array = shared_zeros((batches,), np.int64)
        self.starts[:] = _LATER

    def locate(self, t: int, window: range) -> Place | None:
        """The place of timestep ``t`` in a window, or None outside.

        The window is given for the first batch as if it started in timestep 0.
        """
        batch = int(np.searchsorted(self.starts, t, side="right")) - 1
        offset = t - int(self.starts[batch])
        return Place(batch, offset) if batch >= 0 and offset in window else None


_LATER = 2**62
"""A timestep that never comes."""

Rota = Cycle | Turns
"""Which batch a timestep belongs to."""


@dataclass(frozen=True)
class EveryStep:
    """Frames travel in every timestep, silent ones too, as between Lava's own Processes."""

    def receives(self, t: int) -> bool:
        """True: the Process receives a frame in timestep ``t``."""
        return True

    def sends(self, t: int) -> bool:
        """True: the Process sends a frame in timestep ``t``."""
        return True


@dataclass(frozen=True)
class Windows:
    """Frames travel only in windows that both ends of a connection know.

    Outside them the connection costs nothing.

    Attributes:
        receive: timesteps of batch 0 in which the Process receives.
        send: timesteps of batch 0 in which the Process sends.
        cycle: how the windows repeat.
    """

    receive: range
    send: range
    cycle: Rota

    def receives(self, t: int) -> bool:
        """Whether the Process receives a frame in timestep ``t``."""
        return self.cycle.locate(t, self.receive) is not None

    def sends(self, t: int) -> bool:
        """Whether the Process sends a frame in timestep ``t``."""
        return self.cycle.locate(t, self.send) is not None


Timing = EveryStep | Windows
EVERY_STEP = EveryStep()
