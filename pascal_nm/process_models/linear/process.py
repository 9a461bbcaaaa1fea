"""The Process of neurons that pass on sums."""

from __future__ import annotations

from pascal_nm.common.arrays import Shape
from pascal_nm.process_models.compat import AbstractProcess, InPort, OutPort
from pascal_nm.process_models.memory import Record
from pascal_nm.process_models.timing import EVERY_STEP, Timing, Windows


class Linear(AbstractProcess):
    r"""Neurons without a state: they send what arrives, added up, in the timestep in which it does.

    :math:`s_{out}[t] = \sum a_{in}[t]`, over all connections.

    Args:
        shape: (C, H, W) or (N,), without the batch.
        batch: B, the leading axis of the ports.
        timing: the timesteps in which frames travel; ``Windows`` where there is a record.
        record: where to write activity; None to write nothing.
        name: of the Process.

    Raises:
        ValueError: a record without ``Windows``: there would be no batches to write down.

    Ports:
        a_in: (B, \*shape), currents; several connections add up.
        s_out: (B, \*shape), graded: their sums.
    """

    def __init__(
        self,
        *,
        shape: Shape,
        batch: int = 1,
        timing: Timing = EVERY_STEP,
        record: Record | None = None,
        name: str | None = None,
    ) -> None:
        if record is not None and not isinstance(timing, Windows):
            raise ValueError("linear neurons with a record need a timing of Windows, which tell the batches")
        super().__init__(timing=timing, record=record, name=name)
        self.a_in = InPort(shape=(batch, *shape))
        self.s_out = OutPort(shape=(batch, *shape))
