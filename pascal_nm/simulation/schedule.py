"""When each population accumulates, integrates, corrects and emits: computed from the graph alone.

The default schedule is the paper's: each layer waits for its source's whole spike train. A spike
that is emitted in timestep t arrives in timestep t + ``delay`` (1 in Lava and on Loihi). A residual
join takes the branch that ends last as its main window; what arrives earlier is accumulated without
firing, which changes no count.

Two further schedules give the same counts in fewer timesteps (docs/schedules.md):
:func:`two_phase`, in which a layer fires once its whole input is there, and
:func:`streaming`, in which it fires ``lag`` timesteps after its input has begun, and takes
back what turns out to be too much.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.errors import GraphError
from pascal_nm.network.graph import Graph, Population
from pascal_nm.neuron import Stage


class Span(NamedTuple):
    """A stage in the timesteps ``start <= t < stop``."""

    stage: Stage
    start: int
    stop: int

    @property
    def steps(self) -> int:
        """Number of timesteps."""
        return self.stop - self.start


@dataclass(frozen=True)
class Window:
    """The stages of one population, in order and without gaps.

    Attributes:
        spans: the stages, in order; a gap is a GraphError.
        shift: the timestep in which the potential gets its theta / 2; None: it has
            it from the start.
    """

    spans: tuple[Span, ...]
    shift: int | None = None

    def __post_init__(self) -> None:
        if not self.spans or any(span.steps < 1 for span in self.spans):
            raise GraphError("a window needs at least one stage, and each stage a timestep")
        for before, after in itertools.pairwise(self.spans):
            if before.stop != after.start:
                raise GraphError(
                    f"stages follow each other without gaps: {before.stage.value} ends before timestep {before.stop}, "
                    f"{after.stage.value} starts in {after.start}"
                )

    @property
    def start(self) -> int:
        """First timestep in which input may arrive."""
        return self.spans[0].start

    @property
    def stop(self) -> int:
        """First timestep in which the population has nothing more to do."""
        return self.spans[-1].stop

    def span(self, stage: Stage) -> Span | None:
        """The span of ``stage``, or None where the population has no such stage."""
        return next((span for span in self.spans if span.stage is stage), None)

    @property
    def emit(self) -> Span:
        """The timesteps in which spikes may leave; empty at the end for a readout."""
        return self.span(Stage.EMIT) or self.span(Stage.STREAM) or Span(Stage.EMIT, self.stop, self.stop)

    @property
    def begun(self) -> int:
        """The first timestep after the population's first emission and all that is no input.

        What is no input are bias and shift.
        """
        return max(self.emit.start, -1 if self.shift is None else self.shift) + 1

    @property
    def bias(self) -> Span:
        """The timesteps over which the bias is injected: the main window of Algorithm 1 or 2.

        A streaming neuron gets it whole when it begins to fire.
        """
        if streaming := self.span(Stage.STREAM):
            return streaming._replace(stop=streaming.start + 1)
        return self.span(Stage.INTEGRATE) or self.span(Stage.ENCODE) or self.spans[0]

    def at(self, t: int) -> Span | None:
        """The span that timestep ``t`` falls into, or None outside the window."""
        return next((span for span in self.spans if span.start <= t < span.stop), None)


@dataclass(frozen=True)
class Schedule:
    """The windows of every population.

    Attributes:
        windows: by population name.
        delay: timesteps that a spike travels.
        stop: timesteps after which a sample is stopped, although its answer may not be
            final; None: never.
    """

    windows: Mapping[str, Window]
    delay: int
    stop: int | None = None

    @property
    def length(self) -> int:
        """Timesteps for one sample, from the first injection to the readout's final answer."""
        return max(window.stop for window in self.windows.values())

    @property
    def steps(self) -> int:
        """The most timesteps that one sample takes."""
        return self.length if self.stop is None else min(self.length, self.stop)

    @property
    def initiation_interval(self) -> int:
        """Timesteps after which the next sample may start.

        It is the longest window, as each neuron holds one sample.
        """
        return min(self.steps, max(window.stop - window.start for window in self.windows.values()))

    @property
    def streams(self) -> bool:
        """Whether spikes may be taken back, or populations fall quiet before their window's end."""
        return any(window.span(Stage.STREAM) for window in self.windows.values())

    def settled(self, last: Mapping[str, Array]) -> Array:
        """When the network was quiet.

        No spike is under way, and every population has begun and would not spike again.

        From that timestep on nothing changes, and every count is exact (Theorem 2 in
        docs/schedules.md).

        Args:
            last: by population, the timestep of its last spike for each image, (N,); -1
                where it sent none.

        Returns:
            Timesteps, (N,). Beyond the timesteps that were run where the network was
            not quiet in them.
        """
        ends = [np.maximum(last[name] + 1 + self.delay, self.windows[name].begun) for name in last]
        return np.asarray(np.maximum.reduce(ends))


