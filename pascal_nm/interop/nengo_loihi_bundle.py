"""Bundles of threshold copies in NengoLoihi, which lives in an environment of its own."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.errors import NotInstalledError, TargetError
from pascal_nm.hw_targets import evaluation
from pascal_nm.hw_targets.copies import files
from pascal_nm.hw_targets.copies.program import CopiesProgram
from pascal_nm.interop import nengo_loihi_runner
from pascal_nm.interop.akida_bundle import Comparison, environments
from pascal_nm.simulation import simulate

SIMULATOR = "nengo-loihi"

RUNNER = Path(nengo_loihi_runner.__file__)
"""What every such bundle holds as ``run_nengo_loihi.py``."""


def answers(
    folder: Path, bits: Array, place: Path | None = None, progress: Callable[[int, int], None] | None = None
) -> dict[str, Array]:
    """What the emulator answers to a bundle's bits, by the names of its ``check.npz``.

    Args:
        folder: the bundle; all that runs comes from there.
        bits: (N, planes, *input shape).
        place: the folder of environments; that of `make simulators` where it is None.
        progress: called with (images done, images in all).

    Raises:
        NotInstalledError: NengoLoihi is not there.
        TargetError: it failed; the message is its last line.
    """
    python = (place or environments()) / SIMULATOR / "bin" / "python"
    if not python.exists():
        raise NotInstalledError(f"NengoLoihi is not in {python.parents[1]}: `make simulators` puts it there")
    with tempfile.TemporaryDirectory() as temporary, tempfile.TemporaryFile("w+") as errors:
        given, found = Path(temporary) / "bits.npy", Path(temporary) / "answers.npz"
        np.save(given, bits)
        command = [str(python), str(folder / "run_nengo_loihi.py"), str(folder), str(given), str(found)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            assert process.stdout is not None, "it is a pipe"
            try:
                for line in process.stdout:
                    if progress is not None and line.startswith("{"):
                        told = json.loads(line)
                        progress(told["done"], told["of"])
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            errors.seek(0)
            lines = errors.read().strip().splitlines()
            raise TargetError(f"NengoLoihi failed: {lines[-1] if lines else f'code {process.returncode}'}")
        with np.load(found, allow_pickle=False) as file:
            return dict(file)


def compared(
    folder: Path,
    data: Any,
    place: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[CopiesProgram, Comparison]:
    """Run images from a bundle in the emulator, one in every timestep, and compare all counts.

    They are compared with those of the integer network in ``network.nir``, in closed form.

    Args:
        folder: the bundle.
        data: a dataset; None for the inputs of ``check.npz``.
        place: as for :func:`answers`.
        progress: likewise.

    Raises:
        FileError: it is no whole bundle.
        TargetError: as :func:`answers`.
    """
    program, check, _ = files.read(folder)
    network, result = program.network, Comparison(version=nengo_loihi_runner.VERSION)
    given: list[tuple[Any, Array]]
    if data is None:
        given = [(network.input.inputs(check["inputs"]), np.full(len(check["inputs"]), -1))]
    else:
        given = list(evaluation.as_shown(network, data, evaluation.batch_images(network)))
    found = answers(folder, np.concatenate([program.bits(inputs) for inputs, _ in given]), place, progress)
    first = 0
    for inputs, labels in given:
        expected = simulate.counts(network, inputs)
        mine = slice(first, first + len(labels))
        pairs = {name: (found[f"count_{name}"][mine], count) for name, count in expected.counts.items()}
        potential = found["potential"][mine]
        pairs["potential"] = (potential, expected.potential)
        for name, (values, wanted) in pairs.items():
            result.compared[name] = result.compared.get(name, 0) + wanted.size
            result.differing[name] = result.differing.get(name, 0) + int(np.count_nonzero(values != wanted))
        classes = (potential / expected.scale)[:, : expected.classes].argmax(1)
        result.images += len(labels)
        result.agreeing += int(np.count_nonzero(classes == expected.predictions))
        result.right += int(np.count_nonzero(classes == labels))
        first += len(labels)
    return program, result
