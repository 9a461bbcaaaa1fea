r"""The paper's closed-form energy analysis (Section 4.2, Appendix A.4; Equations 7 to 16).

It estimates from layer shapes and spike rates what :mod:`pascal_nm.simulation.events` counts.
Both stand side by side in reports. Symbols: L levels of a layer, :math:`r'` operations of its
neurons relative to those of its synapses, *SpikeRate* the spikes of a neuron over all timesteps.

The paper leaves three things open, which are decided here:

- *Which layer's rate is SpikeRate_l?* Equation 15 counts the operations of a layer's synapses, and
  those are caused by the spikes that arrive: so it is the rate of the layer that feeds it
  (:attr:`LayerAnalysis.rate`). The words behind Equation 11 name the layer's own spikes; r' so read
  is :attr:`LayerAnalysis.worded`. The threshold multiplies of Appendix A.4 scale the spikes that
  leave, and take the layer's own rate in both readings.
- *What is the rate of the first layer's input, which is no spikes?* Equation 13 assumes
  :data:`RATE` for all layers, and so it stays for the one that cannot be measured. With 1, each
  input value going through its synapses once, T_eff is a little smaller (``analyse(…, first=1)``).
- *Which layers are averaged over?* Those with neurons (kind ``pasc``). The classifier has none.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pascal_nm.errors import ConversionError, first_line
from pascal_nm.network.graph import Graph, Population

RATE = 0.75
"""The spike rate that the paper assumes for T_norm and T_eff."""


@dataclass(frozen=True)
class MatMul:
    """A convolution or fully connected layer, as Appendix A.5 to A.7 list it.

    Attributes:
        name: path in the module, or ``source__target`` of a graph's projection.
        fan_in: :math:`C_i K_h K_w` (of one group), or :math:`C_i`.
        outputs: :math:`C_o H_o W_o`, or :math:`C_o`.
    """

    name: str
    fan_in: int
    outputs: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the source network; padding counts, as in the paper."""
        return self.fan_in * self.outputs


def of_module(module: nn.Module, input_shape: Sequence[int]) -> list[MatMul]:
    """The convolutions and linear layers of a module in the order of execution.

    Nothing is computed, only shapes.

    Raises:
        ConversionError: the module does not take inputs of (1, *input_shape).
    """
    found: list[MatMul] = []
    shapes = copy.deepcopy(module).to("meta").eval()

    def record(name: str, layer: nn.Conv2d | nn.Linear, output: torch.Tensor) -> None:
        found.append(MatMul(name, math.prod(layer.weight.shape[1:]), math.prod(output.shape[1:])))

    for name, layer in shapes.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda layer, _, output, name=name: record(name, layer, output))
    try:
        with torch.no_grad():
            shapes(torch.empty(1, *input_shape, device="meta"))
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        raise ConversionError(f"inputs of shape {tuple(input_shape)} do not pass: {first_line(error)}") from error
    return found


def of_graph(graph: Graph) -> dict[str, list[MatMul]]:
    """The convolutions and dense projections of a graph, by the population that they drive."""
    layers: dict[str, list[MatMul]] = {}
    for q in graph.projections:
        if q.operator.multiplies:
            layers.setdefault(q.target, []).append(MatMul(q.name, q.operator.fan_in, graph[q.target].size))
    return layers


def if_ratio(fan_in: float, rate: float = RATE) -> float:
    r"""Equations 11 and 12: :math:`r' = 1 / (C_i K_h K_w \cdot rate)`."""
    return 1 / (fan_in * rate)


def _energy_ratio(levels: int, ratio: float) -> float:
    """Equation 10: energy of a layer with PASC neurons over that with plain neurons.

    Plain ones only integrate and fire.

    Args:
        levels: L.
        ratio: r' of the layer, from :func:`if_ratio`; infinite for a layer that no spike reaches,
            whose neurons are all its work.
    """
    if math.isinf(ratio):
        return (5 * levels - 2) / levels
    return (1 + (5 * levels - 2) * ratio) / (1 + levels * ratio)


def effective_timesteps(levels: Sequence[int], ratios: Sequence[float]) -> float:
    """Equation 16 (T_eff), and for uniform levels Equation 13 (T_norm).

    Both are the mean over layers of r_E times L.

    Args:
        levels: L of each layer with neurons.
        ratios: r' of each of these layers.

    Raises:
        ValueError: not one ratio for each layer.
    """
    terms = [_energy_ratio(level, ratio) * level for level, ratio in zip(levels, ratios, strict=True)]
    return sum(terms) / len(terms)


@dataclass(frozen=True)
class Costs:
    """Picojoules of one operation: multiply-accumulate, accumulate, multiply (Table 10)."""

    mac: float
    ac: float
    multiply: float


FP32 = Costs(4.6, 0.9, 3.7)
INT8 = Costs(0.23, 0.03, 0.2)


def source_ratio(rate: float, first: float, costs: Costs) -> float:
    """Table 3: energy of the source network's operations over the spiking network's.

    Args:
        rate: normalized operations of the spiking network (Equation 15).
        first: share of the first layer, which takes analog input and multiplies, in all operations.
        costs: of a multiply-accumulate and of an accumulate.
    """
    return costs.mac / (first * costs.mac + (1 - first) * rate * costs.ac)


