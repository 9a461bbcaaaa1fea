"""Which readers there are on this machine, and one dataset through one of them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pascal_nm import simulate
from pascal_nm.data import Dataset
from pascal_nm.errors import TargetError
from pascal_nm.export.chain import Growth
from pascal_nm.export.unrolled import write_unrolled
from pascal_nm.graph import Array, Graph
from pascal_nm.hw_targets import evaluation
from pascal_nm.interop import runner

READERS = tuple(runner.LOADERS)

BATCH = 250
"""Images that a reader gets at once."""


@dataclass(frozen=True)
class Outcome:
    """What a reader made of a file.

    Attributes:
        reader: its name.
        agreement: share of the images whose class is the source network's.
        accuracy: share of right classes.
        seconds: of loading and running, all images.
        growth: of the unrolled network.
        error: the reader's last line, where it failed; then the figures are NaN.
    """

    reader: str
    agreement: float
    accuracy: float
    seconds: float
    growth: Growth
    error: str = ""


def python_of(reader: str, environments: Path) -> Path | None:
    """The Python that has a reader: ``environments/READER/bin/python``, or this one; None if neither has it."""
    own = environments / reader / "bin" / "python"
    if own.exists():
        return own
    return Path(sys.executable) if importlib.util.find_spec(reader) is not None else None


def evaluate(
    reader: str,
    python: Path,
    graph: Graph,
    data: Dataset,
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Unroll a graph, and run a dataset through one reader, from the file on disk.

    Args:
        reader: one of :data:`READERS`.
        python: the interpreter that has it.
        graph: the network; what its source network answers is computed from it in closed form.
        data: images.
        progress: called with (images done, images in all).

    Raises:
        ConversionError: the network has no unrolled form, or would not fit in memory.
        DataError: the images do not fit the network.
    """
    evaluation.check(graph, data)
    assert graph.preprocessing is not None, "check refuses a graph without"
    answers, expected = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "unrolled.nir"
        growth = write_unrolled(graph, path, reader)
        start = time.perf_counter()
        for pixels, _ in data.batches(BATCH):
            inputs = graph.preprocessing(pixels)
            try:
                answers.append(
                    _answers(reader, python, path, graph.currents(inputs).reshape(len(inputs), *_image(inputs)))
                )
            except TargetError as error:
                return Outcome(reader, np.nan, np.nan, np.nan, growth, str(error))
            expected.append(simulate.counts(graph, inputs).predictions)
            if progress is not None:
                progress(sum(map(len, answers)), len(data))
    given, right = np.concatenate(answers), np.concatenate(expected)
    seconds = time.perf_counter() - start
    return Outcome(reader, float(np.mean(given == right)), float(np.mean(given == data.labels)), seconds, growth)


def _image(inputs: Array) -> tuple[int, ...]:
    return inputs.shape[1:] if inputs.ndim == 4 else (inputs.shape[1], 1, 1)


def _answers(reader: str, python: Path, path: Path, inputs: Array) -> Array:
    """Classes from a reader in its own process."""
    given, result = path.with_name("inputs.npy"), path.with_name("outputs.npy")
    np.save(given, inputs)
    command = [str(python), runner.__file__, reader, str(path), str(given), str(result)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise TargetError(lines[-1] if lines else f"{reader} ended with code {done.returncode}")
    return np.asarray(np.load(result).argmax(1))
