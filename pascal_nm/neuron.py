r"""The PASC integrate-and-fire neuron: Algorithms 1 and 2 of the paper, written once.

Every function here is pure and works on NumPy arrays and torch tensors alike, on floats and on
integers. The torch simulator, the Lava ProcessModels (float and fixed point) and the chip model are
shells around these functions.

Units: the membrane potential ``v``, the current and the threshold ``theta`` share one unit (that of
the target population's weights); the spike counter ``s`` counts spikes. ``theta`` is the paper's
:math:`\theta^* = \theta_n / L_n`, the potential that one spike stands for.

One neuron passes through *stages* (:class:`Stage`); a
:class:`pascal_nm.simulation.schedule.Schedule` says when:

==============  ====================================================================================
``ACCUMULATE``  add the current to ``v`` without firing (inputs that come before the main window;
                readout)
``INTEGRATE``   Algorithm 1, lines 4 to 8: add the current, fire with soft reset, count
``CORRECT``     Algorithm 1, lines 10 to 16: fire or inhibit (signed spikes) until
                ``0 <= v < theta``
``ENCODE``      Algorithm 2, line 3: the level of an analog current in closed form
``EMIT``        Algorithm 1, lines 19 to 21 and Algorithm 2, lines 5 to 7: spike while the counter
                is positive
``STREAM``      add the current, and send signed spikes at once, so that the count follows the
                potential (not in the paper)
``CHANGE``      add the current, take the level in closed form, and send by how much it changed,
                as one signed number (not in the paper)
==============  ====================================================================================

``EMIT`` gives a *thermometer* train: a neuron of count c spikes in the first c steps of its
window. ``STREAM`` gives a signed train whose sum is c once the neuron is quiet, ``CHANGE`` one
number (docs/schedules.md has the proofs). Both keep what the next frame needs: the sum of all that
a neuron has ever sent is its level.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

import numpy as np

Array = Any  # np.ndarray or torch.Tensor; the functions use only the operators that both share


class Stage(str, Enum):
    """What a neuron does in a timestep; see the module's table."""

    ACCUMULATE = "accumulate"
    INTEGRATE = "integrate"
    CORRECT = "correct"
    ENCODE = "encode"
    EMIT = "emit"
    STREAM = "stream"
    CHANGE = "change"


LISTENING = (Stage.ACCUMULATE, Stage.INTEGRATE, Stage.ENCODE, Stage.STREAM, Stage.CHANGE)
"""Stages that add what arrives; in the others nothing is heard."""

SENDING = (Stage.EMIT, Stage.STREAM, Stage.CHANGE)
"""Stages whose spikes leave the neuron."""

KEEPING = (Stage.STREAM, Stage.CHANGE)
"""Sending stages after which potential and counter hold what a further frame needs: to change its
input by so much changes what is sent by as much as the levels change."""


class State(NamedTuple):
    """Membrane potential ``v`` and spike counter ``s`` (signed), each of the population's shape."""

    v: Array
    s: Array


class Step(NamedTuple):
    """What one timestep gave: spikes, and the state after it.

    ``spikes`` are in {-1, 0, +1}, of the counter's type; in ``CHANGE`` graded, in {-L, ..., L}.

    In ``INTEGRATE`` and ``CORRECT`` the spikes are internal (they move the counter); in ``EMIT``,
    ``STREAM`` and ``CHANGE`` they leave the neuron.
    """

    spikes: Array
    state: State


def cast(x: Array, like: Array) -> Array:
    """``x`` in the type of ``like``, whichever library both come from."""
    return x.to(like.dtype) if hasattr(x, "to") else x.astype(like.dtype)


def at_least(x: Array, y: Array, like: Array) -> Array:
    """1 where x >= y, else 0, in the type of ``like``."""
    # In place, torch writes 0 and 1 in x's own type: an eighth of the time of a Boolean
    # mask and its cast.
    return cast(x.clone().ge_(y) if hasattr(x, "ge_") else x >= y, like)


def below(x: Array, y: Array, like: Array) -> Array:
    """1 where x < y, else 0, in the type of ``like``."""
    return cast(x.clone().lt_(y) if hasattr(x, "lt_") else x < y, like)


def initial_potential(theta: Array) -> Array:
    r"""Membrane potential before the first input: theta / 2, the shift 1/2 of QCFS.

    It is line 3 of Algorithm 1.

    For integers ``theta // 2`` is exact even where theta is odd: an integer z reaches
    :math:`k\theta - \theta/2` exactly when it reaches :math:`k\theta - \lfloor\theta/2\rfloor`.
    """
    return theta / 2 if _is_float(theta) else theta // 2


