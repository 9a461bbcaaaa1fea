r"""A spiking network as a *chain* of nodes, the one form that every reader of NIR runs.

The nodes are ``Conv2d`` and spiking ones in turn.

Readers differ in what they do where branches meet, and in the nodes that they know. So what a later
layer needs (a shortcut) travels along as more channels of the same tensor, relayed from layer to
layer; pooling, linear layers and sums are convolutions. Where the chain's image shrinks by a
stride, a relayed image keeps all its neurons: the pixels of a stride become channels (*phases*),
and convolutions on it are rewritten for them. For each population:

==========  ========================================================================================
*gather*    adds up what the copies of each source neuron stand for, over the pooling window where
            there is one
*map*       the projections' own operators, added up (a dense one as a convolution over the whole
            image)
*spread*    gives each copy its input
*fire*      spiking nodes with threshold 1
==========  ========================================================================================

How many copies a neuron has, and what they get, is a :class:`Coding`:
:mod:`pascal_nm.export.unrolled` and :mod:`pascal_nm.export.rate`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import nir
import numpy as np

from pascal_nm.common import memory
from pascal_nm.common.arrays import Array, Pair, Shape
from pascal_nm.common.files import replacing, written_at_once
from pascal_nm.errors import ConversionError, GraphError
from pascal_nm.export import storage
from pascal_nm.export.profile import Profile
from pascal_nm.network.graph import Graph, Population, Projection
from pascal_nm.network.operators import SumPool2d

_NEW_FIELDS = {"v_reset"}
"""Not known to nir 1.0.4, which Sinabs pins; newer versions take 0 where a file
does not say more."""


class Spread(NamedTuple):
    """The convolution in front of a population's copies.

    Attributes:
        weight: gives (C copies, C, 1, 1).
        bias: (C copies,).
    """

    weight: Callable[[], Array]
    bias: Array


class Coding(Protocol):
    """How spikes of copies stand for a neuron's level.

    Attributes:
        relay: weight and bias with which a spike passes through a spiking node unchanged.
    """

    relay: tuple[float, float]

    def copies(self, p: Population) -> int:
        """Copies of each neuron of a population; 1 for the input."""
        ...

    def amplitude(self, p: Population) -> float:
        """What one spike of one copy stands for, in levels."""
        ...

    def spread(self, graph: Graph, p: Population) -> Spread:
        """What the copies of a ``pasc`` population get of its potential."""
        ...

    def either(self, window: int, sign: Array) -> tuple[float, Array]:
        """Weight and bias, (channels,), with which a copy fires when any of ``window`` does.

        Where ``sign`` is -1, it fires when all of them do.
        """
        ...


@dataclass(frozen=True)
class Growth:
    """What unrolling costs.

    Attributes:
        neurons: before and after.
        weights: before and after.
        bytes: of the file's weights and thresholds.
    """

    neurons: tuple[int, int]
    weights: tuple[int, int]
    bytes: int


def plan(graph: Graph, coding: Coding) -> tuple[list[Layer], Growth]:
    """The chain without its weights, and its size, which fits in memory.

    Raises:
        ConversionError: it would not fit in memory (says how large it is); a max population with
            padding and negative thresholds; a layer after the first that uses the analog input;
            branches whose strides do not line up; several readouts; neurons other than QCFS; linear
            populations.
    """
    if other := [p.kind for p in graph.spiking if not p.dynamics.is_qcfs]:
        raise ConversionError(f"as a chain, a network has neurons of QCFS, not {other[0]}: export it without --profile")
    if sums := [p.name for p in graph.populations if p.dynamics.adds]:
        raise ConversionError(
            f"as a chain, a network has no linear populations, and {sums[0]} is one: convert with "
            'growth=float("inf"), which composes all linear layers, or export it without --profile'
        )
    if len(graph.outputs) > 1:
        names = ", ".join(graph.columns)
        raise ConversionError(f"as a chain, a network has one readout, not {names}: export it without --profile")
    layers = _layers(graph, coding)
    cost = growth(graph, layers)
    available = memory.installed_memory()
    if cost.bytes > available // 2:
        raise ConversionError(
            f"as a chain, the network takes {cost.bytes / 2**30:.1f} GB, "
            f"more than half of this machine's memory ({available / 2**30:.1f} GB)"
        )
    return layers, cost


def build(
    graph: Graph, layers: Sequence[Layer], spiking: Callable[[Array], nir.NIRNode], profile: Profile
) -> nir.NIRGraph:
    """The chain with its weights; its input has shape (C, H, W), its output (classes, 1, 1).

    Args:
        graph: the network.
        layers: its :func:`plan`.
        spiking: makes the node of a layer that fires at 1, given ones of its shape.
        profile: what the file says about itself.
    """
    source, target = graph.input, graph.output
    nodes: dict[str, nir.NIRNode] = {source.name: nir.Input({"input": np.array(_image(source.shape))})}
    for layer in layers:
        nodes[layer.name] = layer.node()
        if layer.fires is not None:
            ones = np.ones((layer.channels, *layer.grid), np.float32)
            nodes[layer.fires] = spiking(ones)
    nodes[target.name] = nir.Output({"output": np.array(_image(target.shape))})
    return nir.NIRGraph(nodes, list(itertools.pairwise(nodes)), metadata=profile.as_metadata(), type_check=False)


def copies(graph: Graph, coding: Coding) -> dict[str, int]:
    """Copies of the neurons of each population that spikes."""
    return {p.name: coding.copies(p) for p in graph.counted}


def write(raw: nir.NIRGraph, path: str | Path) -> None:
    """Write a chain.

    Fields that older versions of nir do not know, and newer ones take as 0, are left out of the
    file where they are 0.

    Raises:
        FileError: the file cannot be written.
    """
    with replacing(path) as temporary, written_at_once(temporary) as content:
        storage.write(raw, content, _NEW_FIELDS)


def growth(graph: Graph, layers: Sequence[Layer]) -> Growth:
    """Neurons, weights and bytes of a planned chain."""
    weights = sum(layer.channels * layer.entering * math.prod(layer.window[0]) for layer in layers)
    neurons = sum(layer.channels * math.prod(layer.grid) for layer in layers if layer.fires)
    spiking = list(graph.senders)
    before = (sum(p.size for p in spiking), sum(q.operator.weight.size for q in graph.projections))
    return Growth((before[0], neurons), (before[1], weights), 4 * (weights + 3 * neurons))


def _image(shape: Shape) -> tuple[int, int, int]:
    """A shape as (C, H, W); features are channels of one pixel."""
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[0], 1, 1)


class _Signal(NamedTuple):
    """Part of the chain's tensor: channels of an image whose pixels may be spread over phases.

    Attributes:
        first: its first channel in the tensor.
        channels: of the image; the tensor has ``channels * phases`` of them, phases innermost.
        size: height and width of the image.
        phases: pixels of the image in each pixel of the tensor.
    """

    first: int
    channels: int
    size: Pair
    phases: Pair


@dataclass(frozen=True)
class _Map:
    """A convolution from one signal to some of a layer's channels, in the signal's own pixels."""

    signal: _Signal
    first: int
    weight: Callable[[], Array]
    """(outputs, signal.channels, kernel height, kernel width)."""
    outputs: int
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    def taps(self, axis: int) -> list[tuple[int, int, int]]:
        """For each row (or column) of the kernel: its index, the phase that it reads, its offset.

        The offset is in the tensor.
        """
        phases = self.signal.phases[axis]
        offsets = [k * self.dilation[axis] - self.padding[axis] for k in range(self.kernel[axis])]
        return [(k, offset % phases, offset // phases) for k, offset in enumerate(offsets)]


@dataclass(frozen=True)
class Layer:
    """One ``Conv2d`` of the chain, and the name of the ``IF`` behind it, if there is one."""

    name: str
    entering: int
    before: Pair
    channels: int
    grid: Pair
    maps: list[_Map]
    stride: Pair
    bias: Array
    fires: str | None = None

    @property
    def window(self) -> tuple[Pair, Pair]:
        """Kernel and padding that hold all maps and give the grid."""
        (kernel_h, padding_h), (kernel_w, padding_w) = sides = [self._side(axis) for axis in range(2)]
        if kernel_h != kernel_w:  # nir infers the shapes of square kernels only
            wanted = max(kernel_h, kernel_w)
            sides = [self._widened(axis, *side, wanted) for axis, side in enumerate(sides)]
            (kernel_h, padding_h), (kernel_w, padding_w) = sides
        return (kernel_h, kernel_w), (padding_h, padding_w)

    def _side(self, axis: int) -> tuple[int, int]:
        offsets = [offset for m in self.maps for _, _, offset in m.taps(axis)]
        size, stride, wanted = self.before[axis], self.stride[axis], self.grid[axis]
        padding = max(0, -min(offsets), stride * (wanted - 1) - (size - max(offsets) - 1))
        rest = size + padding - max(offsets) - 1 - (stride * wanted - 1)
        return max(offsets) + padding + 1 + max(0, rest), padding

    def _widened(self, axis: int, kernel: int, padding: int, wanted: int) -> tuple[int, int]:
        for more in range(wanted - kernel + 1):
            room = self.before[axis] + 2 * (padding + more) - wanted
            if room >= 0 and room // self.stride[axis] + 1 == self.grid[axis]:
                return wanted, padding + more
        return kernel, padding

    def node(self) -> nir.NIRNode:
        """The convolution."""
        kernel, padding = self.window
        weight = np.zeros((self.channels, self.entering, *kernel), np.float32)
        for m in self.maps:
            values, (phases_h, phases_w) = m.weight(), m.signal.phases
            rows = slice(m.first, m.first + m.outputs)
            for (i, a, top), (j, b, left) in itertools.product(m.taps(0), m.taps(1)):
                phase = a * phases_w + b
                step = phases_h * phases_w
                columns = slice(m.signal.first + phase, m.signal.first + m.signal.channels * step, step)
                weight[rows, columns, top + padding[0], left + padding[1]] += values[:, :, i, j]
        bias = np.ascontiguousarray(self.bias, np.float32)
        return nir.Conv2d(self.before, weight, self.stride, padding, (1, 1), 1, bias)


class _Chain:
    """The chain as far as it is built: its last tensor, and which signals it holds."""

    def __init__(self, p: Population, relay: tuple[float, float]) -> None:
        self.relay = relay
        channels, *size = _image(p.shape)
        self.layers: list[Layer] = []
        self.channels, self.grid = channels, (size[0], size[1])
        self.signals = {p.name: _Signal(0, channels, self.grid, (1, 1))}

    def add(
        self,
        name: str,
        maps: Sequence[tuple[_Map, str]],
        outputs: Mapping[str, tuple[int, Pair]],
        relayed: Sequence[str],
        stride: Pair,
        bias: Array | None = None,
        fires: str | None = None,
    ) -> None:
        """Append a convolution.

        Args:
            name: of the node.
            maps: what it computes, each with the name of the output it adds to
                (``first`` is set here).
            outputs: new signals by name: channels and size of the image.
            relayed: signals that travel along.
            stride: of the convolution, in pixels of the tensor.
            bias: of the outputs, one after the other; None for zeros.
            fires: name of the ``IF`` behind it.
        """
        grid = next(iter(outputs.values()))[1]
        signals, first, placed = {}, 0, []
        for signal, (channels, size) in outputs.items():
            signals[signal] = _Signal(first, channels, size, (1, 1))
            placed += [replace(m, first=first) for m, onto in maps if onto == signal]
            first += channels
        values = np.zeros(first) if bias is None else bias
        for signal in relayed:
            old = self.signals[signal]
            phases = (old.phases[0] * stride[0], old.phases[1] * stride[1])
            if phases[0] * grid[0] < old.size[0] or phases[1] * grid[1] < old.size[1]:
                raise ConversionError(
                    f"{signal} is needed behind {name}, whose convolution leaves out some of its pixels"
                )
            count = old.channels * phases[0] * phases[1]
            amplitude, offset = self.relay if fires else (1.0, 0.0)
            placed.append(_relay(old, first, phases, amplitude))
            signals[signal] = _Signal(first, old.channels, old.size, phases)
            values = np.concatenate([values, np.full(count, offset)])
            first += count
        self.layers.append(Layer(name, self.channels, self.grid, first, grid, placed, stride, values, fires))
        self.channels, self.grid, self.signals = first, grid, signals


def _relay(signal: _Signal, first: int, phases: Pair, amplitude: float) -> _Map:
    """Every pixel of a signal to itself, ``phases`` of them in one."""

    def weight() -> Array:
        pixels = phases[0] * phases[1]
        values = np.zeros((signal.channels, pixels, signal.channels, *phases))
        for i, j in np.ndindex(*phases):
            values[np.arange(signal.channels), i * phases[1] + j, np.arange(signal.channels), i, j] = amplitude
        return values.reshape(signal.channels * pixels, signal.channels, *phases)

    return _Map(signal, first, weight, signal.channels * phases[0] * phases[1], phases, phases)


def _layers(graph: Graph, coding: Coding) -> list[Layer]:
    """The chain of convolutions of a graph."""
    chain = _Chain(graph.input, coding.relay)
    for i, p in enumerate(graph.populations):
        if p.dynamics.injects:
            continue
        later = {q.source for target in graph.populations[i + 1 :] for q in graph.incoming(target.name)}
        kept = [name for name in chain.signals if name in later]
        if graph.input.name in kept:
            raise ConversionError(f"a layer after {p.name} uses the analog input, which spikes cannot carry along")
        if p.dynamics.relays and not p.dynamics.counted:
            raise ConversionError(f"{p.name}: the largest of sums has no form for other simulators")
        if p.dynamics.relays:
            _add_max(graph, p, coding, chain, kept)
        else:
            _add_spiking(graph, p, coding, chain, kept)
    return chain.layers


def _add_max(graph: Graph, p: Population, coding: Coding, chain: _Chain, kept: list[str]) -> None:
    (q,) = graph.incoming(p.name)
    source, pool = graph[q.source], _windows(q)
    signal = chain.signals[source.name]
    window = math.prod(pool.kernel)
    sign = np.repeat(np.broadcast_to(p.threshold.reshape(-1), source.shape[0]), coding.copies(source))
    if (sign < 0).any() and pool.padding != (0, 0):
        raise ConversionError(
            f"{p.name}: a max-pooling with padding over a QCFS with a negative threshold has no unrolled form"
        )
    scale, bias = coding.either(window, sign)

    def weight() -> Array:
        eye = np.eye(signal.channels) * scale
        return np.broadcast_to(eye[:, :, None, None], (*eye.shape, *pool.kernel))

    either = _Map(signal, 0, weight, signal.channels, pool.kernel, pool.stride, pool.padding)
    outputs = {p.name: (signal.channels, _image(p.shape)[1:])}
    chain.add(
        f"{p.name}_or",
        [(either, p.name)],
        outputs,
        kept,
        _tensor_stride(p, [either], chain.grid, outputs[p.name][1]),
        bias,
        p.name,
    )


def _add_spiking(graph: Graph, p: Population, coding: Coding, chain: _Chain, kept: list[str]) -> None:
    incoming = graph.incoming(p.name)
    name = incoming[0].name if len(incoming) == 1 else p.name
    pooled = [q for q in incoming if q.pool is not None]
    plain = [q for q in incoming if not graph[q.source].dynamics.injects and chain.signals[q.source].phases == (1, 1)]
    gathered = pooled or plain
    if gathered:
        maps = {_sum(q): _gather(graph[q.source], q, coding, chain.signals[q.source]) for q in gathered}
        outputs = {_sum(q): (maps[_sum(q)].outputs, _pooled_size(graph, q)) for q in gathered}
        relayed = list(dict.fromkeys([*kept, *(q.source for q in incoming if q not in gathered)]))
        stride = _tensor_stride(p, list(maps.values()), chain.grid, next(iter(outputs.values()))[1])
        chain.add(f"{name}_gather", [(m, label) for label, m in maps.items()], outputs, relayed, stride)
    operators = [_operator_map(graph, q, coding, chain.signals) for q in incoming]
    channels, height, width = _image(p.shape)
    readout = p.dynamics.reads_out
    bias = np.broadcast_to(p.bias.reshape(-1), channels) if readout else None
    label = name if len(incoming) == 1 else f"{p.name}_map"
    z = f"{p.name}_z"
    stride = _tensor_stride(p, operators, chain.grid, (height, width))
    chain.add(label, [(m, z) for m in operators], {z: (channels, (height, width))}, kept, stride, bias)
    if not readout:
        weight, bias = coding.spread(graph, p)
        spread = _Map(chain.signals[z], 0, weight, len(bias), (1, 1), (1, 1))
        outputs = {p.name: (len(bias), (height, width))}
        chain.add(f"{p.name}_spread", [(spread, p.name)], outputs, kept, (1, 1), bias, p.name)


def _sum(q: Projection) -> str:
    return f"{q.name}_sum"


def _pooled_size(graph: Graph, q: Projection) -> Pair:
    shape = graph[q.source].shape
    _, height, width = _image(q.pooled(shape))
    return height, width


def _windows(q: Projection) -> SumPool2d:
    """The windows of a pooling; single neurons without one."""
    pool = q.pool or SumPool2d((1, 1), (1, 1), (0, 0))
    if pool.ceil:
        raise ConversionError(f"{q.target}: windows that hang over the border (ceil_mode) have no plain form in NIR")
    return pool


def _gather(source: Population, q: Projection, coding: Coding, signal: _Signal) -> _Map:
    """The copies of each neuron added up, over the pooling window if there is one."""
    pool, copies, channels = _windows(q), coding.copies(source), _image(source.shape)[0]

    def weight() -> Array:
        ones = np.repeat(np.eye(channels), copies, axis=1) * coding.amplitude(source)
        return np.broadcast_to(ones[:, :, None, None], (*ones.shape, *pool.kernel))

    return _Map(signal, 0, weight, channels, pool.kernel, pool.stride, pool.padding)


def _operator_map(graph: Graph, q: Projection, coding: Coding, signals: Mapping[str, _Signal]) -> _Map:
    """A projection's operator, on the sums of its source that were gathered.

    Where they are not gathered, it works on the source's copies.
    """
    gathered = _sum(q) in signals
    signal = signals[_sum(q) if gathered else q.source]
    source = graph[q.source]
    copies, amplitude = (1, 1.0) if gathered else (coding.copies(source), coding.amplitude(source))
    channels = signal.channels // copies

    def repeated(weight: Array) -> Array:
        return np.repeat(weight, copies, axis=1) * amplitude

    try:
        form = q.operator.as_convolution((channels, *signal.size))
    except GraphError as error:
        raise ConversionError(f"{q.target} has no unrolled form: {error}") from None
    return _Map(
        signal, 0, lambda: repeated(form.weight()), form.outputs, form.kernel, form.stride, form.padding, form.dilation
    )


def _tensor_stride(p: Population, maps: Sequence[_Map], before: Pair, after: Pair) -> Pair:
    """The stride of a convolution of several maps, in pixels of the tensor.

    For each map it is that in its own pixels over its phases.

    Args:
        p: for the error message.
        maps: what the convolution computes.
        before: size of the tensor.
        after: size of the result; for a single pixel any stride will do, and one that spans the
            tensor keeps all that is relayed.
    """
    if after == (1, 1):
        return max(before), max(before)
    found: set[tuple[int, int]] = set()
    for m in maps:
        (height, width), (phases_h, phases_w) = m.stride, m.signal.phases
        if height % phases_h or width % phases_w:
            found.clear()
            break
        found.add((height // phases_h, width // phases_w))
    if len(found) != 1:
        raise ConversionError(
            f"{p.name} has no unrolled form: the strides of the branches that meet there do not line up"
        )
    return found.pop()
