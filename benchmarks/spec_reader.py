"""The standalone reader of docs/nir-spec.md against this package, on the committed networks.

    python benchmarks/spec_reader.py ../shared/data [--images 100] [--networks models/mnist.pt …]

Each network is exported in double precision and in 8 bits; examples/nir/reader.py runs the file
spike by spike, and every count and every output is compared with the package's own.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pascal_nm import checkpoint, data, quantize
from pascal_nm.export import write_nir
from pascal_nm.simulation import simulate

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "nir"))
import reader


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder with mnist-test.parquet and cifar10-test.parquet, or digits")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--networks", type=Path, nargs="+", default=sorted(Path("models").glob("*.pt")))
    options = parser.parse_args()
    print("| network | arithmetic | counts | differ | outputs differ | seconds |\n|---|---|---|---|---|---|")
    for path in options.networks:
        model = checkpoint.load(path)
        source = options.data / f"{path.name.split('.')[0]}-test.parquet" if options.data.is_dir() else options.data
        images = data.load(str(source), "test", limit=options.images)
        inputs, graph = model.preprocessing(images.pixels), model.graph()
        forms = [graph] if graph.is_integer else [graph.astype(np.float64), quantize(graph, 8)]
        for form in forms:
            with tempfile.TemporaryDirectory() as folder:
                write_nir(form, Path(folder) / "model.nir")
                start = time.perf_counter()
                network = reader.Network(Path(folder) / "model.nir")
                parts = [network.run(inputs[first : first + 10]) for first in range(0, len(inputs), 10)]
                seconds = time.perf_counter() - start
            counts = {name: np.concatenate([part[0][name] for part in parts]) for name in parts[0][0]}
            outputs = np.concatenate([part[1] for part in parts])
            expected = simulate.counts(form, inputs)
            differ = sum(int((counts[name] != count).sum()) for name, count in expected.counts.items())
            wrong = int((outputs != expected.logits).sum())
            number = sum(count.size for count in expected.counts.values())
            print(
                f"| {path.name} | {'integers' if form.is_integer else 'float64'} | {number:,} | {differ} | {wrong} | "
                f"{seconds:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
