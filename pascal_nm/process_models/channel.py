"""Lava's channels without their threads, and a selector to go with them.

Each end of Lava's own channel has a thread that waits for the other end and then wakes the Process:
two switches more for every message. Here the Process waits itself, on the semaphores that the
threads would wait on. Frames of shape (B, C, H, W) lie in memory with the channels last, the order
that convolutions work in; every array that a port gives or takes still has the shape (B, C, H, W).
A frame without any spike is a mark, not a copy of zeros.

A child notes in memory that it shares with the parent (:class:`Pulse`) when it waits in a channel,
so that the parent can tell a child that waits for others from one that is stuck.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from pascal_nm.common.arrays import Array, Shape
from pascal_nm.process_models.compat import CspRecvPort, CspSendPort, NoOPWatchdog, Proto, Semaphore
from pascal_nm.process_models.memory import shared_zeros

POLL = 0.05
"""Seconds between two looks of a guarded port at what it is guarded by."""

_SELECT_POLL = 0.0002
"""Seconds between two looks of a Process that waits for several channels at once (only those
with VarPorts do)."""

BUSY, _WAITING, POLLING = 0, 1, 2
"""What a child notes: it computes (or is stuck); it waits for a channel; it looks at several
channels in turn."""


class Pulse:
    """What this process does now, in a cell of memory that its parent reads.

    One of :data:`BUSY`, :data:`_WAITING`, :data:`POLLING`.
    """

    cell: Array = shared_zeros((1,), np.uint8)

    @classmethod
    def waits(cls, wait: Callable[[], Any], how: int = _WAITING) -> Any:
        """Call ``wait`` and note so meanwhile."""
        cls.cell[0] = how
        try:
            return wait()
        finally:
            cls.cell[0] = BUSY


class Tokens:
    """What a port waits for, counted.

    It stands in for the queue (receiving) or the semaphore (sending) that Lava's threads fill.

    Args:
        semaphore: that the other end releases, once for each token.
        held: tokens that are there at the start.
    """

    def __init__(self, semaphore: Any, held: int = 0) -> None:
        self._semaphore, self._held = semaphore, held
        self.guard: Callable[[], None] | None = None

    def qsize(self) -> int:
        """How many can be taken without waiting."""
        while self._semaphore.acquire(False):
            self._held += 1
        return self._held

    def acquire(self, blocking: bool = True) -> bool:
        """Take one; False where there is none and ``blocking`` is False."""
        if self._held == 0 and self._semaphore.acquire(False):
            self._held = 1
        if self._held == 0:
            if not blocking:
                return False
            Pulse.waits(self._wait)
        self._held -= 1
        return True

    def _wait(self) -> None:
        while not self._semaphore.acquire(True, None if self.guard is None else POLL):
            if self.guard is not None:
                self.guard()
        self._held = 1

    def release(self) -> None:
        """Put one back."""
        self._held += 1

    def get(self, peek: bool = False) -> None:
        """Take one, or only wait until one is there."""
        self.acquire()
        if peek:
            self.release()


class SendPort(CspSendPort):
    """The end of a channel that sends."""

    def start(self) -> None:
        """Lay out the frames."""
        self._array, self._silent = frames(self._shm, self._shape, self._dtype, self._size)
        self._semaphore = Tokens(self._ack, self._size)

    def guarded(self, guard: Callable[[], None]) -> None:
        """Call ``guard`` every :data:`POLL` seconds of waiting; what it raises ends the wait."""
        self._semaphore.guard = guard

    def send_silence(self) -> None:
        """Send a frame of zeros without writing one. May wait until the channel has a place."""
        self._semaphore.acquire()
        self._silent[self._idx] = 1
        self._idx = (self._idx + 1) % self._size
        self._req.release()


class RecvPort(CspRecvPort):
    """The end of a channel that receives."""

    def start(self) -> None:
        """Lay out the frames."""
        self._array, self._silent = frames(self._shm, self._shape, self._dtype, self._size)
        self._queue = Tokens(self._req)

    def guarded(self, guard: Callable[[], None]) -> None:
        """Call ``guard`` every :data:`POLL` seconds of waiting; what it raises ends the wait."""
        self._queue.guard = guard

    def borrow(self) -> Array | None:
        """The next frame, in the channel's own memory until :meth:`give_back`; None for silence.

        Waits until it is there.
        """
        self._queue.get()
        return None if self._silent[self._idx] else self._array[self._idx]

    def give_back(self) -> None:
        """Done with the frame that was borrowed: its place is free for the next."""
        self._silent[self._idx] = 0
        self._idx = (self._idx + 1) % self._size
        self._ack.release()

    def peek(self) -> Array:
        """A copy of the next frame, which stays in the channel. Waits until it is there."""
        self._queue.get(peek=True)
        return self._copy()

    def recv(self) -> Array:
        """A copy of the next frame. Waits until it is there."""
        self._queue.get()
        copy = self._copy()
        self.give_back()
        return copy

    def _copy(self) -> Array:
        frame: Array = self._array[self._idx]
        return np.zeros_like(frame) if self._silent[self._idx] else frame.copy(order="K")


def frames(memory: Any, shape: Shape, dtype: Any, size: int) -> tuple[list[Array], Array]:
    """A channel's frames in its memory, and a mark for each behind them: 1 if it is silent."""
    dtype = np.dtype(np.int32 if dtype == 4 else dtype)  # 4: Lava's own code for it
    stored = (shape[0], *shape[2:], shape[1]) if len(shape) == 4 else shape
    nbytes = int(np.prod(shape)) * dtype.itemsize
    arrays = [np.ndarray(stored, dtype, memory.buf, nbytes * i) for i in range(size)]
    marks: Array = np.ndarray((size,), np.uint8, memory.buf, nbytes * size)
    return [np.moveaxis(array, -1, 1) if len(shape) == 4 else array for array in arrays], marks


class FrameChannel:
    """A channel of ``size`` frames, in place of Lava's PyPyChannel.

    Lava's own watchdogs, which only print, are left out.
    """

    def __init__(
        self, infrastructure: Any, src_name: str, dst_name: str, shape: Shape, dtype: Any, size: int, *watchdogs: Any
    ) -> None:
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = infrastructure.smm.create_shared_memory(nbytes * size + size)
        filled, freed = Semaphore(0), Semaphore(0)
        end = (memory, Proto(shape=shape, dtype=dtype, nbytes=nbytes), size, filled, freed)
        quiet = (NoOPWatchdog(None), NoOPWatchdog(None))
        self.src_port = SendPort(src_name, *end, *quiet)
        self.dst_port = RecvPort(dst_name, *end, *quiet)


def select(selector: object, *channel_actions: tuple[Any, Callable[[], Any]]) -> Any:
    """Wait for any of the channels to become ready, then call its action.

    This is Lava's ``CspSelector.select``, without observers.
    """
    if len(channel_actions) == 1 and isinstance(channel_actions[0][0], RecvPort):
        ((port, action),) = channel_actions
        port._queue.get(peek=True)
        return action()
    while True:
        for port, action in channel_actions:
            if port.probe():
                return action()
        Pulse.waits(lambda: time.sleep(_SELECT_POLL), POLLING)