def pasc(graph: Graph, delay: int = 1) -> Schedule:
    """The paper's schedule (Algorithms 1 and 2).

    A layer of L levels that integrates over n steps corrects for max(n, L) - 1 steps and
    emits for L steps. Layers fed by the analog input alone take Algorithm 2: one step, then L
    steps of emission.
    """
    windows: dict[str, Window] = {}
    for population in graph.populations:
        arrivals = [_arrival(windows[p.source], delay) for p in graph.incoming(population.name)]
        analog = all(graph[p.source].kind == "analog" for p in graph.incoming(population.name))
        windows[population.name] = Window(tuple(_spans(population, arrivals, analog)))
    return Schedule(windows, delay)


def two_phase(graph: Graph, delay: int = 1) -> Schedule:
    """Every layer adds up its whole input without firing, then fires.

    The counts are the paper's, without its stage of correction.

    A layer fires from the timestep in which the last spike of its sources may arrive, for its L
    timesteps. No spike is negative.
    """
    return _streams(graph, None, delay)


def streaming(graph: Graph, lag: int | Mapping[str, int] = 0, delay: int = 1) -> Schedule:
    """Every layer fires ``lag`` timesteps after its input has begun to arrive.

    Counts are final when the network is quiet.

    A layer that fires before its input can be complete gets its shift theta / 2 one timestep later
    than it begins: in its first timestep it rounds down, because an early sum is mostly too large.
    That costs a fraction of a timestep, and saves up to all of the spikes that would be taken back.

    The windows are bounds that no input can exceed (Theorem 3 in docs/schedules.md); runs end when
    all is quiet, mostly long before.

    Args:
        graph: the network.
        lag: for all pasc populations, or by name (0 for those without one). 0 is fastest and sends
            most spikes; from L - 1 on, where L is the largest of the sources' levels and these have
            it too, no spike is negative.
        delay: timesteps that a spike travels.

    Raises:
        GraphError: a negative lag, or one for a population that is not there.
    """
    lags = dict.fromkeys((p.name for p in graph.spiking), lag) if isinstance(lag, int) else dict(lag)
    known = {p.name for p in graph.spiking}
    for name, value in lags.items():
        if name not in known:
            raise GraphError(
                f"a lag for {name!r}, which is no spiking population; there are: {', '.join(sorted(known))}"
            )
        if value < 0:
            raise GraphError(f"the lag of {name} must be 0 or more, not {value}")
    return _streams(graph, lags, delay)


def _streams(graph: Graph, lags: Mapping[str, int] | None, delay: int) -> Schedule:
    """Windows of ``STREAM``; without lags, a layer waits for the end of its input."""
    windows: dict[str, Window] = {}
    for p in graph.populations:
        arrivals = [_arrival(windows[q.source], delay) for q in graph.incoming(p.name)]
        shift = None
        if p.kind == "analog":
            spans = [Span(Stage.EMIT, 0, 1)]
        else:
            first, last = min(a.start for a in arrivals), max(a.stop for a in arrivals)
            begin = last - 1  # waiting longer would change nothing
            if lags is not None:
                begin = min(begin, max(a.start for a in arrivals) + lags.get(p.name, 0))
            if p.kind == "pasc" and begin < last - 1:
                shift = begin + 1
            settled = last - 1 + p.levels
            spans = {
                "max": [Span(Stage.STREAM, first, last)],
                "readout": [Span(Stage.ACCUMULATE, first, last)],
                "pasc": [Span(Stage.ACCUMULATE, first, begin), Span(Stage.STREAM, begin, settled)],
            }[p.kind]
        windows[p.name] = Window(tuple(span for span in spans if span.steps), shift)
    return Schedule(windows, delay)


def of(graph: Graph, delay: int = 1) -> Schedule:
    """The schedule that a graph's own ``timing`` asks for."""
    timing = graph.timing
    if timing.schedule == "streaming":
        lag = timing.lag
        if isinstance(lag, tuple):
            made = streaming(graph, dict(zip((p.name for p in graph.spiking), lag, strict=True)), delay)
        else:
            made = streaming(graph, lag, delay)
    else:
        made = {"pasc": pasc, "two_phase": two_phase}[timing.schedule](graph, delay)
    return replace(made, stop=timing.stop)


def _arrival(source: Window, delay: int) -> Span:
    emit = source.emit
    return Span(emit.stage, emit.start + delay, emit.stop + delay)


def _spans(population: Population, arrivals: list[Span], analog: bool) -> list[Span]:
    levels = population.levels
    if population.kind == "analog":
        return [Span(Stage.EMIT, 0, 1)]
    first, last = min(a.start for a in arrivals), max(a.stop for a in arrivals)
    if population.kind == "max":
        return [Span(Stage.EMIT, first, last)]
    if population.kind == "readout":
        return [Span(Stage.ACCUMULATE, first, last)]
    if analog:
        return [Span(Stage.ENCODE, first, last), Span(Stage.EMIT, last, last + levels)]
    main = max(arrivals, key=lambda a: (a.stop, a.steps))
    settled = last + max(main.steps, levels) - 1
    spans = [
        Span(Stage.ACCUMULATE, first, main.start),
        Span(Stage.INTEGRATE, main.start, last),
        Span(Stage.CORRECT, last, settled),
        Span(Stage.EMIT, settled, settled + levels),
    ]
    return [span for span in spans if span.steps]
