"""The readout Process."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pascal_nm.common.arrays import Array, Shape
from pascal_nm.errors import GraphError
from pascal_nm.process_models.compat import AbstractProcess, InPort, Var
from pascal_nm.process_models.parameters import check
from pascal_nm.process_models.timing import EVERY_STEP, Cycle, Rota, Timing


class Readout(AbstractProcess):
    r"""Neurons that add up and never fire: :math:`v = b + \sum_t a_{in}[t]` over a window.

    Args:
        shape: (N,) or (C, H, W), without the batch.
        window: the timesteps of batch 0 in which inputs arrive.
        bias: broadcastable to ``shape``; v holds it from the window's first timestep, once.
        dtype: of the potential: int32 for ``fixed_pt`` models, float32 or float64 for
            ``floating_pt``.
        batch: B, the leading axis of port and Var.
        cycle: how the window repeats; None: back to back, for ever.
        timing: the timesteps in which frames travel.
        kept: batches are consecutive frames: the potential goes on from one to the next.
        potential: (K, len(window), B, \*shape) where each batch's potential is written after every
            timestep of its window; None to write nothing.
        name: of the Process.

    Raises:
        GraphError: a window without a timestep, a bias that does not fit the shape or the type.

    Ports:
        a_in: (B, \*shape), currents; several connections add up.

    Vars (Lava moves them element by element):
        v: (B, \*shape), membrane potential.
    """

    def __init__(
        self,
        *,
        shape: Shape,
        window: range,
        bias: Array | None = None,
        dtype: npt.DTypeLike = np.int32,
        batch: int = 1,
        cycle: Rota | None = None,
        timing: Timing = EVERY_STEP,
        kept: bool = False,
        potential: Array | None = None,
        name: str | None = None,
    ) -> None:
        if not window:
            raise GraphError("Readout: the window has no timestep")
        bias = np.zeros((1,) * len(shape), dtype) if bias is None else bias
        check("Readout", shape, {"bias": bias}, dtype)
        super().__init__(
            window=window,
            bias=bias,
            shape=(batch, *shape),
            dtype=np.dtype(dtype),
            cycle=cycle or Cycle(interval=len(window)),
            timing=timing,
            kept=kept,
            potential=potential,
            name=name,
        )
        self.a_in = InPort(shape=(batch, *shape))
        self.v = Var(shape=(batch, *shape), init=0)
