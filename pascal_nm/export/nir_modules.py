"""NIR graphs of any tool as torch modules.

There is one module for each node, joined as :mod:`pascal_nm.export.nir_nodes` has checked them.

nirtorch (https://github.com/neuromorphs/NIRTorch) is not asked: its tracing takes time that grows
with the number of paths through a graph, it writes Python code with the names of a file, and leaves
out the second edge into the output of a graph inside a graph (nirtorch 2.6).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import nir
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pascal_nm.common.arrays import Array
from pascal_nm.errors import TargetError
from pascal_nm.export import nir_neuron, nir_nodes
from pascal_nm.export.nir_neuron import Current, Membrane, NirState, Reset
from pascal_nm.export.nir_nodes import SECONDS, CannotRunError, Plan, fields_of, flattens_all, sides, whole

Per = Literal["timestep", "unit"]
"""What ``r`` of ``I`` and ``IF`` is the gain for: an input adds r in a timestep, or r in a unit of
time, and so r dt in a timestep. NIR's equation says the latter; most tools write r = 1 and mean the
former."""


class Reading(NamedTuple):
    """What a NIR file leaves to its reader.

    Attributes:
        dt: length of a timestep in the unit of the file's time constants and delays; None takes
            1e-4 s.
        after_spike: the reset; ``zero`` is NIR's own (to ``v_reset``), ``subtract`` takes
            ``v_threshold`` - ``v_reset`` away.
        per: of ``r`` in ``I`` and ``IF``; None takes what the file leaves no doubt of
            (:func:`resolved`).
        current: of a synapse, that its neuron's potential takes.
    """

    dt: float | None = None
    after_spike: Reset = "zero"
    per: Per | None = None
    current: Current = "last"

    @property
    def step(self) -> float:
        """The length of a timestep."""
        return SECONDS if self.dt is None else self.dt

    def words(self, plan: Plan) -> list[str]:
        """What it means for a graph, of all that the file leaves open: a line for each."""
        kinds = {type(node).__name__ for node in plan.nodes.values()}
        lines = []
        if timed := sorted(kinds & {"LI", "LIF", "CubaLI", "CubaLIF", "Delay"}):
            lines.append(f"a timestep is {self.step:g} in the unit of time of {', '.join(timed)} (--dt)")
        if self.per is not None:
            adds = "r" if self.per == "timestep" else f"r x {self.step:g}"
            lines.append(f"an input of 1 adds {adds} to I and IF in a timestep (--r-per {self.per})")
        if kinds & {"CubaLI", "CubaLIF"}:
            when = {"last": "of the timestep before", "new": "that this timestep's input has changed"}[self.current]
            lines.append(f"a potential takes the synapse's current {when} (--current {self.current})")
        resets = [getattr(node, "v_reset", None) for node in plan.nodes.values()]
        if self.after_spike == "subtract" and any(reset is not None and np.any(reset) for reset in resets):
            lines.append("a spike takes v_threshold - v_reset away, and v_reset is not 0 (--reset subtract)")
        if plan.late:
            shown = ", ".join(f"{first} -> {last}" for first, last in sorted(plan.late)[:8])
            lines.append(f"recurrent: a timestep later arrives {shown}{', …' if len(plan.late) > 8 else ''}")
        return lines


class State(NamedTuple):
    """What a network keeps from timestep to timestep.

    Attributes:
        nodes: the state of each node that has one.
        sent: what nodes sent whose edges bring it a timestep late.
    """

    nodes: Mapping[str, Any] = {}
    sent: Mapping[str, Tensor] = {}


def _buffer(value: Any, dtype: torch.dtype) -> Tensor:
    """A constant in the type to compute in; without a copy where a file holds it so."""
    array = np.asarray(value)
    array = np.require(array, array.dtype if array.dtype in (np.float32, np.float64) else np.float64, "W")
    return torch.from_numpy(array).to(dtype)


def _check_finite(x: Tensor) -> None:
    """A comparison with NaN is false, and a spike is then missing in silence."""
    if not bool(torch.isfinite(x).all()):
        raise TargetError("a neuron's potential is not finite: the network's weights or inputs are too large")


class Neurons(nn.Module):
    """Any of NIR's integrators and neurons."""

    def __init__(self, constants: Membrane, reading: Reading, dtype: torch.dtype) -> None:
        super().__init__()
        self.after_spike, self.current = reading.after_spike, reading.current
        self.fields = {name: value for name, value in constants._asdict().items() if value is None}
        for name, value in constants._asdict().items():
            if value is not None:
                self.register_buffer(name, _buffer(value, dtype))

    @property
    def fires(self) -> bool:
        """False for integrators without a threshold."""
        return "threshold" not in self.fields

    def forward(self, x: Tensor, state: NirState | None = None) -> tuple[Tensor, NirState]:
        """One timestep for x (N, *shape): spikes (or an integrator's potential), and the state.

        Raises:
            TargetError: the potential is not finite.
        """
        rest = torch.zeros_like(x)
        constants = Membrane(**{**dict(self.named_buffers()), **self.fields})
        sent, after = nir_neuron.step(state or NirState(rest, rest), x, constants, self.after_spike, self.current)
        _check_finite(after.v)
        return sent, after


