"""Accuracy against bits.

Post-training quantization of a network at every range, and the fewest bits of each layer
that a search finds.

python benchmarks/bits.py MODEL --data TEST --search HELD_OUT [--images 5000] [--limit N]
    [--bits 8,6,5,4,3] [--drop 0.2] [--begin 8] [--range max] [--chip loihi1]

Ranges (for `data`) and bits (for the search) are chosen on the first --images of the file that
--search names; accuracies are of --data, less these images where it is the same file: of images
that the choice did not see. The last rows fit the registers of the chip, too.
"""

import argparse
from dataclasses import replace

import numpy as np

from pascal_nm import data, quantize
from pascal_nm.hw_targets import chip, fixed_point
from pascal_nm.network.graph import RANGES, Quantization
from pascal_nm.search import precision
from pascal_nm.simulation import simulate
from pascal_nm.source import checkpoint

BATCH = 500


def accuracy(graph, images):
    right = [
        simulate.counts(graph, graph.pixels(pixels)).predictions == labels for pixels, labels in images.batches(BATCH)
    ]
    return float(np.mean(np.concatenate(right)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--search", required=True)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--bits", default="8,6,5,4,3")
    parser.add_argument("--drop", type=float, default=0.2, help="points of accuracy that the search may lose")
    parser.add_argument("--begin", type=int, default=8, help="bits that the search begins with")
    parser.add_argument("--range", default="max", help="of the search")
    parser.add_argument("--chip", default="loihi1")
    options = parser.parse_args()
    graph = checkpoint.load(options.model).graph()
    test = data.load(options.data, "test", limit=options.limit)
    chosen = data.load(options.search, "test", limit=options.images)
    if options.search == options.data:
        test = replace(test, pixels=test.pixels[len(chosen) :], labels=test.labels[len(chosen) :])
    inputs = graph.pixels(chosen.pixels)
    before = accuracy(graph, test)
    print(f"{options.model}: {100 * before:.2f} % of {len(test):,} images of {test.name} in floats")
    print(f"{'weights':24}{'range':>8}{'accuracy':>10}{'points':>8}{'KiB':>9}", flush=True)

    def show(name, ranges, integer):
        after = accuracy(integer, test)
        stored = sum(loss.bits * loss.weights for loss in precision.losses(graph, integer)) / 8192
        print(f"{name:24}{ranges:>8}{100 * after:10.2f}{100 * (after - before):+8.2f}{stored:9.1f}", flush=True)

    for bits in map(int, filter(None, options.bits.split(","))):
        recipes = {name: Quantization(bits, name) for name in RANGES}
        recipes["data"] = precision.ranges_for(graph, Quantization(bits), inputs)
        for name, recipe in recipes.items():
            show(f"{bits} bits", name, quantize(graph, recipe))
    begin = Quantization(options.begin, options.range)
    found = precision.fewest_bits(graph, inputs, chosen.labels, options.drop / 100, begin)
    bits = found.recipe.bits
    mean = found.bits / sum(loss.weights for loss in precision.losses(graph, quantize(graph, found.recipe)))
    show(f"searched, {mean:.2f} on average", options.range, quantize(graph, found.recipe))
    described = chip.load(options.chip)
    show(f"the same, for {options.chip}", options.range, fixed_point.fit(graph, described, found.recipe))
    wide = replace(found.recipe, bits=8, range="max")
    show(f"8 bits, for {options.chip}", "max", fixed_point.fit(graph, described, wide))
    print(
        f"bits by layer: {', '.join(map(str, bits))}; "
        f"on the images of the search {100 * found.source_accuracy:.2f} -> {100 * found.accuracy:.2f} %"
    )


if __name__ == "__main__":
    main()
