"""A whole spiking network as one hierarchical Process."""

from __future__ import annotations

from pascal_nm.network.graph import Graph
from pascal_nm.process_models.compat import AbstractProcess, InPort, OutPort, Var
from pascal_nm.simulation import schedule


class PascNetwork(AbstractProcess):
    r"""A converted network inside a Lava network of one's own.

    What sends its currents, and what hears its spikes, may be any Process.

    Images follow each other every :attr:`interval` timesteps, with no reset in between. An image's
    currents (``graph.currents`` of the preprocessed image) arrive in one timestep, the first of its
    interval, and nothing in the others: a Process that sends in timestep 0 is heard in timestep 0.

    Args:
        graph: float for ``floating_pt`` run configurations, integer for ``fixed_pt``.
        batch: B, the leading axis of ports and Vars.
        name: of the Process.

    Ports:
        a_in: (B, \*input shape), the analog input's currents.
        s_out: (B, \*shape), spikes of the last population that has counts: in {-1, 0, +1}, or
            graded.

    Vars (Lava moves them element by element):
        v: (B, \*output shape), the readout's potential: an image's answer after the
        interval's last timestep.

    Attributes:
        schedule: when its populations do what.
        interval: timesteps of an image.
    """

    def __init__(self, *, graph: Graph, batch: int = 1, name: str | None = None) -> None:
        super().__init__(graph=graph, batch=batch, name=name)
        self.schedule = schedule.of(graph, delay=1)
        self.interval = self.schedule.steps
        last = graph.counted[-1]
        self.a_in = InPort(shape=(batch, *graph.input.shape))
        self.s_out = OutPort(shape=(batch, *last.shape))
        self.v = Var(shape=(batch, *graph.output.shape), init=0)