class Delay(nn.Module):
    """What came so many timesteps ago, for each value apart.

    Args:
        steps: broadcastable to what comes.
    """

    def __init__(self, steps: Array) -> None:
        super().__init__()
        self.register_buffer("steps", torch.from_numpy(steps))
        self.most = int(steps.max())

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One timestep for x (N, *shape): what leaves, and what came, (steps + 1, N, *shape)."""
        before = x.new_zeros((self.most, *x.shape)) if state is None else state[:-1]
        held = torch.cat([x[None], before])
        steps = self.get_buffer("steps").expand(x.shape[1:]).expand(1, *x.shape)
        return held.gather(0, steps)[0], held


class Function(nn.Module):
    """A node without state, with its weights."""

    def __init__(self, apply: Callable[..., Tensor], dtype: torch.dtype, **weights: Any) -> None:
        super().__init__()
        self.apply_to = apply
        for name, value in weights.items():
            self.register_buffer(name, _buffer(value, dtype))

    def forward(self, x: Tensor) -> Tensor:
        """The node's function of x (N, *shape)."""
        return self.apply_to(x, **dict(self.named_buffers()))


class Network(nn.Module):
    """The nodes of a graph, joined.

    What several edges bring to a node is added up, in the order of the edges and in
    double precision.

    Args:
        plan: the graph's.
        nodes: the module of each node, by name; the Input and the Output have none.
        reading: what was taken for what the file leaves open.
    """

    def __init__(self, plan: Plan, nodes: Mapping[str, nn.Module], reading: Reading) -> None:
        super().__init__()
        self.plan, self.reading = plan, reading
        self.modules_in_order = nn.ModuleList(nodes[name] for name in plan.order if name in nodes)
        self.nodes = dict(zip((name for name in plan.order if name in nodes), self.modules_in_order, strict=True))
        self.kept = {source for source, _ in plan.late}

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """One timestep for x (N, *shape): what reaches the output, and the state after it.

        The state before the first timestep is None.
        """
        before, after = state or State(), dict[str, Any]()
        sent = {self.plan.source: x}
        for name, module in self.nodes.items():
            arrived = self._arrived(name, sent, before.sent)
            if isinstance(module, (Neurons, Delay)):
                sent[name], after[name] = module(arrived, before.nodes.get(name))
            else:
                sent[name] = module(arrived)
        return self._arrived(self.plan.sink, sent, before.sent), State(after, {name: sent[name] for name in self.kept})

    def _arrived(self, name: str, sent: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> Tensor:
        late = self.plan.late
        arrived = [(before if (source, name) in late else sent).get(source) for source in self.plan.sources[name]]
        brought = [value for value in arrived if value is not None]
        if not brought:  # only what comes late, and the first timestep
            x = sent[self.plan.source]
            return x.new_zeros((len(x), *self.plan.shapes[self.plan.sources[name][0]]))
        first, *others = brought
        if not others:
            return first
        total = first.double()
        for other in others:
            total = total + other
        return total.to(first.dtype)


def to_torch(raw: nir.NIRGraph, reading: Reading | None = None, dtype: torch.dtype = torch.float32) -> Network:
    """The graph as one module: ``outputs, state = module(inputs, state)`` is one timestep.

    The first state is None.

    Args:
        raw: a graph with one input and one output.
        reading: what the file leaves open.
        dtype: to compute in.

    Raises:
        GraphError: as :func:`pascal_nm.export.nir_nodes.plan`, a timestep that does not fit the
            graph's time constants, or an ``r`` that needs ``reading.per``.
    """
    reading = reading or Reading()
    plan = nir_nodes.plan(raw, reading.dt)
    reading = resolved(plan, reading)
    nodes = {name: _module(plan, name, reading, dtype) for name in plan.nodes if name not in (plan.source, plan.sink)}
    return Network(plan, nodes, reading)


def resolved(plan: Plan, reading: Reading) -> Reading:
    """The reading of a graph, with nothing left open.

    Raises:
        CannotRunError: a timestep that does not fit the graph's time constants, or an ``r`` that
            needs ``reading.per``.
    """
    _check_timestep(plan, reading.step)
    return reading._replace(per=_gain_of(plan, reading))


def _module(plan: Plan, name: str, reading: Reading, dtype: torch.dtype) -> nn.Module:
    node = plan.nodes[name]
    if isinstance(node, _NEURONS):
        return Neurons(membrane(node, reading), reading, dtype)
    if isinstance(node, nir.Delay):
        return Delay(plan.delays[name])
    return _STATELESS[type(node)](node, dtype, len(plan.shapes[plan.sources[name][0]]))


def neurons(network: Network) -> Iterator[tuple[str, Neurons]]:
    """The spiking nodes of a network with their names."""
    for name, module in network.nodes.items():
        if isinstance(module, Neurons) and module.fires:
            yield name, module


def _gain_of(plan: Plan, reading: Reading) -> Per | None:
    """What ``r`` of ``I`` and ``IF`` nodes stands for.

    None where there are none, or it makes no difference. Without ``reading.per``: where every r is
    1 / dt, it is of a unit of time (SpikingJelly writes it so); where every r is below a hundredth
    of that, of a timestep (r = 1, as most tools write it).

    Raises:
        CannotRunError: neither.
    """
    found = {name: node.r for name, node in plan.nodes.items() if isinstance(node, (nir.I, nir.IF))}
    if reading.per is not None or not found or reading.step == 1:
        return reading.per
    shares = {name: np.abs(np.asarray(r, np.float64)) * reading.step for name, r in found.items()}
    if all(np.allclose(share, 1) for share in shares.values()):
        return "unit"
    for name, share in shares.items():
        if share.max() >= _DOUBT:
            raise CannotRunError(
                f"r of node {name!r} is {np.max(found[name]):g}, with which an input adds {np.max(found[name]):g} in a "
                f"timestep or, times the timestep of {reading.step:g}, {np.max(found[name]) * reading.step:g}: "
                "say --r-per timestep or --r-per unit"
            )
    return "timestep"


_DOUBT = 0.01
"""Potential that an input of 1 adds in a timestep, if ``r`` is of a unit of time, from which on it
may be meant so."""


def membrane(node: Any, reading: Reading) -> Membrane:
    """The constants of a neuron node; see :class:`Reading`."""
    threshold, reset = getattr(node, "v_threshold", None), getattr(node, "v_reset", None)
    firing = {"threshold": threshold, "reset": 0.0 if reset is None else reset}
    step = reading.step
    if isinstance(node, (nir.I, nir.IF)):
        return Membrane(0.0, 0.0, np.asarray(node.r) * (step if reading.per == "unit" else 1.0), **firing)
    cuba = isinstance(node, (nir.CubaLI, nir.CubaLIF))
    rate = step / np.asarray(node.tau_mem if cuba else node.tau, np.float64)
    synapse = {"synapse_rate": step / np.asarray(node.tau_syn, np.float64), "synapse_weight": node.w_in} if cuba else {}
    return Membrane(rate, node.v_leak, rate * np.asarray(node.r), **firing, **synapse)


def _check_timestep(plan: Plan, step: float) -> None:
    """Refuse timesteps with which the forward Euler method does not stay finite, or means nothing.

    Raises:
        CannotRunError: longer than a time constant.
    """
    for name, node in plan.nodes.items():
        for field, value in fields_of(node).items():
            if field.startswith("tau") and float(np.min(value)) < step:
                raise CannotRunError(
                    f"{field} of node {name!r} is {np.min(value):g}, less than the timestep of {step:g}: "
                    "give a --dt that fits the file's unit of time"
                )


def _conv(node: nir.Conv1d | nir.Conv2d, dtype: torch.dtype, rank: int) -> nn.Module:
    axes, groups = rank - 1, whole(node.groups)
    stride, dilation = sides(node.stride, axes), sides(node.dilation, axes)
    padding = node.padding if isinstance(node.padding, str) else sides(node.padding, axes)
    convolve = F.conv1d if axes == 1 else F.conv2d

    def apply(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return convolve(x, weight, bias, stride, padding, dilation, groups)

    return Function(apply, dtype, weight=node.weight, bias=node.bias)


def _flatten(node: nir.Flatten, dtype: torch.dtype, rank: int) -> nn.Module:
    fields = fields_of(node)
    if flattens_all(fields):
        return Function(lambda x: x.flatten(1), dtype)
    batch = 1 + rank - np.size(fields["input_type"])  # 0 where the writer counts the batch axis
    first, last = (n + batch if n >= 0 else n for n in (whole(node.start_dim), whole(node.end_dim)))
    return Function(lambda x: x.flatten(first, last), dtype)


def _pool(node: nir.SumPool2d | nir.AvgPool2d, dtype: torch.dtype, rank: int) -> nn.Module:
    kernel, stride, padding = (sides(value, 2) for value in (node.kernel_size, node.stride, node.padding))
    divisor = 1 if isinstance(node, nir.SumPool2d) else math.prod(kernel)
    return Function(lambda x: F.avg_pool2d(x, kernel, stride, padding, divisor_override=divisor), dtype)


def _relay(node: nir.Input | nir.Output, dtype: torch.dtype, rank: int) -> nn.Module:
    """An end of a graph in a graph."""
    return Function(lambda x: x, dtype)


def _threshold(node: nir.Threshold, dtype: torch.dtype, rank: int) -> nn.Module:
    def apply(x: Tensor, threshold: Tensor) -> Tensor:
        _check_finite(x)
        return (x > threshold).to(x.dtype)

    return Function(apply, dtype, threshold=node.threshold)


_NEURONS = (nir.I, nir.IF, nir.LI, nir.LIF, nir.CubaLI, nir.CubaLIF)
"""Nodes with state."""

_STATELESS: Mapping[type, Callable[[Any, torch.dtype, int], nn.Module]] = {
    nir.Affine: lambda node, dtype, rank: Function(F.linear, dtype, weight=node.weight, bias=node.bias),
    nir.AvgPool2d: _pool,
    nir.Conv1d: _conv,
    nir.Conv2d: _conv,
    nir.Flatten: _flatten,
    nir.Input: _relay,
    nir.Linear: lambda node, dtype, rank: Function(F.linear, dtype, weight=node.weight),
    nir.Output: _relay,
    nir.Scale: lambda node, dtype, rank: Function(lambda x, scale: x * scale, dtype, scale=node.scale),
    nir.SumPool2d: _pool,
    nir.Threshold: _threshold,
}
"""Nodes without state: the module for a node, the type to compute in, and the axes of what reaches
it, without the batch."""
