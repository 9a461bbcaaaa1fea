"""Energy of a frame against the share of its pixels that changed.

python benchmarks/changing_pixels.py MODEL [MODEL ...] [--chip loihi2] [--frames 20] [--bits 8]
    [-o FIGURE]

From frame to frame a square patch of so many pixels (0, 1, 5, 20 and 100 %) is taken from another
picture, all frames of the bundled clip `pan`; the others stay. Energy is that of the chip's table,
mean of the frames after the first, beside a run of each picture from rest and the dense source
network.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import pascal_nm as pnm
from pascal_nm import data
from pascal_nm.common.files import replacing
from pascal_nm.data import Frames
from pascal_nm.hw_targets import bill
from pascal_nm.network.graph import Graph, Timing
from pascal_nm.network.quantization import quantize
from pascal_nm.source import checkpoint

SHARES = (0, 0.01, 0.05, 0.2, 1)


def changing(pictures: np.ndarray, share: float, length: int) -> np.ndarray:
    """Frames (length, C, H, W) of which a patch of so many pixels changes to another picture."""
    rng, frame, found = np.random.default_rng(0), pictures[0].copy(), []
    height, width = frame.shape[1:]
    side = max(1, round(np.sqrt(share * height * width)))
    for t in range(length):
        found.append(frame.copy())
        other = pictures[1 + t % (len(pictures) - 1)]
        if share == 1:
            frame = other.copy()
        elif share:
            y, x = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
            frame[:, y : y + side, x : x + side] = other[:, y : y + side, x : x + side]
    return np.stack(found)


def from_rest(pictures: np.ndarray, scale: float) -> Frames:
    """Each picture as a sequence of its own, behind one that is not counted."""
    return Frames("pictures", pictures, tuple(range(len(pictures))), scale=scale)


def microjoules(graph: Graph, frames: Frames, chip: str) -> tuple[float, bill.Bill]:
    """Energy of a frame after the first, and the bill of all."""
    made = pnm.energy(graph, frames, chip)
    return float(made.joules_by_image[1:].mean()) * 1e6, made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--chip", default="loihi2")
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--bits", type=int, default=8)
    parser.add_argument("-o", "--output", type=Path, help="Draw it, too.")
    options = parser.parse_args()
    print(f"{'microjoules a frame, ' + options.chip:32}{'source':>9}{'from rest':>11}", end="")
    print("".join(f"{share:>8.0%}" for share in SHARES) + "   of the values changed")
    drawn = {}
    for path in options.models:
        graph = quantize(checkpoint.load(path).graph(), options.bits).replace(timing=Timing("graded"))
        clip = data.load_frames("pan", shape=graph.input.shape).rescaled(graph.preprocessing.scale)
        pictures = clip.pixels[:: max(1, len(clip) // 8)]
        energies, changed = [], []
        for share in SHARES:
            pixels = changing(pictures, share, options.frames)
            found, made = microjoules(graph, Frames(f"{share:.0%} changing", pixels, scale=clip.scale), options.chip)
            energies.append(found)
            changed.append(float(made.result.injected[1:].mean()) / graph.input.size)
        rest = microjoules(graph, from_rest(pictures, clip.scale), options.chip)[0]
        source = made.source_dynamic * 1e6
        print(
            f"{path.name:32}{source:9.1f}{rest:11.1f}"
            + "".join(f"{each:8.1f}" for each in energies)
            + "   "
            + " ".join(f"{each:.1%}" for each in changed),
            flush=True,
        )
        drawn[path.stem] = (changed, energies, rest, source)
    if options.output is not None:
        draw(drawn, options.chip, options.output)


def draw(drawn: dict, chip: str, output: Path) -> None:
    """Energy over the share of values that changed, relative to the dense source network's."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, (changed, energies, rest, source) in drawn.items():
        (line,) = axes.plot([100 * c for c in changed], [e / source for e in energies], "o-", label=name)
        axes.axhline(rest / source, color=line.get_color(), linestyle=":", linewidth=1)
    axes.axhline(1, color="black", linewidth=1, label="dense source network")
    axes.set(xlabel="input values that change from frame to frame, %", ylim=0)
    axes.set_ylabel(f"energy of a frame over the source's, {chip}")
    axes.legend(title="dotted: each frame from rest", fontsize="small", title_fontsize="small")
    with replacing(output) as path:
        figure.savefig(path, format=output.suffix.removeprefix("."))


if __name__ == "__main__":
    main()