@dataclass(frozen=True)
class LayerAnalysis:
    """The paper's figures for one population of a measured network.

    Attributes:
        name: of the population.
        levels: its L.
        rate: spikes per neuron and image of its sources, by synapses; None where all of
            them are analog.
        own: spikes per neuron and image that it sends (A.9); None for the readout.
        macs: multiply-accumulates of the source network.
        ratio: r' (Equations 11 and 12) by ``rate``; infinite where no spike arrives.
        worded: r' by ``own``, as the words behind Equation 11 have it; None for the readout.
        counted: r' by the operations that were counted; None where none were given.
        energy: r_E (Equation 10); None for the readout.
        multiplies: threshold multiplies of an image (Appendix A.4), the spikes that leave; 0
            for the readout.
    """

    name: str
    levels: int
    rate: float | None
    own: float | None
    macs: int
    ratio: float
    worded: float | None
    counted: float | None
    energy: float | None
    multiplies: float


@dataclass(frozen=True)
class Analysis:
    """The closed formulas for a network with measured spike rates.

    Attributes:
        layers: populations with neurons, and the readout.
        effective_timesteps: Equation 16, over all layers with neurons.
        energy_ratio: Equation 14 over all layers, PASC neurons against plain ones, operations
            weighted equally.
        operations: b of Table 3 by Equation 15: operations of the spiking network over the source
            network's, without the first layer.
        mean_rate: b of Table 3 by its footnote: mean over the layers with neurons of
            their own spike rate.
        first: share of the analog-input layers in the source network's operations.
        first_rate: the rate that was taken for the analog input.
    """

    layers: list[LayerAnalysis]
    effective_timesteps: float
    energy_ratio: float
    operations: float
    mean_rate: float
    first: float
    first_rate: float

    def source_ratio(self, costs: Costs) -> float:
        """The last columns of Table 3, with b by Equation 15."""
        return source_ratio(self.operations, self.first, costs)

    def source_ratio_by_mean_rate(self, costs: Costs) -> float:
        """The last columns of Table 3, with b by its footnote."""
        return source_ratio(self.mean_rate, self.first, costs)

    @property
    def multiplies(self) -> float:
        """Threshold multiplies of an image (Appendix A.4).

        Graphs of this package need none: weights hold the thresholds.
        """
        return sum(layer.multiplies for layer in self.layers)

    def multiply_picojoules(self, costs: Costs) -> float:
        """Energy of the threshold multiplies, which Table 3 leaves out."""
        return self.multiplies * costs.multiply


def analyse(
    graph: Graph, rates: Mapping[str, float], *, first: float = RATE, counted: Mapping[str, float] | None = None
) -> Analysis:
    """Apply the paper's formulas to a graph.

    Args:
        graph: the network.
        rates: by population of kind ``pasc`` or ``max``: spikes per neuron and image, measured.
        first: rate of the analog input (see the module).
        counted: by population: operations of an image in the synapses onto it, as
            :mod:`pascal_nm.simulation.events` counts them.
    """
    sources = {q.name: q.source for q in graph.projections}
    analog = {graph.input.name}
    arriving = {**rates, **dict.fromkeys(analog, first)}
    matmuls = of_graph(graph)
    layers: list[LayerAnalysis] = []
    analog_macs = spiking_macs = accumulates = plain = pasc = 0.0
    for p in graph.weighted:
        onto = [(m, sources[m.name]) for m in matmuls.get(p.name, [])]
        operations = sum(m.macs * arriving[source] for m, source in onto)
        spiking = [(m, source) for m, source in onto if source not in analog]
        analog_macs += sum(m.macs for m, source in onto if source in analog)
        spiking_macs += sum(m.macs for m, _ in spiking)
        accumulates += sum(m.macs * rates[source] for m, source in spiking)
        layer = _layer(p, [m for m, _ in onto], operations, bool(spiking), rates, counted)
        neurons = p.size if p.dynamics.fires else 0
        plain += operations + p.levels * neurons
        pasc += operations + (5 * p.levels - 2) * neurons
        layers.append(layer)
    with_neurons = [layer for layer in layers if layer.own is not None]
    return Analysis(
        layers,
        effective_timesteps([layer.levels for layer in with_neurons], [layer.ratio for layer in with_neurons]),
        pasc / plain,
        accumulates / spiking_macs if spiking_macs else 0.0,
        sum(rates[layer.name] for layer in with_neurons) / len(with_neurons),
        analog_macs / (analog_macs + spiking_macs) if analog_macs else 0.0,
        first,
    )


def _layer(
    population: Population,
    matmuls: Sequence[MatMul],
    operations: float,
    spiking: bool,
    rates: Mapping[str, float],
    counted: Mapping[str, float] | None,
) -> LayerAnalysis:
    """One population, whose synapses perform ``operations`` by the formulas.

    They get spikes, or only analog values.
    """
    p, macs = population, sum(m.macs for m in matmuls)
    own = rates[p.name] if p.dynamics.fires else None
    ratio = _over(p.size, operations)
    return LayerAnalysis(
        p.name,
        p.levels,
        operations / macs if spiking else None,
        own,
        macs,
        ratio,
        None if own is None else _over(p.size, macs * own),
        None if counted is None else _over(p.size, counted[p.name]),
        None if own is None else _energy_ratio(p.levels, ratio),
        0.0 if own is None else p.size * own,
    )


def _over(neurons: int, operations: float) -> float:
    """Neurons over operations: r', infinite where there are none."""
    return neurons / operations if operations else math.inf


def by_architecture(arch: str, input_shape: Sequence[int], classes: int, **options: Any) -> list[MatMul]:
    """The layers of one of :data:`pascal_nm.source.architectures.ARCHITECTURES`.

    Its weights are not made.
    """
    from pascal_nm.source.architectures import build

    with torch.device("meta"):
        return of_module(build(arch, input_shape, classes, **options), input_shape)
