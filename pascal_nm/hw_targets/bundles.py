"""Bundles of every form, read alike: what a chip is to answer, and where an answer differs.

===========  ======================================================================================
``stages``   the neurons of this package, for programmable chips
             (:mod:`pascal_nm.hw_targets.program_files`)
``copies``   threshold copies, for fixed compartments (:mod:`pascal_nm.hw_targets.copies`)
``akida``    layers of quantized activations (:mod:`pascal_nm.hw_targets.akida`)
===========  ======================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.errors import DataError
from pascal_nm.export import bundle
from pascal_nm.hw_targets import program_files
from pascal_nm.hw_targets.akida import files as akida_files
from pascal_nm.hw_targets.akida.program import AkidaProgram
from pascal_nm.hw_targets.copies import files as copies_files
from pascal_nm.network.graph import Graph, Inputs
from pascal_nm.simulation import schedule as schedules
from pascal_nm.simulation import simulate
from pascal_nm.simulation.result import RunResult


@dataclass(frozen=True)
class Bundle:
    """A folder of `pascal-nm deploy` that was read, and ran to what it was written with.

    Attributes:
        folder: it.
        form: one of the module's table.
        chip: its name.
        graph: the integer network.
        check: what ``check.npz`` holds.
        given: the name of the array of inputs in it.
        expected: what the chip is to answer to such inputs, by name, in the order of layers.
        program: what is executed.
        counted: executes it on inputs, as the network takes them: gives the result, and by event
            how many there were, where these are counted.
    """

    folder: Path
    form: str
    chip: str
    graph: Graph
    check: Mapping[str, Array]
    given: str
    expected: Callable[[Array], Mapping[str, Array]]
    program: Any
    counted: Callable[[Inputs], tuple[RunResult, dict[str, int]]]


def form_of(folder: str | Path) -> str:
    """The form of a bundle, from its manifest.

    Raises:
        FileError: it is none.
    """
    content = bundle.read_json(Path(folder) / bundle.MANIFEST) if bundle.is_bundle(Path(folder)) else {}
    return str(content.get("form", "stages"))


def opened(folder: str | Path) -> Bundle:
    """A bundle of any form, read, checked and run.

    Raises:
        FileError: it is no whole bundle, or does not run to its counts.
    """
    place, form = Path(folder), form_of(folder)
    if form == akida_files.FORM:
        found = akida_files.executed(place)
        program = found.program

        def sent(images: Array) -> dict[str, Array]:
            return {f"sent_{layer.name}": values for layer, values in program(images)}

        def layered(inputs: Inputs) -> tuple[RunResult, dict[str, int]]:
            return _layered(found.graph, program, inputs), {}

        return Bundle(place, form, program.chip, found.graph, found.check, "images", sent, program, layered)
    if form == copies_files.FORM:
        copies = copies_files.executed(place)
        graph, chip = copies.network, copies.chip
        executed: Any = copies
    else:
        form = "stages"
        executed = program_files.executed(place)
        graph, chip = executed.graph, executed.program.chip
    check = bundle.read_arrays(place / "check.npz")

    def counts(inputs: Array) -> dict[str, Array]:
        run = simulate.counts if graph.timing.stop is None else simulate.steps
        found = program_files.checks(inputs, run(graph, graph.input.inputs(inputs)))
        return {name: values for name, values in found.items() if name != "inputs"}

    def run(inputs: Inputs) -> tuple[RunResult, dict[str, int]]:
        return executed.run(inputs), {}

    counted = copies.counted if form == copies_files.FORM else run
    return Bundle(place, form, chip, graph, check, "inputs", counts, executed, counted)


def _layered(graph: Graph, program: AkidaProgram, inputs: Inputs) -> RunResult:
    """What a program for Akida answers to inputs of its network."""
    mean = np.asarray(program.host.mean, np.int64).reshape(-1, 1, 1)
    pixels = (graph.currents(inputs).astype(np.int64) + mean).astype(np.uint8)
    counts, potential = program.answer({layer.name: values for layer, values in program(program.host.images(pixels))})
    scale = np.broadcast_to(graph.output.threshold, graph.output.shape).reshape(-1)
    return RunResult(counts, potential, scale, {}, schedules.of(graph))


@dataclass(frozen=True)
class Difference:
    """The first value in which answers differ.

    Attributes:
        layer: the name of the array: ``count_NAME``, ``sent_NAME`` or ``potential``.
        image: its number, from 0.
        neuron: its place, without the batch.
        found: the answer.
        wanted: what it should be.
        values: how many of the layer's values differ, in all images.
        images: in how many images some do.
    """

    layer: str
    image: int
    neuron: tuple[int, ...]
    found: int
    wanted: int
    values: int
    images: int

    def __str__(self) -> str:
        """In words."""
        return (
            f"{self.layer} of image {self.image} differs first: neuron {self.neuron} gave {self.found}, and "
            f"{self.wanted} is right; {self.values:,} of its values in {self.images:,} image(s) differ"
        )


def differences(held: Bundle, answers: Mapping[str, Array]) -> tuple[dict[str, int], list[Difference]]:
    """Compare a board's answers with what they should be.

    Args:
        held: the bundle.
        answers: arrays by the names of ``check.npz``, those that the board gives; for its inputs,
            or for others that are among them.

    Returns:
        By array how many values were compared, in the order of layers; and where some differ.

    Raises:
        DataError: no array has a name of the bundle's, or one has another shape, or fractions.
    """
    given = answers.get(held.given, held.check[held.given])
    like = held.check[held.given]
    if given.dtype.kind not in "iu" or given.shape[1:] != like.shape[1:] or not len(given):
        shape = ", ".join(map(str, ("N", *like.shape[1:])))
        raise DataError(f"{held.given!r} of the answers has to be whole numbers of shape ({shape}), N at least 1")
    if held.given == "inputs" and np.abs(given.astype(np.int64)).max() > held.graph.input.levels:
        raise DataError("the inputs of the answers are beyond the range of the network")
    expected = held.expected(given.astype(like.dtype))
    known = [name for name in expected if name in answers]
    if not known:
        raise DataError(f"the answers hold none of {', '.join(expected)}")
    if unknown := set(answers) - set(expected) - set(held.check):
        raise DataError(f"the answers hold {min(unknown)!r}, which is no array of {held.folder}")
    compared, found = {}, []
    for name in known:
        wanted, values = np.asarray(expected[name]), answers[name]
        if values.shape != wanted.shape:
            hint = "" if held.given in answers else f"; put the inputs that they answer into the file as {held.given!r}"
            raise DataError(f"{name!r} of the answers has shape {values.shape}, and {wanted.shape} is expected{hint}")
        if values.dtype.kind == "f" and not np.all(np.isfinite(values) & (values == np.rint(values))):
            raise DataError(f"{name!r} of the answers holds values that are no whole numbers")
        compared[name] = int(wanted.size)
        wrong = values != wanted
        if wrong.any():
            image, *neuron = (int(i) for i in np.argwhere(wrong)[0])
            at = (image, *neuron)
            images = int(wrong.reshape(len(wrong), -1).any(1).sum())
            found.append(
                Difference(name, image, tuple(neuron), int(values[at]), int(wanted[at]), int(wrong.sum()), images)
            )
    return compared, found
