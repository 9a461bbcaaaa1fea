"""Time of the AL metric as a multiple of the source network's forward pass over the same
images, and its memory.

VGG-16 for CIFAR shapes with random weights, L = 4; ``--images 3000`` as in Algorithm 3. Forward and
metric take turns, batch by batch, and the memory is read after a third of the images and after all
of them: it must not have grown.
"""

from __future__ import annotations

import argparse
import resource
import time

import torch
from engines import randomized

from pascal_nm import build, convert
from pascal_nm.search import adaptive
from pascal_nm.source.tracing import SourceNetwork


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="vgg16")
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=100)
    options = parser.parse_args()
    torch.manual_seed(0)
    images = torch.randn(options.batch, 3, 32, 32)
    module = randomized(build(options.arch, (3, 32, 32), 10, 4), images[:32])
    graph = convert(SourceNetwork(module, images[:1]))
    forward = metric = 0.0
    memory = []
    total = {p.name: 0 for p in graph.populations if p.kind == "pasc"}
    for batch in range(-1, options.images // options.batch):
        start = time.perf_counter()
        with torch.no_grad():
            module(images)
        middle = time.perf_counter()
        found = adaptive.histograms(graph, [images.numpy()])
        end = time.perf_counter()
        if batch < 0:  # the first is to warm up
            continue
        total = {name: count + found[name] for name, count in total.items()}
        forward, metric = forward + middle - start, metric + end - middle
        memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    start = time.perf_counter()
    adaptive.plan(adaptive.measure(total), 3)
    metric += time.perf_counter() - start
    third = memory[max(0, len(memory) // 3 - 1)]
    print(f"{options.arch}, L = 4, {options.images:,} images in batches of {options.batch}")
    print(f"metric over forward pass: {metric / forward:.2f}")
    print(f"peak memory after a third of the images: {third:,.0f} MB, after all: {memory[-1]:,.0f} MB")


if __name__ == "__main__":
    main()
