"""The clock of a population: what its neurons get and do in each timestep, written once.

The simulator, Lava's ProcessModels and the report's traces step their neurons by it. It knows the
population's window of the schedule; the dynamics know what a stage does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from pascal_nm import neuron
from pascal_nm.network.dynamics import Dynamics
from pascal_nm.network.windows import Window
from pascal_nm.neuron import LISTENING, State, Step

Array = Any  # np.ndarray or torch.Tensor, as in pascal_nm.neuron


class Clock(NamedTuple):
    """The neurons of a population on the schedule's clock.

    Attributes:
        dynamics: what they do.
        window: when.
        theta: threshold, broadcastable to the population, of the potential's type.
        bias: likewise; None where it has come already, with the first frame.
        levels: L.
    """

    dynamics: Dynamics
    window: Window
    theta: Array
    bias: Array | None
    levels: int

    def rest(self) -> Array:
        """The membrane potential before the window, broadcastable to the population.

        It is theta / 2, the shift of QCFS, and 0 where the schedule gives the shift later. A
        readout has its whole bias.
        """
        if self.dynamics.reads_out:
            return self.bias
        return neuron.initial_potential(self.theta) if self.window.shift is None else self.theta * 0

    def resumed(self) -> Clock:
        """The clock of a further frame: bias and shift are in the potential that was kept."""
        return self._replace(bias=None, window=replace(self.window, shift=None))

    def settled(self, current: Array, s: Array) -> State:
        """The state of neurons of level ``s`` that were brought ``current`` in all, bias apart."""
        v = current + self.bias + neuron.initial_potential(self.theta)
        return State(v if self.window.graded else v - s * self.theta, s)

    def current(self, t: int, arrived: Sequence[Array]) -> Array:
        """All that the neurons get in timestep ``t``, in which they listen.

        That is what has arrived, their share of the bias, and a shift that comes late.
        """
        parts = [*arrived]
        biased = self.window.bias
        if self.bias is not None and biased.start <= t < biased.stop and not self.dynamics.reads_out:
            parts.append(neuron.bias_share(self.bias, t - biased.start, biased.steps))
        if t == self.window.shift:
            parts.append(neuron.initial_potential(self.theta))
        return sum(parts[1:], parts[0]) if parts else self.theta * 0

    def step(self, t: int, state: State, arrived: Sequence[Array]) -> Step:
        """Timestep ``t``, inside the window, of neurons to which ``arrived`` has come.

        Where nothing can fire, the step's spikes are None.
        """
        span = self.window.at(t)
        assert span is not None, "the timestep is inside the window"
        current = self.current(t, arrived) if span.stage in LISTENING else None
        return self.dynamics.step(span.stage, state, current, self.theta, self.levels)
