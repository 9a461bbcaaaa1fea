"""What counting costs.

A run that counts nothing beyond its spikes, with synaptic operations and updates, and with
everything on a chip's cores.

python benchmarks/counting.py MODEL [MODEL ...] --data DATA [--limit 50] [--bits 8]
    [--objective cores] [--rounds 5] [--threads N]

Each round times all three in turn, so that a busy machine slows them alike; the table shows the
median of the rounds' ratios to the run alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from pascal_nm import data, quantize
from pascal_nm.common.arrays import Array
from pascal_nm.hw_targets import chip, cost, mapping
from pascal_nm.hw_targets.traffic import Traffic
from pascal_nm.network.graph import Graph, Timing
from pascal_nm.simulation import events, simulate
from pascal_nm.simulation.result import RunResult
from pascal_nm.source import checkpoint

TIMINGS = {"pasc": Timing(), "streaming, lag 1": Timing("streaming", 1)}
CHIPS = ("loihi1", "loihi2")


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def priced(graph: Graph, result: RunResult, placement: mapping.Placement, described: chip.Chip) -> None:
    events.count(graph, result)
    cost.seconds(result, placement, described)


def sides(graph: Graph, inputs: Array, watcher: Traffic, described: chip.Chip) -> dict[str, Callable[[], object]]:
    return {
        "alone": lambda: simulate.steps(graph, inputs),
        "events": lambda: events.count(graph, simulate.steps(graph, inputs)),
        "cores": lambda: priced(graph, simulate.steps(graph, inputs, watcher=watcher), watcher.placement, described),
    }


def measure(
    graph: Graph, inputs: Array, watcher: Traffic, described: chip.Chip, rounds: int
) -> tuple[float, dict[str, float]]:
    """Milliseconds an image of the run alone, and the ratios of the others to it: medians."""
    calls = sides(graph, inputs, watcher, described)
    for call in calls.values():
        call()
    times = [{name: seconds(call) for name, call in calls.items()} for _ in range(rounds)]
    alone = 1e3 * statistics.median(row["alone"] for row in times) / len(inputs)
    return alone, {name: statistics.median(row[name] / row["alone"] for row in times) for name in calls}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--data", required=True)
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("--bits", type=int, default=8)
    parser.add_argument("--objective", default="cores", help="of the placement: time, energy or cores")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    images = data.load(options.data, limit=options.limit)
    print(f"{len(images)} images, {options.threads} thread(s), median of {options.rounds} rounds")
    print(f"{'':16}{'schedule':18}{'chip':8}{'cores':>6}{'ms an image':>13}{'with events':>13}{'and cores':>11}")
    for path in options.models:
        graph = quantize(checkpoint.load(path).graph(), options.bits)
        inputs = graph.pixels(images.pixels)
        for name in CHIPS:
            described = chip.load(name)
            found = mapping.place(graph, described, options.objective)
            for schedule, timing in TIMINGS.items():
                scheduled = graph.replace(timing=timing)
                alone, ratio = measure(scheduled, inputs, Traffic(found), described, options.rounds)
                print(
                    f"{path.stem:16}{schedule:18}{name:8}{found.cores:6}{alone:13.2f}{ratio['events']:13.2f}{ratio['cores']:11.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
