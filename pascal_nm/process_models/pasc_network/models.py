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
        cycle = Cycle(proc.interval, first=proc.proc_params["offset"])
        wiring = Wiring(graph, proc.proc_params["batch"], proc.schedule, cycle, proc.a_in)
        for name, process in wiring.processes.items():  # Lava finds them as attributes
            setattr(self, f"process_{name}", process)
        last = graph.counted[-1].name
        wiring.processes[last].s_out.connect(proc.s_out)
        for layer in proc.layers:
            process = wiring.processes[layer.name]
            for var in ("v", "s"):
                if getattr(layer, var) is not None:
                    getattr(layer, var).alias(getattr(process, var))
            if layer.s_out is not None:
                process.s_out.connect(layer.s_out)
