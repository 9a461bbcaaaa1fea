"""The max-pooling Process."""

from __future__ import annotations

import numpy as np

from pascal_nm.common.arrays import Array, Shape
from pascal_nm.network.operators import SumPool2d
from pascal_nm.process_models.compat import AbstractProcess, InPort, OutPort
from pascal_nm.process_models.memory import Record
from pascal_nm.process_models.timing import EVERY_STEP, Cycle, Rota, Timing, Windows


class MaxPool(AbstractProcess):
    r"""Max-pooling neurons: they send the changes of the largest count of their window.

    .. math::
        c[t] = c[t - 1] + s_{in}[t], \qquad m[t] = \sigma \max_{window} \sigma c[t], \qquad
        s_{out}[t + 1] = m[t] - m[t - 1]

    Where each count moves by one at most, so does the largest. On thermometer trains
    :math:`s_{out}` is the OR of the window's spikes. Where the source's spikes have a negative
    amplitude, sigma = -1 makes it the smallest count. Padding never wins.

    Args:
        shape_in: (C, H, W) of the source.
        window: kernel, stride and padding.
        sign: sigma, +1 or -1, broadcastable to (C, 1, 1).
        batch: B, the leading axis of the ports.
        receive: timesteps of batch 0 in which spikes may arrive; the counts are set to
            zero in the first.
        cycle: how they repeat; None: back to back, for ever.
        timing: the timesteps in which frames travel; ``Windows`` where there is a record.
        kept: batches are consecutive frames: the counts go on from one to the next.
        record: where to write counts and activity; None to write nothing.
        name: of the Process.

    Ports:
        s_in: (B, C, H, W), spikes in {-1, 0, +1}, or graded ones.
        s_out: (B, C, H_out, W_out), likewise, one timestep later.

    Raises:
        ValueError: a record without ``Windows``: there would be no batches to write down.
    """

    def __init__(
        self,
        *,
        shape_in: Shape,
        window: SumPool2d,
        receive: range,
        sign: Array | None = None,
        batch: int = 1,
        cycle: Rota | None = None,
        timing: Timing = EVERY_STEP,
        kept: bool = False,
        record: Record | None = None,
        name: str | None = None,
    ) -> None:
        if record is not None and not isinstance(timing, Windows):
            raise ValueError("a max-pooling neuron with a record needs a timing of Windows, which tell the batches")
        super().__init__(
            window=window,
            shape=(batch, *shape_in),
            receive=receive,
            cycle=cycle or Cycle(interval=len(receive)),
            sign=np.ones((1, 1, 1)) if sign is None else sign,
            timing=timing,
            kept=kept,
            record=record,
            name=name,
        )
        self.s_in = InPort(shape=(batch, *shape_in))
        self.s_out = OutPort(shape=(batch, *window.output_shape(shape_in)))
