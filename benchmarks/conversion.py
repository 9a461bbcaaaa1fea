"""What the proof of a conversion costs.

Time of ``convert`` with it over without, and of tracing, side by side.

``python benchmarks/conversion.py --arch vgg16 --size 32``; every round times all sides once,
in turn; medians.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from pascal_nm import build, convert
from pascal_nm.source.tracing import SourceNetwork


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", nargs="+", default=["cnn", "resnet18", "vgg16"])
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=32, help="height and width of the images")
    options = parser.parse_args()

    torch.manual_seed(0)
    print(
        f"{options.size}x{options.size}, {torch.get_num_threads()} threads, median of {options.rounds} rounds, seconds"
    )
    print(f"{'':12}{'trace':>8}{'convert':>9}{'proof':>8}{'proof / (trace + convert)':>27}")
    for arch in options.arch:
        inputs = torch.randn(1, 3, options.size, options.size)
        module = build(arch, (3, options.size, options.size), 10, 4, width=options.width).eval()
        rounds = []
        convert(SourceNetwork(module, inputs), inputs)  # what is first used takes its time once
        for _ in range(options.rounds):
            begin = time.perf_counter()
            source = SourceNetwork(module, inputs)
            traced = time.perf_counter()
            convert(source, check=False)
            made = time.perf_counter()
            convert(source, inputs)
            rounds.append((traced - begin, made - traced, time.perf_counter() - made - (made - traced)))
        trace, bare, proof = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"{arch:12}{trace:8.2f}{bare:9.2f}{proof:8.2f}{proof / (trace + bare):27.2f}")


if __name__ == "__main__":
    main()
