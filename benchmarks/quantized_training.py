"""Fine-tuning for a number of bits: what it wins back, and what its steps take.

python benchmarks/quantized_training.py MODEL [TUNED ...] --data TEST [--limit N]
    [--steps 10] [--train IMAGES] [--batch 128] [--bits 8] [--threads 1]

For each network that `train --from MODEL --bits` made: the accuracy of MODEL in floats, of MODEL's
integers after training, and of the tuned network's integers; how many predictions of MODEL either
changes. With --steps, the time of a step of training in the arithmetic of integers over that of
a step of the plain training of MODEL, both measured in turns in this run.
"""

import argparse
import itertools
import statistics
import time
from dataclasses import replace

import numpy as np
import torch

from pascal_nm import data, quantize, training
from pascal_nm.network.graph import Quantization
from pascal_nm.simulation import simulate
from pascal_nm.source import checkpoint
from pascal_nm.training import loop

BATCH = 500


def predictions(graph, images):
    found = [simulate.counts(graph, graph.pixels(pixels)).predictions for pixels, _ in images.batches(BATCH)]
    return np.concatenate(found)


def compare(model, tuned, images):
    """A table of accuracies."""
    graph = checkpoint.load(model).graph()
    before = predictions(graph, images)
    columns = ("weights", "float", "after training", "changed", "fine-tuned", "changed", "points")
    print(f"{model}, {len(images):,} images of {images.name}\n" + "".join(f"{c:>16}" for c in columns), flush=True)
    for path in tuned:
        found = checkpoint.load(path)
        recipe = Quantization(found.bits)
        results = [predictions(quantize(g, recipe), images) for g in (graph, found.graph())]
        right = [float(np.mean(p == images.labels)) for p in (before, *results)]
        changed = [float(np.mean(p != before)) for p in results]
        row = (right[0], right[1], changed[0], right[2], changed[1])
        shown = "".join(f"{100 * share:14.2f} %" for share in row)
        print(f"{recipe!s:>16}{shown}{100 * (right[2] - right[0]):+16.2f}", flush=True)


def steps(model, images, bits, batch, number):
    """Seconds of a step, plain and with bits, in turns."""
    start = checkpoint.load(model)
    config = replace(training.defaults(images), arch=start.recipe["arch"], options={}, levels=start.levels)
    config = replace(config, batch_size=batch, learning_rate=1e-3)
    runs = []
    for each in (None, bits):
        made = replace(config, bits=each)
        runs.append(loop._Training(loop._started(start, images, made.levels), images, made, start))
    epochs = [itertools.chain.from_iterable(map(run.epoch, itertools.count())) for run in runs]
    times = [[], []]
    for _ in range(number + 1):
        for taken, epoch in zip(times, epochs, strict=True):
            began = time.perf_counter()
            next(epoch)
            taken.append(time.perf_counter() - began)
    plain, quantized = (statistics.median(taken[1:]) for taken in times)
    print(f"a step of {batch} images for {bits} bits over a plain one: {quantized / plain:.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("tuned", nargs="*")
    parser.add_argument("--data", required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--steps", type=int, default=0, help="time so many of each kind")
    parser.add_argument("--train", help="images of these steps", default="digits")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--bits", type=int, default=8)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.tuned:
        compare(options.model, options.tuned, data.load(options.data, "test", limit=options.limit))
    if options.steps:
        images = data.load(options.train, "train", limit=50 * options.batch)
        steps(options.model, images, options.bits, options.batch, options.steps)


if __name__ == "__main__":
    main()
