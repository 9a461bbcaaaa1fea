"""How the all-to-all synapses behave on a CPU."""

from __future__ import annotations

from pascal_nm.process_models.compat import CPU, LoihiProtocol, implements, requires, tag
from pascal_nm.process_models.dense.process import Dense
from pascal_nm.process_models.synapse import FixedSynapseModel, FloatSynapseModel


@implements(proc=Dense, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class DenseFloat(FloatSynapseModel):
    """Floating point."""


@implements(proc=Dense, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class DenseFixed(FixedSynapseModel):
    """Fixed point; see :class:`FixedSynapseModel` for the widths."""
