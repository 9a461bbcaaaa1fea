"""A program of threshold copies in files: what a person with a board loads.

=======================  ===========================================================================
``program.json``         layers, what the host injects, limits of the chip
``compartments.npz``     registers, lists of synapses, axons and routes
                         (:data:`pascal_nm.hw_targets.copies.program.ARRAYS`)
``check.npz``            a few inputs with every spike count and the potentials, and the bits that
                         the host injects for them
``network.nir``          the integer network that it is (:mod:`pascal_nm.export.nir_format`)
``reference.c``          the same network in C (:mod:`pascal_nm.export.c_reference`)
``host.py``              what is done before the chip, in NumPy
``run_nengo_loihi.py``   builds it for NengoLoihi, and runs it in the emulator or on a board
``README.md``            how to use them
``manifest.json``        versions, chip, and the SHA-256 of each file
=======================  ===========================================================================
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.errors import FileError, PascalError
from pascal_nm.export import bundle, c_reference
from pascal_nm.export.nir_format import read_nir, write_nir
from pascal_nm.hw_targets import tables
from pascal_nm.hw_targets.chip import Chip
from pascal_nm.hw_targets.copies.lowering import limits_of, placed
from pascal_nm.hw_targets.copies.program import ARRAYS, CopiesProgram, Host, Layer, Limits
from pascal_nm.hw_targets.program_files import checks
from pascal_nm.hw_targets.tables import Within
from pascal_nm.network.graph import Graph
from pascal_nm.simulation import simulate

FORM = "copies"
"""What the manifest calls a bundle of this kind."""

FILES = (
    *("program.json", "compartments.npz", "check.npz", "network.nir", "reference.c"),
    *("host.py", "run_nengo_loihi.py", "README.md"),
)

CHECKED = 4
"""Inputs in ``check.npz``."""

Whole = Annotated[int, Within(-(1 << 62), 1 << 62)]


@dataclass(frozen=True)
class _Description:
    """What ``program.json`` holds."""

    chip: str
    limits: Limits
    input: tuple[Annotated[int, Within(1, 1 << 26)], ...]
    host: Host
    offset: tuple[Whole, ...]
    layers: tuple[Layer, ...]
    outputs: tuple[str, ...]
    biases: Mapping[str, tuple[Whole, ...]]


def described(program: CopiesProgram) -> _Description:
    """What ``program.json`` says of a program."""
    network = program.network
    return _Description(
        program.chip,
        program.limits,
        network.input.shape,
        program.host,
        tuple(int(x) for x in program.offset.reshape(-1)),
        program.layers,
        tuple(p.name for p in network.outputs),
        {name: tuple(int(x) for x in bias.reshape(-1)) for name, bias in program.biases.items()},
    )


def sample(network: Graph, number: int = CHECKED) -> Array:
    """Integer inputs of noise, within what the host of an integer network may inject."""
    p, pre = network.input, network.preprocessing
    low, high = np.full((2, *(1,) * len(p.shape)), p.levels) * np.asarray([-1, 1]).reshape(2, *(1,) * len(p.shape))
    zero = None if pre is None else p.zero(pre)
    if pre is not None and zero is not None:  # what pixels become, and nothing else
        low, high = np.maximum(low, np.ceil(-zero)), np.minimum(high, np.floor(pre.scale - zero))
    values = np.random.default_rng(0).random((number, *p.shape))
    return np.asarray(np.floor(low + values * (high - low + 1)), np.int64)


def write(folder: str | Path, program: CopiesProgram, about: Mapping[str, Any], runner: str) -> None:
    """Write a program, read it back, and execute what was read; the folder appears whole or not.

    Args:
        folder: as :func:`pascal_nm.export.bundle.write_bundle` takes it.
        program: it.
        about: what else the manifest says.
        runner: the text of ``run_nengo_loihi.py``.

    Raises:
        FileError: the folder cannot be written, or what was read gives other counts.
    """
    network = program.network
    integers = sample(network)
    inputs = network.input.inputs(integers)
    check = checks(integers, simulate.counts(network, inputs)) | {"bits": program.bits(inputs)}

    def files(place: Path) -> None:
        bundle.dump(place / "program.json", asdict(described(program)))
        np.savez_compressed(place / "compartments.npz", **program.arrays)  # type: ignore[arg-type]  # numpy's stub
        np.savez_compressed(place / "check.npz", **check)  # type: ignore[arg-type]
        write_nir(network, place / "network.nir")
        (place / "reference.c").write_text(c_reference.source_or_reason(network), encoding="utf-8")
        (place / "host.py").write_text(host(program), encoding="utf-8")
        (place / "run_nengo_loihi.py").write_text(runner, encoding="utf-8")
        (place / "README.md").write_text(_readme(program), encoding="utf-8")

    bundle.write_bundle(folder, files, {"form": FORM, "chip": program.chip, **about}, executed, FILES)


def executed(folder: str | Path) -> CopiesProgram:
    """A bundle that was read, and ran to the counts of its ``check.npz``.

    Raises:
        FileError: as :func:`read`; or it gave others.
    """
    program, check, _ = read(folder)
    inputs = program.network.input.inputs(check["inputs"])
    found = checks(check["inputs"], program.run(inputs)) | {"bits": program.bits(inputs)}
    if different := [name for name in found if not np.array_equal(found[name], check[name])]:
        raise FileError(f"{folder} does not run to the counts that it was written with: {different[0]} differs")
    return program


def read(folder: str | Path, chip: Chip | None = None) -> tuple[CopiesProgram, dict[str, Array], dict[str, Any]]:
    """The program, the arrays to check with, and the manifest of a bundle.

    Every register, list and route is what the network in ``network.nir`` gives within the limits
    that ``program.json`` names, so that nothing in the files is out of range.

    Args:
        folder: the bundle.
        chip: whose limits it must have; None for those that it names.

    Raises:
        FileError: a file is missing, is not the one that the manifest names by its checksum, or
            says something else than another; or the chip has other limits.
    """
    manifest = bundle.read_manifest(folder, FILES)
    try:
        place = Path(folder)
        said = _said(place / "program.json")
        network = read_nir(place / "network.nir")
        if not isinstance(network, Graph) or not network.is_integer:
            raise FileError("network.nir holds no integer network")
        if manifest.get("form") != FORM or manifest.get("chip") != said.chip:
            raise FileError("the manifest does not say the form and the chip that program.json does")
        if chip is not None and said.limits != limits_of(chip):
            raise FileError("program.json was made for a chip of other limits")
        program = placed(network, said.chip, said.limits)
        _compare(bundle.read_arrays(place / "compartments.npz"), program.arrays)
        if said != described(program):
            raise FileError("program.json is not what the network in network.nir becomes")
        for name, text in (
            ("host.py", host(program)),
            ("README.md", _readme(program)),
            ("reference.c", c_reference.source_or_reason(network)),
        ):
            if (place / name).read_text(encoding="utf-8") != text:
                raise FileError(f"{name} is not that of the network in network.nir")
        check = bundle.read_arrays(place / "check.npz")
        _check(check, program)
    except (PascalError, UnicodeDecodeError) as error:
        raise FileError(f"{folder} is no whole bundle: {error}") from error
    return program, check, manifest


def _said(path: Path) -> _Description:
    try:
        return tables.record(_Description, bundle.read_json(path))
    except (PascalError, TypeError) as error:
        raise FileError(f"{path.name}: {error}") from error


def _compare(found: Mapping[str, Array], made: Mapping[str, Array]) -> None:
    """That arrays are those that the network becomes."""
    if sorted(found) != sorted(made):
        raise FileError("compartments.npz does not hold the arrays of a program")
    for name, wanted in made.items():
        held = found[name]
        if held.dtype != wanted.dtype or held.shape != wanted.shape:
            raise FileError(f"compartments.npz holds {name!r} of type {held.dtype} and shape {held.shape}")
        wrong = np.flatnonzero(held != wanted)
        if len(wrong):
            raise FileError(
                f"compartments.npz is not the network in network.nir: {len(wrong)} of {held.size} numbers of "
                f"{name!r} differ, first number {wrong[0]} ({ARRAYS[name][1]}), {held[wrong[0]]} for {wanted[wrong[0]]}"
            )


def _check(check: Mapping[str, Array], program: CopiesProgram) -> None:
    """That ``check.npz`` holds inputs of the network, few of them, and the counts of some."""
    inputs, network = check.get("inputs"), program.network
    if inputs is None or inputs.dtype.kind != "i" or inputs.shape[1:] != network.input.shape or len(inputs) > 16:
        raise FileError("check.npz holds no inputs of this network")
    if np.abs(inputs.astype(np.int64)).max(initial=0) > network.input.levels:
        raise FileError("check.npz has inputs beyond the range of the network")
    wanted = {"inputs", "potential", "bits", *(f"count_{p.name}" for p in network.counted)}
    if set(check) != wanted:
        raise FileError("check.npz does not hold the arrays of this network")


def host(program: CopiesProgram) -> str:
    """The text of ``host.py``."""
    network, pre = program.network, program.network.preprocessing
    shape, offset = network.input.shape, [int(x) for x in program.offset.reshape(-1)]
    stored = pre is not None and network.input.zero(pre) is not None
    takes = f"stored pixels, whole numbers from 0 to {int(pre.scale)}" if pre is not None and stored else "integers"
    adds = [0] * len(offset) if stored else offset
    column = (-1, *(1,) * (len(shape) - 1))
    most = int(pre.scale) if pre is not None and stored else 2**program.host.planes - 1
    return f'''"""What is done before and after {program.chip}; needs NumPy alone."""

import numpy as np

CLASSES = {json.dumps(list(network.classes), ensure_ascii=True)}
SHAPE, PLANES, MOST = {shape}, {program.host.planes}, {most}
OFFSET = np.array({adds}, np.int64).reshape({column})  # makes inputs positive; 0 where they are pixels


def bits(values):
    """The spikes of images, uint8 (N, PLANES, *SHAPE), of {takes}: bit b of each in plane b."""
    values = np.asarray(values)
    whole = np.asarray(values, np.int64)
    if values.shape[1:] != SHAPE or np.any(values != whole):
        raise ValueError(f"whole numbers of shape (N, *{{SHAPE}}) are needed, not {{values.dtype}} of {{values.shape}}")
    values = whole + OFFSET
    if values.size and not 0 <= values.min() <= values.max() <= MOST:
        raise ValueError(f"numbers from {{-OFFSET.max()}} to {{MOST - OFFSET.max()}} are needed")
    return np.stack([(values >> b & 1).astype(np.uint8) for b in range(PLANES)], 1)


def answers(potential):
    """The class of each image, (N,): that of the largest potential, the first of equals."""
    return np.asarray(potential)[:, : {network.outputs[0].size}].argmax(1)
'''


def _readme(program: CopiesProgram) -> str:
    network, layers = program.network, program.layers
    rows = "\n".join(
        f"| `{layer.name}` | {'x'.join(map(str, layer.shape))} | {layer.copies} | {layer.depth} | {layer.unit} | "
        f"{'current read by the host' if layer.reads_out else 'spikes'} |"
        for layer in layers
    )
    arrays = "\n".join(f"| `{name}` | {kind} | {text} |" for name, (kind, text) in ARRAYS.items())
    lines = math.prod(network.input.shape) * program.host.planes
    spare = program.limits.compartments
    return f"""# A spiking network for {program.chip}

