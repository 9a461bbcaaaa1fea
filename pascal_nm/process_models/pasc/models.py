"""How the PASC neuron behaves on a CPU: a shell around :mod:`pascal_nm.simulation.clock`."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pascal_nm.common.arrays import Array
from pascal_nm.network.windows import Window
from pascal_nm.neuron import KEEPING, LISTENING, SENDING, Stage, State
from pascal_nm.process_models.compat import CPU, LavaPyType, LoihiProtocol, implements, requires, tag
from pascal_nm.process_models.memory import Record
from pascal_nm.process_models.model import FIXED, FLOATING, Arithmetic, FramePort, Model, SumPort, refuse_unheard, zeros
from pascal_nm.process_models.pasc.process import Pasc
from pascal_nm.process_models.timing import Place, Rota
from pascal_nm.simulation.clock import Clock

_BLOCK_NEURONS = 1 << 17
"""Neurons (times images) that are stepped together."""


class PascModel(Model):
    """Behaviour of both models; they differ in the types of ports and state."""

    arithmetic: Arithmetic

    a_in: Any
    s_out: Any = LavaPyType(FramePort, np.int8, precision=8)

    def __init__(self, proc_params: Any = None) -> None:
        super().__init__(proc_params)
        self.window: Window = proc_params["window"]
        self.cycle: Rota = proc_params["cycle"]
        self.kept: bool = proc_params["kept"]
        self.quiet, self.begun = False, self.window.begun
        self.record: Record | None = proc_params["record"]
        self.shape = (proc_params["batch"], *proc_params["shape"])
        self.block = max(1, _BLOCK_NEURONS // math.prod(proc_params["shape"]))
        theta, bias = (
            torch.from_numpy(np.asarray(proc_params[name], dtype=proc_params["dtype"])) for name in ("vth", "bias")
        )
        self.arithmetic.check("Pasc", theta.numpy().dtype)
        self.clock = Clock(proc_params["dynamics"], self.window, theta, bias, proc_params["levels"])

    def on_var_update(self) -> None:
        """Its state was written from outside: it may have to spike although nothing arrives."""
        self.quiet = False

    def run_step(self, t: int) -> None:
        """Receive, advance the neuron where a window is open, send."""
        place = self.cycle.locate(t, range(self.window.start, self.window.stop))
        with self.a_in.frame() if self.timing.receives(t) else nullcontext() as current:
            if place is None or self.stage(place) not in LISTENING:
                refuse_unheard(current, t, self.window.listening, self.cycle)
            spikes = None if place is None else self.advance(place, current)
        if self.timing.sends(t):
            self.s_out.send(spikes)

    def advance(self, place: Place, arriving: Array | None) -> Array | None:
        """One timestep inside a window; the spikes that leave, or None where there are none."""
        if place.t == self.window.start:
            self.begin(place.batch)
        stage = self.stage(place)
        if self.quiet and place.t >= self.begun and (arriving is None or not arriving.any()):
            return None
        self.quiet = False
        spikes = self.step(stage, place.t, None if arriving is None else torch.from_numpy(arriving))
        if spikes is None:
            return None
        if stage not in SENDING:
            if self.record is not None:
                write(self.record, place.batch, spikes)
            return None
        silent = not spikes.any()
        # A neuron that streams and has not spiked, or has sent its whole change, does not spike
        # until something arrives: what it gets later wakes it.
        self.quiet = stage in KEEPING and (silent or self.window.graded)
        if silent:
            return None
        if self.record is not None:
            self.record.write(place.batch, place.t, spikes)
        return spikes

    def stage(self, place: Place) -> Stage:
        """What its neurons do."""
        span = self.window.at(place.t)
        assert span is not None, "the place is inside the window"
        return span.stage

    def begin(self, batch: int) -> None:
        """A window begins: from rest, or with the state that the frame before left."""
        if batch and self.kept:
            self.clock, self.begun = self.clock.resumed(), self.window.start
            return
        self.v = (zeros(self.shape, self.clock.theta.dtype) + self.clock.rest()).numpy()
        self.s = zeros(self.shape, torch.int16).numpy()
        self.quiet = False

    def step(self, stage: Stage, t: int, arriving: Tensor | None) -> Array | None:
        """One timestep of all neurons: the spikes, int8 (B, *shape), if any.

        Images go a block at a time, whose state stays in the processor's cache.
        """
        v, s = torch.from_numpy(self.v), torch.from_numpy(self.s)
        spikes = torch.empty_like(s, dtype=torch.int8)
        for first in range(0, len(v), self.block):
            block = slice(first, first + self.block)
            arrived = [] if arriving is None else [arriving[block].to(self.clock.theta.dtype)]
            before = State(v[block], s[block])
            fired, state = self.clock.step(t, before, arrived)
            if fired is not None:
                spikes[block] = fired  # before the state is written over, which it may be a part of
            if state.v is not before.v:
                v[block] = state.v
            s[block] = state.s
        return None if fired is None else np.asarray(spikes.numpy())


def write(record: Record, batch: int, spikes: Array) -> None:
    """Add a timestep's internal spikes, int8 (B, *shape), to the record."""
    fired = np.array([np.count_nonzero(image) for image in spikes])
    raised = np.array([np.count_nonzero(image > 0) for image in spikes])
    record.excitatory[batch] += raised
    record.inhibitory[batch] += fired - raised


@implements(proc=Pasc, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PascFloat(PascModel):
    """Floating point; the state has the Process's ``dtype``."""

    arithmetic = FLOATING
    a_in = LavaPyType(SumPort, float)
    v = LavaPyType(np.ndarray, float)
    s = LavaPyType(np.ndarray, np.int16)


@implements(proc=Pasc, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PascFixed(PascModel):
    """The neurons in fixed point.

    ``a_in``, ``v``, ``vth`` and bias are int32 (a chip's v has 24 bits), ``s`` is
    int16, ``s_out`` int8.
    """

    arithmetic = FIXED
    a_in = LavaPyType(SumPort, np.int32, precision=32)
    v = LavaPyType(np.ndarray, np.int32, precision=24)
    s = LavaPyType(np.ndarray, np.int16, precision=16)
