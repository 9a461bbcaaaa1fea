"""A bundle of threshold copies in NengoLoihi: its emulator of the chip, or a board behind it.

It is started by ``python run_nengo_loihi.py FOLDER BITS.npy ANSWERS.npz [--board]``, and needs
NumPy and nengo_loihi (1.1.0, https://github.com/nengo/nengo-loihi) alone: it is a part of every
such bundle. ``BITS.npy`` holds what the host injects (N, planes, *input shape), 0 and 1; one image
comes in every timestep. ``ANSWERS.npz`` gets ``count_NAME`` (N, *shape), the copies of each neuron
that spiked, and ``potential`` (N, outputs).

Every register is set as the arrays of the bundle have it: NengoLoihi's own choice of mantissas and
exponents is not asked. Decays are full; what a decay of 4,095 of 4,096 leaves of a potential is 0
here, because potentials are kept at 0 or above, and none that stays is above the threshold.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

Array = Any

CHUNK = 20
"""Timesteps between two readings of all spikes."""

VERSION = "1.1.0"


def blocks(program: dict[str, Any], arrays: dict[str, Array]) -> tuple[Any, list[Any], list[Any]]:
    """A model with a block for each core; its blocks, and its inputs, one for each delay."""
    from nengo_loihi.block import Axon, LoihiBlock, Synapse
    from nengo_loihi.builder import Model
    from nengo_loihi.inputs import SpikeInput

    model, found = Model(), []
    shift = program["limits"]["shift"]
    edges = arrays["core_first"]
    where: dict[int, tuple[Any, int]] = {}
    for core in range(len(edges) - 1):
        mine = slice(int(edges[core]), int(edges[core + 1]))
        n = mine.stop - mine.start
        block = LoihiBlock(n, label=f"core {core}")
        c = block.compartment
        c.decay_u, c.decay_v = (np.full(n, 4095, np.int32) for _ in range(2))
        c.refract_delay = np.ones(n, np.int32)
        c.bias = (arrays["bias"][mine].astype(np.int64) << arrays["bias_exponent"][mine]).astype(np.int32)
        c.vth = (arrays["threshold"][mine].astype(np.int64) << shift).astype(np.int32)
        c.vmin, c.vmax = 0, 2**23 - 1
        c.noise_exp, c.noise_offset = 1, 0
        c.scale_u = c.scale_v = False
        axons = np.flatnonzero(arrays["axon_core"] == core)
        for exponent in np.unique(arrays["axon_exponent"][axons]):
            here = axons[arrays["axon_exponent"][axons] == exponent]
            lists, which = np.unique(arrays["axon_list"][here], return_inverse=True)
            spans = [slice(*arrays["list_first"][[i, i + 1]]) for i in lists]
            synapse = Synapse(len(here), label=f"core {core}, exponent {exponent}")
            weights = [arrays["list_weight"][s].astype(np.int32) * 2 ** (shift + int(exponent)) for s in spans]
            synapse.axon_to_weight_map = which.reshape(-1)
            synapse.axon_compartment_bases = arrays["axon_offset"][here].astype(np.int32)
            indices = [arrays["list_compartment"][s].astype(np.int32) for s in spans]
            synapse._set_weights_indices(weights, indices, np.int32)
            synapse.format(weight_exp=int(exponent))
            block.add_synapse(synapse)
            where.update({int(axon): (synapse, i) for i, axon in enumerate(here)})
        model.add_block(block)
        found.append(block)
    lines = int(np.prod(program["input"])) * program["host"]["planes"]
    inputs = [SpikeInput(lines, label=f"bits of pixels, {delay} timesteps late") for delay in program["host"]["delays"]]
    _connect(arrays, found, inputs, where, lines, Axon)
    for each in inputs:
        model.add_input(each)
    return model, found, inputs


def _connect(arrays: dict[str, Array], found: list[Any], inputs: list[Any], where: Any, lines: int, axon: Any) -> None:
    """Give blocks and inputs axons: one object for all that leads onto one set of synapses."""
    edges = arrays["core_first"]
    groups: dict[tuple[int, int], dict[int, list[tuple[int, int]]]] = {}
    for source, end in zip(arrays["route_source"].tolist(), arrays["route_axon"].tolist(), strict=True):
        if source < 0:
            at, number = divmod(-1 - source, lines)
            at = -1 - at
        else:
            at = int(np.searchsorted(edges, source, "right")) - 1
            number = source - int(edges[at])
        synapse, index = where[end]
        groups.setdefault((at, id(synapse)), {}).setdefault(number, []).append((index, end))
    for (at, _), ends in groups.items():
        owner = inputs[-1 - at] if at < 0 else found[at]
        size = owner.n_neurons
        # One compartment may lead onto several axons of one set of synapses: each takes an object.
        for turn in range(max(map(len, ends.values()))):
            leads = {number: each[turn] for number, each in ends.items() if len(each) > turn}
            made = axon(len(leads))
            made.target = where[next(iter(leads.values()))[1]][0]
            table = np.full(size, -1, np.int32)
            for number, (index, _) in leads.items():
                table[number] = index
            made.set_compartment_axon_map(table)
            owner.add_axon(made)


def run(folder: Path, bits: Array, board: bool = False, told: Any = None) -> dict[str, Array]:
    """What a bundle answers to bits (N, planes, *input shape); see the module."""
    from nengo_loihi.builder.validate import validate_block
    from nengo_loihi.probe import LoihiProbe

    program = json.loads((folder / "program.json").read_text(encoding="utf-8"))
    with np.load(folder / "compartments.npz", allow_pickle=False) as file:
        arrays = dict(file)
    model, found, inputs = blocks(program, arrays)
    for block in found:
        validate_block(block)
    layers = program["layers"]
    edges, of = arrays["core_first"], arrays["population"]
    reads = [bool(layers[of[first]].get("reads_out")) for first in edges[:-1]]
    spikes, currents = (
        LoihiProbe([b for b, r in zip(found, reads, strict=True) if r == out], key)
        for key, out in (("spiked", False), ("current", True))
    )
    for probe in (spikes, currents):
        model.add_probe(probe)
    n, depth = len(bits), max(layer["depth"] for layer in layers)
    flat = bits.reshape(n, -1)
    for each, delay in zip(inputs, program["host"]["delays"], strict=True):
        for image in range(n):  # what is injected in timestep t arrives in the next one
            each.add_spikes(1 + image + delay, np.flatnonzero(flat[image]), permanent=board)
    steps = n + depth
    seen: list[Array] = []
    summed: list[Array] = []
    with _simulator(model, board) as simulator:
        for start in range(0, steps, CHUNK):
            simulator.run_steps(min(CHUNK, steps - start))
            for probe, kept in ((spikes, seen), (currents, summed)):
                values = np.asarray(simulator.collect_probe_output(probe))
                kept.append(values.astype(bool if probe is spikes else np.int64))
            if told is not None:
                told(min(start + CHUNK, n), n)
    return _answers(program, arrays, reads, np.concatenate(seen), np.concatenate(summed), n)


def _simulator(model: Any, board: bool) -> Any:
    if not board:
        from nengo_loihi.emulator.interface import EmulatorInterface

        class Strict(EmulatorInterface):  # type: ignore[misc]  # it has no types
            """An emulator in which an overflow is an error."""

            strict = True

        with warnings.catch_warnings():  # it fills arrays of integers with NaN before it fills them
            warnings.simplefilter("ignore", RuntimeWarning)
            return Strict(model)
    from nengo_loihi.hardware.allocators import Greedy
    from nengo_loihi.hardware.interface import HardwareInterface

    chips = -(-len(model.blocks) // 128)
    return HardwareInterface(model, use_snips=False, n_chips=chips, allocator=Greedy())


def _answers(
    program: dict[str, Any], arrays: dict[str, Array], reads: list[bool], seen: Array, summed: Array, n: int
) -> dict[str, Array]:
    """Counts and potentials by name, of all timesteps' spikes and of the readouts' currents."""
    edges, found, potentials = arrays["core_first"], {}, {}
    cores = [np.arange(first, stop) for first, stop in itertools.pairwise(edges)]
    columns = {}
    for out in (False, True):
        held = [core for core, r in zip(cores, reads, strict=True) if r == out]
        columns[out] = np.concatenate(held) if held else np.zeros(0, np.int64)
    for number, layer in enumerate(program["layers"]):
        out, size = bool(layer.get("reads_out")), int(np.prod(layer["shape"]))
        mine = np.flatnonzero(arrays["population"][columns[out]] == number)
        neuron = arrays["neuron"][columns[out][mine]]
        # Timestep 1 has index 0: an image comes in it, and reaches depth d in timestep 1 + d.
        when = slice(layer["depth"], layer["depth"] + n)
        total = np.zeros((size, n), np.int64)
        np.add.at(total, neuron, (summed if out else seen)[when][:, mine].T)
        if out:
            potentials[layer["name"]] = total.T // layer["unit"] + np.asarray(program["biases"][layer["name"]])
        else:
            found[f"count_{layer['name']}"] = total.T.reshape(n, *layer["shape"]).astype(np.int16)
    return {**found, "potential": np.concatenate([potentials[name] for name in program["outputs"]], 1)}


def main(arguments: list[str]) -> int:
    """The command of the module's text."""
    board = "--board" in arguments
    paths = [each for each in arguments if each != "--board"]
    if len(paths) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    folder, given, answers = map(Path, paths)
    try:
        bits = np.load(given, allow_pickle=False)
        program = json.loads((folder / "program.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    shape = (program["host"]["planes"], *program["input"])
    if bits.shape[1:] != shape or not len(bits) or not np.isin(bits, (0, 1)).all():
        sizes = ", ".join(map(str, ("N", *shape)))
        print(f"error: {given} has to hold 0 and 1 of shape ({sizes}): host.bits makes them", file=sys.stderr)
        return 2
    if board and importlib.util.find_spec("nxsdk") is None:
        print(
            "error: --board needs NxSDK (0.9.0 to 1.0.0), which Intel gives to members of its community",
            file=sys.stderr,
        )
        return 2

    def told(done: int, of: int) -> None:
        print(json.dumps({"done": done, "of": of}), flush=True)

    np.savez_compressed(answers, **run(folder, bits, board, told))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
