"""What a network costs on a chip.

A run's counted events are priced by the chip's table, beside what it is compared with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pascal_nm.data import Dataset
from pascal_nm.errors import FileError
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import evaluation, find, fixed_point
from pascal_nm.hw_targets.chip import NEURON_KINDS, Chip, LayerEnergy
from pascal_nm.hw_targets.evaluation import Evaluation, Progress
from pascal_nm.hw_targets.loihi import LoihiTarget
from pascal_nm.hw_targets.mapping import Mapping
from pascal_nm.hw_targets.traffic import Traffic
from pascal_nm.network.graph import Graph
from pascal_nm.paper import analysis
from pascal_nm.simulation import activity
from pascal_nm.simulation.activity import LayerEvents
from pascal_nm.simulation.result import Program


def priced(graph: Graph, chip: Chip) -> Program:
    """The program whose events a chip prices.

    It is quantized and on cores where the chip's file has widths and cores, else as the graph is.

    Args:
        graph: the network.
        chip: the chip.

    Raises:
        TargetError: the network does not fit the chip.
    """
    if chip.widths and chip.core is not None:
        return LoihiTarget(chip, cores=True).compile(graph)
    return find("torch").compile(fixed_point.fit(graph, chip) if chip.widths else graph)


@dataclass(frozen=True, eq=False)
class Bill:
    """What a network cost on one chip.

    Attributes:
        chip: the chip.
        graph: the graph that ran.
        result: the run.
        mapping: which neurons are on which core; None for a chip without cores.
    """

    chip: Chip
    graph: Graph
    result: Evaluation
    mapping: Mapping | None = None

    @staticmethod
    def of(program: Program, described: Chip, data: Dataset, *, progress: Progress | None = None) -> Bill:
        """Run images through a program from :func:`priced`, and count.

        Raises:
            DataError: as :func:`pascal_nm.hw_targets.evaluation.run_batches`.
            FileError: the chip prices nothing of what happened.
        """
        watcher = getattr(program, "watcher", None)
        mapping = watcher.mapping if isinstance(watcher, Traffic) else None
        bill = Bill(described, program.graph, evaluation.evaluate(program, data, progress=progress), mapping)
        if bill.total <= 0:
            raise FileError(f"chip {described.name} prices every counted event at nothing")
        return bill

    @cached_property
    def layers(self) -> list[LayerEnergy]:
        """Joules of each layer."""
        return chips.energy(self.result.events, self.chip)

    @cached_property
    def total(self) -> float:
        """Joules of an image."""
        return sum(layer.total for layer in self.layers)

    @cached_property
    def source(self) -> dict[str, float]:
        """Joules of an image in the source network's layers."""
        return chips.source_energy(self.graph, self.chip)

    @property
    def source_total(self) -> float:
        """Joules of an image in the source network."""
        return sum(self.source.values())

    @cached_property
    def shares(self) -> dict[str, float]:
        """Where the energy goes."""
        return chips.shares(self.layers)

    @property
    def neurons(self) -> float:
        """The neurons' own share."""
        return sum(self.shares.get(kind, 0.0) for kind in NEURON_KINDS)

    @cached_property
    def plain_events(self) -> list[LayerEvents]:
        """Events of the same run with plain integrate-and-fire neurons."""
        return activity.plain(self.graph, self.result.events)

    @cached_property
    def plain_layers(self) -> list[LayerEnergy]:
        """Joules of each layer with plain neurons."""
        return chips.energy(self.plain_events, self.chip)

    @property
    def over_plain(self) -> float | None:
        """Energy with PASC neurons over that with plain ones; None where these cost nothing."""
        plain = sum(layer.total for layer in self.plain_layers)
        return self.total / plain if plain else None

    @property
    def work_over_plain(self) -> float | None:
        """The cores' work in seconds, likewise; None where the chip's file gives no times."""
        plain = chips.core_seconds(self.plain_events, self.chip)
        return chips.core_seconds(self.result.events, self.chip) / plain if plain else None

    @property
    def seconds(self) -> float | None:
        """Of an image, mean; None where the chip's file gives no times."""
        if self.result.chip is None or np.isnan(self.result.chip.seconds).any():
            return None
        return float(self.result.chip.seconds.mean())

    @cached_property
    def closed_formulas(self) -> analysis.Analysis:
        """The paper's estimate from measured spike rates, beside the counted operations."""
        counted = {
            layer.name: float(np.mean(layer.synaptic_operations)) + layer.multiply_accumulates
            for layer in self.result.events
        }
        return analysis.analyse(self.graph, self.result.spike_rates(self.graph), counted=counted)

    @cached_property
    def timesteps_of_a_dense_input(self) -> float:
        """T_eff, the analog input with a rate of 1: its values go through their synapses once."""
        return analysis.analyse(self.graph, self.result.spike_rates(self.graph), first=1).effective_timesteps

    def summary(self) -> dict[str, Any]:
        """Every figure, for JSON."""
        formulas = self.closed_formulas
        return {
            "chip": self.chip.name,
            "estimate": self.chip.estimate,
            "source": self.chip.source,
            "remark": self.chip.remark,
            "picojoules": {name: vars(figure) for name, figure in self.chip.energy.items()},
            "nanoseconds": {name: vars(figure) for name, figure in self.chip.latency.items()},
            "memory": self.chip.memory_traffic,
            "timesteps": float(self.result.timesteps.mean()),
            "accuracy": self.result.accuracy,
            "joules_per_image": self.total,
            "seconds_per_image": self.seconds,
            "source_network_joules_per_image": self.source_total,
            "shares": self.shares,
            "neurons": {
                "share": self.neurons,
                "pasc_over_plain": self.over_plain,
                "core_seconds_pasc_over_plain": self.work_over_plain,
            },
            "layers": [
                {
                    "name": layer.name,
                    "joules": layer.total,
                    "joules_by_event": dict(layer.joules),
                    "source_network_joules": self.source[layer.name],
                    "events": layer.events.means(),
                }
                for layer in self.layers
            ],
            "closed_formulas": {
                "effective_timesteps": formulas.effective_timesteps,
                "effective_timesteps_of_a_dense_input": self.timesteps_of_a_dense_input,
                "first_layer_rate": formulas.first_rate,
                "pasc_over_plain_neurons": formulas.energy_ratio,
                "normalized_operations": formulas.operations,
                "mean_spike_rate": formulas.mean_rate,
                "source_over_spiking_fp32": formulas.source_ratio(analysis.FP32),
                "source_over_spiking_int8": formulas.source_ratio(analysis.INT8),
                "source_over_spiking_by_mean_rate_fp32": formulas.source_ratio_by_mean_rate(analysis.FP32),
                "source_over_spiking_by_mean_rate_int8": formulas.source_ratio_by_mean_rate(analysis.INT8),
                "threshold_multiplies": formulas.multiplies,
                "threshold_multiplies_picojoules_fp32": formulas.multiply_picojoules(analysis.FP32),
                "threshold_multiplies_picojoules_int8": formulas.multiply_picojoules(analysis.INT8),
                "layers": [{key: _finite(value) for key, value in vars(layer).items()} for layer in formulas.layers],
            },
        }


def _finite(value: Any) -> Any:
    """A value for JSON, which has no infinity: None where a formula has no answer."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
