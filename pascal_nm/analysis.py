r"""The paper's closed-form energy analysis (Section 4.2, Appendix A.4; Equations 7 to 16).

It estimates from layer shapes and spike rates what :mod:`pascal_nm.activity` counts. Both stand side by side in reports.
Symbols: L levels of a layer, :math:`r'` operations of its neurons relative to those of its synapses, ``rate`` the spikes of a
neuron over all timesteps, averaged over the layer feeding it (*SpikeRate*, 0.75 where the paper assumes one).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pascal_nm.errors import ConversionError, first_line
from pascal_nm.graph import Conv2d, Dense, Graph

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
    """The convolutions and linear layers of a module in the order of execution. Nothing is computed, only shapes.

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
        if isinstance(q.operator, Conv2d | Dense):
            fan_in = math.prod(q.operator.weight.shape[1:])
            layers.setdefault(q.target, []).append(MatMul(q.name, fan_in, graph[q.target].size))
    return layers


def if_ratio(fan_in: float, rate: float = RATE) -> float:
    r"""Equations 11 and 12: :math:`r' = 1 / (C_i K_h K_w \cdot rate)`."""
    return 1 / (fan_in * rate)


def energy_ratio(levels: int, ratio: float) -> float:
    """Equation 10: energy of a layer with PASC neurons over that with plain integrate-and-fire neurons.

    Args:
        levels: L.
        ratio: r' of the layer, from :func:`if_ratio`.
    """
    return (1 + (5 * levels - 2) * ratio) / (1 + levels * ratio)


def effective_timesteps(levels: Sequence[int], ratios: Sequence[float]) -> float:
    """Equation 16 (T_eff), and for uniform levels Equation 13 (T_norm): the mean over layers of r_E times L.

    Args:
        levels: L of each layer.
        ratios: r' of each layer; of unequal lengths, the shorter counts (as in the authors' get_Teff.py).
    """
    terms = [energy_ratio(level, ratio) * level for level, ratio in zip(levels, ratios, strict=False)]
    return sum(terms) / len(terms)


@dataclass(frozen=True)
class Costs:
    """Energy of one operation in picojoules (Table 10)."""

    mac: float
    ac: float


FP32 = Costs(4.6, 0.9)
INT8 = Costs(0.23, 0.03)


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
        rate: measured spikes per neuron and image of its sources, by synapses (A.9); None for analog input.
        macs: of the source network.
        ratio: r' (Equations 11 and 12), None for analog input.
        energy: r_E (Equation 10), None for analog input.
    """

    name: str
    levels: int
    rate: float | None
    macs: int
    ratio: float | None
    energy: float | None


@dataclass(frozen=True)
class Analysis:
    """The closed formulas for a network with measured spike rates.

    Attributes:
        layers: by population.
        effective_timesteps: Equation 16 with the measured rates.
        energy_ratio: Equation 14, PASC neurons against plain ones, operations weighted equally.
        operations: normalized operations of the spiking network (Equation 15), without the first layer.
        first: share of the analog-input layers in the source network's operations.
    """

    layers: list[LayerAnalysis]
    effective_timesteps: float
    energy_ratio: float
    operations: float
    first: float

    def source_ratio(self, costs: Costs) -> float:
        """The last columns of Table 3."""
        return source_ratio(self.operations, self.first, costs)


def analyse(graph: Graph, rates: dict[str, float]) -> Analysis:
    """Apply the paper's formulas to a graph.

    Args:
        graph: the network.
        rates: by population of kind ``pasc`` or ``max``: spikes per neuron and image, measured.

    The spike rate of a layer is that of what it receives; with several sources, weighted by their operations.
    """
    layers: list[LayerAnalysis] = []
    levels: list[int] = []
    ratios: list[float] = []
    analog_macs = spiking_macs = accumulates = plain = pasc = 0.0
    by_name = {q.name: q.source for q in graph.projections}
    for target, matmuls in of_graph(graph).items():
        population = graph[target]
        macs = sum(m.macs for m in matmuls)
        if any(graph[by_name[m.name]].kind == "analog" for m in matmuls):
            analog_macs += macs
            layers.append(LayerAnalysis(target, population.levels, None, macs, None, None))
            continue
        operations = sum(m.macs * rates[by_name[m.name]] for m in matmuls)
        spiking_macs, accumulates = spiking_macs + macs, accumulates + operations
        ratio = population.size / operations if operations else math.inf
        spiking = population.kind == "pasc"
        energy = energy_ratio(population.levels, ratio) if spiking and operations else None
        if energy is not None:
            levels.append(population.levels)
            ratios.append(ratio)
            plain += operations + population.levels * population.size
            pasc += operations + (5 * population.levels - 2) * population.size
        layers.append(LayerAnalysis(target, population.levels, operations / macs, macs, ratio, energy))
    steps = effective_timesteps(levels, ratios) if levels else math.nan
    share = analog_macs / (analog_macs + spiking_macs) if analog_macs else 0.0
    rate = accumulates / spiking_macs if spiking_macs else 0.0
    return Analysis(layers, steps, pasc / plain if plain else math.nan, rate, share)


def by_architecture(arch: str, input_shape: Sequence[int], classes: int, **options: Any) -> list[MatMul]:
    """The layers of one of :data:`pascal_nm.models.ARCHITECTURES`, without its weights ever being made."""
    from pascal_nm.models import build

    with torch.device("meta"):
        return of_module(build(arch, input_shape, classes, **options), input_shape)
