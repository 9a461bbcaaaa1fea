"""How synapses behave on a CPU: the delay, exact sums."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import torch

from pascal_nm.common.arrays import Array
from pascal_nm.errors import TargetError
from pascal_nm.network import bounds
from pascal_nm.network.graph import Projection
from pascal_nm.process_models.compat import CPU, LavaPyType, LoihiProtocol, implements, requires, tag
from pascal_nm.process_models.model import FramePort, Model, SumPort, refuse_unheard
from pascal_nm.process_models.synapse.process import Synapse
from pascal_nm.process_models.timing import Rota
from pascal_nm.simulation.simulate import delivery


class SynapseModel(Model):
    """Behaviour of both models; they differ in the arithmetic."""

    s_in: Any
    a_out: Any

    def __init__(self, proc_params: Any = None) -> None:
        super().__init__(proc_params)
        projection: Projection = proc_params["projection"]
        self.largest: int = proc_params["largest"]
        self.receive: range | None = proc_params["receive"]
        self.cycle: Rota = proc_params["cycle"]
        self.deliver = delivery(projection, self.carrier(projection, self.largest))
        self.under_way: deque[Array | None] = deque([None] * proc_params["delay"])

    def carrier(self, projection: Projection, largest: int) -> np.dtype[Any]:
        """The float type to compute in."""
        raise NotImplementedError

    def check(self, spikes: Array) -> None:
        """Refuse what the carrier is not made for."""

    def run_step(self, t: int) -> None:
        """Send what the spikes of ``delay`` timesteps ago deliver, then receive."""
        current = self.under_way.popleft()
        if self.timing.sends(t):
            self.a_out.send(current)
        self.under_way.append(self.received(t))

    def received(self, t: int) -> Array | None:
        """The currents of the spikes that come in timestep ``t``; None where there are none."""
        if not self.timing.receives(t):
            return None
        with self.s_in.frame() as spikes:
            if spikes is None or not spikes.any():
                return None
            if self.receive is not None and self.cycle.locate(t, self.receive) is None:
                refuse_unheard(spikes, t, self.receive, self.cycle)
            self.check(spikes)
            return np.asarray(self.deliver(torch.from_numpy(spikes)).numpy())


@implements(proc=Synapse, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class SynapseFloat(SynapseModel):
    """Floating point: computes in the type of the weights, of whole numbers in float64."""

    s_in = LavaPyType(SumPort, float)
    a_out = LavaPyType(FramePort, float)

    def check(self, spikes: Array) -> None:
        """Numbers that are none would be silence behind a neuron.

        Raises:
            TargetError: NaN or infinite numbers.
        """
        if spikes.dtype.kind == "f" and not np.isfinite(spikes).all():
            raise TargetError("Synapse: NaN or an infinite number arrives")

    def carrier(self, projection: Projection, largest: int) -> np.dtype[Any]:
        """The type of the weights; int8 ones would wrap."""
        dtype = projection.operator.weight.dtype
        return dtype if dtype.kind == "f" else np.dtype(np.float64)


@implements(proc=Synapse, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class SynapseFixed(SynapseModel):
    """Fixed point, all exact: weights int8 (any integers), currents int32.

    Spikes are int8 or graded int32.

    Sums run in a float type that holds every partial sum exactly, as proven by
    :mod:`pascal_nm.network.bounds`; the port casts the result to int32.
    """

    s_in = LavaPyType(SumPort, np.int32)
    a_out = LavaPyType(FramePort, np.int32, precision=32)

    def carrier(self, projection: Projection, largest: int) -> np.dtype[Any]:
        """Float32 or float64, whichever is exact.

        Raises:
            TargetError: the weights are no integers, which would be rounded.
        """
        dtype = projection.operator.weight.dtype
        if dtype.kind not in "iu":
            raise TargetError(
                f"Synapse: weights of type {dtype} in a fixed_pt model, which computes in integers: quantize the "
                "network (pascal_nm.quantize), or run it with the tag floating_pt"
            )
        return np.dtype(bounds.carrier(float(bounds.current_bound(projection, largest).max())))

    def check(self, spikes: Array) -> None:
        """The sums are proven exact for entries up to ``largest`` alone.

        Raises:
            TargetError: an entry is larger.
        """
        most = max(int(spikes.max()), -int(spikes.min()))
        if most > self.largest:
            raise TargetError(
                f"Synapse: {most} arrives, and its sums are exact for entries of up to {self.largest}: "
                f"make it with largest={most} or more"
            )
