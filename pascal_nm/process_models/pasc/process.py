"""The PASC neuron Process."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pascal_nm.common.arrays import Array, Shape
from pascal_nm.errors import GraphError
from pascal_nm.network.dynamics import DYNAMICS, Dynamics
from pascal_nm.network.windows import Window
from pascal_nm.neuron import Stage
from pascal_nm.process_models.compat import AbstractProcess, InPort, OutPort, Var
from pascal_nm.process_models.memory import Record
from pascal_nm.process_models.parameters import check
from pascal_nm.process_models.timing import EVERY_STEP, Cycle, Rota, Timing


class Pasc(AbstractProcess):
    r"""PASC integrate-and-fire neurons.

    They are Algorithms 1 and 2 of the paper, as written in :mod:`pascal_nm.neuron`.

    The neuron passes through the stages of ``window``. Its state is set anew in the first timestep
    of every window to :math:`v = v_{th}/2, s = 0` (to :math:`v = 0`, where the window gives the
    half threshold later); what arrives outside the listening stages is not heard.

    .. math::
        \text{integrate:} \quad v \mathrel{+}= a_{in} + b', \quad \sigma = [v \ge v_{th}] \qquad
        \text{correct:} \quad \sigma = [v \ge v_{th}] - [v < 0] \qquad
        v \mathrel{-}= \sigma v_{th}, \quad s \mathrel{+}= \sigma

    .. math::
        \text{encode:} \quad
        s = \mathrm{clip}(\lfloor (v + a_{in} + b) / v_{th} \rfloor, 0, L) \qquad
        \text{emit:} \quad s_{out} = [s \ge 1], \quad s \mathrel{-}= s_{out}

    .. math::
        \text{stream:} \quad v \mathrel{+}= a_{in} + b, \quad
        s_{out} = [v \ge v_{th} \wedge s < L] - [v < 0 \wedge s > 0], \quad
        v \mathrel{-}= s_{out} v_{th}, \quad s \mathrel{+}= s_{out}

    .. math::
        \text{change:} \quad v \mathrel{+}= a_{in} + b, \quad
        s' = \mathrm{clip}(\lfloor v / v_{th} \rfloor, 0, L), \quad
        s_{out} = s' - s, \quad s = s'

    Args:
        shape: (C, H, W) or (N,), without the batch.
        vth: threshold, broadcastable to ``shape``; the potential of one spike.
        levels: L.
        window: the stages, in timesteps of batch 0.
        bias: broadcastable to ``shape``; injected in equal shares over the window's integration,
            whole in the first timestep of ``STREAM`` and in ``CHANGE``.
        dtype: of the membrane potential: int32 for ``fixed_pt`` models, float32 or float64 for
            ``floating_pt``.
        batch: B, the leading axis of ports and Vars.
        cycle: how the window repeats; None: back to back, for ever.
        timing: the timesteps in which frames travel.
        dynamics: what the neurons do in a stage; those of the paper where it is left out.
        kept: batches are consecutive frames: the state is set in the first alone, and goes on from
            there. It takes a window that ends in ``STREAM`` or ``CHANGE``.
        record: where to write counts and activity, for ``cycle.batches`` batches; None
            to write nothing.
        name: of the Process.

    Raises:
        GraphError: a threshold that is not positive or does not fit the shape, numbers that are not
            of the type of ``dtype``, a window that does not spike for L timesteps, more levels than
            a graded spike carries, state that the window's last stage does not keep.

    Ports:
        a_in: (B, \*shape), currents in the unit of ``vth``; several connections add up.
        s_out: (B, \*shape), spikes in {-1, 0, +1}; graded ones in {-L, ..., L}.

    Vars (Lava moves them element by element: read them from small networks only):
        v: (B, \*shape), membrane potential in the unit of ``vth``.
        s: (B, \*shape), spike counter, signed.
    """

    def __init__(
        self,
        *,
        shape: Shape,
        vth: Array,
        levels: int,
        window: Window,
        bias: Array | None = None,
        dtype: npt.DTypeLike = np.int32,
        batch: int = 1,
        cycle: Rota | None = None,
        timing: Timing = EVERY_STEP,
        dynamics: Dynamics = DYNAMICS["pasc"],
        kept: bool = False,
        record: Record | None = None,
        name: str | None = None,
    ) -> None:
        bias = np.zeros((1,) * len(shape), dtype) if bias is None else bias
        check("Pasc", shape, {"vth": vth, "bias": bias}, dtype)
        if (np.asarray(vth) <= 0).any():
            raise GraphError("Pasc: vth must be positive")
        _check_levels(levels, window, dynamics)
        if kept and not window.keeps:
            raise GraphError(f"Pasc: neurons that end in stage {window.spans[-1].stage.value} keep no state for frames")
        super().__init__(
            shape=shape,
            vth=vth,
            levels=levels,
            window=window,
            bias=bias,
            dtype=np.dtype(dtype),
            batch=batch,
            cycle=cycle or Cycle(interval=window.stop - window.start),
            timing=timing,
            dynamics=dynamics,
            kept=kept,
            record=record,
            name=name,
        )
        self.a_in = InPort(shape=(batch, *shape))
        self.s_out = OutPort(shape=(batch, *shape))
        self.v = Var(shape=(batch, *shape), init=0)
        self.s = Var(shape=(batch, *shape), init=0)


def _check_levels(levels: int, window: Window, dynamics: Dynamics) -> None:
    """Refuse more levels than spikes can stand for."""
    if dynamics.graded or window.graded:
        if levels > (most := np.iinfo(np.int8).max):
            raise GraphError(f"Pasc: a graded spike has 8 bits here, and carries up to {most}, not {levels}")
    elif window.span(Stage.STREAM) is None and window.emit.steps != levels:
        raise GraphError(
            f"Pasc: a neuron of {levels} levels spikes in {levels} timesteps; "
            f"its window has {window.emit.steps} of stage emit"
        )
