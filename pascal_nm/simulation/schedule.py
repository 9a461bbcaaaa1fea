"""When each population accumulates, integrates, corrects and emits: computed from the graph alone.

The default schedule is the paper's: each layer waits for its source's whole spike train. A spike
that is emitted in timestep t arrives in timestep t + ``delay`` (1 in Lava and on Loihi). A residual
join takes the branch that ends last as its main window; what arrives earlier is accumulated without
firing, which changes no count.

Three further schedules give the same counts in fewer timesteps (docs/schedules.md):
:func:`two_phase`, in which a layer fires once its whole input is there,
:func:`streaming`, in which it fires ``lag`` timesteps after its input has begun, and takes
back what turns out to be too much, and :func:`graded`, in which it sends its level as one number.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.errors import GraphError
from pascal_nm.network.dynamics import Rule
from pascal_nm.network.graph import SCHEDULES, Graph, Population, Projection, Traits
from pascal_nm.network.windows import Span, Window
from pascal_nm.neuron import Stage


@dataclass(frozen=True)
class Schedule:
    """The windows of every population.

    Attributes:
        windows: by population name.
        delay: timesteps that a spike travels.
        delays: further timesteps that it waits in the synapses of a projection, by its name; none
            of those that are missing.
        stop: timesteps after which a sample is stopped, although its answer may not be
            final; None: never.
        kept: samples are frames: each begins with the state that the one before left, and only
            changes are sent (:mod:`pascal_nm.simulation.session`).
    """

    windows: Mapping[str, Window]
    delay: int
    delays: Mapping[str, int] = field(default_factory=dict)
    stop: int | None = None
    kept: bool = False

    @property
    def length(self) -> int:
        """Timesteps for one sample, from the first injection to the readout's final answer."""
        return max(window.stop for window in self.windows.values())

    def way(self, projection: Projection) -> int:
        """Timesteps from sending a spike to its arrival behind the synapses of a projection."""
        return self.delay + self.delays.get(projection.name, 0)

    def arrival(self, projection: Projection) -> int:
        """The timestep in which the first spikes of a projection's source arrive."""
        return self.windows[projection.source].emit.start + self.way(projection)

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

    @cached_property
    def streams(self) -> bool:
        """Whether spikes may be taken back, or populations fall quiet before their window's end."""
        return any(window.span(Stage.STREAM) for window in self.windows.values())

    @cached_property
    def graded(self) -> bool:
        """Whether spikes carry numbers."""
        return any(window.graded for window in self.windows.values())

    @property
    def sparse(self) -> bool:
        """Whether of the analog input, too, only values other than 0 are sent."""
        return self.kept or self.graded

    def keeps(self, graph: Graph) -> bool:
        """Whether state can go on from frame to frame, so that only changes are sent."""
        return self.steps == self.length and all(self.windows[p.name].keeps for p in graph.senders)

    def waits(self, graph: Graph) -> bool:
        """Whether every level follows from its whole input before its first spike.

        What each neuron sends in each timestep then follows from its count.
        """
        return self.stop is None and all(
            self.windows[p.name].emit.start >= self.arrival(q) + self.windows[q.source].emit.steps - 1
            for p in graph.spiking
            for q in graph.incoming(p.name)
        )

    def keeping(self, graph: Graph) -> Schedule:
        """The schedule of frames: kept where it can be, else each from rest."""
        return replace(self, kept=True) if self.keeps(graph) else self

    def largest(self, graph: Graph, name: str) -> int:
        """The largest magnitude of what a neuron of population ``name`` sends in a timestep.

        From one frame to the next an input may change from its least to its largest value.
        """
        p = graph[name]
        if p.dynamics.adds:
            return int(graph.largest(name, lambda other: self.largest(graph, other.name)))
        if p.dynamics.injects:
            return 2 * p.levels
        if p.dynamics.relays:
            return self.largest(graph, graph.incoming(name)[0].source)
        return p.levels if self.windows[name].graded else p.dynamics.largest(p)

    def payload_bits(self, graph: Graph, name: str) -> int:
        """Bits of the signed numbers that population ``name`` sends; 0 where they are +1 and -1.

        The input and the sums of a float network have those of its type.
        """
        if graph[name].dynamics.valued and not graph.is_integer:
            return 8 * graph.dtype.itemsize
        largest = self.largest(graph, name)
        return largest.bit_length() + 1 if largest > 1 else 0

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


class _Phases(Rule):
    """The paper's rule (Algorithms 1 and 2): integrate, correct, emit.

    What arrives before the main window is accumulated without firing. Where all input is analog, it
    is encoded in one timestep.
    """

    relays: ClassVar[Stage] = Stage.EMIT

    def window(self, p: Population, arrivals: Sequence[Span], analog: bool) -> Window:
        """As :class:`pascal_nm.network.dynamics.Rule`."""
        first, last = min(a.start for a in arrivals), max(a.stop for a in arrivals)
        if analog:
            return Window((Span(Stage.ENCODE, first, last), Span(Stage.EMIT, last, last + p.levels)))
        main = max(arrivals, key=lambda a: (a.stop, a.steps))
        settled = last + max(main.steps, p.levels) - 1
        return _window(
            Span(Stage.ACCUMULATE, first, main.start),
            Span(Stage.INTEGRATE, main.start, last),
            Span(Stage.CORRECT, last, settled),
            Span(Stage.EMIT, settled, settled + p.levels),
        )


