"""The Process of a NIR node."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import nn

from pascal_nm.common.arrays import Shape
from pascal_nm.process_models.compat import AbstractProcess, InPort, OutPort
from pascal_nm.process_models.memory import Record
from pascal_nm.process_models.timing import EVERY_STEP, Cycle, Timing


class NirNode(AbstractProcess):
    r"""A node of a NIR graph: a linear map, a pooling, or a population of NIR's own neurons.

    See https://neuroir.org.

    What arrives in a timestep leaves transformed in the same timestep, as NIR's equations say, so
    a cycle of such Processes needs a connection that comes late. The state of neurons is set to
    rest at the start of every window.

    Args:
        module: ``y = module(x)`` or, for neurons, ``y, state = module(x, state)``: see
            :mod:`pascal_nm.export.nir_modules`.
        shape_in: of what arrives, without the batch.
        shape_out: of what leaves.
        dtype: in which the module computes; ports carry float64.
        batch: B, the leading axis of both ports.
        cycle: how windows repeat; the state is reset at each start. None: one window without end.
        record: where to count spikes; None to count none.
        timing: the timesteps in which frames travel.
        name: of the Process.

    Ports:
        a_in: (B, \*shape_in); several connections add up.
        late_in: (B, \*shape_in); what is sent to it in a timestep counts in the next.
        s_out: (B, \*shape_out).
    """

    def __init__(
        self,
        *,
        module: nn.Module,
        shape_in: Shape,
        shape_out: Shape,
        dtype: npt.DTypeLike = np.float32,
        batch: int = 1,
        cycle: Cycle | None = None,
        record: Record | None = None,
        timing: Timing = EVERY_STEP,
        name: str | None = None,
    ) -> None:
        super().__init__(module=module, dtype=np.dtype(dtype), cycle=cycle, record=record, timing=timing, name=name)
        self.a_in = InPort(shape=(batch, *shape_in))
        self.late_in = InPort(shape=(batch, *shape_in))
        self.s_out = OutPort(shape=(batch, *shape_out))
