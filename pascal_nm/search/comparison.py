"""One network under every method on the same images.

It is exact, rate coded, stopped early, and with ReLU (Section 4.4, Tables 5 and 6 of the paper).

Timesteps are counted in three ways, which papers mix. *T* is what the method is called by: the
levels L of a PASC network (mean over the layers), or for how long a rate-coded one is shown its
image. *T_norm* weighs the operations of PASC neurons (Equations 13 and 16, with measured spike
rates); a plain neuron's is T. *To the answer* is what passes on a chip, from the image to the final
answer, with one timestep for each projection that a spike travels through.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.common.units import percent
from pascal_nm.data import Dataset
from pascal_nm.errors import DataError
from pascal_nm.hw_targets import evaluation
from pascal_nm.hw_targets.simulator import SimulatorProgram
from pascal_nm.network.graph import SCHEDULES, Graph, Inputs, Population, Projection, Timing
from pascal_nm.paper import analysis
from pascal_nm.simulation import events, rate_coding, simulate
from pascal_nm.simulation.rate_coding import Conversion, RateRun
from pascal_nm.simulation.schedule import Schedule

TIMESTEPS = (1, 2, 4, 8, 16, 32, 64)
"""Numbers of timesteps whose rows are shown; rate coding runs for the largest."""

CONFIDENCES = (0.95, 0.99)
"""Of early exits."""

_TIMINGS = (*map(Timing, SCHEDULES), Timing("streaming", 1))
"""Those of the exact methods: each schedule, and streaming with a lag, too."""

_LEVELS = "levels x"
_RATE, _EXIT, _RELU = "QCFS rate", "QCFS exit", "ReLU rate"
"""How the names of rate-coded methods begin: of all images for T timesteps, until an answer is
likely enough, and of the weights with ReLU."""

_SIGNIFICANT = 0.05
"""Level of the test of whether a method is better or worse than its source network."""

_FINER = (2, 4)
"""Factors on the levels of the network that the same weights are run with, without training."""

Progress = Callable[[int, int, str], None]
Source = Callable[[Inputs], Array]
"""Images -> the source network's classes, (N,)."""


