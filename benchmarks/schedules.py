"""Timesteps, spikes and operations of every schedule on the same network and images, all exact; the paper's schedule = 1.

python benchmarks/schedules.py MODEL --data DATA [--limit 200] [--bits 8]
"""

import argparse
from pathlib import Path

import numpy as np

from pascal_nm import activity, data, quantize, schedule, simulate
from pascal_nm.cli.options import load_network
from pascal_nm.hw_targets import chip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--bits", type=int, default=8)
    options = parser.parse_args()
    graph = quantize(load_network(options.model), options.bits)
    images = data.load(options.data, limit=options.limit)
    inputs = graph.preprocessing(images.pixels)
    expected = simulate.counts(graph, inputs)
    least = sum(int(count.sum(dtype=np.int64)) for count in expected.counts.values())
    described = chip.load("loihi1")
    largest = max(p.levels for p in graph.spiking)
    plans = {"pasc": schedule.pasc(graph), "two_phase": schedule.two_phase(graph)}
    plans |= {f"streaming, lag {lag}": schedule.streaming(graph, lag) for lag in range(largest)}
    layers = sum(1 for p in graph.populations if p.kind in ("pasc", "max")) + 1
    print(
        f"{options.model.name}, {len(images)} images of {images.name}, {options.bits} bits, {layers} layers, L = {largest}"
    )
    print(
        f"{'':18}{'timesteps: mean':>16}{'99 %':>6}{'max':>6}{'ratio':>8}{'spikes over the least':>23}{'operations':>12}{'energy':>8}"
    )
    base = None
    for name, plan in plans.items():
        result = simulate.steps(graph, inputs, plan)
        for population, count in expected.counts.items():
            assert np.array_equal(count, result.counts[population]), (name, population)
        events = activity.events(graph, result)
        steps = result.timesteps
        spikes = sum(int(sent.sum(dtype=np.int64)) for sent in result.spikes.values())
        operations = sum(float(layer.synaptic_operations.mean()) for layer in events)
        joules = sum(layer.total for layer in chip.energy(events, described))
        base = base or (steps.mean(), operations, joules)
        print(
            f"{name:18}{steps.mean():16.1f}{np.percentile(steps, 99):6.0f}{steps.max():6d}{steps.mean() / base[0]:8.2f}"
            f"{100 * (spikes / least - 1):21.2f} %{operations / base[1]:12.3f}{joules / base[2]:8.3f}"
        )
    print(
        f"every count of every layer equal to the integer QCFS network's; energy: {described.name}, of counted events"
    )


if __name__ == "__main__":
    main()
