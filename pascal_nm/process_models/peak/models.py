"""How neurons that pass on the largest of sums behave on a CPU."""

from __future__ import annotations

import numpy as np
import torch

from pascal_nm.process_models.compat import CPU, LavaPyType, LoihiProtocol, implements, requires, tag
from pascal_nm.process_models.max_pool.models import ExtremeModel
from pascal_nm.process_models.model import FramePort, SumPort
from pascal_nm.process_models.peak.process import Peak


@implements(proc=Peak, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PeakFloat(ExtremeModel):
    """Floating point."""

    s_in = LavaPyType(SumPort, float)
    s_out = LavaPyType(FramePort, float)
    carrier = sent = torch.float64


@implements(proc=Peak, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PeakFixed(ExtremeModel):
    """Fixed point: int32, in and out; float64 holds all of these numbers."""

    s_in = LavaPyType(SumPort, np.int32, precision=32)
    s_out = LavaPyType(FramePort, np.int32, precision=32)
    carrier = torch.float64
    sent = torch.int32
