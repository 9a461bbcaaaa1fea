"""How the max-pooling neuron behaves on a CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pascal_nm.graph import Array, SumPool2d
from pascal_nm.process_models.compat import CPU, LavaPyType, LoihiProtocol, PyOutPort, implements, requires, tag
from pascal_nm.process_models.max_pool.process import MaxPool
from pascal_nm.process_models.memory import Record
from pascal_nm.process_models.model import Model, SumPort


@implements(proc=MaxPool, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt", "fixed_pt")
class MaxPoolModel(Model):
    """Spikes are int8 in either arithmetic, so one model serves both tags."""

    s_in: Any = LavaPyType(SumPort, np.int8, precision=2)
    s_out: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int8, precision=2)

    def __init__(self, proc_params: Any = None) -> None:
        super().__init__(proc_params)
        self.window: SumPool2d = proc_params["window"]
        self.sign = torch.from_numpy(np.asarray(proc_params["sign"], np.float32))
        self.record: Record | None = proc_params["record"]
        self.pooled: Array | None = None

    def run_step(self, t: int) -> None:
        """Send what the last timestep's spikes gave, then receive."""
        if self.timing.sends(t):
            spikes = np.zeros(self.s_out.shape, np.int8) if self.pooled is None else self.pooled
            self.s_out.send(spikes)
            self.write(t, spikes)
        self.pooled = None
        if self.timing.receives(t):
            spikes = self.s_in.recv()
            if spikes.any():
                self.pooled = self.pool(torch.from_numpy(spikes)).numpy()

    def pool(self, spikes: Tensor) -> Tensor:
        """The largest (sign 1) or smallest (sign -1) of each window, int8; max_pool2d pads with minus infinity."""
        signed = F.max_pool2d(spikes * self.sign, self.window.kernel, self.window.stride, self.window.padding)
        return (signed * self.sign).to(torch.int8)

    def write(self, t: int, spikes: Array) -> None:
        """Add the spikes sent in timestep ``t`` to the record."""
        if self.record is not None:
            place = self.timing.cycle.locate(t, self.timing.send)
            self.record.counts[place.batch] += spikes
            self.record.emitted[place.batch] += np.abs(spikes.reshape(len(spikes), -1)).sum(1, dtype=np.int64)
