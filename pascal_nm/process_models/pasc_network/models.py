"""What a network as one Process is made of."""

from __future__ import annotations

from typing import Any

from pascal_nm.process_models.compat import AbstractSubProcessModel, LoihiProtocol, implements, tag
from pascal_nm.process_models.network import Wiring
from pascal_nm.process_models.pasc_network.process import PascNetwork
from pascal_nm.process_models.timing import Cycle


@implements(proc=PascNetwork, protocol=LoihiProtocol)
@tag("floating_pt", "fixed_pt")
class PascNetworkModel(AbstractSubProcessModel):
    """Populations and projections as Processes.

    Which of their models run, the run configuration decides.
    """

    def __init__(self, proc: Any) -> None:
        graph = proc.proc_params["graph"]
        wiring = Wiring(graph, proc.proc_params["batch"], proc.schedule, Cycle(proc.interval), proc.a_in)
        for name, process in wiring.processes.items():  # Lava finds them as attributes
            setattr(self, f"process_{name}", process)
        last = graph.counted[-1].name
        wiring.processes[last].s_out.connect(proc.s_out)
        proc.v.alias(wiring.processes[graph.output.name].v)
