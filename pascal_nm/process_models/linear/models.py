"""How neurons that pass on sums behave on a CPU."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.process_models.compat import CPU, LavaPyType, LoihiProtocol, implements, requires, tag
from pascal_nm.process_models.linear.process import Linear
from pascal_nm.process_models.memory import Record
from pascal_nm.process_models.model import FramePort, Model, SumPort


class LinearModel(Model):
    """Behaviour of both models; they differ in the type of the ports."""

    a_in: Any
    s_out: Any

    def __init__(self, proc_params: Any = None) -> None:
        super().__init__(proc_params)
        self.record: Record | None = proc_params["record"]

    def run_step(self, t: int) -> None:
        """Receive, and send the sum."""
        with self.a_in.frame() if self.timing.receives(t) else nullcontext() as current:
            sums = None if current is None or not current.any() else current
            if self.timing.sends(t):
                self.s_out.send(sums)
            if sums is not None:
                self.write(t, sums)

    def write(self, t: int, sums: Array) -> None:
        """Add what is sent in timestep ``t`` to the record."""
        if self.record is not None:
            place = self.timing.cycle.locate(t, self.timing.send)
            if place is not None:
                self.record.write(place.batch, place.t, sums)


@implements(proc=Linear, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class LinearFloat(LinearModel):
    """Floating point."""

    a_in = LavaPyType(SumPort, float)
    s_out = LavaPyType(FramePort, float)


@implements(proc=Linear, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class LinearFixed(LinearModel):
    """Fixed point: int32, in and out."""

    a_in = LavaPyType(SumPort, np.int32, precision=32)
    s_out = LavaPyType(FramePort, np.int32, precision=32)
