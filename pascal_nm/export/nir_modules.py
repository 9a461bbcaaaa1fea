"""NIR graphs of any tool as torch modules: one module for each node, joined by nirtorch.

nirtorch (https://github.com/neuromorphs/NIRTorch) joins nodes in topological order; every node's module is ours, because its defaults lose the bias of
``Affine`` and the padding of ``SumPool2d``. A neuron's module takes its state and returns it, as nirtorch expects.
"""

from __future__ import annotations

import keyword
import math
from collections.abc import Callable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple, cast

import nir
import nirtorch
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pascal_nm import nir_neuron
from pascal_nm.errors import GraphError
from pascal_nm.graph import Shape
from pascal_nm.nir_neuron import Membrane, NirState, Reset

SECONDS = 1e-4
"""Timestep that the field's readers assume where time constants are in seconds."""


class Reading(NamedTuple):
    """What a NIR file leaves to its reader.

    Attributes:
        dt: length of a timestep in the unit of the file's time constants; None takes 1e-4 s. Nodes without a time constant have timesteps of 1, unless
            their ``r`` is 1 / dt (SpikingJelly writes them so).
        after_spike: the reset; ``zero`` is NIR's own (to ``v_reset``).
    """

    dt: float | None = None
    after_spike: Reset = "zero"


class Neurons(nn.Module):
    """Any of NIR's integrators and neurons."""

    def __init__(self, constants: Membrane, after_spike: Reset) -> None:
        super().__init__()
        self.after_spike: Reset = after_spike
        self.fields = {name: value for name, value in constants._asdict().items() if value is None}
        for name, value in constants._asdict().items():
            if value is not None:
                self.register_buffer(name, torch.as_tensor(np.asarray(value, np.float64)))

    @property
    def fires(self) -> bool:
        """False for integrators without a threshold."""
        return "threshold" not in self.fields

    def forward(self, x: Tensor, state: NirState | None = None) -> tuple[Tensor, NirState]:
        """One timestep for x (N, *shape): spikes (or the potential of an integrator), and the state after it."""
        rest = torch.zeros_like(x)
        constants = Membrane(**{**dict(self.named_buffers()), **self.fields})
        return nir_neuron.step(state or NirState(rest, rest), x, constants, self.after_spike)


class Function(nn.Module):
    """A node without state, with its weights in double precision until the network is cast."""

    def __init__(self, apply: Callable[..., Tensor], **weights: Any) -> None:
        super().__init__()
        self.apply_to = apply
        for name, value in weights.items():
            self.register_buffer(name, torch.as_tensor(np.asarray(value, np.float64)))

    def forward(self, x: Tensor) -> Tensor:
        """The node's function of x (N, *shape)."""
        return self.apply_to(x, **dict(self.named_buffers()))


