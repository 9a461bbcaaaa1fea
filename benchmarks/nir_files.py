"""Writing and reading NIR files against writing and reading the raw bytes.

VGG-16 with 138 million weights, for 224x224 images.

    python benchmarks/nir_files.py [--width 1] [--rounds 3]
    python benchmarks/nir_files.py --sizes models/*.uniform.pt    # compressed against plain

Each step runs in a process of its own, so that its peak of memory is its own; both sides of a ratio
are measured in turns, best of the rounds.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def network(width):
    import numpy as np

    from pascal_nm.network.graph import Graph, Population, Projection
    from pascal_nm.network.operators import Conv2d, Dense, SumPool2d
    from pascal_nm.source.architectures import VGG_LAYOUTS

    rng = np.random.default_rng(0)
    populations = [Population("input", "analog", (3, 224, 224))]
    projections, pool = [], None

    def add(name, kind, operator, **fields):
        nonlocal pool
        projection = Projection(populations[-1].name, name, operator, pool)
        shape = projection.output_shape(populations[-1].shape)
        bias = rng.normal(size=(shape[0], *(1,) * (len(shape) - 1))).astype(np.float32)
        threshold = np.ones((1,) * len(shape), np.float32)
        populations.append(Population(name, kind, shape, threshold=threshold, bias=bias, **fields))
        projections.append(projection)
        pool = None

    def weights(*shape):
        return rng.standard_normal(shape, np.float32)

    for i, entry in enumerate(VGG_LAYOUTS["vgg16"]):
        if isinstance(entry, str):
            pool = SumPool2d((2, 2), (2, 2))
        else:
            channels = populations[-1].shape[0]
            add(f"conv_{i}", "pasc", Conv2d(weights(round(entry * width), channels, 3, 3), padding=(1, 1)), levels=4)
    flat = populations[-1].shape[0] * 7 * 7
    add("fc_1", "pasc", Dense(weights(round(4096 * width), flat)), levels=4)
    add("fc_2", "pasc", Dense(weights(round(4096 * width), round(4096 * width))), levels=4)
    add("output", "readout", Dense(weights(1000, round(4096 * width))))
    return Graph(tuple(populations), tuple(projections))


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def step(name, folder, width):
    """One measurement.

    Seconds, and the peak of memory beyond what the imports and the network itself take.
    """
    import numpy as np

    from pascal_nm.export import read_nir, write_nir

    raw, file = folder / "raw.bin", folder / "vgg16.nir"
    if name.startswith("write"):
        graph = network(width)
        arrays = [q.operator.weight for q in graph.projections]
        before = peak()
        start = time.perf_counter()
        if name == "write raw":
            with raw.open("wb") as out:
                for array in arrays:
                    array.tofile(out)
        else:
            write_nir(graph, file)
        with (raw if name == "write raw" else file).open("rb+") as out:
            os.fsync(out.fileno())
        weights = sum(a.nbytes for a in arrays)
    else:
        before = peak()
        start = time.perf_counter()
        if name == "read raw":
            np.fromfile(raw, np.float32)
            weights = raw.stat().st_size
        else:
            graph = read_nir(file)
            weights = sum(q.operator.weight.nbytes for q in graph.projections)
    seconds = time.perf_counter() - start
    held = weights if name.startswith("write") else 0  # the network was there before
    return {"seconds": seconds, "weights": weights, "memory": peak() - before + held}


def sizes(checkpoints, rounds):
    """Files as they are written against plain ones: bytes, and seconds to read."""
    from unittest import mock

    from pascal_nm import checkpoint, quantize
    from pascal_nm.export import storage, write_nir
    from pascal_nm.export.unrolled import write_unrolled
    from pascal_nm.export.untrusted import read_raw

    def seconds(path):
        start = time.perf_counter()
        read_raw(path)
        return time.perf_counter() - start

    print("| network | form | plain | as written | plain = 1 | time to read, plain = 1 |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        plain, written = Path(folder) / "plain.nir", Path(folder) / "written.nir"
        for path in checkpoints:
            graph = checkpoint.load(path).graph()
            forms = {
                "pasc": lambda place, graph=graph: write_nir(graph, place),
                "pasc, 8 bits": lambda place, graph=graph: write_nir(quantize(graph, 8), place),
                "unrolled": lambda place, graph=graph: write_unrolled(graph, place),
            }
            for name, write in forms.items():
                with mock.patch.object(storage, "_filters", lambda array: {}):
                    write(plain)
                write(written)
                before, after = plain.stat().st_size, written.stat().st_size
                times = [(seconds(plain), seconds(written)) for _ in range(rounds)]
                ratio = min(t for _, t in times) / min(t for t, _ in times)
                print(
                    f"| {path.name} | {name} | {before:,} | {after:,} | {after / before:.2f} | {ratio:.2f} |",
                    flush=True,
                )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=Path, nargs="+", metavar="CHECKPOINT")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(step(options.step, options.folder, options.width)))
        return
    if options.sizes:
        sizes(options.sizes, options.rounds)
        return
    names = ("write raw", "write nir", "read raw", "read nir")
    found = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            for name in names:
                command = [sys.executable, __file__, "--width", str(options.width), "--step", name, "--folder", folder]
                found[name].append(
                    json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                )
    weights = found["write nir"][0]["weights"]
    print(f"VGG-16, {weights // 4:,} weights, {weights / 2**20:,.0f} MB")
    print(f"{'':10}{'seconds':>10}{'raw bytes = 1':>16}{'memory, weights = 1':>22}")
    for name in names:
        best = min(m["seconds"] for m in found[name])
        base = min(m["seconds"] for m in found[f"{name.split()[0]} raw"])
        memory = max(m["memory"] for m in found[name])
        print(f"{name:10}{best:10.2f}{best / base:16.2f}{memory / weights:22.2f}")


if __name__ == "__main__":
    main()
