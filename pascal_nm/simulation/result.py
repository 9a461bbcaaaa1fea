"""What a run gives back, the same from every target: spike counts, readout, and activity.

Activity is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.network.graph import Graph, Inputs
from pascal_nm.simulation.schedule import Schedule


class Activity(NamedTuple):
    """Counted spikes of one population, each an int64 array of shape (N,), one entry per image."""

    emitted: Array
    """Spikes that left the population (of either sign)."""
    excitatory: Array
    """Internal spikes that raised the counter (stages integrate and correct)."""
    inhibitory: Array
    """Internal spikes that lowered the counter (stage correct)."""


class Counted(NamedTuple):
    """One kind of event on the cores of one population.

    Attributes:
        event: the name of a :class:`pascal_nm.simulation.events.Event`.
        population: whose cores they are.
        cores: their numbers.
        first: the first timestep.
        counts: whole numbers of a float type that holds them, (steps, N, cores).
        synapses: of operations, as :func:`pascal_nm.simulation.events.synapses` says it.
    """

    event: str
    population: str
    cores: slice
    first: int
    counts: Array
    synapses: str = "dense"


class Ways(NamedTuple):
    """The messages of one population, by the way that they take.

    Attributes:
        first: the first timestep.
        hops: along the columns and rows of the mesh, (ways, 2).
        counts: of messages, (steps, N, ways).
    """

    first: int
    hops: Array
    counts: Array


@dataclass(frozen=True, eq=False)
class CoreEvents:
    """What N images caused on the cores of a chip, timestep by timestep: counts, and no price.

    Updates are not among them: they are the neurons of a core in every timestep.

    Attributes:
        images: N.
        cores: how many there are.
        counted: events of cores.
        ways: messages, by the population that sends them.
    """

    images: int
    cores: int
    counted: tuple[Counted, ...]
    ways: Mapping[str, Ways]

    def by_core(self, event: str) -> Array:
        """How many of an event happened on each core, float64 of shape (N, cores)."""
        found = np.zeros((self.images, self.cores))
        for each in self._of(event):
            found[:, each.cores] += each.counts.sum(0, dtype=np.float64)
        return found

    def total(self, event: str, population: str) -> Array:
        """How many of an event happened on the cores of a population, int64 of shape (N,)."""
        found = np.zeros(self.images)
        for each in self._of(event):
            if each.population == population:
                found += each.counts.sum((0, 2), dtype=np.float64)
        return np.rint(found).astype(np.int64)

    def hops(self, population: str) -> Array:
        """Hops of a population's messages along columns and rows, int64 of shape (N, 2)."""
        if population not in self.ways:
            return np.zeros((self.images, 2), np.int64)
        ways = self.ways[population]
        return np.asarray(np.rint(ways.counts.sum(0, dtype=np.float64) @ ways.hops), np.int64)

    def _of(self, event: str) -> Iterator[Counted]:
        return (each for each in self.counted if each.event == event)

    @staticmethod
    def join(parts: Sequence[CoreEvents]) -> CoreEvents:
        """The events of consecutive batches as one."""
        first = parts[0]
        counted = (each[0]._replace(counts=_joined(each)) for each in zip(*(p.counted for p in parts), strict=True))
        ways = {name: way._replace(counts=_joined([p.ways[name] for p in parts])) for name, way in first.ways.items()}
        return CoreEvents(sum(part.images for part in parts), first.cores, tuple(counted), ways)


def _joined(parts: Sequence[Counted] | Sequence[Ways]) -> Array:
    """The counts of consecutive batches: nothing happened in timesteps that one of them lacks."""
    steps = max(len(part.counts) for part in parts)
    return np.concatenate([np.pad(p.counts, ((0, steps - len(p.counts)), (0, 0), (0, 0))) for p in parts], 1)


