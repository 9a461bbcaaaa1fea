"""The analog input Process."""

from __future__ import annotations

from pascal_nm.graph import Array
from pascal_nm.process_models.compat import AbstractProcess, OutPort
from pascal_nm.process_models.timing import EVERY_STEP, Cycle, Timing


class AnalogInput(AbstractProcess):
    r"""Injects the analog input: batch k is sent once, in timestep k * interval; silence in between.

    Args:
        currents: (K, B, \*shape), K batches in units of current (:meth:`pascal_nm.graph.Graph.currents`): int32 for
            ``fixed_pt`` models, floats for ``floating_pt``. The child inherits the array without a copy.
        cycle: when batches start; None for one batch only.
        timing: the timesteps in which frames travel.
        name: of the Process.

    Ports:
        s_out: (B, \*shape), graded.
    """

    def __init__(
        self,
        *,
        currents: Array,
        cycle: Cycle | None = None,
        timing: Timing = EVERY_STEP,
        name: str | None = None,
    ) -> None:
        cycle = cycle or Cycle(interval=1, batches=1)
        super().__init__(currents=currents, cycle=cycle, timing=timing, name=name)
        self.s_out = OutPort(shape=currents.shape[1:])
