"""The Process of synapses."""

from __future__ import annotations

from pascal_nm.common.arrays import Shape
from pascal_nm.errors import GraphError
from pascal_nm.network.graph import Projection
from pascal_nm.network.operators import Operator, SumPool2d
from pascal_nm.process_models.compat import AbstractProcess, InPort, OutPort
from pascal_nm.process_models.timing import EVERY_STEP, Cycle, Rota, Timing


class Synapse(AbstractProcess):
    r"""Synapses of any operator: a weighted sum of the spikes of an earlier timestep.

    :math:`a_{out}[t] = W * \mathrm{sumpool}(s_{in}[t-d])`, zero before timestep d.

    In every timestep a buffered current is sent first and the next spikes are received after, as
    in Lava's stock ``Dense``. No work is done for a frame without spikes.

    Args:
        operator: of :mod:`pascal_nm.network.operators`; its weights are floats for ``floating_pt``
            models, integers for ``fixed_pt``.
        shape_in: of the source, without the batch.
        pool: sum-pooling between the source and the operator.
        batch: B, the leading axis of both ports.
        largest: largest magnitude of an entry of ``s_in`` (1 for spikes), from which ``fixed_pt``
            proves that its sums are exact.
        delay: d, timesteps that spikes travel; more than 1 where those of another way are awaited
            (:attr:`pascal_nm.simulation.schedule.Schedule.delays`).
        timing: the timesteps in which frames travel.
        receive: timesteps of batch 0 in which spikes may arrive: others are an error of the run;
            None: in all.
        cycle: how they repeat; None: back to back, for ever.
        name: of the Process.

    Raises:
        GraphError: a delay below 1.

    Ports:
        s_in: (B, \*shape_in), signed spikes or graded values.
        a_out: (B, \*target shape), currents in the target's unit.
    """

    def __init__(
        self,
        operator: Operator,
        *,
        shape_in: Shape,
        pool: SumPool2d | None = None,
        batch: int = 1,
        largest: int = 1,
        delay: int = 1,
        timing: Timing = EVERY_STEP,
        receive: range | None = None,
        cycle: Rota | None = None,
        name: str | None = None,
    ) -> None:
        projection = Projection("source", "target", operator, pool)
        if delay < 1:
            raise GraphError(f"Synapse: spikes travel for 1 timestep or more, not {delay}")
        super().__init__(
            projection=projection,
            largest=largest,
            delay=delay,
            timing=timing,
            receive=receive,
            cycle=cycle or Cycle(interval=len(receive or range(1))),
            name=name,
        )
        self.s_in = InPort(shape=(batch, *shape_in))
        self.a_out = OutPort(shape=(batch, *projection.output_shape(shape_in)))