def to_torch(raw: nir.NIRGraph, reading: Reading | None = None, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The graph as one module: ``outputs, state = module(inputs, state)`` is one timestep; the first state is None.

    Args:
        raw: an acyclic graph with one input and one output.
        reading: what the file leaves open.
        dtype: to compute in.

    Raises:
        GraphError: a node that has no torch form here, a wrong edge, a cycle, several inputs or outputs.
    """
    reading = reading or Reading()
    check(raw)
    _check_timestep(raw, SECONDS if reading.dt is None else reading.dt)
    modules = node_map(reading)
    try:
        network = nirtorch.nir_to_torch(raw, modules, dtype=dtype)
    except (ValueError, RuntimeError, NotImplementedError, KeyError, TypeError, AttributeError) as error:
        raise GraphError(f"nirtorch cannot join the graph: {error}") from error
    return cast("nn.Module", network)


def python_name(name: str) -> str:
    """The name of a node after :func:`renamed`."""
    return f"{name}_" if keyword.iskeyword(name) else name.replace(".", "_")


def renamed(raw: nir.NIRGraph) -> nir.NIRGraph:
    """The same graph with names that Python takes: nirtorch writes code with them.

    Raises:
        GraphError: two names become the same.
    """
    names = {name: python_name(name) for name in raw.nodes}
    if len(set(names.values())) < len(names):
        raise GraphError(f"names of nodes differ in dots and underscores only: {', '.join(sorted(names))}")
    nodes = {names[n]: renamed(node) if isinstance(node, nir.NIRGraph) else node for n, node in raw.nodes.items()}
    edges = [(names.get(a, a), names.get(b, b)) for a, b in raw.edges]
    return nir.NIRGraph(nodes, edges, metadata=raw.metadata, type_check=False)


def neurons(network: nn.Module) -> Iterator[tuple[str, Neurons]]:
    """The spiking nodes of a network with their names."""
    return ((name, m) for name, m in network.named_modules() if isinstance(m, Neurons) and m.fires)


def node_map(reading: Reading) -> dict[type, Callable[[Any], nn.Module]]:
    """For each kind of node: how its module is made."""

    def integrator(node: Any) -> nn.Module:
        return Neurons(membrane(node, reading.dt), reading.after_spike)

    return {
        **STATELESS,
        nir.I: integrator,
        nir.IF: integrator,
        nir.LI: integrator,
        nir.LIF: integrator,
        nir.CubaLI: integrator,
        nir.CubaLIF: integrator,
    }


def membrane(node: Any, dt: float | None) -> Membrane:
    """The constants of a neuron node for timesteps of ``dt``; see :class:`Reading`."""
    threshold, reset = getattr(node, "v_threshold", None), getattr(node, "v_reset", None)
    firing = {"threshold": threshold, "reset": 0.0 if reset is None else reset}
    step = SECONDS if dt is None else dt
    if isinstance(node, (nir.I, nir.IF)):
        per_second = bool(np.allclose(np.asarray(node.r) * step, 1))
        return Membrane(0.0, 0.0, np.asarray(node.r) * (step if per_second else 1.0), **firing)
    cuba = isinstance(node, (nir.CubaLI, nir.CubaLIF))
    rate = step / np.asarray(node.tau_mem if cuba else node.tau, np.float64)
    synapse = {"synapse_rate": step / np.asarray(node.tau_syn, np.float64), "synapse_weight": node.w_in} if cuba else {}
    return Membrane(rate, node.v_leak, rate * np.asarray(node.r), **firing, **synapse)


def check(raw: nir.NIRGraph) -> list[str]:
    """Refuse what cannot run, by name; gives the names of the nodes in the order in which they run.

    Raises:
        GraphError: as :func:`to_torch`.
    """
    known = {*node_map(Reading()), nir.Input, nir.Output, nir.NIRGraph}
    for name, node in raw.nodes.items():
        if type(node) not in known:
            names = ", ".join(sorted(kind.__name__ for kind in known))
            raise GraphError(f"node {name!r} is a {type(node).__name__}; what can run: {names}")
        if isinstance(node, nir.NIRGraph):
            check(node)
        elif isinstance(node, (nir.I, nir.IF, nir.LI, nir.LIF, nir.CubaLI, nir.CubaLIF)):
            _check_neurons(name, node)
    for kind in (nir.Input, nir.Output):
        found = [name for name, node in raw.nodes.items() if isinstance(node, kind)]
        if len(found) != 1:
            raise GraphError(f"a graph that can run has one {kind.__name__}, not {len(found)}: {', '.join(found)}")
    sources: dict[str, set[str]] = {name: set() for name in raw.nodes}
    for source, target in raw.edges:
        for end in (source, target):
            if end not in sources:
                raise GraphError(f"the edge {source!r} -> {target!r} names the unknown node {end!r}")
        sources[target].add(source)
    for name, node in raw.nodes.items():
        if not sources[name] and not isinstance(node, nir.Input):
            raise GraphError(f"no edge leads to node {name!r}")
    try:
        return list(TopologicalSorter(sources).static_order())
    except CycleError as error:
        raise GraphError(f"recurrent graphs are not run; there is a cycle: {' -> '.join(error.args[1])}") from error


def _check_neurons(name: str, node: Any) -> None:
    for field, value in vars(node).items():
        if isinstance(value, np.ndarray) and not (
            np.issubdtype(value.dtype, np.number) and bool(np.isfinite(value).all())
        ):
            raise GraphError(f"{field} of node {name!r} holds NaN, infinite values or text")
        if field.startswith("tau") and not np.all(np.asarray(value) > 0):
            raise GraphError(f"{field} of node {name!r} must be positive")


def _check_timestep(raw: nir.NIRGraph, dt: float) -> None:
    """Refuse timesteps with which the forward Euler method does not stay finite, or means nothing."""
    if not (math.isfinite(dt) and dt > 0):
        raise GraphError(f"a timestep must be positive and finite, not {dt}")
    for name, node in raw.nodes.items():
        if isinstance(node, nir.NIRGraph):
            _check_timestep(node, dt)
        for field, value in vars(node).items():
            if field.startswith("tau") and float(np.min(value)) < dt:
                raise GraphError(
                    f"{field} of node {name!r} is {np.min(value):g}, less than the timestep of {dt:g}: give a --dt that fits the file's unit of time"
                )


def input_shape(raw: nir.NIRGraph) -> Shape:
    """Shape of one input, without the batch."""
    (node,) = (n for n in raw.nodes.values() if isinstance(n, nir.Input))
    return tuple(int(n) for n in np.asarray(next(iter(node.input_type.values()))).reshape(-1))


def _pair(value: Any) -> tuple[int, int]:
    first, second = np.broadcast_to(np.asarray(value), 2)
    return int(first), int(second)


def _padding(value: Any) -> Any:
    return value if isinstance(value, str) else _pair(value)


def _conv2d(node: nir.Conv2d) -> nn.Module:
    stride, padding, dilation = _pair(node.stride), _padding(node.padding), _pair(node.dilation)

    def apply(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.conv2d(x, weight, bias, stride, padding, dilation, int(node.groups))

    return Function(apply, weight=node.weight, bias=node.bias)


def _conv1d(node: nir.Conv1d) -> nn.Module:
    padding = node.padding if isinstance(node.padding, str) else int(np.asarray(node.padding).reshape(-1)[0])
    stride, dilation = (int(np.asarray(n).reshape(-1)[0]) for n in (node.stride, node.dilation))

    def apply(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.conv1d(x, weight, bias, stride, padding, dilation, int(node.groups))

    return Function(apply, weight=node.weight, bias=node.bias)


def _flatten(node: nir.Flatten) -> nn.Module:
    """Writers count the batch axis or do not: both ways of saying "all of it" mean that."""
    if int(node.end_dim) == -1 and int(node.start_dim) in (0, 1):
        return Function(lambda x: x.flatten(1))
    shape = [int(n) for n in np.asarray(node.output_type["output"]).reshape(-1)]
    return Function(lambda x: x.reshape(len(x), *shape))


def _pool(node: nir.SumPool2d | nir.AvgPool2d) -> nn.Module:
    kernel, stride, padding = _pair(node.kernel_size), _pair(node.stride), _pair(node.padding)
    divisor = 1 if isinstance(node, nir.SumPool2d) else math.prod(kernel)
    return Function(lambda x: F.avg_pool2d(x, kernel, stride, padding, divisor_override=divisor))


STATELESS: Mapping[type, Callable[[Any], nn.Module]] = {
    nir.Affine: lambda node: Function(F.linear, weight=node.weight, bias=node.bias),
    nir.AvgPool2d: _pool,
    nir.Conv1d: _conv1d,
    nir.Conv2d: _conv2d,
    nir.Flatten: _flatten,
    nir.Linear: lambda node: Function(F.linear, weight=node.weight),
    nir.Scale: lambda node: Function(lambda x, scale: x * scale, scale=node.scale),
    nir.SumPool2d: _pool,
    nir.Threshold: lambda node: Function(lambda x, threshold: (x > threshold).to(x.dtype), threshold=node.threshold),
}
"""Nodes without state."""