{program.compartments:,} compartments on {program.cores:,} cores of {program.chips} chip(s). A new image comes in \
every timestep; its answer leaves {program.depth} timesteps later. Every neuron of L levels is L compartments, and as \
many of them spike as the neuron's count is: the counts and the potentials are those of the integer QCFS network in \
`network.nir`, value by value.

## Run it

```sh
# in the folder above this one, here called bundle: a bundle that holds other files is refused
python3.11 -m venv loihi && loihi/bin/pip install nengo-loihi==1.1.0 nengo==3.2.0 numpy==1.26.4 scipy==1.12.0
loihi/bin/python -c "import numpy as np; np.save('bits.npy', np.load('bundle/check.npz')['bits'])"
loihi/bin/python bundle/run_nengo_loihi.py bundle bits.npy answers.npz  # NengoLoihi's emulator of the chip
loihi/bin/python bundle/run_nengo_loihi.py bundle bits.npy answers.npz --board  # needs NxSDK; never run
pascal-nm verify bundle --answers answers.npz  # where an answer differs first
```

Your own images, whole numbers (N, {", ".join(map(str, network.input.shape))}):

```python
import sys; sys.dont_write_bytecode = True; sys.path.insert(0, "bundle")
import host, json, numpy as np
np.save("bits.npy", host.bits(pixels))  # then run_nengo_loihi.py, as above
answers = dict(np.load("answers.npz"))
print(host.answers(answers["potential"]))  # numbers of host.CLASSES
offset = np.reshape(json.load(open("bundle/program.json"))["offset"], \
{(-1, *(1,) * (len(network.input.shape) - 1))})
np.savez("answers.npz", **answers, inputs=pixels + host.OFFSET - offset)  # for pascal-nm verify
```

