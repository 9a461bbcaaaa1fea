"""The convolution Process."""

from __future__ import annotations

from pascal_nm.common.arrays import Array, Pair, Shape
from pascal_nm.network.graph import Conv2d, SumPool2d
from pascal_nm.process_models.synapse import Synapse
from pascal_nm.process_models.timing import EVERY_STEP, Timing


class Conv(Synapse):
    r"""Convolutional synapses, with an optional sum-pooling in front.

    Args:
        shape_in: (C, H, W) of the source.
        weight: (C_out, C_in / groups, K_h, K_w); floats for ``floating_pt`` models, integers
            for ``fixed_pt``.
        stride: (height, width).
        padding: zeros on each side, (height, width).
        dilation: (height, width).
        groups: of channels.
        pool: sum-pooling between the source and the convolution.
        batch: B, the leading axis of both ports.
        largest: largest magnitude of an entry of ``s_in`` (1 for spikes), from which ``fixed_pt``
            proves that its sums are exact.
        timing: the timesteps in which frames travel.
        name: of the Process.

    Ports:
        s_in: (B, C, H, W), signed spikes or graded values.
        a_out: (B, C_out, H_out, W_out), currents.
    """

    def __init__(
        self,
        *,
        shape_in: Shape,
        weight: Array,
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        dilation: Pair = (1, 1),
        groups: int = 1,
        pool: SumPool2d | None = None,
        batch: int = 1,
        largest: int = 1,
        timing: Timing = EVERY_STEP,
        name: str | None = None,
    ) -> None:
        operator = Conv2d(weight, stride, padding, dilation, groups)
        super().__init__(operator, shape_in=shape_in, pool=pool, batch=batch, largest=largest, timing=timing, name=name)
