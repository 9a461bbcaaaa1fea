"""How the readout behaves on a CPU."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np

from pascal_nm import neuron
from pascal_nm.common.arrays import Array
from pascal_nm.neuron import State
from pascal_nm.process_models.compat import CPU, LavaPyType, LoihiProtocol, implements, requires, tag
from pascal_nm.process_models.model import FIXED, FLOATING, Arithmetic, Model, SumPort, refuse_unheard
from pascal_nm.process_models.readout.process import Readout
from pascal_nm.process_models.timing import Place, Rota


class ReadoutModel(Model):
    """Behaviour of both models; they differ in the types of port and state."""

    arithmetic: Arithmetic
    a_in: Any

    def __init__(self, proc_params: Any = None) -> None:
        super().__init__(proc_params)
        self.window: range = proc_params["window"]
        self.cycle: Rota = proc_params["cycle"]
        self.dtype: np.dtype[Any] = proc_params["dtype"]
        self.arithmetic.check("Readout", self.dtype)
        bias = np.asarray(proc_params["bias"], dtype=self.dtype)
        self.bias: Array = np.broadcast_to(bias, proc_params["shape"])
        self.kept: bool = proc_params["kept"]
        self.potential: Array | None = proc_params["potential"]

    def run_step(self, t: int) -> None:
        """Receive, and add up where a window is open."""
        place = self.cycle.locate(t, self.window)
        with self.a_in.frame() if self.timing.receives(t) else nullcontext() as current:
            if place is None:
                refuse_unheard(current, t, self.window, self.cycle)
            else:
                self.advance(place, current)

    def advance(self, place: Place, current: Array | None) -> None:
        """One timestep inside a window."""
        if place.t == self.window.start and not (self.kept and place.batch):
            self.v = self.bias.copy()
        if current is not None:
            self.v = neuron.accumulate(State(self.v, None), current.astype(self.dtype, copy=False)).v
        if self.potential is not None:
            self.potential[place.batch, place.t - self.window.start] = self.v


@implements(proc=Readout, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class ReadoutFloat(ReadoutModel):
    """Floating point; the potential has the Process's ``dtype``."""

    arithmetic = FLOATING
    a_in = LavaPyType(SumPort, float)
    v = LavaPyType(np.ndarray, float)


@implements(proc=Readout, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class ReadoutFixed(ReadoutModel):
    """Fixed point: ``a_in``, ``v`` and bias int32."""

    arithmetic = FIXED
    a_in = LavaPyType(SumPort, np.int32, precision=32)
    v = LavaPyType(np.ndarray, np.int32, precision=32)