@dataclass(frozen=True)
class _Streams(Rule):
    """The rule of stage ``STREAM``; without lags, a layer waits for the end of its input."""

    lags: Mapping[str, int] | None
    relays: ClassVar[Stage] = Stage.STREAM

    def window(self, p: Population, arrivals: Sequence[Span], analog: bool) -> Window:
        """As :class:`pascal_nm.network.dynamics.Rule`."""
        first, last = min(a.start for a in arrivals), max(a.stop for a in arrivals)
        begin = last - 1  # waiting longer would change nothing
        if self.lags is not None:
            begin = min(begin, max(a.start for a in arrivals) + self.lags.get(p.name, 0))
        return _window(
            Span(Stage.ACCUMULATE, first, begin),
            Span(Stage.STREAM, begin, last - 1 + p.levels),
            shift=begin + 1 if begin < last - 1 else None,
        )


class _Graded(Rule):
    """The rule of stage ``CHANGE``: a layer's inputs arrive at once, and it answers at once."""

    relays: ClassVar[Stage] = Stage.CHANGE
    aligned: ClassVar[bool] = True

    def window(self, p: Population, arrivals: Sequence[Span], analog: bool) -> Window:
        """As :class:`pascal_nm.network.dynamics.Rule`."""
        if not p.dynamics.is_qcfs:
            raise GraphError(
                f"population {p.name!r}: schedule graded sends the levels of Equation 1, and neurons of kind {p.kind} "
                "have others: choose the schedule that they came with"
            )
        (arrival,) = {a.start for a in arrivals}
        return Window((Span(Stage.CHANGE, arrival, arrival + 1),))


def _window(*spans: Span, shift: int | None = None) -> Window:
    """Of the stages that have a timestep."""
    return Window(tuple(span for span in spans if span.steps), shift)


def scheduled(graph: Graph, rule: Rule, delay: int = 1) -> Schedule:
    """The schedule of a rule: every population's window, from those of its sources.

    Args:
        graph: the network.
        rule: when neurons fire.
        delay: timesteps that a spike travels.
    """
    windows: dict[str, Window] = {}
    delays: dict[str, int] = {}
    sent: dict[str, list[Span]] = {}  # of a linear population, each of its sources' apart: the last one counts
    for p in graph.populations:
        incoming = graph.incoming(p.name)
        each = [[_later(span, delay) for span in sent[q.source]] for q in incoming]
        if rule.aligned and incoming:
            ends = [max(a.stop for a in spans) for spans in each]
            waits = [max(ends) - end for end in ends]
            delays |= {q.name: wait for q, wait in zip(incoming, waits, strict=True) if wait}
            each = [[_later(a, wait) for a in spans] for spans, wait in zip(each, waits, strict=True)]
        arrivals = list(itertools.chain.from_iterable(each))
        analog = all(graph[q.source].dynamics.injects for q in incoming)
        windows[p.name] = p.dynamics.window(p, arrivals, analog, rule)
        sent[p.name] = list(dict.fromkeys(arrivals)) if p.dynamics.adds else [windows[p.name].emit]
    return Schedule(windows, delay, delays)


def pasc(graph: Graph, delay: int = 1) -> Schedule:
    """The paper's schedule (Algorithms 1 and 2).

    A layer of L levels that integrates over n steps corrects for max(n, L) - 1 steps and
    emits for L steps. Layers fed by the analog input alone take Algorithm 2: one step, then L
    steps of emission.
    """
    return scheduled(graph, _Phases(), delay)


def two_phase(graph: Graph, delay: int = 1) -> Schedule:
    """Every layer adds up its whole input without firing, then fires.

    The counts are the paper's, without its stage of correction.

    A layer fires from the timestep in which the last spike of its sources may arrive, for its L
    timesteps. No spike is negative.
    """
    return scheduled(graph, _Streams(None), delay)


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
    return scheduled(graph, _Streams(lags), delay)


def graded(graph: Graph, delay: int = 1) -> Schedule:
    """Every layer waits for its last input, and sends the change of its level as one signed number.

    From rest that is the level itself. The answer is there after depth + 1 timesteps, where depth
    is the number of layers on the longest way, the readout among them (for a delay of 1). On
    shorter ways, synapses delay what is sent, so that all of a frame meets in one timestep: every
    neuron is free for the next frame in the next timestep.

    Raises:
        GraphError: a population has levels other than those of Equation 1.
    """
    return scheduled(graph, _Graded(), delay)


Maker = Callable[[Graph, int], Schedule]
"""Makes the schedule of a graph, from its ``timing``, and the timesteps that a spike travels."""

_MAKERS: dict[str, Maker] = {}


def register(name: str, *, lags: bool = False, graded: bool = False) -> Callable[[Maker], Maker]:
    """A decorator: networks and files may have the schedule.

    Args:
        name: in :class:`pascal_nm.network.graph.Timing`.
        lags: whether it takes a lag.
        graded: whether its spikes carry numbers, which takes a chip whose spikes can.
    """
    SCHEDULES[name] = Traits(lags, graded)

    def add(make: Maker) -> Maker:
        _MAKERS[name] = make
        return make

    return add


def of(graph: Graph, delay: int = 1) -> Schedule:
    """The schedule that a graph's own ``timing`` asks for."""
    return replace(_MAKERS[graph.timing.schedule](graph, delay), stop=graph.timing.stop)


register("pasc")(pasc)
register("two_phase")(two_phase)
register("graded", graded=True)(graded)


@register("streaming", lags=True)
def _lagging(graph: Graph, delay: int) -> Schedule:
    lag = graph.timing.lag
    if isinstance(lag, int):
        return streaming(graph, lag, delay)
    return streaming(graph, dict(zip((p.name for p in graph.spiking), lag, strict=True)), delay)


def _later(span: Span, steps: int) -> Span:
    return Span(span.stage, span.start + steps, span.stop + steps)
