r"""The neurons of other tools' NIR files: leaky and non-leaky integrators, as pure functions.

NIR (https://neuroir.org, version 1.0) gives equations in continuous time; with a timestep
:math:`\Delta t` and the forward Euler method, which the field's readers use, every one of them is

.. math::
    i' = i + \alpha_{syn} \, (w_{in} x - i), \qquad
    v' = v + \alpha \, (v_{leak} - v) + g \, i, \qquad
    z = [v' > v_{threshold}]

(with :math:`g \, i'` for readers that take the current of the same timestep, :data:`Current`)
followed, where z = 1, by :math:`v \leftarrow v_{reset}` (NIR's own) or
:math:`v \leftarrow v - (v_{threshold} - v_{reset})` (soft reset, of converted networks).
:class:`Membrane` holds the constants: ``I`` and ``IF`` have :math:`\alpha = 0, g = R \Delta t`;
``LI``, ``LIF`` and the ``Cuba`` nodes :math:`\alpha = \Delta t / \tau, g = R \Delta t / \tau`;
without a synapse :math:`i = x`. Arrays are NumPy's or torch's.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

Array = Any  # np.ndarray or torch.Tensor

Reset = Literal["zero", "subtract"]
"""What a neuron does after a spike: go to ``v_reset`` (nearly always zero), or lose what lies
between it and the threshold."""

Current = Literal["last", "new"]
"""Which current of a synapse its neuron's potential takes in a timestep: that of the timestep
before, as in NIR's own reference for forward Euler
(https://github.com/neuromorphs/NIR, paper/03_rnn/extras/debug_CubaLIF/nir_reference_impl.py), or
the one that this timestep's input has changed, as in snnTorch and Norse."""


class Membrane(NamedTuple):
    """Constants of a population, broadcastable to its shape.

    Attributes:
        leak_rate: alpha, share of the way to ``leak`` in one timestep.
        leak: v_leak.
        gain: g, membrane potential for a unit of current.
        threshold: v_threshold; None for integrators that never fire.
        reset: v_reset.
        synapse_rate: alpha_syn; None without a synapse.
        synapse_weight: w_in.
    """

    leak_rate: Array
    leak: Array
    gain: Array
    threshold: Array | None = None
    reset: Array = 0.0
    synapse_rate: Array | None = None
    synapse_weight: Array = 1.0


class NirState(NamedTuple):
    """Membrane potential ``v`` and synaptic current ``i``."""

    v: Array
    i: Array


def step(
    state: NirState, x: Array, constants: Membrane, after_spike: Reset = "zero", current: Current = "last"
) -> tuple[Array, NirState]:
    """One timestep.

    Args:
        state: of the population, (N, *shape).
        x: input, (N, *shape).
        constants: of the population.
        after_spike: the reset.
        current: of a synapse, that the potential takes.

    Returns:
        Spikes 0 or 1 in the type of ``v`` (an integrator's ``v`` where there is no threshold), and
        the state after them.
    """
    m = constants
    i = x if m.synapse_rate is None else state.i + m.synapse_rate * (m.synapse_weight * x - state.i)
    taken = state.i if m.synapse_rate is not None and current == "last" else i
    v = state.v + m.leak_rate * (m.leak - state.v) + m.gain * taken
    if m.threshold is None:
        return v, NirState(v, i)
    spikes = (v > m.threshold) * (v * 0 + 1)
    if after_spike == "subtract":
        return spikes, NirState(v - spikes * (m.threshold - m.reset), i)
    return spikes, NirState(v + spikes * (m.reset - v), i)
