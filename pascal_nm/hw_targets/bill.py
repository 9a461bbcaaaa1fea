"""What a network costs on chips.

A run's counted events are priced by each chip's table, beside what they are compared with.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.common.band import Band
from pascal_nm.errors import FileError, TargetError
from pascal_nm.hw_targets import cost, evaluation, fixed_point, objectives, spikes
from pascal_nm.hw_targets.chip import Chip, End
from pascal_nm.hw_targets.cost import NEURON_KINDS, LayerEnergy
from pascal_nm.hw_targets.devices import Device
from pascal_nm.hw_targets.evaluation import Batch, Evaluation, Progress, Shown, Summary
from pascal_nm.hw_targets.loihi import Execution
from pascal_nm.hw_targets.mapping import Placement
from pascal_nm.hw_targets.program import lower
from pascal_nm.hw_targets.simulator import SimulatorProgram
from pascal_nm.network.graph import Graph
from pascal_nm.paper import analysis
from pascal_nm.simulation import events, schedule
from pascal_nm.simulation.events import LayerEvents

_ENDS: tuple[End, End] = ("least", "most")


@dataclass(frozen=True, eq=False)
class Priced:
    """A program, and the chips that its run has a price on.

    Attributes:
        program: it counts what happens on cores where the chips have some.
        placement: which neurons are on which core; None for chips without cores.
        chips: by the names that they were given.
        pipelined: images follow each other every initiation interval.
    """

    program: SimulatorProgram | Execution
    placement: Placement | None
    chips: dict[str, Chip]
    pipelined: bool = False

    @staticmethod
    def on(
        graph: Graph,
        described: Mapping[str, Chip],
        objective: str = "time",
        *,
        pipelined: bool = False,
        frames: bool = False,
        refused: dict[str, TargetError] | None = None,
    ) -> list[Priced]:
        """The programs of a network for chips, one for all that hold it in the same way.

        That is with the same integers, where a chip's file has widths, and on the same cores, where
        it has cores; else the graph runs as it is.

        Args:
            graph: the network.
            described: chips by name.
            objective: what placements serve, as :func:`.mapping.place` takes it.
            pipelined: images follow each other every initiation interval of the schedule, and do
                not wait for each other's answers.
            frames: it is for frames: chips that cannot keep the state between them are refused.
            refused: gets the chips that cannot run the network, and why; where it is None, or no
                chip is left, the first of them is raised.

        Raises:
            TargetError: the network does not fit a chip, the objective is none, or images of its
                schedule have no fixed length and are to follow each other.
        """
        objectives.check(objective)
        if pipelined and schedule.of(graph).streams:
            raise TargetError(
                f"under {graph.timing.schedule} an image ends when the network is quiet, so that images cannot follow "
                "each other at a fixed interval: choose the schedule graded or pasc"
            )
        found: dict[object, list[Priced]] = {}  # by registers
        for name, chip in described.items():
            alike = found.setdefault((*sorted(chip.widths.items()), chip.fixed_point), [])
            try:
                program, placement = _program(alike[0].program.graph if alike else graph, chip, objective, frames)
            except TargetError as error:
                if refused is None:
                    raise
                refused[name] = error
                continue
            for other in alike:
                if _same(other.placement, placement):
                    other.chips[name] = chip
                    break
            else:
                alike.append(Priced(program, placement, {name: chip}, pipelined))
        if refused and len(refused) == len(described):
            raise next(iter(refused.values()))
        return [each for alike in found.values() for each in alike]

    @property
    def title(self) -> str:
        """The chips in words."""
        return ", ".join(chip.name for chip in self.chips.values())

    def bills(self, data: Shown, *, threshold: float = 0, progress: Progress | None = None) -> dict[str, Bill]:
        """Run images or frames once, and price what happened on each chip.

        Args:
            data: images, or frames, of which each is one image of the bill.
            threshold: of frames, as :func:`.evaluation.run_batches` takes it.
            progress: called with (images done, images in all).

        Raises:
            DataError: as :func:`pascal_nm.hw_targets.evaluation.run_batches`.
            FileError: a chip prices nothing of what happened.
        """
        tally = Tally(self, pipelined=self.pipelined)
        for batch in evaluation.run_batches(self.program, data, threshold=threshold, progress=progress):
            tally.add(batch)
        return tally.bills()


class Tally:
    """What happened in a program's run, batch by batch; priced at the end.

    Args:
        priced: the program and its chips.
        pipelined: images follow each other every initiation interval.
    """

    def __init__(self, priced: Priced, *, pipelined: bool = False) -> None:
        self.priced, self.pipelined = priced, pipelined
        self._parts: list[Summary] = []
        self._times: dict[tuple[str, End | None], list[Array]] = defaultdict(list)
        self._ends = {name: {end: chip.at(end) for end in _ENDS} for name, chip in priced.chips.items() if chip.uneven}

    def add(self, batch: Batch) -> None:
        """A further batch has run: its spikes are not kept."""
        priced = self.priced
        timing = cost.pipelined if self.pipelined else cost.alone
        for name, chip in priced.chips.items():
            if priced.placement is not None and chip.latency:
                self._times[name, None].append(np.stack(timing(batch.result, priced.placement, chip)))
                for end, each in self._ends.get(name, {}).items():
                    self._times[name, end].append(np.stack(timing(batch.result, priced.placement, each)))
        self._parts.append(Summary.of(priced.program.graph, batch))

    def bills(self) -> dict[str, Bill]:
        """The bill on each chip.

        Raises:
            FileError: a chip prices nothing of what happened.
        """
        graph, result = self.priced.program.graph, Evaluation.join(self._parts)
        if self.pipelined:
            result = replace(result, events=events.pipelined(graph, result.events, result.schedule))
        bills = {}
        for name, chip in self.priced.chips.items():
            answer, interval = self._mean(name)
            bills[name] = Bill(chip, graph, result, self.priced.placement, answer, interval, self.pipelined)
            if bills[name].dynamic <= 0:
                raise FileError(f"chip {chip.name} prices every counted event at nothing")
        return bills

    def _mean(self, name: str) -> tuple[Band, Band] | tuple[None, None]:
        """Seconds to an answer, and from one to the next, on a chip."""
        means = {
            end: np.concatenate(self._times[name, end], 1).mean(1).tolist()
            for end in (None, *_ENDS)
            if (name, end) in self._times
        }
        if not means:
            return None, None
        low, high = (means.get(end, means[None]) for end in _ENDS)
        answer, interval = (Band(*each) for each in zip(means[None], low, high, strict=True))
        return answer, interval


def _program(
    graph: Graph, chip: Chip, objective: str, frames: bool
) -> tuple[SimulatorProgram | Execution, Placement | None]:
    """The program of a network for a chip: on its cores where its file has some."""
    if chip.widths and chip.core is not None:
        execution = Execution(lower(graph, chip, objective=objective, frames=frames), chip)
        if frames:
            execution.check_frames()
        return execution, execution.placement
    if chip.widths:
        fitted = fixed_point.fitted(graph, chip, frames=frames)
        if frames:
            fixed_point.check_frames(fitted, chip)
        graph = fitted.graph
    spikes.check(graph, chip)
    return SimulatorProgram(graph), None


def _same(one: Placement | None, other: Placement | None) -> bool:
    return one is other if one is None or other is None else one.same_as(other)


@dataclass(frozen=True, eq=False)
class Bill:
    """What a network cost on one chip.

    Attributes:
        chip: the chip.
        graph: the graph that ran.
        result: the run.
        placement: which neurons are on which core; None for a chip without cores.
        seconds: on the chip until an image's answer, mean; None where the chip's file gives no
            times.
        seconds_between_answers: likewise from one answer to the next.
        pipelined: images follow each other every initiation interval; else each waits for the
            answer of the one before.
    """

    chip: Chip
    graph: Graph
    result: Evaluation
    placement: Placement | None = None
    seconds: Band | None = None
    seconds_between_answers: Band | None = None
    pipelined: bool = False

    def __repr__(self) -> str:
        """The answer in a line; ``layers`` has each layer's part."""
        images, source = len(self.result.labels), f"the source network, dense, {self.source_dynamic * 1e6:.4g} uJ"
        total = "" if self.total is None else f" (in all {self.total * 1e6:.4g})"
        return (
            f"{self.dynamic * 1e6:.4g} uJ an image in events{total} on {self.chip.name}, mean of {images:,}; {source}"
        )

    @cached_property
    def layers(self) -> list[LayerEnergy]:
        """Joules of each layer."""
        return cost.energy(self.result.events, self.chip)

    @cached_property
    def dynamic(self) -> Band:
        """Joules of an image's events."""
        return self._band(lambda chip: sum(layer.dynamic for layer in cost.energy(self.result.events, chip)))

    @cached_property
    def static(self) -> Band | None:
        """Joules that the chips draw in the time of an image, whatever their neurons do.

        None where power or time is not known.
        """
        return self._drawn(self.seconds_between_answers)

    @cached_property
    def host_seconds(self) -> Band | None:
        """Time in which the host sends an image's values and reads the answer.

        It is beside the chip's own time. None where the chip's file has none.
        """
        if self.chip.host is None or self.placement is None:
            return None
        values, outputs = float(np.mean(self.result.injected)), self.graph.output.size
        return self._band(lambda chip: 0.0 if chip.host is None else chip.host.seconds(values, outputs))

    @property
    def with_host(self) -> Band | None:
        """Seconds from one answer to the next, with what the host takes for it."""
        if self.host_seconds is None or self.seconds_between_answers is None:
            return None
        return Band.sum([self.seconds_between_answers, self.host_seconds])

    @cached_property
    def host(self) -> Band | None:
        """Joules of an image that its host costs.

        That is what the chips draw while they wait for it, and what the processors beside their
        cores take in all of the image's time. None where the chip's file has no [host].
        """
        seconds = self.with_host
        if seconds is None:
            return None
        waiting = self._drawn(self.host_seconds)
        chips = 1 if self.placement is None else self.placement.chips
        power = self._band(lambda chip: 0.0 if chip.host is None else chip.host.watts(chips))
        return Band.sum(each for each in (waiting, power.times(seconds)) if each is not None)

    @cached_property
    def total(self) -> Band | None:
        """Joules of an image: dynamic, static and, where it is known, the host's.

        None where static energy is not known.
        """
        if self.static is None:
            return None
        return Band.sum(each for each in (self.dynamic, self.static, self.host) if each is not None)

    @property
    def unknown(self) -> list[str]:
        """The parts that the chip's file says nothing of."""
        parts = {"static": self.static, "host": self.host}
        found = [name for name, joules in parts.items() if joules is None]
        host = self.chip.host
        if host is not None:
            found += [f"the host's {name}" for name in ("readout", "power") if getattr(host, name) is None]
        return found

    def _drawn(self, seconds: Band | None) -> Band | None:
        """What the chips draw in so much time."""
        if seconds is None or self.placement is None or self.chip.static is None:
            return None
        chips, cores = self.placement.chips, self.placement.cores
        watts = self._band(lambda chip: 0.0 if chip.static is None else chip.static.watts(chips, cores))
        return watts.times(seconds)

    def _band(self, figure: Callable[[Chip], float]) -> Band:
        """A figure of the chip, and with its own at either end of their bands."""
        ends = (figure(self.chip.at(end)) for end in _ENDS) if self.chip.banded else (None, None)
        return Band(figure(self.chip), *ends)

    @property
    def unary(self) -> bool:
        """Whether the spikes are as many as the counts, which the paper's formulas are about."""
        return not self.result.schedule.sparse

    @cached_property
    def joules_by_image(self) -> Array:
        """Joules of the events of each image or frame, (N,)."""
        return cost.by_image(self.result.events, self.chip, len(self.result.labels))

    @cached_property
    def source(self) -> dict[str, float]:
        """Joules of an image in the source network's layers."""
        return cost.source_energy(self.graph, self.chip)

    @cached_property
    def source_operations(self) -> int:
        """Multiply-accumulates and additions of the source network for an image."""
        return events.dense_operations(self.graph)

    @property
    def source_dynamic(self) -> float:
        """Joules of an image in the source network, by the same table: of its operations alone."""
        return sum(self.source.values())

    @cached_property
    def shares(self) -> dict[str, float]:
        """Where the energy goes."""
        return cost.shares(self.layers)

    @property
    def neurons(self) -> float:
        """The neurons' own share."""
        return sum(self.shares.get(kind, 0.0) for kind in NEURON_KINDS)

    @cached_property
    def plain_events(self) -> list[LayerEvents]:
        """Events of the same run with plain integrate-and-fire neurons."""
        return events.plain(self.graph, self.result.events)

    @cached_property
    def plain_layers(self) -> list[LayerEnergy]:
        """Joules of each layer with plain neurons."""
        return cost.energy(self.plain_events, self.chip)

    @property
    def over_plain(self) -> float | None:
        """Dynamic energy with PASC neurons over that with plain ones; None where that is none."""
        plain = sum(layer.dynamic for layer in self.plain_layers)
        return self.dynamic / plain if plain else None

    @property
    def work_over_plain(self) -> float | None:
        """The cores' work in seconds, likewise; None where the chip's file gives no times."""
        plain = cost.core_seconds(self.plain_events, self.chip)
        return cost.core_seconds(self.result.events, self.chip) / plain if plain else None

    @cached_property
    def closed_formulas(self) -> analysis.Analysis:
        """The paper's estimate from measured spike rates, beside the counted operations."""
        counted = {
            layer.name: float(np.mean(layer.operations)) + layer.multiply_accumulates for layer in self.result.events
        }
        return analysis.analyse(self.graph, self.result.spike_rates(self.graph), counted=counted)

    @cached_property
    def timesteps_of_a_dense_input(self) -> float:
        """T_eff, the analog input with a rate of 1: its values go through their synapses once."""
        return analysis.analyse(self.graph, self.result.spike_rates(self.graph), first=1).effective_timesteps

    def summary(self, device: Device | None = None) -> dict[str, Any]:
        """Every figure, for JSON; with a device, what the source network would take there.

        Of spikes that carry numbers, or changes, the paper's formulas say nothing: they are None.
        """
        return {
            "chip": self.chip.name,
            "estimate": self.chip.estimate,
            "source": self.chip.source,
            "remark": self.chip.remark,
            "picojoules": {name: vars(figure) for name, figure in self.chip.prices.items()},
            "nanoseconds": {name: vars(figure) for name, figure in self.chip.latency.items()},
            "memory": self.chip.memory_traffic,
            "timesteps": float(self.result.timesteps.mean()),
            "accuracy": self.result.accuracy if self.result.labelled else None,
            "dynamic_joules_per_image": self.dynamic,
            "energy": {
                name: None if band is None else band.summary()
                for name, band in (
                    ("dynamic", self.dynamic),
                    ("static", self.static),
                    ("host", self.host),
                    ("total", self.total),
                )
            },
            "not_known": self.unknown,
            "seconds_per_image": self.seconds,
            "pipelined": self.pipelined,
            "seconds_between_answers": self.seconds_between_answers,
            "seconds_range": None if self.seconds is None else self.seconds.summary(),
            "host_seconds": None if self.host_seconds is None else self.host_seconds.summary(),
            "seconds_with_host": None if self.with_host is None else self.with_host.summary(),
            "source_network_joules_per_image": self.source_dynamic,
            "source_network_on_a_device": None if device is None else self._beside(device),
            "shares": self.shares,
            "neurons": {
                "share": self.neurons,
                "pasc_over_plain": self.over_plain if self.unary else None,
                "core_seconds_pasc_over_plain": self.work_over_plain if self.unary else None,
            },
            "layers": [
                {
                    "name": layer.name,
                    "joules": layer.dynamic,
                    "joules_by_event": dict(layer.joules),
                    "source_network_joules": self.source[layer.name],
                    "events": layer.events.means(),
                }
                for layer in self.layers
            ],
            "closed_formulas": self._formulas() if self.unary else None,
        }

    def _beside(self, device: Device) -> dict[str, Any]:
        operations = self.source_operations
        return {
            "device": device.name,
            "source": device.source,
            "covers": device.covers,
            "picojoules_of_a_multiply_accumulate": device.picojoules,
            "operations": operations,
            "joules": device.joules(operations),
            "seconds": device.seconds(operations),
        }

    def _formulas(self) -> dict[str, Any]:
        formulas = self.closed_formulas
        return {
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
        }


def _finite(value: Any) -> Any:
    """A value for JSON, which has no infinity: None where a formula has no answer."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
