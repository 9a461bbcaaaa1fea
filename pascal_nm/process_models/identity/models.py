"""How the one-to-one synapses behave on a CPU."""

from __future__ import annotations

from pascal_nm.process_models.compat import CPU, LoihiProtocol, implements, requires, tag
from pascal_nm.process_models.identity.process import Identity
from pascal_nm.process_models.synapse import FixedSynapseModel, FloatSynapseModel


@implements(proc=Identity, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class IdentityFloat(FloatSynapseModel):
    """Floating point."""


@implements(proc=Identity, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class IdentityFixed(FixedSynapseModel):
    """Fixed point; see :class:`FixedSynapseModel` for the widths."""
