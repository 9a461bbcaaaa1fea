"""What a placement for the least time takes and buys, beside one on the fewest cores.

VGG-16 for CIFAR-10 and ResNet-34 for ImageNet, full width.

python benchmarks/mapping.py [--chips loihi1,loihi2] [--width 1] [--rounds 3] [--threads N]

Weights are random: which neurons go where depends on the shapes alone. The table shows least times
of the rounds, the time of an image as the placement expects it, and how many times longer the
placement for time takes to make, and how many times faster the image is on it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch

from pascal_nm import build, convert, quantize
from pascal_nm.hw_targets import chip, mapping
from pascal_nm.hw_targets.blocks import Joins
from pascal_nm.hw_targets.objectives import Estimate
from pascal_nm.source.tracing import SourceNetwork

NETWORKS = {"VGG-16, CIFAR-10": ("vgg16", 32, 10, "cifar"), "ResNet-34, ImageNet": ("resnet34", 224, 1000, "imagenet")}


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chips", default="loihi1,loihi2")
    parser.add_argument("--width", type=float, default=1.0, help="factor on the channels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"{'':21}{'chip':8}{'for':>6}{'seconds':>9}{'forward pass':>14}{'cores':>7}{'chips':>6}{'neurons':>9}"
        f"{'memory':>8}{'hops':>7}{'ms expected':>13}{'takes':>8}{'buys':>7}  limit that binds"
    )
    for title, (arch, size, classes, stem) in NETWORKS.items():
        torch.manual_seed(0)
        module = build(arch, (3, size, size), classes, width=options.width, stem=stem).eval()
        image = torch.zeros(1, 3, size, size)
        graph = quantize(convert(SourceNetwork(module, image)), input_range=1.0)
        with torch.no_grad():
            forward = min(seconds(partial(module, image)) for _ in range(options.rounds))
        for name in options.chips.split(","):
            described = chip.load(name)
            assert described.mesh is not None, "a chip to place on has cores"
            estimate = Estimate(Joins(graph), described, described.mesh)
            fewest: tuple[float, float] | None = None
            for objective in ("cores", "time"):
                found = mapping.place(graph, described, objective)
                call = partial(mapping.place, graph, described, objective)
                least = min(seconds(call) for _ in range(options.rounds))
                expected = estimate.seconds(found.blocks)
                fewest = fewest or (least, expected)
                full = {
                    limit: sum(use.used[limit].sum() for use in found.use.values())
                    / sum(use.limits[limit] * len(use.used[limit]) for use in found.use.values())
                    for limit in ("neurons", "memory")
                }
                most = max(found.blocks, key=lambda population: found.blocks[population].cores)
                print(
                    f"{title:21}{name:8}{objective:>6}{least:9.2f}{forward:14.3f}{found.cores:7,}{found.chips:6}"
                    f"{full['neurons']:9.0%}{full['memory']:8.0%}{found.mean_hops:7.2f}{1e3 * expected:13.2f}"
                    f"{least / fewest[0]:8.2f}{fewest[1] / expected:7.2f}  "
                    f"{found.use[most].binding.replace('_', '-')} ({found.blocks[most].cores:,} cores of {most})",
                    flush=True,
                )


if __name__ == "__main__":
    main()
