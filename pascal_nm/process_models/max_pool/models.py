"""How the max-pooling neuron behaves on a CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pascal_nm.common.arrays import Array
from pascal_nm.network.operators import SumPool2d
from pascal_nm.process_models.compat import CPU, LavaPyType, LoihiProtocol, implements, requires, tag
from pascal_nm.process_models.max_pool.process import MaxPool
from pascal_nm.process_models.memory import Record
from pascal_nm.process_models.model import FramePort, Model, SumPort, refuse_unheard, zeros
from pascal_nm.process_models.timing import Rota


class ExtremeModel(Model):
    """Behaviour of all models; they differ in the type of the ports."""

    s_in: Any
    s_out: Any
    carrier = torch.float32
    """The type of counts."""
    sent = torch.int8
    """The type of what is sent."""

    def __init__(self, proc_params: Any = None) -> None:
        super().__init__(proc_params)
        self.window: SumPool2d = proc_params["window"]
        self.sign = torch.from_numpy(np.asarray(proc_params["sign"], np.float32)).to(self.carrier)
        self.kept: bool = proc_params["kept"]
        self.record: Record | None = proc_params["record"]
        self.cycle: Rota = proc_params["cycle"]
        self.receive: range = proc_params["receive"]
        self.shape: tuple[int, ...] = proc_params["shape"]
        self.pooled: Array | None = None
        self.reset()

    def reset(self) -> None:
        """No spike has come."""
        self.counts = zeros(self.shape, self.carrier)
        self.largest = torch.zeros((), dtype=self.carrier)

    def run_step(self, t: int) -> None:
        """Send what the last timestep's spikes changed, then receive."""
        if self.timing.sends(t):
            self.s_out.send(self.pooled)
            self.write(t)
        self.pooled = None
        place = self.cycle.locate(t, self.receive)
        if place is not None and place.t == self.receive.start and not (self.kept and place.batch):
            self.reset()
        if self.timing.receives(t):
            with self.s_in.frame() as spikes:
                if place is None:
                    refuse_unheard(spikes, t, self.receive, self.cycle)
                if spikes is not None and spikes.any():
                    changes = self.change(torch.from_numpy(spikes)).numpy()
                    self.pooled = changes if changes.any() else None

    def change(self, spikes: Tensor) -> Tensor:
        """By how much the extreme count of each window changes.

        It is the largest (sign 1) or the smallest (sign -1); max_pool2d pads with minus infinity.
        """
        self.counts += spikes
        window = self.window
        sides = (window.kernel, window.stride, window.padding, 1, window.ceil)
        signed = F.max_pool2d(self.counts * self.sign, *sides)
        before, self.largest = self.largest, signed * self.sign
        return (self.largest - before).to(self.sent)

    def write(self, t: int) -> None:
        """Add what is sent in timestep ``t`` to the record."""
        if self.record is None or self.pooled is None:
            return
        place = self.timing.cycle.locate(t, self.timing.send)
        if place is not None:
            self.record.write(place.batch, place.t, self.pooled)


@implements(proc=MaxPool, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt", "fixed_pt")
class MaxPoolModel(ExtremeModel):
    """Spikes are int8 in either arithmetic, so one model serves both tags."""

    s_in = LavaPyType(SumPort, np.int8, precision=8)
    s_out = LavaPyType(FramePort, np.int8, precision=8)
