"""What commands say of frames that follow each other: what changed, and what it took."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pascal_nm.cli import plots
from pascal_nm.cli.output import percent, say, span
from pascal_nm.common.arrays import Array
from pascal_nm.data import Frames
from pascal_nm.hw_targets.evaluation import Evaluation, frame_summary
from pascal_nm.network.graph import Graph
from pascal_nm.simulation import events


def note_threshold(threshold: float) -> None:
    """What answers are exact for where small changes are left out."""
    if threshold:
        say(
            f"answers are those of the frames as they are shown: changes of a pixel up to {threshold:g} are left out "
            "until they add up to more"
        )


def show(graph: Graph, frames: Frames, result: Evaluation, target: str, arithmetic: str, speed: float) -> None:
    """The answer of a run in words."""
    found = frame_summary(graph, frames, result)
    kept = "state kept from one to the next" if result.schedule.kept else "each from rest"
    say(
        f"[bold]{len(frames):,} frames[/bold] of {frames.name} on {target}, {kept} "
        f"({arithmetic}, {graph.timing}, {span(result.timesteps)} timesteps a frame)"
    )
    if result.labelled:
        say(f"{percent(result.accuracy)} of the frames right")
    say(
        f"per frame: {percent(found['values_changed'])} of the input's values sent, "
        f"{sum(float(layer.emitted.mean()) for layer in result.events):,.0f} spikes, "
        f"{found['operations_a_frame']:,.0f} operations, {percent(found['operations_over_dense'])} of the "
        f"{found['dense_operations_a_frame']:,} of the dense source network"
    )
    if result.schedule.kept and found["operations_a_later_frame"] is not None:
        later = found["operations_a_later_frame"]
        say(
            f"a first frame, from rest, takes {found['operations_a_first_frame']:,.0f} operations, a later one "
            f"{later:,.0f}, {percent(later / found['dense_operations_a_frame'])} of the source's"
        )
    say(f"the class changes {_changes(frames, result.predictions):,} times; {speed:,.0f} frames a second")


def draw(
    graph: Graph,
    frames: Frames,
    result: Evaluation,
    title: str,
    path: Path,
    joules: tuple[Array, float] | None = None,
) -> None:
    """A picture over the frames.

    Args:
        graph: the network that ran.
        frames: what it ran on.
        result: what happened.
        title: of the figure.
        path: of the file.
        joules: of each frame, and of the dense source network; None draws operations.
    """
    if joules is None:
        spent = np.sum([layer.arithmetic for layer in result.events], 0) / 1e6
        dense, quantity = events.dense_operations(graph) / 1e6, "operations of a frame (million)"
    else:
        spent, dense, quantity = joules[0] * 1e6, joules[1] * 1e6, "energy of a frame (µJ)"
    plots.frames(spent, dense, quantity, result.active, frames.starts, title, path)


def _changes(frames: Frames, predictions: Array) -> int:
    """How often the class is another than that of the frame before, within a sequence."""
    differs = predictions[1:] != predictions[:-1]
    differs[[start - 1 for start in frames.starts if start]] = False
    return int(np.count_nonzero(differs))
