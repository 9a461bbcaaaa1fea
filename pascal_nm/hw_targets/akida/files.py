"""A program for Akida in files: what a person with a board loads, and what they compare it with.

=================  =================================================================================
``model.fbz``      the model as BrainChip's software loads and maps it
``program.json``   the same in plain data: layers, and what the host does
``registers.npz``  the same: weights, thresholds and steps
``check.npz``      a few images as the chip takes them, with what every layer sends
``network.nir``    the network that it was made from, for people and other programs
                   (:mod:`pascal_nm.export.nir_format`)
``host.py``        what is done before and after the chip, in NumPy
``run_akida.py``   compares all that with BrainChip's software, or with a board
``README.md``      how to use them
``manifest.json``  versions, chip, and the SHA-256 of each file
=================  =================================================================================
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from pascal_nm.common.arrays import Array, Shape
from pascal_nm.errors import FileError, PascalError
from pascal_nm.export import bundle
from pascal_nm.export.nir_format import read_nir, write_nir
from pascal_nm.hw_targets import tables
from pascal_nm.hw_targets.akida import device, lowering
from pascal_nm.hw_targets.akida.program import AkidaProgram, Host, Layer
from pascal_nm.hw_targets.tables import Within
from pascal_nm.network.graph import Graph

FILES = (
    *("program.json", "registers.npz", "check.npz", "network.nir", "model.fbz"),
    *("host.py", "run_akida.py", "README.md"),
)

FORM = "akida"
"""What the manifest calls a bundle of this kind."""

CHECKED = 4
"""Images in ``check.npz``."""

_MOST_IMAGES = 16


@dataclass(frozen=True)
class _Description:
    """What ``program.json`` holds: all of a program but its registers."""

    chip: str
    version: Annotated[int, Within(1, 2)]
    host: Host
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class Bundle:
    """What was read from a folder.

    Attributes:
        program: the layers.
        graph: the integer network that they are.
        check: ``images`` as the chip takes them, and ``sent_NAME`` of each layer.
        manifest: versions, chip, checksums.
    """

    program: AkidaProgram
    graph: Graph
    check: Mapping[str, Array]
    manifest: Mapping[str, Any]


def write(
    folder: str | Path,
    program: AkidaProgram,
    graph: Graph,
    about: Mapping[str, Any],
    model: Callable[[Path], Mapping[str, Any]],
    runner: str,
) -> None:
    """Write a bundle; the folder appears whole, read back and run, or not at all.

    Args:
        folder: as :func:`pascal_nm.export.bundle.write_bundle` takes it.
        program: of ``graph``.
        graph: the integer network.
        about: what else the manifest says.
        model: called with a folder that has ``program.json`` and ``registers.npz``, writes
            ``model.fbz`` into it; gives what it knows of that for the manifest.
        runner: the text of ``run_akida.py``.

    Raises:
        FileError: the folder cannot be written, or does not hold what it should.
    """
    said = {"form": FORM, "chip": program.chip, **about}

    def files(place: Path) -> None:
        description = {field.name: getattr(program, field.name) for field in fields(_Description)}
        bundle.dump(place / "program.json", _written(_Description(**description)))
        np.savez_compressed(place / "registers.npz", **program.registers)  # type: ignore[arg-type]  # numpy's stub
        np.savez_compressed(place / "check.npz", **checks(program))  # type: ignore[arg-type]
        write_nir(graph, place / "network.nir")
        said.update(model(place))
        (place / "host.py").write_text(host(program), encoding="utf-8")
        (place / "run_akida.py").write_text(runner, encoding="utf-8")
        (place / "README.md").write_text(_readme(program), encoding="utf-8")

    bundle.write_bundle(folder, files, said, executed, FILES)


def checks(program: AkidaProgram) -> dict[str, Array]:
    """What ``check.npz`` holds: images of noise, and what each layer sends for them."""
    pixels = np.random.default_rng(0).integers(0, 256, (CHECKED, *program.host.shape)).astype(np.uint8)
    return _checked(program, program.host.images(pixels))


def _checked(program: AkidaProgram, images: Array) -> dict[str, Array]:
    sent = {
        f"sent_{layer.name}": values if layer.activation_bits else values.astype(np.int32)
        for layer, values in program(images)
    }
    return {"images": images, **sent}


def executed(folder: str | Path) -> Bundle:
    """A bundle that was read, and sent what its ``check.npz`` holds.

    Raises:
        FileError: as :func:`read`; or it sent something else.
    """
    found = read(folder)
    sent = _checked(found.program, found.check["images"])
    if different := [name for name in sent if not np.array_equal(sent[name], found.check[name])]:
        raise FileError(f"{folder} does not run to the counts that it was written with: {different[0]} differs")
    return found


def read(folder: str | Path) -> Bundle:
    """A bundle whose files agree with each other; ``model.fbz`` is the vendor's to read.

    Raises:
        FileError: a file is missing, is not the one that the manifest names by its checksum, or
            says something else than another.
    """
    manifest = bundle.read_manifest(folder, FILES)
    try:
        place = Path(folder)
        program, graph = _read_program(place), read_nir(place / "network.nir")
        if manifest.get("form") != FORM or manifest.get("chip") != program.chip:
            raise FileError("the manifest does not say the form and the chip that program.json does")
        _compare(program, lowering.lower(graph, device.named(program.chip)))
        if (place / "host.py").read_text(encoding="utf-8") != host(program):
            raise FileError("host.py is not what the program's host does")
        check = _read_check(place / "check.npz", program)
    except (PascalError, UnicodeDecodeError) as error:
        raise FileError(f"{folder} is no whole bundle: {error}") from error
    return Bundle(program, graph, check, manifest)


def _read_program(folder: Path) -> AkidaProgram:
    try:
        description = tables.record(_Description, bundle.read_json(folder / "program.json"))
    except (PascalError, TypeError) as error:
        raise FileError(f"program.json: {error}") from error
    held = {field.name: getattr(description, field.name) for field in fields(description)}
    return AkidaProgram(**held, registers=bundle.read_arrays(folder / "registers.npz"))


def _compare(found: AkidaProgram, made: AkidaProgram) -> None:
    """That a program is the one that its network becomes; so nothing in it can be out of range.

    Raises:
        FileError: it is another; says where.
    """
    if (found.version, found.host) != (made.version, made.host):
        raise FileError("program.json has another host than the network in network.nir")
    if [layer.name for layer in found.layers] != [layer.name for layer in made.layers]:
        raise FileError("program.json has other layers than the network in network.nir")
    for ours, theirs in zip(found.layers, made.layers, strict=True):
        if ours != theirs:
            raise FileError(f"program.json has another layer {ours.name!r} than the network in network.nir")
    if sorted(found.registers) != sorted(made.registers):
        raise FileError("registers.npz does not hold the registers of the program")
    for name, wanted in made.registers.items():
        held = found.registers[name]
        if held.dtype != wanted.dtype or held.shape != wanted.shape:
            raise FileError(f"registers.npz holds {name!r} of type {held.dtype} and shape {held.shape}")
        if wrong := int(np.count_nonzero(held != wanted)):
            raise FileError(
                f"registers.npz is not the network in network.nir: {wrong} of {held.size} values of {name!r} differ"
            )


def _read_check(path: Path, program: AkidaProgram) -> dict[str, Array]:
    found = bundle.read_arrays(path)
    limits: dict[str, tuple[Shape, type[np.generic]]] = {"images": (program.layers[0].input, np.uint8)}
    limits |= {
        f"sent_{layer.name}": (layer.output, np.uint8 if layer.activation_bits else np.int32)
        for layer in program.layers
    }
    if sorted(found) != sorted(limits):
        raise FileError(f"{path.name} does not hold the arrays of this network")
    images = found["images"].shape[:1]
    if any(n > _MOST_IMAGES for n in images):
        raise FileError(f"{path.name} holds more than {_MOST_IMAGES} images")
    for name, (shape, dtype) in limits.items():
        if found[name].shape != (*images, *shape) or found[name].dtype != dtype:
            raise FileError(f"{path.name} holds {name!r} of type {found[name].dtype} and shape {found[name].shape}")
    return found


def _written(record: Any) -> dict[str, Any]:
    """A dataclass for JSON, without what it leaves open."""

    def given(items: list[tuple[str, Any]]) -> dict[str, Any]:
        return {key: value for key, value in items if value is not None and value != ()}

    return asdict(record, dict_factory=given)


def host(program: AkidaProgram) -> str:
    """The text of ``host.py``."""
    done, bias = program.host, program.registers["host.bias"].tolist()
    above, below, left, right = done.borders
    channels, rows, columns = done.shape
    return f'''"""What is done before and after {program.chip}; needs NumPy alone."""

import numpy as np

CLASSES = {json.dumps(list(done.classes), ensure_ascii=True)}
MEAN = np.array({list(done.mean)}, np.uint8)  # the pixel that stands for 0, by channel
BIAS = np.array({bias}, np.int64)  # of the outputs
ROWS, COLUMNS, CHANNELS = {rows}, {columns}, {channels}
ABOVE, BELOW, LEFT, RIGHT = {above}, {below}, {left}, {right}  # borders of the mean; negative: cut off


def inputs(pixels):
    """What the chip takes, of stored pixels: uint8 (N, rows, columns, channels)."""
    pixels = np.asarray(pixels, np.uint8).reshape(-1, ROWS, COLUMNS, CHANNELS)
    framed = np.empty((len(pixels), ABOVE + ROWS + BELOW, LEFT + COLUMNS + RIGHT, CHANNELS), np.uint8)
    framed[:] = MEAN
    inside = framed[:, ABOVE : ABOVE + ROWS, LEFT : LEFT + COLUMNS]
    inside[:] = pixels[:, : inside.shape[1], : inside.shape[2]]
    return framed


def outputs(potentials):
    """The outputs of the network, int64 (N, classes), of what the chip sends: the largest is the answer."""
    return np.asarray(potentials).reshape(len(potentials), -1).astype(np.int64) + BIAS
'''


_NEURONS = {
    1: "A layer sends clip(ceil((P - threshold) / (act_step * 2**(4 - bits))), 0, 2**bits - 1) of its potential P.",
    2: "A layer sends round(clip(P + bias * 2**bias_shift, 0, most * 2**most_shift) * scale / 2**shift) of its "
    "potential P, halves rounded up; `akida` calls these max_value and output_scales, and shifts the other way.",
}


def _readme(program: AkidaProgram) -> str:
    first, last = program.layers[0], program.layers[-1]
    rows, columns, channels = first.input
    named = "`NAME.threshold`, `NAME.step` (16 times `act_step`)" if program.version == 1 else "what stands below"
    taken = ", ".join(map(str, (*program.host.shape[1:], channels)))
    return f"""# A network for {program.chip}