## Order

1. Write the registers of all cores, then synapses, then axons. All decays are full (4095), the refractory delay is \
1, no noise, potentials are kept at 0 and above (`negVmLimit` 0, `posVmLimit` 7). A compartment spikes above its \
threshold, and is then at 0: nothing stays from one timestep to the next.
2. In timestep t = 1, 2, ... inject the spikes of image t: line i is bit `i // {math.prod(network.input.shape)}` of \
pixel `i % {math.prod(network.input.shape)}` in the order of the input ({"x".join(map(str, network.input.shape))}); \
{lines:,} lines. Sets of lines further on are the same bits, so many timesteps later as `host.delays` says.
3. What is sent in a timestep arrives in the next one. The spikes of a layer belong to the image that was injected \
`depth` timesteps before; so do the currents of readouts: potential = current // unit + bias (`biases` in \
`program.json`).

An injected spike was measured to take {spare.injected:g} us (Quartz on Loihi, arXiv:2309.16795).

| layer | shape | copies of a neuron | depth | unit | gives |
|---|---|---|---|---|---|
{rows}

## Files

| file | holds |
|---|---|
| `program.json` | these layers; `host`: bits of a pixel and delays; `offset` (added to inputs, it gives what comes \
in bits); `biases` of readouts; `limits` |
| `compartments.npz` | the arrays below |
| `check.npz` | `inputs` (integers), `bits` (what the host injects), `count_NAME`, `potential` |
| `network.nir` | the integer network (NIR with pascal-nm's metadata) |
| `reference.c` | the same network in C, without dependencies |
| `host.py` | pixels to bits, potentials to classes |
| `run_nengo_loihi.py` | builds blocks of the arrays, for the emulator and for a board |
| `manifest.json` | versions, chip, and the SHA-256 of every file |

| array | type | holds |
|---|---|---|
{arrays}

In units of the membrane a bias is mantissa * 2**exponent, a threshold mantissa * 2**{program.limits.shift}, and a \
weight mantissa * 2**({program.limits.shift} + exponent), whose mantissa is even. A bias compartment spikes in every \
timestep, and supplies through synapses the part of a bias that is too large for a register.
"""
