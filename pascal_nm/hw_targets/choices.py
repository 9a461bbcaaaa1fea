"""Which schedule takes the least: the bill of a network under every schedule that a chip can run.

No schedule changes a count. Where every spike follows from the counts
(:meth:`pascal_nm.simulation.schedule.Schedule.waits`), all schedules' runs are made of one run in
closed form; others, and frames whose state is kept, are stepped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pascal_nm.data import Frames
from pascal_nm.errors import PascalError
from pascal_nm.hw_targets import evaluation, fixed_point
from pascal_nm.hw_targets.bill import Bill, Priced, Tally
from pascal_nm.hw_targets.chip import Chip
from pascal_nm.hw_targets.evaluation import Batch, Progress, Shown
from pascal_nm.network.graph import SCHEDULES, Graph, Timing
from pascal_nm.simulation import schedule, simulate
from pascal_nm.simulation.result import RunResult
from pascal_nm.simulation.schedule import Schedule


@dataclass(frozen=True, eq=False)
class Choice:
    """A network under one schedule, on one chip.

    Attributes:
        timing: the schedule.
        bill: what an image takes where each waits for the answer of the one before; None where the
            chip cannot run the schedule.
        following: where images follow each other every initiation interval; None where there is no
            fixed one.
        refusal: why the chip cannot run it; empty where it can.
    """

    timing: Timing
    bill: Bill | None = None
    following: Bill | None = None
    refusal: str = ""

    def summary(self) -> dict[str, Any]:
        """Every figure, for JSON."""
        said: dict[str, Any] = {"schedule": self.timing.schedule, "lag": self.timing.lag}
        if self.bill is None:
            return said | {"refused": self.refusal}
        following = None if self.following is None else figures(self.following)
        return said | figures(self.bill) | {"pipelined": following}


def figures(bill: Bill) -> dict[str, Any]:
    """What one row of the comparison says, mean of an image; of the pipelined, of an interval."""
    layers, plan = bill.result.events, bill.result.schedule
    return {
        "dynamic_joules": bill.dynamic,
        "total_joules": None if bill.total is None else bill.total.summary(),
        "seconds_with_host": None if bill.with_host is None else bill.with_host.summary(),
        "exact": float(bill.result.exact.mean()),
        "source_over": bill.source_dynamic / bill.dynamic,
        "timesteps": plan.initiation_interval if bill.pipelined else float(bill.result.timesteps.mean()),
        "seconds": bill.seconds_between_answers if bill.pipelined else bill.seconds,
        "operations": sum(float(np.mean(layer.arithmetic)) for layer in layers),
        "updates": sum(float(np.mean(layer.updates + layer.idle)) for layer in layers),
        "messages": sum(float(np.mean(layer.messages)) for layer in layers),
    }


_COMPARED = ("dynamic_joules", "total_joules", "seconds")
"""Figures of which the least is told."""


def name(said: Mapping[str, Any]) -> str:
    """The schedule of what :meth:`Choice.summary` says, with its lags where it has some."""
    lag = said["lag"]
    return str(Timing(said["schedule"], lag if isinstance(lag, int) else tuple(lag)))


def rows(said: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a comparison: one for each schedule that the chip can run, one for it pipelined.

    Args:
        said: the choices of one chip, as :meth:`Choice.summary` says them.

    Returns:
        The figures of each with its ``name`` and, under ``least``, which of dynamic energy, total
        energy and time are the least: of images one at a time, and of pipelined ones. Runs that
        were stopped before all answers were final are not compared.
    """
    found: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    shown = []
    for each in said:
        if "refused" in each:
            continue
        following = each["pipelined"]
        shown.append({**each, "name": name(each)})
        found[False].append(shown[-1])
        if following is not None:
            shown.append({**following, "name": f"{name(each)}, pipelined"})
            found[True].append(shown[-1])
    for alike in found.values():
        final = [row for row in alike if row["exact"] == 1]
        least = {key: min((_value(row[key]) for row in final), default=math.inf) for key in _COMPARED}
        for row in alike:
            known = (key for key in _COMPARED if row[key] is not None and row["exact"] == 1)
            row["least"] = [key for key in known if _value(row[key]) == least[key]]
    return shown


