"""When a Process works: windows that repeat, and the timesteps in which frames travel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Place(NamedTuple):
    """A timestep inside a window: of which ``batch``, and which timestep ``t`` of that batch's schedule."""

    batch: int
    t: int


class Cycle(NamedTuple):
    """Batches that follow each other, one every ``interval`` timesteps, with no reset in between.

    Attributes:
        interval: timesteps from one batch to the next, at least the length of the longest window
            (:attr:`pascal_nm.schedule.Schedule.initiation_interval`).
        batches: how many there are; None for no end.
    """

    interval: int
    batches: int | None = None

    def locate(self, t: int, window: range) -> Place | None:
        """The place of timestep ``t`` in a window that is given for batch 0, or None outside."""
        batch, offset = divmod(t - window.start, self.interval)
        running = batch >= 0 and (self.batches is None or batch < self.batches)
        return Place(batch, window.start + offset) if running and offset < len(window) else None


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
    """Frames travel only in windows that both ends of a connection know; outside them the connection costs nothing.

    Attributes:
        receive: timesteps of batch 0 in which the Process receives.
        send: timesteps of batch 0 in which the Process sends.
        cycle: how the windows repeat.
    """

    receive: range
    send: range
    cycle: Cycle

    def receives(self, t: int) -> bool:
        """Whether the Process receives a frame in timestep ``t``."""
        return self.cycle.locate(t, self.receive) is not None

    def sends(self, t: int) -> bool:
        """Whether the Process sends a frame in timestep ``t``."""
        return self.cycle.locate(t, self.send) is not None


Timing = EveryStep | Windows
EVERY_STEP = EveryStep()