@dataclass(frozen=True, eq=False, repr=False)
class RunResult:
    """The outcome of running N inputs.

    Attributes:
        counts: by population of kind ``pasc`` or ``max``: spikes emitted by each neuron, integers
            of shape (N, *shape).
        potential: the readout's membrane potential, (N, outputs), in the graph's own type; those of
            several readouts stand side by side (:attr:`pascal_nm.network.graph.Graph.columns`).
        scale: the readout's threshold: logits are ``potential / scale``.
        activity: by population, as ``counts``; empty where the engine does not count (``counts``).
        schedule: the timesteps that the run took.
        answers: the prediction after each timestep, (N, steps); None from an engine without
            timesteps (``counts``).
        sent: by population, spikes of either sign and any size that each neuron sent, (N, *shape),
            the analog input among them where only its values other than 0 are sent; None where no
            spike is negative, and they are the counts.
        classes: how many of the outputs, the first, are the answer's; None for all.
        cores: what happened on the cores of a chip; None where the network is on none.
        settled: timesteps until the network was quiet, (N,): from then on every count is final;
            more than were run where it was not. None where the schedule's own length is that time.
    """

    counts: Mapping[str, Array]
    potential: Array
    scale: Array
    activity: Mapping[str, Activity]
    schedule: Schedule
    answers: Array | None = None
    sent: Mapping[str, Array] | None = None
    settled: Array | None = None
    classes: int | None = None
    cores: CoreEvents | None = None

    def __repr__(self) -> str:
        classes, n = self.predictions[:8].tolist(), len(self.potential)
        answers = ", ".join(map(str, classes)) + (", ..." if n > len(classes) else "")
        return f"<{type(self).__name__} of {n} image{'s' * (n != 1)}, {self.schedule.steps} timesteps: {answers}>"

    @property
    def timesteps(self) -> Array:
        """Timesteps that each image took, (N,), until its answer was final or it was stopped."""
        return np.minimum(self._settled, self.schedule.steps)

    @property
    def exact(self) -> Array:
        """A certificate for each image, (N,).

        Every count was final before the run was stopped, so the answer is the source network's.
        """
        return np.asarray(self._settled <= self.schedule.steps)

    @property
    def _settled(self) -> Array:
        return np.full(len(self.potential), self.schedule.length) if self.settled is None else self.settled

    @property
    def spikes(self) -> Mapping[str, Array]:
        """Spikes of either sign that each neuron sent, as ``counts``."""
        return self.counts if self.sent is None else self.sent

    @property
    def logits(self) -> Array:
        """The network's outputs in the source network's units: float64 of shape (N, outputs)."""
        return np.asarray(self.potential.astype(np.float64) / self.scale)

    @property
    def predictions(self) -> Array:
        """The class of the largest logit of the answer, (N,); the first of equals."""
        return np.asarray(self.logits[:, : self.classes].argmax(axis=1))

    @staticmethod
    def join(results: Sequence[RunResult]) -> RunResult:
        """The results of consecutive batches as one."""
        first = results[0]
        if len(results) == 1:
            return first
        return RunResult(
            counts={name: np.concatenate([r.counts[name] for r in results]) for name in first.counts},
            potential=np.concatenate([r.potential for r in results]),
            scale=first.scale,
            classes=first.classes,
            activity={
                name: Activity(
                    *(np.concatenate(parts) for parts in zip(*(r.activity[name] for r in results), strict=True))
                )
                for name in first.activity
            },
            schedule=first.schedule,
            answers=None
            if first.answers is None
            else np.concatenate([r.answers for r in results if r.answers is not None]),
            sent=None
            if first.sent is None
            else {n: np.concatenate([r.spikes[n] for r in results]) for n in first.sent},
            cores=None if first.cores is None else CoreEvents.join([r.cores for r in results if r.cores is not None]),
            settled=None if first.settled is None else np.concatenate([r._settled for r in results]),
        )


class Program(Protocol):
    """A graph made ready to run on one target."""

    @property
    def graph(self) -> Graph:
        """The graph that runs: the one given, or its quantized form on a target without floats."""

    def run(self, inputs: Inputs) -> RunResult:
        """Run N inputs, of shape (N, *input shape)."""


@runtime_checkable
class FrameProgram(Program, Protocol):
    """A program that runs frames, too."""

    def session(self) -> Runner:
        """Runs frames, keeping state from one to the next where the schedule can."""


class Runner(Protocol):
    """Runs the frames of a sequence one after the other."""

    def run(self, frames: Inputs) -> RunResult:
        """Run N consecutive frames, (N, *input shape); each is an image of the result."""

    def reset(self) -> None:
        """Begin another sequence."""


class Target(Protocol):
    """Where spiking networks run.

    Every target runs float and integer graphs, or says why not with a TargetError.
    """

    @property
    def name(self) -> str:
        """What the command line calls it."""

    def compile(self, graph: Graph) -> Program:
        """Check that the graph fits, and make it ready to run."""
