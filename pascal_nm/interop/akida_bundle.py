"""Bundles for Akida in BrainChip's software, which lives in an environment of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import pascal_nm
from pascal_nm.common.arrays import Array
from pascal_nm.errors import DataError, NotInstalledError, TargetError
from pascal_nm.hw_targets.akida import device, files
from pascal_nm.hw_targets.akida.files import Bundle
from pascal_nm.hw_targets.akida.program import AkidaProgram
from pascal_nm.interop.serving import serving
from pascal_nm.network.graph import Graph
from pascal_nm.simulation import simulate

SIMULATOR = "akida"

_RUNNER = Path(__file__).with_name("akida_runner.py")

_BATCH = 500
"""Images that are run together."""


def environments() -> Path:
    """Where `make simulators` puts the environments: beside the package, in a checkout."""
    return Path(pascal_nm.__file__).parents[1] / ".simulators"


@dataclass(frozen=True)
class Software:
    """BrainChip's software, running, with what it can be asked.

    Every function raises TargetError where it fails, in its own words.
    """

    ask: Callable[[dict[str, Any]], dict[str, Any]]

    def build(self, folder: Path) -> str:
        """Write ``model.fbz`` of the arrays in a folder; gives the software's version."""
        return str(self._asked(do="build", folder=str(folder))["version"])

    def differences(self, folder: Path) -> list[str]:
        """What ``model.fbz`` holds that the arrays beside it do not, in words."""
        return list(self._asked(do="compare", folder=str(folder))["differences"])

    def version(self, folder: Path) -> str:
        """Of the software that reads the model."""
        return str(self._asked(do="compare", folder=str(folder))["version"])

    def mapped(self, folder: Path, device: str) -> dict[str, Any]:
        """What the model takes of a chip: ``processors`` of ``of``, ``program_bytes``, by layer."""
        return self._asked(do="map", folder=str(folder), device=device)

    def sent(self, folder: Path, images: Array) -> dict[str, Array]:
        """What each layer sends for images as the chip takes them, in the software backend."""
        with tempfile.TemporaryDirectory() as place:
            given, found = Path(place) / "images.npy", Path(place) / "outputs.npz"
            np.save(given, images)
            self._asked(do="run", folder=str(folder), images=str(given), outputs=str(found))
            with np.load(found, allow_pickle=False) as outputs:
                return dict(outputs)

    def _asked(self, **request: str) -> dict[str, Any]:
        reply = self.ask(
            {key: str(Path(value).resolve()) if key == "folder" else value for key, value in request.items()}
        )
        if "error" in reply:
            raise TargetError(f"BrainChip's software says: {reply['error']}")
        return reply


@contextmanager
def software(place: Path | None = None) -> Iterator[Software]:
    """BrainChip's software in a process of its own.

    Args:
        place: the folder of environments; :func:`environments` where it is None.

    Raises:
        NotInstalledError: it is not there.
    """
    python = (place or environments()) / SIMULATOR / "bin" / "python"
    if not python.exists():
        raise NotInstalledError(f"BrainChip's software is not in {python.parents[1]}: `make simulators` puts it there")
    with serving("akida", [str(python), str(_RUNNER), "--serve"]) as ask:
        yield Software(ask)


def write(
    folder: str | Path, program: AkidaProgram, graph: Graph, about: Mapping[str, Any], place: Path | None = None
) -> dict[str, Any]:
    """Write a bundle with its ``model.fbz``; gives what the model takes of the chip.

    The model was read back from its file, and sends what ``check.npz`` holds.

    Args:
        folder: as :func:`pascal_nm.export.bundle.write_bundle` takes it.
        program: of ``graph``.
        graph: the integer network.
        about: what else the manifest says.
        place: as for :func:`software`.

    Raises:
        TargetError: the network does not fit the chip, in the words of BrainChip's mapper; or its
            software is not installed.
    """
    found: dict[str, Any] = {}  # in the manifest, too
    with software(place) as vendor:

        def model(beside: Path) -> dict[str, Any]:
            vendor.build(beside)
            if wrong := vendor.differences(beside):
                raise TargetError(f"model.fbz is not what was written: {wrong[0]}")
            check = files.checks(program)
            sent = vendor.sent(beside, check["images"])
            for layer in program.layers:
                if not np.array_equal(sent[layer.name], check[f"sent_{layer.name}"]):
                    raise TargetError(f"BrainChip's software counts otherwise in layer {layer.name}")
            found.update(vendor.mapped(beside, device.named(program.chip).device))
            return {"mapped": found}

        files.write(folder, program, graph, about, model, _RUNNER.read_text(encoding="utf-8"))
    return found


@dataclass
class Comparison:
    """What a simulator made of a bundle, beside its integer network.

    Attributes:
        version: of the simulator.
        images: how many were run.
        compared: values by population: counts, and potentials of the output.
        differing: those among them that are not the network's.
        agreeing: images with the network's answer.
        right: images with the right answer.
    """

    version: str = ""
    images: int = 0
    compared: dict[str, int] = field(default_factory=dict)
    differing: dict[str, int] = field(default_factory=dict)
    agreeing: int = 0
    right: int = 0

    @property
    def exact(self) -> bool:
        """No value differs."""
        return not any(self.differing.values())


def compared(
    folder: str | Path,
    pixels: Array,
    labels: Array,
    place: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Bundle, Comparison]:
    """Run images from a bundle's ``model.fbz``, and compare what every layer sends.

    It is compared with the counts of the integer network in ``network.nir``, in closed form.

    Args:
        folder: the bundle.
        pixels: stored images (N, C, rows, columns).
        labels: (N,).
        place: as for :func:`software`.
        progress: called with (images done, images in all).

    Raises:
        FileError: it is no whole bundle.
        TargetError: ``model.fbz`` does not hold the bundle's arrays.
    """
    found, result = files.executed(folder), Comparison()
    if not len(pixels):
        raise DataError("there are no images to compare")
    program, graph = found.program, found.graph
    with software(place) as vendor:
        result.version = vendor.version(Path(folder))
        if wrong := vendor.differences(Path(folder)):
            raise TargetError(f"{folder} is no whole bundle: in model.fbz, {'; '.join(wrong[:3])}")
        for first in range(0, len(pixels), _BATCH):
            part = slice(first, first + _BATCH)
            images = program.host.images(pixels[part])
            counts, potential = program.answer(vendor.sent(Path(folder), images))
            expected = simulate.counts(graph, graph.pixels(pixels[part]))
            pairs = {name: (values, expected.counts[name]) for name, values in counts.items()}
            pairs[graph.output.name] = (potential, expected.potential)
            for name, (values, wanted) in pairs.items():
                result.compared[name] = result.compared.get(name, 0) + wanted.size
                result.differing[name] = result.differing.get(name, 0) + int(np.count_nonzero(values != wanted))
            answers = potential.argmax(1)
            result.images += len(images)
            result.agreeing += int(np.count_nonzero(answers == expected.potential.argmax(1)))
            result.right += int(np.count_nonzero(answers == labels[part]))
            if progress is not None:
                progress(result.images, len(pixels))
    return found, result
