"""Which readers there are on this machine, and one dataset through one of them."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pascal_nm.common import memory
from pascal_nm.common.arrays import Array
from pascal_nm.data import Dataset
from pascal_nm.errors import TargetError
from pascal_nm.export import chain, unrolled
from pascal_nm.export.chain import Growth
from pascal_nm.export.rate import write_rate
from pascal_nm.hw_targets import evaluation
from pascal_nm.interop import runner
from pascal_nm.interop.serving import serving
from pascal_nm.network.graph import Graph
from pascal_nm.simulation import simulate

READERS = tuple(runner.LOADERS)


@dataclass(frozen=True)
class Outcome:
    """What a reader made of a file.

    Attributes:
        reader: its name.
        timesteps: for how long each image was shown; None for the unrolled form, which needs one.
        images: how many were run.
        agreement: share of the images whose class is the source network's.
        accuracy: share of right classes.
        load: seconds to read the file, mean over the batches.
        run: seconds to run all images.
        levels: of the unrolled form: levels compared, in the populations that the reader
            lets one look into.
        differing: levels among them that are not the source network's.
        growth: of the network in the file.
        version: of the reader.
        error: the reader's last line, where it failed; then the figures are NaN.
    """

    reader: str
    timesteps: int | None
    images: int
    agreement: float
    accuracy: float
    load: float
    run: float
    levels: int
    differing: int
    growth: Growth
    version: str = ""
    error: str = ""


def python_of(reader: str, environments: Path) -> Path | None:
    """The Python that has a reader: ``environments/READER/bin/python``, or this one.

    None if neither has it.
    """
    own = environments / reader / "bin" / "python"
    if own.exists():
        return own
    return Path(sys.executable) if importlib.util.find_spec(reader) is not None else None


def evaluate(
    reader: str,
    python: Path,
    graph: Graph,
    data: Dataset,
    timesteps: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Write a graph's file for a reader, and run a dataset through the reader, from the disk.

    Args:
        reader: one of :data:`READERS`.
        python: the interpreter that has it.
        graph: the network; what its source network answers is computed from it in closed form.
        data: images.
        timesteps: of the ``rate`` form; None for the ``unrolled`` form, whose levels are compared
            one by one, too.
        progress: called with (images done, images in all).

    Raises:
        ConversionError: the network has no such form, or would not fit in memory.
        DataError: the images do not fit the network.
    """
    evaluation.check(graph, data)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.nir"
        if timesteps is None:
            growth = unrolled.write_unrolled(graph, path, reader)
        else:
            growth = write_rate(graph, path, timesteps, reader)
        try:
            with serving(reader, [str(python), runner.__file__, reader, str(path)]) as ask:
                return _evaluated(reader, ask, graph, data, timesteps, growth, Path(folder), progress)
        except TargetError as error:
            nan = float("nan")
            return Outcome(reader, timesteps, len(data), nan, nan, nan, nan, 0, 0, growth, error=str(error))


def _evaluated(
    reader: str,
    ask: Callable[[dict[str, Any]], dict[str, Any]],
    graph: Graph,
    data: Dataset,
    timesteps: int | None,
    growth: Growth,
    folder: Path,
    progress: Callable[[int, int], None] | None,
) -> Outcome:
    files = {name: str(folder / name) for name in ("inputs.npy", "outputs.npy", "levels.npz")}
    given, expected, replies, compared = [], [], [], 0
    size = memory.batch_size(growth.neurons[1], memory.KEPT)
    for pixels, _ in evaluation.shown(data, size, progress):
        inputs = graph.taken(pixels)
        source, currents = simulate.counts(graph, inputs), graph.currents(inputs)
        np.save(files["inputs.npy"], currents.reshape(len(currents), *_image(currents)))
        request = {"inputs": files["inputs.npy"], "outputs": files["outputs.npy"], "timesteps": timesteps or 1}
        request |= {"levels": None, "copies": {}}
        if timesteps is None:
            levels: dict[str, Any] = dict(source.counts)
            np.savez(files["levels.npz"], **levels)
            request |= {"levels": files["levels.npz"], "copies": chain.copies(graph, unrolled.coding(reader))}
        reply = ask(request)
        replies.append(reply)
        compared += sum(source.counts[name].size for name in reply["differing"])
        given.append(np.load(files["outputs.npy"]).argmax(1))
        expected.append(source.predictions)
    answers = np.concatenate(given)
    return Outcome(
        reader,
        timesteps,
        len(data),
        agreement=float(np.mean(answers == np.concatenate(expected))),
        accuracy=float(np.mean(answers == data.labels)),
        load=sum(reply["load"] for reply in replies) / len(replies),
        run=sum(reply["run"] for reply in replies),
        levels=compared,
        differing=sum(sum(reply["differing"].values()) for reply in replies),
        growth=growth,
        version=replies[0]["version"],
    )


def _image(currents: Array) -> tuple[int, ...]:
    return currents.shape[1:] if currents.ndim == 4 else (currents.shape[1], 1, 1)