{len(program.layers)} layers, from images of {rows}x{columns} pixels and {channels} channel(s) to {last.output[2]} \
outputs. Every layer's counts are, value by value, those of the integer QCFS network in `network.nir`.

With BrainChip's `akida` (PyPI) and NumPy:

```python
import akida, host
model = akida.Model("model.fbz")
model.map(akida.devices()[0], hw_only=True)  # a connected board; without this line in software
potentials = model.forward(host.inputs(pixels))  # uint8 (N, {taken})
answers = host.outputs(potentials).argmax(1)  # numbers of host.CLASSES
```

`python run_akida.py` compares `model.fbz` with `registers.npz`, and what every layer sends for the images of \
`check.npz` with what it has to send, in the software backend; with `--device`, the outputs of the board; with \
`--map {device.named(program.chip).device}` it says what the model takes of the chip.

| file | holds |
|---|---|
| `model.fbz` | the model, as `akida` reads it |
| `program.json` | layers: kinds, sizes, strides, poolings, bits; of the host: shape, mean and borders of \
images, classes |
| `registers.npz` | `NAME.weights` as `akida` has them, and {named}; `host.bias` of the outputs, and `host.scale`: \
outputs over it are the source network's |
| `check.npz` | `images` as the chip takes them, `sent_NAME` of each layer |
| `network.nir` | the integer network (NIR with pascal-nm's metadata) |
| `host.py` | what is done before the chip and after it |
| `run_akida.py` | compares |
| `manifest.json` | versions, chip, and the SHA-256 of every file |

{_NEURONS[program.version]} Pooling takes the largest potential of a window. A layer called `..._relay` sends what \
it gets: the chip has no dense layer behind a pooling, and joins no layer of pixels.
"""
