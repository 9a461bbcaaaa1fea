"""Frames: a network that keeps its state, and needs only what changed since the frame before.

The sum of all that a population has ever sent is its level, so that the sum of all that has ever
reached a neuron is the current of the frame that is shown: every frame's levels and outputs are
those of a run from rest (Theorem 5 in docs/schedules.md). The analog input sends its change, too.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch

from pascal_nm.common.arrays import Array
from pascal_nm.errors import DataError, GraphError, described
from pascal_nm.network.graph import Graph, Inputs, Pixels, merges
from pascal_nm.simulation import schedule, simulate
from pascal_nm.simulation.result import RunResult
from pascal_nm.simulation.schedule import Schedule


class FrameRunner(ABC):
    """Shows frames to a network, one after the other: what the sessions of all targets share.

    Args:
        graph: the network.
        plan: the schedule.
        threshold: as of :class:`Session`.

    Raises:
        DataError: a threshold that is negative or not finite.
        GraphError: inputs of an integer network so large that their changes leave 32 bits.
    """

    def __init__(self, graph: Graph, plan: Schedule, threshold: float) -> None:
        _check_threshold(threshold)
        if 2 * graph.input.levels > np.iinfo(np.int32).max:
            raise GraphError(f"inputs up to {graph.input.levels:,} change by more than 32 bits hold")
        self.graph, self.threshold = graph, threshold
        self.schedule = plan.keeping(graph)
        self.shown: Array | None = None
        """The frame that the last answer is exact for, (*input shape); None before the first."""

    def reset(self) -> None:
        """Forget all frames: the next one is the first."""
        self.shown = None

    def step(self, frame: Any) -> RunResult:
        """Show the next frame.

        Args:
            frame: (*input shape): pixels as they are stored, or inputs where the network does not
                say how pixels become inputs.

        Returns:
            The result of one image: levels, outputs, and the events of this frame alone.

        Raises:
            DataError: a frame of another shape or range than the network's.
        """
        return self.run(_numbers(frame)[None])

    def run(self, frames: Inputs) -> RunResult:
        """Show consecutive frames, (N, *input shape).

        Each of them is one image of the result. Where this raises, nothing has been shown.

        Raises:
            DataError: as :meth:`step`.
        """
        values = _numbers(frames.values if isinstance(frames, Pixels) else frames)
        if not values.size:
            raise DataError("there is no frame to show")
        if not merges(values.shape[1:], self.graph.input.shape):
            advice = ": channels come first (pascal_nm.data.camera_frame makes one of any camera's)"
            raise DataError(
                f"the network takes frames of shape {self.graph.input.shape}, not {values.shape[1:]}"
                + (advice if values.ndim == 4 else "")
            )
        values = self.graph.input.shaped(values)
        if not isinstance(frames, Pixels):
            _check_scale(values, self.graph)
        values = thresholded(values, self.shown, self.threshold)
        if isinstance(frames, Pixels) or self.graph.preprocessing is None:
            taken = Pixels(values, frames.preprocessing) if isinstance(frames, Pixels) else values
        else:
            taken = self.graph.pixels(values)
        result = self._run(self.graph.currents(taken))
        self.shown = values[-1].copy()
        return result

    @abstractmethod
    def _run(self, currents: Array) -> RunResult:
        """Run the currents of consecutive frames, (N, *input shape)."""


class Session(FrameRunner):
    """Runs frames one after the other; the state stays from one to the next.

    Not every schedule has a state that goes on: under ``pasc``, and under any that is stopped after
    some timesteps, each frame is run from rest, and costs what a single image costs.

    Args:
        graph: the network.
        plan: the schedule; the graph's own where it is None.
        threshold: a value of a frame is taken as unchanged as long as it is within so much of the
            one that was last taken, in units of pixels (of inputs, where a network does not say how
            pixels become inputs). Answers are then exact for :attr:`shown`.
        watcher: is told of all spikes, as by :func:`.simulate.steps`.
        delivered: brings spikes to their synapses, likewise.

    Raises:
        DataError: a threshold that is negative or not finite.
        GraphError: inputs of an integer network so large that their changes leave 32 bits.
    """

    def __init__(
        self,
        graph: Graph,
        plan: Schedule | None = None,
        *,
        threshold: float = 0,
        watcher: simulate.Watcher | None = None,
        delivered: simulate.Delivery = simulate.everywhere,
    ) -> None:
        super().__init__(graph, plan or schedule.of(graph), threshold)
        self._network = simulate.Network(graph, self.schedule, watcher, delivered)
        self._kept: simulate.Kept | None = None

    def reset(self) -> None:
        """Forget all frames: the next one is the first."""
        super().reset()
        self._kept = None

    def _run(self, currents: Array) -> RunResult:
        parts: list[RunResult] = []
        kept = self._kept
        size = simulate.images_together(self.graph, self.schedule)
        with torch.no_grad():
            for batch in torch.split(torch.from_numpy(currents), size):
                result, kept = self._network.run(batch, kept)
                parts.append(result)
        joined = RunResult.join(parts)
        self._kept = kept
        return joined


def _check_scale(frames: Array, graph: Graph) -> None:
    """Refuse frames from 0 to 1 where stored pixels are whole numbers up to more, and others.

    Raises:
        DataError: says by what to multiply them, or that they are no pixels.
    """
    scale = 1.0 if graph.preprocessing is None else graph.preprocessing.scale
    low, high = float(frames.min()), float(frames.max())
    if scale > 1 and (low < 0 or high > scale):
        raise DataError(
            f"a frame of this network is pixels as they are stored, from 0 to {scale:g}, and not yet preprocessed; "
            f"this one goes from {low:.4g} to {high:.4g}"
        )
    if scale > 1 and np.issubdtype(frames.dtype, np.floating):
        small = bool(np.all((frames >= 0) & (frames <= 1)))
        if small and np.any((frames > 0) & (frames < 1)):
            raise DataError(
                f"the frame goes from 0 to 1, stored pixels of this network up to {scale:g}: multiply it by {scale:g}"
            )


def thresholded(frames: Array, shown: Array | None, threshold: float) -> Array:
    """The frames that are shown where small changes are left out.

    Args:
        frames: (N, *shape).
        shown: the frame before them, (*shape); None where there is none.
        threshold: a value that is no further than this from the one that is shown stays as shown.

    Returns:
        Frames of the same shape; with a threshold of 0 those that were given.

    Raises:
        DataError: a threshold that is negative or not finite.
    """
    _check_threshold(threshold)
    if not threshold:
        return frames
    found = []
    for frame in frames:
        if shown is not None:
            apart = np.abs(frame.astype(np.float64) - shown)
            frame = np.where(apart <= threshold, shown, frame)  # NaN, too, is far from any number
        found.append(shown := frame)
    return np.stack(found)


def _numbers(frames: Any) -> Array:
    """Frames, or one, of whatever holds them, as an array of real numbers."""
    try:
        values = np.asarray(frames.detach().cpu() if hasattr(frames, "detach") else frames)
    except ValueError as error:
        raise DataError(f"frames are no array: {described(error)}") from error
    if values.dtype.kind not in "buif":
        raise DataError(f"frames are arrays of real numbers, not of {values.dtype}")
    return values


def _check_threshold(threshold: float) -> None:
    if not 0 <= threshold < math.inf:
        raise DataError(f"the threshold of a change is 0 or more and finite, not {threshold}")
