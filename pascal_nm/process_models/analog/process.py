"""The analog input Process."""

from __future__ import annotations

from pascal_nm.common.arrays import Array
from pascal_nm.process_models.compat import AbstractProcess, OutPort
from pascal_nm.process_models.timing import EVERY_STEP, Cycle, Rota, Timing


class AnalogInput(AbstractProcess):
    r"""Injects the analog input.

    Batch k is sent from timestep k * interval on, once unless told otherwise; silence in between.

    Args:
        currents: (K, B, \*shape), K batches in units of current
            (:meth:`pascal_nm.network.graph.Graph.currents`): int32 for ``fixed_pt`` models, floats
            for ``floating_pt``. The child inherits the array without a copy.
        cycle: when batches start; None for one batch only.
        repeat: timesteps in a row in which a batch is sent.
        timing: the timesteps in which frames travel.
        name: of the Process.

    Ports:
        s_out: (B, \*shape), graded.
    """

    def __init__(
        self,
        *,
        currents: Array,
        cycle: Rota | None = None,
        repeat: int = 1,
        timing: Timing = EVERY_STEP,
        name: str | None = None,
    ) -> None:
        cycle = cycle or Cycle(interval=repeat, batches=1)
        super().__init__(currents=currents, cycle=cycle, repeat=repeat, timing=timing, name=name)
        self.s_out = OutPort(shape=currents.shape[1:])
