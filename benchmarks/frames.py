"""Frames with their state kept: what a frame takes, and whether it is that of a run from rest.

python benchmarks/frames.py MODEL [MODEL ...] [--frames pan still clip.mp4 ...] [--limit 500]
    [--bits 8] [--json FILE]

For each model and sequence, operations in synapses for a frame: of the paper's schedule and of
`graded` from rest, of `graded` and `streaming` with the state kept (lag 1), and of the dense source
network. Behind them how many counts and outputs, of all layers and frames, are others than those of
the closed form of each frame alone: in integers and in float64, both schedules.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pascal_nm import data
from pascal_nm.data import Frames
from pascal_nm.network.graph import Graph, Pixels, Timing
from pascal_nm.network.quantization import quantize
from pascal_nm.simulation import events, simulate
from pascal_nm.simulation.result import RunResult
from pascal_nm.simulation.session import Session
from pascal_nm.source import checkpoint

TIMINGS = {"graded": Timing("graded"), "streaming": Timing("streaming", 1)}
TOGETHER = 50
"""Frames that are run together: their state goes on from one call to the next."""


def parts(graph: Graph, frames: Frames) -> Iterator[tuple[bool, Pixels]]:
    """Consecutive frames, and whether a sequence begins with them."""
    for sequence in frames.sequences():
        for first in range(0, len(sequence), TOGETHER):
            yield first == 0, graph.pixels(sequence.pixels[first : first + TOGETHER])


def operations(graph: Graph, result: RunResult) -> int:
    return sum(int(np.sum(layer.arithmetic)) for layer in events.count(graph, result))


def kept(graph: Graph, frames: Frames) -> tuple[float, int, int, float]:
    """Operations of a frame, numbers compared and differing, and the share of values changed."""
    session, total, compared, differing, changed = Session(graph), 0, 0, 0, 0
    for begins, pixels in parts(graph, frames):
        if begins:
            session.reset()
        found, expected = session.run(pixels), simulate.counts(graph, pixels)
        total += operations(graph, found)
        changed += int(found.spikes[graph.input.name].sum())
        for name, count in expected.counts.items():
            compared += count.size
            differing += int(np.count_nonzero(found.counts[name] != count))
        if graph.is_integer:  # in floats, outputs are equal up to rounding
            compared += expected.potential.size
            differing += int(np.count_nonzero(found.potential != expected.potential))
    return total / len(frames), compared, differing, changed / len(frames) / graph.input.size


def fresh(graph: Graph, frames: Frames) -> float:
    """Operations of a frame from rest."""
    total = sum(operations(graph, simulate.replayed(graph, pixels)) for _, pixels in parts(graph, frames))
    return total / len(frames)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--frames", nargs="+", default=["pan", "still"])
    parser.add_argument("--limit", type=int, default=500)
    parser.add_argument("--bits", type=int, default=8)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    columns = ("frames", "values changed", "pasc", "graded", "kept", "streaming", "dense", "dense over kept")
    print(f"{'operations a frame, in millions':40}" + "".join(f"{column:>16}" for column in columns))
    rows = []
    for path in options.models:
        source = checkpoint.load(path).graph()
        integers, doubles = quantize(source, options.bits), source.astype(np.float64)
        for name in options.frames:
            frames = data.load_frames(name, shape=source.input.shape, limit=options.limit)
            frames = frames.rescaled(source.preprocessing.scale)
            row = {"model": path.name, "frames": frames.name, "length": len(frames), "sequences": len(frames.starts)}
            from_rest = {each: fresh(integers.replace(timing=Timing(each)), frames) for each in ("pasc", "graded")}
            runs = {
                f"{each}, {kind}": kept(graph.replace(timing=timing), frames)
                for each, timing in TIMINGS.items()
                for kind, graph in (("int", integers), ("float64", doubles))
            }
            dense = events.dense_operations(integers)
            steady, compared, _, changed = runs["graded, int"]
            million = [from_rest["pasc"], from_rest["graded"], steady, runs["streaming, int"][0], dense]
            print(
                f"{path.name + ', ' + frames.name:40}{len(frames):16,}{changed:15.1%} "
                + "".join(f"{number / 1e6:16.3f}" for number in million)
                + f"{dense / steady:16.1f}"
            )
            differing = ", ".join(f"{each} {found[2]:,}" for each, found in runs.items())
            print(f"{'':8}of {compared:,} counts and outputs differ: {differing}", flush=True)
            row |= {"changed": changed, "from_rest": from_rest, "dense": dense, "compared": compared}
            rows.append(row | {"kept": {each: {"operations": f[0], "differing": f[2]} for each, f in runs.items()}})
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
