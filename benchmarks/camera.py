"""A camera loop: `session.step` on each frame against a forward pass of the source network.

python benchmarks/camera.py MODEL [MODEL ...] [--frames 200] [--rounds 3] [--bits 8] [--threads 1]

Frames are shown one at a time, to a session under schedule `graded` (integers) and to the source
network in torch (float32), both from stored pixels, in turns. The clips: nothing changes, the
bundled `still` (one moving object) and `pan`, and another picture in every frame.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from pascal_nm import data
from pascal_nm.network.graph import Timing
from pascal_nm.network.quantization import quantize
from pascal_nm.source import checkpoint


def clips(shape: tuple[int, ...], scale: float, length: int) -> dict[str, np.ndarray]:
    """Frames (T, C, H, W) by name."""
    found = {
        name: data.load_frames(name, shape=shape, limit=length).rescaled(scale).pixels for name in ("still", "pan")
    }
    standing = np.repeat(found["still"][:1], length, 0)
    cut = data.load_frames("pan", shape=shape).rescaled(scale).pixels[np.random.default_rng(0).permutation(length)]
    return {"nothing changes": standing, **found, "all changes": cut}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bits", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} thread(s), {options.bits}-bit weights, best of {options.rounds} rounds")
    print(f"{'frames a second':32}{'changed':>9}{'session':>9}{'source':>9}{'session / source':>18}")
    for path in options.models:
        model = checkpoint.load(path)
        source, graph = model.source(), quantize(model.graph(), options.bits).replace(timing=Timing("graded"))
        pre = graph.preprocessing
        for name, frames in clips(graph.input.shape, pre.scale, options.frames).items():
            session = graph.session()
            session.step(frames[0])
            source(pre(frames[:1]))  # both have prepared their weights
            times = np.full((2, options.rounds), np.inf)
            for i in range(options.rounds):
                begin = time.perf_counter()
                for frame in frames[1:]:
                    session.step(frame)
                middle = time.perf_counter()
                for frame in frames[1:]:
                    source(pre(frame[None]))
                times[:, i] = middle - begin, time.perf_counter() - middle
                session.step(frames[0])
            changed = np.mean(frames[1:] != frames[:-1])
            ours, theirs = (len(frames) - 1) / times.min(1)
            print(
                f"{path.stem + ', ' + name:32}{changed:9.1%}{ours:9.0f}{theirs:9.0f}{ours / theirs:18.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