class Interval(NamedTuple):
    """A confidence interval of a share."""

    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One method.

    Attributes:
        method: its name.
        exact: whether it computes what the source network does.
        accuracy: share of right classes.
        interval: of the accuracy, 95 % (Wilson's score).
        agreement: share of the classes that are the source network's.
        gained: images that are right here and wrong in the source network.
        lost: the other way round.
        timesteps: T; None without timesteps.
        normalized: T_norm; None where the paper defines none.
        to_answer: timesteps from the image to the final answer, mean.
        at_most: the same, the longest.
        spikes: of an image, mean; None for networks without spikes.
        operations: synaptic operations of an image, mean; the analog first layer's are not among
            them, which every method has.
    """

    method: str
    exact: bool
    accuracy: float
    interval: Interval
    agreement: float
    gained: int
    lost: int
    timesteps: float | None = None
    normalized: float | None = None
    to_answer: float | None = None
    at_most: int | None = None
    spikes: float | None = None
    operations: float | None = None

    @property
    def p_value(self) -> float:
        """How likely so unequal a number of gained and lost images is by chance.

        That is, between equally good networks (McNemar's exact test).
        """
        from scipy.stats import binomtest

        changed = self.gained + self.lost
        return float(binomtest(self.gained, changed).pvalue) if changed else 1.0


@dataclass(frozen=True)
class Comparison:
    """All methods on one network.

    Attributes:
        source: accuracy of the source network.
        images: how many were classified.
        rows: the methods, in the order in which they are shown.
        curves: accuracy after each timestep, by method: rate coding, and the exact schedules on the
            clock of a chip.
    """

    source: float
    images: int
    rows: list[Row]
    curves: dict[str, list[float]]

    def verdict(self) -> list[str]:
        """What the rows say, in sentences.

        They tell where rate coding is below its source, above it, and not told apart from it by so
        many images, and at what cost.
        """
        timed = (row for row in self.rows if row.exact and row.to_answer is not None)
        exact = min(timed, key=lambda row: row.to_answer or 0.0)
        lines = [
            (
                f"{exact.method}: the source network's class for {percent(exact.agreement)} of the images, "
                f"{exact.to_answer:.1f} timesteps after the image"
            )
        ]
        rated = [row for row in self.rows if row.method.startswith(_RATE)]
        for where in ("below", "not told apart from", "above"):
            if found := [row for row in rated if self.stands(row) == where]:
                figures = ", ".join(f"{row.timesteps:.0f} ({percent(row.accuracy)})" for row in found)
                by = f" by {self.images:,} images" if where == "not told apart from" else ""
                source = f"its source ({percent(self.source)})"
                lines.append(f"QCFS rate coding is {where} {source}{by} at T = {figures}")
        if above := [row for row in rated if self.stands(row) == "above"]:
            lines.append(_why(max(above, key=lambda row: row.accuracy), exact, self.source))
            if finer := [row for row in self.rows if row.method.startswith(_LEVELS)]:
                figures = ", ".join(f"{percent(row.accuracy)} with {row.timesteps:g} levels" for row in finer)
                lines.append(
                    "what it gains can be had exactly, by rounding less in the same weights, "
                    f"without training: {figures}"
                )
        return lines

    def stands(self, row: Row) -> str:
        """``above`` the source network, ``below`` it, or ``not told apart from`` it."""
        if row.p_value >= _SIGNIFICANT:
            return "not told apart from"
        return "above" if row.gained > row.lost else "below"


def _why(best: Row, exact: Row, source: float) -> str:
    cost = (best.operations or 0.0) / exact.operations if exact.operations else math.inf
    return (
        f"there rate coding wins, by {100 * (best.accuracy - source):.2f} points at "
        f"{best.method.removeprefix(f'{_RATE}, ')} ({best.gained} images gained, {best.lost} lost, "
        f"p = {best.p_value:.1g}): a mean over T timesteps has steps of 1/T where the source network rounds to steps "
        f"of 1/L, so less is rounded than in the network that it approximates. It takes {cost:.1f} times the synaptic "
        f"operations of {exact.method}, and gives the source network's class for {percent(best.agreement)}"
    )


@dataclass(frozen=True)
class Spread:
    """One method on several trainings of a network.

    Gives the mean, and the standard deviation of single ones, of its figures by name.
    """

    method: str
    trainings: int
    mean: dict[str, float]
    deviation: dict[str, float]


def spread(comparisons: Sequence[Comparison]) -> list[Spread]:
    """What several trainings of one network have in common, at least two.

    Raises:
        DataError: they have other methods, or other numbers of images.
    """
    if len(comparisons) < 2 or len({(c.images, *(row.method for row in c.rows)) for c in comparisons}) > 1:
        raise DataError(
            "a spread is of two or more trainings of one network, compared by the same methods on the same images"
        )
    found = []
    for rows in zip(*(c.rows for c in comparisons), strict=True):
        figures: dict[str, list[float]] = {}
        for f in fields(Row):
            values = [getattr(row, f.name) for row in rows]
            if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
                figures[f.name] = [float(value) for value in values]
        mean = {name: float(np.mean(values)) for name, values in figures.items()}
        deviation = {name: float(np.std(values, ddof=1)) for name, values in figures.items()}
        found.append(Spread(rows[0].method, len(rows), mean, deviation))
    return found


def compare(
    graph: Graph,
    data: Dataset,
    source: Source | None = None,
    *,
    calibration: Dataset | None = None,
    timesteps: Sequence[int] = TIMESTEPS,
    confidences: Sequence[float] = CONFIDENCES,
    progress: Progress | None = None,
) -> Comparison:
    """Run a network under every method.

    Args:
        graph: the network.
        data: images.
        source: the source network's classes; the graph's own in closed form where it is None.
        calibration: images, of the training part, from which the ReLU conversion takes its
            thresholds; without them that is left out.
        timesteps: T of the rows of rate coding.
        confidences: of the rows of early exits.
        progress: called with (images done, images in all, method).

    Raises:
        DataError: the images do not fit the network; no timesteps; a confidence outside (0, 1].
    """
    check(timesteps, confidences)
    closed = source or (lambda inputs: simulate.counts(graph, inputs).predictions)
    expected = np.concatenate([closed(inputs) for inputs in _inputs(graph, data, "source network", progress)])
    made = _Judge(expected, data.labels)
    rows = [made.row("source network", True, expected)]
    curves: dict[str, list[float]] = {}
    for timing in _TIMINGS:
        row, curve = _exact(graph, timing, data, made, progress)
        rows.append(row)
        curves[row.method] = curve
    rows += [_finer(graph, factor, data, made, progress) for factor in _FINER if not graph.is_integer]
    latency = rate_coding.depth(graph)
    run = _rate_coded(rate_coding.qcfs(graph), data, max(timesteps), _RATE, progress)
    curves[_RATE] = made.curve(run)
    rows += [made.rate(f"{_RATE}, T = {t}", run, np.full(len(data), t), latency) for t in sorted(timesteps)]
    for confidence in confidences:
        rows.append(made.rate(f"{_EXIT}, at {confidence:g}", run, run.exits(confidence), latency))
    if calibration is not None:
        evaluation.check(graph, calibration)
        examples = graph.taken(calibration.pixels)
        weights = np.concatenate(
            [rate_coding.relu_logits(graph, x).argmax(1) for x in _inputs(graph, data, "ReLU weights", progress)]
        )
        rows.append(made.row("ReLU weights, no spikes", False, weights))
        run = _rate_coded(rate_coding.relu(graph, examples), data, max(timesteps), _RELU, progress)
        curves[_RELU] = made.curve(run)
        rows += [made.rate(f"{_RELU}, T = {t}", run, np.full(len(data), t), latency) for t in sorted(timesteps)]
    return Comparison(float(np.mean(expected == data.labels)), len(data), rows, curves)


def check(timesteps: Sequence[int], confidences: Sequence[float]) -> None:
    """Refuse what :func:`compare` cannot be asked.

    Raises:
        DataError: no timesteps, or one below 1; a confidence outside (0, 1].
    """
    if not timesteps or min(timesteps) < 1:
        raise DataError(f"timesteps are 1 or more, not {', '.join(map(str, timesteps)) or 'none'}")
    if any(not 0 < confidence <= 1 for confidence in confidences):
        raise DataError(f"a confidence lies between 0 and 1, not {', '.join(map(str, confidences))}")


def check_trainings(graphs: Mapping[str, Graph]) -> None:
    """Refuse networks, by their names, that are not trainings of one network.

    Raises:
        DataError: they have other layers, shapes or levels.
    """
    forms = {name: [(p.name, p.kind, p.shape, p.levels) for p in graph.populations] for name, graph in graphs.items()}
    (first, form), *others = forms.items()
    for name, other in others:
        if other != form:
            raise DataError(
                f"{name} and {first} are not trainings of one network: they have other layers, shapes or levels; "
                "compare them one by one"
            )


@dataclass(frozen=True, eq=False)
class _Judge:
    """The source network's classes and the true ones, (N,) each."""

    expected: Array
    labels: Array

    def row(self, method: str, exact: bool, answers: Array) -> Row:
        right, before = answers == self.labels, self.expected == self.labels
        return Row(
            method,
            exact,
            float(right.mean()),
            _interval(int(right.sum()), len(right)),
            float(np.mean(answers == self.expected)),
            int((right & ~before).sum()),
            int((~right & before).sum()),
        )

    def rate(self, method: str, run: RateRun, timesteps: Array, latency: int) -> Row:
        """A rate-coded network whose images are stopped after so many timesteps, (N,)."""
        stopped = run.after(timesteps)
        return replace(
            self.row(method, False, stopped.answers[:, 0]),
            timesteps=float(timesteps.mean()),
            normalized=float(timesteps.mean()),
            to_answer=float(timesteps.mean()) + latency,
            at_most=int(timesteps.max()) + latency,
            spikes=float(stopped.spikes.mean()),
            operations=float(stopped.operations.mean()),
        )

    def curve(self, run: RateRun) -> list[float]:
        return [float(x) for x in (run.answers == self.labels[:, None]).mean(0)]


def _exact(
    graph: Graph, timing: Timing, data: Dataset, judge: _Judge, progress: Progress | None
) -> tuple[Row, list[float]]:
    timed = graph.replace(timing=timing)
    name = f"exact, {timing}"
    found = evaluation.evaluate(SimulatorProgram(timed), data, progress=_named(progress, name))
    paper = timing == Timing()
    effective = analysis.analyse(timed, found.spike_rates(timed)).effective_timesteps if paper else math.nan
    row = replace(
        judge.row(name, True, found.predictions),
        timesteps=float(np.mean([p.levels for p in graph.spiking])),
        normalized=effective if math.isfinite(effective) else None,
        to_answer=float(found.timesteps.mean()),
        at_most=int(found.timesteps.max()),
        spikes=sum(float(layer.emitted.mean()) for layer in found.events),
        operations=found.operations - _from_input(timed, found.schedule, data),
    )
    return row, [float(x) for x in found.accuracy_over_time]


def _from_input(graph: Graph, plan: Schedule, data: Dataset) -> float:
    """Operations in synapses from the analog input, mean of an image, where they are counted."""
    if not plan.sparse:
        return 0.0
    driven = sum(events.fan_out(q, graph.input.shape) for q in graph.outgoing(graph.input.name))
    sent = (graph.currents(inputs) != 0 for inputs in _inputs(graph, data, "", None))
    return sum(int((values.sum(0, dtype=np.int64) * driven).sum()) for values in sent) / len(data)


def with_more_levels(graph: Graph, factor: int) -> Graph:
    """The same weights with ``factor`` times the levels, in steps so much smaller.

    Each QCFS keeps its range.

    Raises:
        GraphError: more levels than a graph has (:data:`pascal_nm.network.dynamics.MAX_LEVELS`).
    """
    spiking = {p.name for p in graph.counted}

    def finer(p: Population) -> Population:
        threshold = p.threshold / factor if p.dynamics.fires else p.threshold
        return replace(p, levels=p.levels * factor, threshold=threshold) if p.name in spiking else p

    def divided(q: Projection) -> Projection:
        return replace(q, operator=q.operator.with_weight(q.operator.weight / factor))

    def scaled(q: Projection) -> Projection:
        into_max = graph[q.target].dynamics.relays  # which hands levels on as they are
        return q if q.source not in spiking or into_max else divided(q)

    return graph.replace(
        populations=tuple(map(finer, graph.populations)), projections=tuple(map(scaled, graph.projections))
    )


def _finer(graph: Graph, factor: int, data: Dataset, judge: _Judge, progress: Progress | None) -> Row:
    """The same weights with more levels, in closed form.

    Spikes are their counts, and a schedule without negative ones has a fixed length.
    """
    more = with_more_levels(graph, factor).replace(timing=Timing("two_phase"))
    driven = {p.name: sum(events.fan_out(q, p.shape) for q in more.outgoing(p.name)) for p in more.populations}
    name = f"{_LEVELS} {factor}, two_phase"
    answers, spikes, operations = [], 0, 0
    for inputs in _inputs(more, data, name, progress):
        sums = any(p.dynamics.adds for p in more.populations)  # of which no count says how many are sent
        result = simulate.replayed(more, inputs) if sums else simulate.counts(more, inputs)
        answers.append(result.predictions)
        for population, count in result.spikes.items():
            each = count.sum(0, dtype=np.int64)
            spikes, operations = spikes + int(each.sum()), operations + int((each * driven[population]).sum())
    length = result.schedule.length
    return replace(
        judge.row(name, False, np.concatenate(answers)),
        timesteps=float(np.mean([p.levels for p in more.spiking])),
        to_answer=float(length),
        at_most=length,
        spikes=spikes / len(data),
        operations=operations / len(data),
    )


def _rate_coded(made: Conversion, data: Dataset, timesteps: int, name: str, progress: Progress | None) -> RateRun:
    return RateRun.join([rate_coding.run(made, x, timesteps) for x in _inputs(made.graph, data, name, progress)])


def _inputs(graph: Graph, data: Dataset, name: str, progress: Progress | None) -> Iterator[Inputs]:
    """Images, some at a time, with progress under the name of a method."""
    return evaluation.inputs(graph, data, _named(progress, name))


def _named(progress: Progress | None, name: str) -> evaluation.Progress | None:
    return None if progress is None else lambda done, total: progress(done, total, name)


def _interval(right: int, images: int) -> Interval:
    """The 95 % confidence interval of a share, by Wilson's score."""
    from scipy.stats import binomtest

    found = binomtest(right, images).proportion_ci(0.95, "wilson")
    return Interval(float(found.low), float(found.high))
