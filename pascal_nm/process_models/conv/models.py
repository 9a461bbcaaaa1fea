"""How the convolution synapses behave on a CPU."""

from __future__ import annotations

from pascal_nm.process_models.compat import CPU, LoihiProtocol, implements, requires, tag
from pascal_nm.process_models.conv.process import Conv
from pascal_nm.process_models.synapse import FixedSynapseModel, FloatSynapseModel


@implements(proc=Conv, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class ConvFloat(FloatSynapseModel):
    """Floating point."""


@implements(proc=Conv, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class ConvFixed(FixedSynapseModel):
    """Fixed point; see :class:`FixedSynapseModel` for the widths."""