def _value(figure: Any) -> float:
    """A figure, without its range; what is not known is never the least."""
    if figure is None:
        return math.inf
    return float(figure["value"] if isinstance(figure, Mapping) else figure)


def timings(graph: Graph) -> list[Timing]:
    """The schedules to choose from: the graph's own first, then each, and with a lag of 1."""
    others = [Timing(name, stop=graph.timing.stop) for name in SCHEDULES]
    lagging = [Timing(name, 1, graph.timing.stop) for name, traits in SCHEDULES.items() if traits.lags]
    return list(dict.fromkeys([graph.timing, *others, *lagging]))


def choices(
    graph: Graph,
    chip: Chip,
    data: Shown,
    objective: str = "time",
    *,
    threshold: float = 0,
    progress: Progress | None = None,
) -> list[Choice]:
    """The bills of a network on a chip, by schedule.

    Args:
        graph: float or integer, as :func:`pascal_nm.hw_targets.energy` takes it.
        chip: the chip.
        data: images, or frames.
        objective: of the placement on cores.
        threshold: of frames, as :func:`.evaluation.run_batches` takes it.
        progress: called with (images done, images in all), of all schedules together.

    Raises:
        PascalError: the network does not fit the chip, or the data do not fit the network.
    """
    if chip.widths and not graph.is_integer:
        graph = fixed_point.fit(graph, chip, frames=isinstance(data, Frames))
    found, runs = [], []
    for timing in timings(graph):
        try:
            run = _Run(graph.replace(timing=timing), chip, objective, isinstance(data, Frames))
        except PascalError as error:
            found.append(Choice(timing, refusal=str(error)))
            continue
        found.append(Choice(timing))
        runs.append(run)
    _run(graph, runs, data, threshold, progress)
    made = iter(runs)
    return [each if each.refusal else next(made).choice() for each in found]


class _Run:
    """A network under one schedule, on one chip, and what it took so far."""

    def __init__(self, graph: Graph, chip: Chip, objective: str, frames: bool) -> None:
        (self.priced,) = Priced.on(graph, {chip.name: chip}, objective, frames=frames)
        self.graph = graph
        self.plan: Schedule = schedule.of(graph)
        self.alone = Tally(self.priced)
        steady = not self.plan.streams and self.plan.stop is None
        self.following = Tally(self.priced, pipelined=True) if steady else None

    def replayed(self, currents: torch.Tensor, counted: RunResult) -> RunResult:
        """The run of images from their counts."""
        program = self.priced.program
        return simulate.Network(program.graph, self.plan, program.watcher, simulate.everywhere).replay(
            currents, counted
        )

    def add(self, batch: Batch) -> None:
        """A further batch has run."""
        self.alone.add(batch)
        if self.following is not None:
            self.following.add(batch)

    def choice(self) -> Choice:
        """The bills of all batches."""
        (bill,) = self.alone.bills().values()
        following = None if self.following is None else next(iter(self.following.bills().values()))
        return Choice(self.graph.timing, bill, following)


def _run(graph: Graph, runs: Sequence[_Run], data: Shown, threshold: float, progress: Progress | None) -> None:
    kept = isinstance(data, Frames)
    together = [run for run in runs if run.plan.waits(run.graph) and not (kept and run.plan.keeps(run.graph))]
    apart = [run for run in runs if run not in together]
    parts, done = len(apart) + bool(together), 0

    def told(images: int, of: int) -> None:
        if progress is not None:
            progress(done * of + images, parts * of)

    if together:
        network = together[0].priced.program.graph
        size = evaluation.batch_images(network)
        for inputs, labels in evaluation.as_shown(network, data, size, threshold, told):
            currents, counted = torch.from_numpy(network.currents(inputs)), simulate.counts(network, inputs)
            for run in together:
                run.add(Batch(inputs, labels, run.replayed(currents, counted)))
        done += 1
    for run in apart:
        for batch in evaluation.run_batches(run.priced.program, data, threshold=threshold, progress=told):
            run.add(batch)
        done += 1
