"""The Process of all-to-all synapses."""

from __future__ import annotations

from pascal_nm.common.arrays import Array, Shape
from pascal_nm.network import graph
from pascal_nm.network.graph import SumPool2d
from pascal_nm.process_models.synapse import Synapse
from pascal_nm.process_models.timing import EVERY_STEP, Timing


class Dense(Synapse):
    r"""All-to-all synapses, with an optional sum-pooling in front.

    Args:
        shape_in: of the source, without the batch.
        weight: (N_out, N_in), for the flattened source; floats for ``floating_pt`` models, integers
            for ``fixed_pt``.
        pool: sum-pooling between the source and the synapses.
        batch: B, the leading axis of both ports.
        largest: largest magnitude of an entry of ``s_in`` (1 for spikes), from which ``fixed_pt``
            proves that its sums are exact.
        timing: the timesteps in which frames travel.
        name: of the Process.

    Ports:
        s_in: (B, \*shape_in), signed spikes or graded values.
        a_out: (B, N_out), currents.
    """

    def __init__(
        self,
        *,
        shape_in: Shape,
        weight: Array,
        pool: SumPool2d | None = None,
        batch: int = 1,
        largest: int = 1,
        timing: Timing = EVERY_STEP,
        name: str | None = None,
    ) -> None:
        operator = graph.Dense(weight)
        super().__init__(operator, shape_in=shape_in, pool=pool, batch=batch, largest=largest, timing=timing, name=name)
