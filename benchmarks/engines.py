"""Time of the simulator's engines as a multiple of the source network's own forward pass,
measured side by side.

VGG-16 for CIFAR shapes with random weights by default; ``python benchmarks/engines.py --help``
lists the rest. Every round times all sides once, in turn, so that a busy machine slows them alike;
the table shows the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from pascal_nm import QCFS, build, convert, quantize
from pascal_nm.simulation import simulate
from pascal_nm.source.tracing import SourceNetwork


def randomized(module: torch.nn.Module, inputs: torch.Tensor) -> torch.nn.Module:
    """Normalization statistics and thresholds from the inputs, so that levels are spread as in a
    trained network.
    """
    module.train()
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = None
            if isinstance(layer, QCFS):
                layer.threshold.fill_(2.0)
        module(inputs)
    return module.eval()


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="vgg16")
    parser.add_argument("--levels", type=int, default=4)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=32, help="height and width of the images")
    options = parser.parse_args()

    torch.manual_seed(0)
    inputs = torch.randn(options.batch, 3, options.size, options.size)
    module = randomized(build(options.arch, (3, options.size, options.size), 10, options.levels), inputs[:32])
    source = SourceNetwork(module, inputs[:1])
    graph = convert(source)
    integer = quantize(graph, input_range=float(inputs.abs().max()))
    images = inputs.numpy()

    def forward() -> object:
        with torch.no_grad():
            return module(inputs)

    sides: dict[str, Callable[[], object]] = {
        "source network": forward,
        "counts, float": lambda: simulate.counts(graph, images),
        "counts, integer": lambda: simulate.counts(integer, images),
        "steps, float": lambda: simulate.steps(graph, images),
        "steps, integer": lambda: simulate.steps(integer, images),
    }
    for call in sides.values():
        call()
    times = [{name: seconds(call) for name, call in sides.items()} for _ in range(options.rounds)]
    print(
        f"{options.arch}, L = {options.levels}, batch {options.batch}, {options.size}x{options.size}, "
        f"{torch.get_num_threads()} threads, median of {options.rounds} rounds"
    )
    print(f"{'':18}{'ms an image':>12}{'ratio':>8}")
    for name in sides:
        ratio = statistics.median(round_[name] / round_["source network"] for round_ in times)
        milliseconds = 1e3 * statistics.median(round_[name] for round_ in times) / options.batch
        print(f"{name:18}{milliseconds:12.2f}{ratio:8.2f}")


if __name__ == "__main__":
    main()
