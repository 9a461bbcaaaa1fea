"""How the analog input behaves on a CPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.process_models.analog.process import AnalogInput
from pascal_nm.process_models.compat import CPU, LavaPyType, LoihiProtocol, implements, requires, tag
from pascal_nm.process_models.model import FramePort, Model, whole
from pascal_nm.process_models.timing import Rota


class AnalogInputModel(Model):
    """Behaviour of both models; they differ in the type of the port."""

    s_out: Any

    def __init__(self, proc_params: Any = None) -> None:
        super().__init__(proc_params)
        self.currents: Array = proc_params["currents"]
        self.cycle: Rota = proc_params["cycle"]
        self.sent = range(proc_params["repeat"])

    def run_step(self, t: int) -> None:
        """Send a batch in the first timesteps of its cycle."""
        if self.timing.sends(t):
            place = self.cycle.locate(t, self.sent)
            self.s_out.send(None if place is None else self.currents[place.batch])


@implements(proc=AnalogInput, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class AnalogInputFloat(AnalogInputModel):
    """Floating point."""

    s_out = LavaPyType(FramePort, float)


@implements(proc=AnalogInput, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class AnalogInputFixed(AnalogInputModel):
    """Fixed point: int32 currents."""

    s_out = LavaPyType(FramePort, np.int32, precision=32)

    def __init__(self, proc_params: Any = None) -> None:
        super().__init__(proc_params)
        self.currents = whole(self.currents, np.dtype(np.int32))
