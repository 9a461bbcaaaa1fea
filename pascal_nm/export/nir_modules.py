"""NIR graphs of any tool as torch modules.

There is one module for each node, joined as :mod:`pascal_nm.export.nir_nodes` has checked them.

nirtorch (https://github.com/neuromorphs/NIRTorch) is not asked: its tracing takes time that grows
with the number of paths through a graph, it writes Python code with the names of a file, and leaves
out the second edge into the output of a graph inside a graph (nirtorch 2.6).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import nir
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pascal_nm.errors import GraphError, TargetError
from pascal_nm.export import nir_neuron, nir_nodes
from pascal_nm.export.nir_neuron import Membrane, NirState, Reset
from pascal_nm.export.nir_nodes import CannotRunError, Plan, fields_of, flattens_all, sides, whole

_SECONDS = 1e-4
"""Timestep that the field's readers assume where time constants are in seconds."""


class Reading(NamedTuple):
    """What a NIR file leaves to its reader.

    Attributes:
        dt: length of a timestep in the unit of the file's time constants; None takes 1e-4 s. Nodes
            without a time constant have timesteps of 1, unless their ``r`` is 1 / dt (SpikingJelly
            writes them so).
        after_spike: the reset; ``zero`` is NIR's own (to ``v_reset``).
    """

    dt: float | None = None
    after_spike: Reset = "zero"


State = dict[str, Any]
"""What a network keeps from timestep to timestep: for each neuron node its NirState, for each graph
inside it its State."""


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

    def __init__(self, constants: Membrane, after_spike: Reset, dtype: torch.dtype) -> None:
        super().__init__()
        self.after_spike: Reset = after_spike
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
        sent, after = nir_neuron.step(state or NirState(rest, rest), x, constants, self.after_spike)
        _check_finite(after.v)
        return sent, after


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
        nodes: the module of each node, and the network of each graph in it, by name; Input and
            Output have none.
    """

    def __init__(self, plan: Plan, nodes: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.plan = plan
        self.modules_in_order = nn.ModuleList(nodes[name] for name in plan.order if name in nodes)
        self.nodes = dict(zip((name for name in plan.order if name in nodes), self.modules_in_order, strict=True))

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """One timestep for x (N, *shape): what reaches the output, and the state after it.

        The state before the first timestep is None.
        """
        before, after = state or {}, State()
        sent = {self.plan.source: x}
        for name, module in self.nodes.items():
            arrived = self._arrived(name, sent)
            if isinstance(module, (Neurons, Network)):
                sent[name], after[name] = module(arrived, before.get(name))
            else:
                sent[name] = module(arrived)
        return self._arrived(self.plan.sink, sent), after

    def _arrived(self, name: str, sent: Mapping[str, Tensor]) -> Tensor:
        first, *others = (sent[source] for source in self.plan.sources[name])
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
        raw: an acyclic graph with one input and one output.
        reading: what the file leaves open.
        dtype: to compute in.

    Raises:
        GraphError: as :func:`pascal_nm.export.nir_nodes.plan`, or a timestep that does not fit the
            graph's time constants.
    """
    reading = reading or Reading()
    plan = nir_nodes.plan(raw)
    check_timestep(raw, reading.dt)
    return _network(raw, plan, reading, dtype)


def _network(raw: nir.NIRGraph, plan: Plan, reading: Reading, dtype: torch.dtype) -> Network:
    nodes: dict[str, nn.Module] = {}
    for name, node in raw.nodes.items():
        if isinstance(node, nir.NIRGraph):
            nodes[name] = _network(node, plan.inner[name], reading, dtype)
        elif isinstance(node, _NEURONS):
            nodes[name] = Neurons(membrane(node, reading.dt), reading.after_spike, dtype)
        elif not isinstance(node, (nir.Input, nir.Output)):
            (arriving, *_) = (plan.shapes[source] for source in plan.sources[name])
            nodes[name] = _STATELESS[type(node)](node, dtype, len(arriving))
    return Network(plan, nodes)


def neurons(network: Network) -> Iterator[tuple[str, Neurons]]:
    """The spiking nodes of a network with their names.

    Those of a graph inside it have its name and a dot before theirs.
    """
    for name, module in network.nodes.items():
        if isinstance(module, Network):
            yield from ((f"{name}.{inner}", found) for inner, found in neurons(module))
        elif isinstance(module, Neurons) and module.fires:
            yield name, module


def membrane(node: Any, dt: float | None) -> Membrane:
    """The constants of a neuron node for timesteps of ``dt``; see :class:`Reading`."""
    threshold, reset = getattr(node, "v_threshold", None), getattr(node, "v_reset", None)
    firing = {"threshold": threshold, "reset": 0.0 if reset is None else reset}
    step = _SECONDS if dt is None else dt
    if isinstance(node, (nir.I, nir.IF)):
        per_second = bool(np.allclose(np.asarray(node.r) * step, 1))
        return Membrane(0.0, 0.0, np.asarray(node.r) * (step if per_second else 1.0), **firing)
    cuba = isinstance(node, (nir.CubaLI, nir.CubaLIF))
    rate = step / np.asarray(node.tau_mem if cuba else node.tau, np.float64)
    synapse = {"synapse_rate": step / np.asarray(node.tau_syn, np.float64), "synapse_weight": node.w_in} if cuba else {}
    return Membrane(rate, node.v_leak, rate * np.asarray(node.r), **firing, **synapse)


def check_timestep(raw: nir.NIRGraph, dt: float | None) -> None:
    """Refuse timesteps with which the forward Euler method does not stay finite, or means nothing.

    Raises:
        GraphError: the length is not positive and finite, or longer than a time constant.
    """
    dt = _SECONDS if dt is None else dt
    if not (math.isfinite(dt) and dt > 0):
        raise GraphError(f"a timestep must be positive and finite, not {dt}")
    for name, node in raw.nodes.items():
        if isinstance(node, nir.NIRGraph):
            check_timestep(node, dt)
            continue
        for field, value in fields_of(node).items():
            if field.startswith("tau") and float(np.min(value)) < dt:
                raise CannotRunError(
                    f"{field} of node {name!r} is {np.min(value):g}, less than the timestep of {dt:g}: "
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
    nir.Linear: lambda node, dtype, rank: Function(F.linear, dtype, weight=node.weight),
    nir.Scale: lambda node, dtype, rank: Function(lambda x, scale: x * scale, dtype, scale=node.scale),
    nir.SumPool2d: _pool,
    nir.Threshold: _threshold,
}
"""Nodes without state: the module for a node, the type to compute in, and the axes of what reaches
it, without the batch."""
