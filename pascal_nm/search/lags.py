"""Lags for the streaming schedule, layer by layer.

They give the least energy within a number of timesteps, or the fewest timesteps within an energy.

No lag changes a count (docs/schedules.md), so the search has nothing to trade but time and spikes,
which it counts on calibration images.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pascal_nm.common.files import replacing
from pascal_nm.errors import DataError
from pascal_nm.network.graph import Graph, Inputs, Timing
from pascal_nm.simulation import simulate
from pascal_nm.simulation.result import RunResult

_Progress = Callable[[int, int], None]


def _unseen(done: int, total: int) -> None:
    """Progress that nobody looks at."""


@dataclass(frozen=True)
class Cost:
    """What a choice of lags takes on the calibration images.

    Attributes:
        lags: one for each pasc population; none of a schedule without lags.
        timesteps: mean over the images, until the answer is final.
        slowest: of any image.
        energy: joules per image.
        excess: spikes sent beyond the sum of the counts, as a share of it; negative where spikes
            that carry numbers are fewer.
    """

    lags: tuple[int, ...]
    timesteps: float
    slowest: int
    energy: float
    excess: float


def write_lags(path: str | Path, best: Cost, network: str, data: str) -> None:
    """Write the lags of ``best`` with what they were measured on.

    They are for ``--lag`` and :func:`pascal_nm.common.layer_files.read_lags`.

    Raises:
        FileError: the file cannot be written; an existing one is then left as it was.
    """
    content = {"lags": best.lags, "network": network, "data": data} | {
        name: value for name, value in vars(best).items() if name != "lags"
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


class Search:
    """Lags for a network, measured on images.

    Args:
        graph: the network.
        inputs: calibration inputs, (N, *input shape).
        joules: energy per image of a run.
        watcher: is told of the spikes of every run, for ``joules``.

    Attributes:
        measured: every choice that was tried.
    """

    def __init__(
        self,
        graph: Graph,
        inputs: Inputs,
        joules: Callable[[Graph, RunResult], float],
        watcher: simulate.Watcher | None = None,
    ) -> None:
        self.graph, self.inputs, self.joules, self.watcher = graph, inputs, joules, watcher
        self.layers = sum(1 for _ in graph.spiking)
        self.largest = max(p.levels for p in graph.senders) - 1
        self.measured: dict[tuple[int, ...], Cost] = {}

    def cost(self, lags: tuple[int, ...]) -> Cost:
        """What lags take; each choice is run once."""
        if lags not in self.measured:
            self.measured[lags] = self.under(Timing("streaming", lags, self.graph.timing.stop))
        return self.measured[lags]

    def under(self, timing: Timing) -> Cost:
        """What any schedule takes on the same images; its spikes may carry numbers."""
        graph = self.graph.replace(timing=timing)
        result = simulate.steps(graph, self.inputs, watcher=self.watcher)
        least = sum(int(np.abs(count).sum(dtype=np.int64)) for count in result.counts.values())
        sent = sum(int(result.spikes[name].sum(dtype=np.int64)) for name in result.counts)
        excess = sent / least - 1 if least else 0.0
        times, lags = result.timesteps, timing.lag if isinstance(timing.lag, tuple) else ()
        return Cost(lags, float(times.mean()), int(times.max()), self.joules(graph, result), excess)

    def uniform(self, progress: _Progress = _unseen) -> list[Cost]:
        """The same lag for all layers, from 0 to the largest that changes anything."""
        costs = []
        for lag in range(self.largest + 1):
            costs.append(self.cost((lag,) * self.layers))
            progress(lag + 1, self.largest + 1)
        return costs

    def best(self, *, timesteps: float = math.inf, energy: float = math.inf, progress: _Progress = _unseen) -> Cost:
        """The least energy within ``timesteps``, or the fewest timesteps within ``energy``.

        Timesteps are a mean over images; energy is in joules per image.

        From the best lag for all, each layer's own is changed where that helps, until no
        change of one layer does. A search, not a proof: other lags that differ in two layers
        at once may be better.

        Args:
            timesteps: a limit.
            energy: or this one.
            progress: called with (choices tried, choices) of each pass over the layers.

        Raises:
            DataError: no limit or two were given, or no lags keep it.
        """
        if math.isinf(timesteps) == math.isinf(energy):
            raise DataError("give one limit: a number of timesteps, or an energy")

        def key(cost: Cost) -> tuple[float, float]:
            beyond = max(0.0, cost.timesteps / timesteps - 1, cost.energy / energy - 1)
            return beyond, cost.energy if math.isinf(energy) else cost.timesteps

        found, start = min(self.uniform(), key=key), None
        while found != start:
            start = found
            choices = list(itertools.product(range(self.layers), range(self.largest + 1)))
            for done, (layer, lag) in enumerate(choices):
                lags = (*found.lags[:layer], lag, *found.lags[layer + 1 :])
                found = min(found, self.cost(lags), key=key)
                progress(done + 1, len(choices))
        if key(found)[0] > 0:
            raise DataError(
                f"no lags keep this limit; the nearest take {found.timesteps:.1f} timesteps and {found.energy:.3g} J"
            )
        return found
