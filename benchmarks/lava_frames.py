"""Frames in Lava, whose network keeps its state, against the simulator's session.

python benchmarks/lava_frames.py MODEL [MODEL ...] [--frames 500] [--schedules graded streaming]
    [--rounds 1]

Each model, quantized to 8 bits, sees a square that moves over a picture that does not, one pixel a
frame. Both sides see the same frames in one call, in turn. ``steps`` are the timesteps in which
Lava shows a frame (under ``graded`` there is a new one in every timestep), ``ms`` its time a frame,
processes started and ended among it, ``running`` without them; the ratio is the median of the
rounds'. ``differing`` counts the levels, spikes and outputs that are others than the simulator's,
or than those of a run of each frame from rest.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from unittest import mock

import numpy as np

from pascal_nm import quantize
from pascal_nm.common.arrays import Array, Shape
from pascal_nm.hw_targets.lava import LavaTarget
from pascal_nm.network.graph import Graph, Timing
from pascal_nm.process_models.network import Network
from pascal_nm.simulation import simulate
from pascal_nm.simulation.result import RunResult
from pascal_nm.source import checkpoint

Made = TypeVar("Made")


def clip(shape: Shape, frames: int, white: float) -> Array:
    """A square that moves over a smooth picture: pixels up to ``white``, (frames, C, H, W)."""
    channels, height, width = shape
    rng = np.random.default_rng(0)
    waves = rng.uniform(0, 6, (channels, 3, 1, 1))
    y, x = np.mgrid[0:height, 0:width] / (height, width)[0]
    picture = 0.5 + 0.4 * np.sin(waves[:, 0] * x + waves[:, 1] * y + waves[:, 2])
    shown = np.repeat(picture[None], frames, 0)
    side = height // 5
    for t, frame in enumerate(shown):
        top, left = (t // width * 3) % (height - side), t % (width - side)
        frame[:, top : top + side, left : left + side] = rng.random((channels, 1, 1))
    return np.rint(white * shown).astype(np.uint8)


def timed(call: Callable[[], Made]) -> tuple[Made, float]:
    """What a call gives, and its seconds."""
    start = time.perf_counter()
    made = call()
    return made, time.perf_counter() - start


class Lava:
    """A call in Lava, and the timesteps and seconds for which the network runs in it."""

    steps = 0
    seconds = 0.0

    def run(self, graph: Graph, frames: Array) -> RunResult:
        """All frames in one call."""
        own = Network.run

        def watched(network: Network, run: Callable[[int], None]) -> None:
            def counted(steps: int) -> None:
                self.steps += steps
                run(steps)

            start = time.perf_counter()
            own(network, counted)
            self.seconds += time.perf_counter() - start

        with mock.patch.object(Network, "run", watched):
            return LavaTarget().compile(graph).session().run(frames)


def differing(found: RunResult, expected: RunResult) -> int:
    """Levels, spikes and outputs that are not the same."""
    pairs = [(found.counts[name], count) for name, count in expected.counts.items()]
    pairs += [(found.spikes[name], sent) for name, sent in expected.spikes.items()] if expected.sent else []
    pairs.append((found.potential, expected.potential))
    return sum(int(np.count_nonzero(here != there)) for here, there in pairs)


def measure(name: str, graph: Graph, frames: Array, rounds: int) -> bool:
    """Print a network's line; whether nothing differs."""
    times, ratios, others = [], [], 0
    for _ in range(rounds):
        lava = Lava()
        found, seconds = timed(lambda lava=lava: lava.run(graph, frames))
        expected, simulated = timed(lambda: graph.session().run(frames))
        times.append((seconds, lava.seconds))
        ratios.append((seconds / simulated, lava.seconds / simulated))
        fresh = simulate.counts(graph, graph.pixels(frames))
        others += differing(found, expected) + differing(found, fresh)
    whole, running = (1e3 * statistics.median(each) / len(frames) for each in zip(*times, strict=True))
    ratio, net = (statistics.median(each) for each in zip(*ratios, strict=True))
    print(
        f"{name:18}{graph.timing!s:18}{len(frames):7,}{lava.steps / len(frames):8.2f}{whole:9.2f}{running:10.2f}"
        f"{ratio:15.2f}{net:10.2f}{others:11,}",
        flush=True,
    )
    return not others


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--schedules", nargs="+", default=["graded", "streaming"])
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    print(f"{'':51}{'Lava, a frame':^19}{'simulator = 1':^25}")
    print(
        f"{'':36}{'frames':>7}{'steps':>8}{'ms':>9}{'running':>10}{'ms':>15}{'running':>10}{'differing':>11}",
        flush=True,
    )
    exact = True
    for path in options.models:
        graph = quantize(checkpoint.load(path).graph(), 8)
        assert graph.preprocessing is not None, "a checkpoint says how pixels become inputs"
        frames = clip(graph.input.shape, options.frames, graph.preprocessing.scale)
        for name in options.schedules:
            exact &= measure(path.stem, graph.replace(timing=Timing(name)), frames, options.rounds)
    sys.exit(not exact)


if __name__ == "__main__":
    main()
