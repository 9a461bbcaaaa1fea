"""How a NIR node behaves on a CPU."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pascal_nm.process_models.compat import CPU, LavaPyType, LoihiProtocol, implements, requires, tag
from pascal_nm.process_models.memory import Record
from pascal_nm.process_models.model import FramePort, Model, SumPort
from pascal_nm.process_models.nir_node.process import NirNode
from pascal_nm.process_models.timing import Cycle


@implements(proc=NirNode, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class NirNodeFloat(Model):
    """Floating point, in the type of the module's weights."""

    a_in: Any = LavaPyType(SumPort, float)
    late_in: Any = LavaPyType(SumPort, float)
    s_out: Any = LavaPyType(FramePort, float)

    def __init__(self, proc_params: Any = None) -> None:
        super().__init__(proc_params)
        self.module: nn.Module = proc_params["module"]
        self.dtype: np.dtype[Any] = proc_params["dtype"]
        self.cycle: Cycle | None = proc_params["cycle"]
        self.record: Record | None = proc_params["record"]
        self.keeps_state = "state" in inspect.signature(self.module.forward).parameters
        self.state: Any = None

    def run_step(self, t: int) -> None:
        """Receive, transform, send."""
        batch, place = (0, t) if self.cycle is None else divmod(t, self.cycle.interval)
        if place == 0:
            self.state = None
        x = np.zeros(self.a_in._shape, self.dtype)  # a copy: modules may return, or keep, what they were given
        with self.a_in.frame() as arrived:
            total = x if arrived is None else arrived
            if t > 0:
                with self.late_in.frame() as late:
                    total = total if late is None or place == 0 else total + late
            x[:] = total
        y: Tensor
        if self.keeps_state:
            y, self.state = self.module(torch.from_numpy(x), self.state)
        else:
            y = self.module(torch.from_numpy(x))
        if self.record is not None:
            self.record.counts[batch] += y.numpy().astype(np.int16)
        self.s_out.send(y.numpy())