def level(v: Array, theta: Array, levels: int) -> Array:
    """Closed form of the count: clip(floor(v / theta), 0, levels), with theta / 2 inside ``v``.

    This is Equation 1 in units of spikes, and Algorithm 2's line 3. (The paper's line 3
    lacks the factor L.)
    """
    quotient = v // theta if not _is_float(v) else _floor(v / theta)
    return quotient.clip(0, levels)


def accumulate(state: State, current: Array) -> State:
    """Add the current without firing."""
    return State(state.v + current, state.s)


def integrate(state: State, current: Array, theta: Array) -> Step:
    """Algorithm 1, lines 5 to 8: mem += X[t]; where mem >= theta: s += 1, mem -= theta."""
    v = state.v + current
    spikes = at_least(v, theta, state.s)
    return Step(spikes, State(v - spikes * theta, state.s + spikes))


def correct(state: State, theta: Array) -> Step:
    """+1 where mem >= theta, -1 (inhibitory) where mem < 0, with soft reset.

    These are lines 11 to 16 of Algorithm 1.
    """
    spikes = at_least(state.v, theta, state.s) - below(state.v, 0, state.s)
    return Step(spikes, State(state.v - spikes * theta, state.s + spikes))


def encode(state: State, current: Array, theta: Array, levels: int) -> State:
    """Algorithm 2, line 3: the counter takes the level of the whole analog input at once."""
    v = state.v + current
    return State(v, cast(level(v, theta, levels), state.s))


def emit(state: State) -> Step:
    """Algorithm 1, lines 19 to 21: spike while the counter is positive, one spike a timestep.

    Run for ``levels`` steps this gives clip(s, 0, levels) spikes (Table 7 of the paper).
    """
    spikes = at_least(state.s, 1, state.s)
    return Step(spikes, State(state.v, state.s - spikes))


def stream(state: State, current: Array, theta: Array, levels: int) -> Step:
    """Add the current, then spike, with soft reset.

    +1 where v >= theta and fewer than ``levels`` spikes stand, -1 where v < 0 and some do.

    The counter holds the spikes that have left the neuron, +1 and -1 added up. It never leaves 0 to
    ``levels``; where no neuron spikes and no current comes, it is clip(floor(v' / theta), 0,
    levels) of the whole potential v' (Theorem 2 in docs/schedules.md).
    """
    v = state.v + current
    up = at_least(v, theta, state.s) * below(state.s, levels, state.s)
    down = below(v, 0, state.s) * at_least(state.s, 1, state.s)
    spikes = up - down
    return Step(spikes, State(v - spikes * theta, state.s + spikes))


def change(state: State, current: Array, theta: Array, levels: int) -> Step:
    """Add the current, take the level of the whole potential, and send by how much it changed.

    The counter holds the level that all targets know of: the sum of all that has been sent. Nothing
    is reset, so ``v`` is the whole potential.
    """
    v = state.v + current
    s = cast(level(v, theta, levels), state.s)
    return Step(s - state.s, State(v, s))


def step(stage: Stage, state: State, current: Array | None, theta: Array, levels: int) -> Step:
    """One timestep of a neuron in the given stage; ``current`` is None where no input can arrive.

    ``ACCUMULATE`` and ``ENCODE`` give no spikes: their ``Step.spikes`` is None.
    """
    return _STAGES[stage](state, current, theta, levels)


_STAGES: dict[Stage, Callable[[State, Array, Array, int], Step]] = {
    Stage.ACCUMULATE: lambda state, x, theta, levels: Step(None, accumulate(state, x)),
    Stage.INTEGRATE: lambda state, x, theta, levels: integrate(state, x, theta),
    Stage.CORRECT: lambda state, x, theta, levels: correct(state, theta),
    Stage.ENCODE: lambda state, x, theta, levels: Step(None, encode(state, x, theta, levels)),
    Stage.EMIT: lambda state, x, theta, levels: emit(state),
    Stage.STREAM: stream,
    Stage.CHANGE: change,
}


def bias_share(bias: Array, step: int, steps: int) -> Array:
    """The part of ``bias`` that is injected in timestep ``step``: the paper's b' = b / L.

    There are ``steps`` such timesteps.

    The shares sum to ``bias`` exactly: integer shares differ by at most one; float shares are
    differences of neighbouring multiples within a factor of two of each other, which floating point
    subtracts without error.
    """
    if steps == 1:
        return bias
    if _is_float(bias):
        return bias * ((step + 1) / steps) - bias * (step / steps)
    quotient = bias // steps
    rest = bias - quotient * steps
    return quotient + ((step + 1) * rest // steps - step * rest // steps)


def _is_float(x: Array) -> bool:
    return "float" in str(x.dtype)


def _floor(x: Array) -> Array:
    return x.floor() if hasattr(x, "floor") else np.floor(x)
