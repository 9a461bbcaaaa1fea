"""A chip program in files: what a person with a chip needs to program it.

=================  =================================================================================
``program.json``   populations, projections with their operators, exponents and widths of registers,
                   and what the host does
``registers.npz``  mantissas of weights, thresholds and biases, with the exponents of the biases;
                   the scales of input and readout, and the offset of the input
``schedule.json``  the stages of every population, in timesteps of one image, and delays of synapses
``cores.json``     what each core holds: a population, its channels, rows and columns; and its tile
``routes.npz``     by projection, from which core to which its messages travel
``check.npz``      a few inputs with every spike count and the readout's potential, computed without
                   timesteps, to compare the chip with
``reference.c``    the same network and schedule in C (:mod:`pascal_nm.export.c_reference`)
``network.nir``    the same network for people and other programs
                   (:mod:`pascal_nm.export.nir_format`); nothing is executed from it
``README.md``      what the files mean and how a neuron works, for who programs the chip
``manifest.json``  versions, chip, and the SHA-256 of each file: of these, and of no other
=================  =================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from pascal_nm.common.arrays import Array, Shape
from pascal_nm.errors import FileError, PascalError
from pascal_nm.export import bundle, c_reference
from pascal_nm.export.nir_format import read_nir, write_nir
from pascal_nm.export.nir_nodes import LARGEST
from pascal_nm.hw_targets import spikes, tables
from pascal_nm.hw_targets.chip import WIDTHS, Width
from pascal_nm.hw_targets.loihi import Execution
from pascal_nm.hw_targets.program import ChipProgram, Host, Neurons, Slice, Synapses
from pascal_nm.hw_targets.tables import Names, Within
from pascal_nm.network.graph import Graph
from pascal_nm.network.windows import Span, Window
from pascal_nm.neuron import Stage
from pascal_nm.simulation import schedule as schedules
from pascal_nm.simulation.result import RunResult
from pascal_nm.simulation.schedule import Schedule

_MOST_INPUTS = 16
"""Inputs in ``check.npz`` at most."""

Step = Annotated[int, Within(0, 1 << 40)]
"""A timestep."""


@dataclass(frozen=True)
class _Description:
    """What ``program.json`` holds: fields of the program."""

    chip: str
    widths: Annotated[Mapping[str, Width], Names(WIDTHS)]
    shift: Annotated[int, Within(0, 16)]
    host: Host
    populations: tuple[Neurons, ...]
    projections: tuple[Synapses, ...]
    objective: str


@dataclass(frozen=True)
class _Stage:
    stage: str
    start: Step
    stop: Step


@dataclass(frozen=True)
class _Window:
    stages: tuple[_Stage, ...]
    shift: Step | None = None


@dataclass(frozen=True)
class _Plan:
    """What ``schedule.json`` holds."""

    timesteps: Step
    initiation_interval: Step
    delay: Step
    populations: Mapping[str, _Window]
    delays: Mapping[str, Step] | None = None


Tile = Annotated[int, Within(0, 1 << 20)]
Index = Annotated[int, Within(0, 1 << 26)]


@dataclass(frozen=True)
class _Core:
    core: Index
    tile: tuple[Tile, Tile]
    population: str
    channels: tuple[Index, Index]
    rows: tuple[Index, Index]
    columns: tuple[Index, Index]


@dataclass(frozen=True)
class _Cores:
    """What ``cores.json`` holds."""

    cores: tuple[_Core, ...]


def write(folder: str | Path, program: ChipProgram, check: Mapping[str, Array], about: Mapping[str, Any]) -> None:
    """Write a program, read it back, and execute what was read; the folder appears whole or not.

    Args:
        folder: as :func:`pascal_nm.export.bundle.write_bundle` takes it.
        program: it.
        check: from :func:`checks`.
        about: what else the manifest says; also ``cores``, ``chips`` and ``remark``.

    Raises:
        FileError: the folder cannot be written, or what was read gives other counts.
    """

    def files(place: Path) -> None:
        description = {field.name: getattr(program, field.name) for field in fields(_Description)}
        bundle.dump(place / "program.json", _written(_Description(**description)))
        np.savez_compressed(place / "registers.npz", **program.registers)  # type: ignore[arg-type]  # numpy's stub
        bundle.dump(place / "schedule.json", _written(_plan(program.schedule)))
        cores = tuple(_Core(number, **core._asdict()) for number, core in enumerate(program.cores))
        bundle.dump(place / "cores.json", _written(_Cores(cores)))
        np.savez_compressed(place / "routes.npz", **program.routes)  # type: ignore[arg-type]
        np.savez_compressed(place / "check.npz", **check)  # type: ignore[arg-type]
        write_nir(program.graph, place / "network.nir")
        (place / "reference.c").write_text(_reference(program), encoding="utf-8")
        (place / "README.md").write_text(_readme(program, about), encoding="utf-8")

    bundle.write_bundle(folder, files, about, executed)


def checks(inputs: Array, result: RunResult) -> dict[str, Array]:
    """What ``check.npz`` holds: integer inputs, and what a run of them gives."""
    counts = {f"count_{name}": count for name, count in result.counts.items()}
    return {**counts, "inputs": inputs.astype(np.int32), "potential": result.potential}


def executed(folder: str | Path) -> Execution:
    """A bundle, ready to run: it was read, and gave the counts of its ``check.npz``.

    Raises:
        FileError: as :func:`read`; or it gave others.
    """
    program, check, _ = read(folder)
    execution = Execution(program)
    inputs = program.graph.input.inputs(check["inputs"])
    found = checks(check["inputs"], execution.run(inputs))
    if different := [name for name in check if not np.array_equal(found[name], check[name])]:
        raise FileError(f"{folder} does not run to the counts that it was written with: {different[0]} differs")
    return execution


def read(folder: str | Path) -> tuple[ChipProgram, dict[str, Array], dict[str, Any]]:
    """The program, the arrays to check with, and the manifest of a bundle.

    Raises:
        FileError: a file is missing, is not the one that the manifest names by its checksum, is of
            no bundle, or contradicts another.
    """
    manifest = bundle.read_manifest(folder)
    try:
        program = _read_program(Path(folder))
        said = {"chip": program.chip, "cores": len(program.cores), "delay": program.schedule.delay}
        if wrong := [key for key, value in said.items() if manifest.get(key) != value]:
            raise FileError(f"the manifest does not say {wrong[0]!r} as the program does")
        _check_program(program, read_nir(Path(folder) / "network.nir"))
        if (Path(folder) / "reference.c").read_text(encoding="utf-8") != _reference(program):
            raise FileError("reference.c is not the network in the registers")
        check = _read_check(Path(folder) / "check.npz", program)
    except (PascalError, UnicodeDecodeError) as error:
        raise FileError(f"{folder} is no whole bundle: {error}") from error
    return program, check, manifest


def _read_program(folder: Path) -> ChipProgram:
    description = _record(_Description, folder / "program.json")
    for p in description.populations:
        if math.prod(p.shape) > LARGEST:
            raise FileError(f"program.json has a population of {math.prod(p.shape):,} neurons, and at most {LARGEST:,}")
    plan = _record(_Plan, folder / "schedule.json")
    windows = {name: _window(name, window) for name, window in plan.populations.items()}
    cores = []
    for number, core in enumerate(_record(_Cores, folder / "cores.json").cores):
        if core.core != number:
            raise FileError(f"cores.json has core {core.core} where core {number} is expected")
        cores.append(Slice(core.population, core.tile, core.channels, core.rows, core.columns))
    schedule = Schedule(windows, plan.delay, plan.delays or {}, description.host.timing.stop)
    if _plan(schedule) != plan:
        raise FileError("schedule.json does not last as long as its stages do")
    registers, routes = _read_registers(folder, description), _read_routes(folder, description)
    held = {field.name: getattr(description, field.name) for field in fields(description)}
    return ChipProgram(**held, registers=registers, schedule=schedule, cores=tuple(cores), routes=routes)


def _record(kind: type[tables.T], path: Path) -> tables.T:
    try:
        return tables.record(kind, bundle.read_json(path))
    except (PascalError, TypeError) as error:
        raise FileError(f"{path.name}: {error}") from error


def _window(name: str, window: _Window) -> Window:
    stages = [each for each in window.stages if each.stage in {stage.value for stage in Stage}]
    if len(stages) != len(window.stages):
        raise FileError(f"schedule.json has a stage of {name!r} that no neuron knows")
    return Window(tuple(Span(Stage(s.stage), s.start, s.stop) for s in stages), window.shift)


def _plan(schedule: Schedule) -> _Plan:
    windows = {
        name: _Window(tuple(_Stage(s.stage.value, s.start, s.stop) for s in window.spans), window.shift)
        for name, window in schedule.windows.items()
    }
    return _Plan(schedule.steps, schedule.initiation_interval, schedule.delay, windows, schedule.delays or None)


def _read_registers(folder: Path, description: _Description) -> dict[str, Array]:
    """Registers of the right types, and of shapes that broadcast to their populations."""
    found, joins = bundle.read_arrays(folder / "registers.npz"), {q.name for q in description.projections}
    for name, array in found.items():
        owner, _, quantity = name.rpartition(".")
        kinds, size = ("if", 8) if quantity in ("scale", "offset") else ("i", 4)
        if array.dtype.kind not in kinds or array.dtype.itemsize > size:
            raise FileError(f"registers.npz holds {name!r} of type {array.dtype}")
        shapes = [p.shape for p in description.populations if p.name == owner]
        if owner not in joins and not (shapes and _broadcasts(array.shape, shapes[0])):
            raise FileError(f"registers.npz holds {name!r} of shape {array.shape}, which no population has")
    return found


def _broadcasts(shape: Shape, onto: Shape) -> bool:
    return len(shape) == len(onto) and all(a in (1, b) for a, b in zip(shape, onto, strict=True))


def _read_routes(folder: Path, description: _Description) -> dict[str, Array]:
    found = bundle.read_arrays(folder / "routes.npz")
    if sorted(found) != sorted(q.name for q in description.projections):
        raise FileError("routes.npz does not hold the projections of the program")
    for name, routes in found.items():
        if routes.dtype != np.int32 or routes.ndim != 2 or routes.shape[1] != 2:
            raise FileError(f"routes.npz holds {name!r} of type {routes.dtype} and shape {routes.shape}")
    return found


def _check_program(program: ChipProgram, known: Graph) -> None:
    """That nothing of a program contradicts the rest, and no register can overflow."""
    for name, held in program.held.items():
        if missing := int(held.size - np.count_nonzero(held)):
            raise FileError(f"cores.json has {missing:,} neurons of {name!r} on no core")
    if differences := known.differences(program.graph):
        raise FileError(f"network.nir is not the network in the registers ({differences[0]})")
    if program.populations[0].exponent:
        raise FileError("program.json gives the input an exponent, and it has no registers")
    if program.schedule != schedules.of(program.graph):
        raise FileError("schedule.json is not the schedule of the network in the registers")
    bits = spikes.payloads(program.graph, program.schedule)
    for p in program.populations:
        if p.payload_bits != bits.get(p.name, 0):
            raise FileError(
                f"program.json gives numbers of {p.name!r} {p.payload_bits} bits, not {bits.get(p.name, 0)}"
            )
    if sorted(program.registers) != sorted(program.needed_registers()):
        raise FileError("registers.npz does not hold the registers of the program")
    for name, needed in program.needed().items():
        _check_routes(name, program.routes[name].tolist(), needed.tolist())
    for p in program.populations[1:]:
        _check_widths(program, p)


def _check_routes(name: str, routes: list[list[int]], needed: list[list[int]]) -> None:
    if routes == needed:
        return
    given = set(map(tuple, routes))
    for source, target in needed:
        if (source, target) not in given:
            raise FileError(f"routes.npz lacks the route of {name} from core {source} to core {target}")
    raise FileError(f"routes.npz holds a route of {name} that no spike needs, or one twice")


def _check_widths(program: ChipProgram, p: Neurons) -> None:
    """That mantissas have the chip's bits, and no potential can leave its register."""
    largest = {
        key: int(np.abs(program.registers.get(f"{p.name}.{key}", np.zeros(1)).astype(np.float64)).max())
        for key in ("threshold", "bias")
    }
    weights = [program.registers[f"{q.name}.weight"] for q in program.projections if q.target == p.name]
    largest["weight"] = max(int(np.abs(weight.astype(np.float64)).max(initial=0)) for weight in weights)
    largest["membrane"] = program.membrane(p)
    for quantity, most in largest.items():
        bits = program.widths.get(quantity, 64)
        if most > 2 ** (bits - (quantity != "threshold")) - 1:
            raise FileError(f"registers.npz has a {quantity} of {p.name!r} beyond {bits} bits")


def _read_check(path: Path, program: ChipProgram) -> dict[str, Array]:
    graph = program.graph
    limits: dict[str, tuple[Shape, int | None]] = {}
    limits |= {f"count_{p.name}": (p.shape, p.levels) for p in graph.counted}
    limits |= {
        "inputs": (graph.input.shape, graph.input.levels),
        "potential": ((sum(p.size for p in graph.outputs),), None),
    }
    found = bundle.read_arrays(path)
    if sorted(found) != sorted(limits):
        raise FileError(f"{path.name} does not hold the arrays of this network")
    images = found["inputs"].shape[:1]
    if any(n > _MOST_INPUTS for n in images):
        raise FileError(f"{path.name} holds more than {_MOST_INPUTS} inputs")
    for name, (shape, most) in limits.items():
        if found[name].shape != (*images, *shape) or found[name].dtype.kind != "i":
            raise FileError(f"{path.name} holds {name!r} of shape {found[name].shape}, which is not the network's")
        if most is not None and np.abs(found[name].astype(np.int64)).max(initial=0) > most:
            raise FileError(f"{path.name} has values in {name!r} beyond the {most} levels of the network")
    return found


def _written(record: Any) -> dict[str, Any]:
    """A dataclass for JSON, without what it leaves open."""

    def given(items: list[tuple[str, Any]]) -> dict[str, Any]:
        return {key: value for key, value in items if value is not None and value != ()}

    return asdict(record, dict_factory=given)


def _reference(program: ChipProgram) -> str:
    """The text of ``reference.c``."""
    return c_reference.source_or_reason(program.graph, program.schedule)


def _missing(program: ChipProgram) -> str:
    """What a chip that runs programs needs besides, with the bits of each variable."""
    graph, rows = program.graph, []
    for p in program.populations[1:]:
        if not graph[p.name].dynamics.weighted:
            continue
        v = int(program.membrane(p)).bit_length() + 1
        s = 0 if graph[p.name].dynamics.reads_out else max(1, p.levels).bit_length() + 1
        sent = "none" if graph[p.name].dynamics.reads_out else f"{p.payload_bits}" if p.payload_bits else "+1, -1"
        rows.append(f"| `{p.name}` | {v} | {s} | {sent} |")
    return f"""
## What is missing

No chip has this neuron by itself. On Loihi 2 it is a program in microcode, which Intel's compiler assembles: the \
package `lava-loihi`, and with it the boards of Intel's cloud, are given to members of the Intel Neuromorphic \
Research Community only (ask inrc_interest@intel.com, as Lava's own README says). All else is stock Lava: \
projections are `lava.proc.dense.Dense` and `lava.proc.conv.Conv`, with `num_message_bits` of 8, 16 or 24 where \
`payload_bits` is not 0; the neuron's rules below are those of the Process `Pasc` and its fixed-point \
ProcessModel in `pascal_nm.process_models`, which microcode replaces. Bits of its variables, proven for all images:

| population | v | s | payload of a spike |
|---|---|---|---|
{chr(10).join(rows)}
"""


def _readme(program: ChipProgram, about: Mapping[str, Any]) -> str:
    graph = program.graph
    shapes = "x".join(str(n) for n in graph.input.shape)
    return f"""# A spiking network for {program.chip}

An integer network: inputs of shape {shapes}, {sum(p.size for p in graph.outputs)} outputs, \
{sum(1 for _ in graph.spiking)} spiking \
layers, {about["cores"]} cores on {about["chips"]} chip(s).
{about.get("remark") or ""}
Run as written here it gives, bit for bit, the integer QCFS network's spike counts and potentials; \
`check.npz` has some to compare with (integers of noise, within what the input may be), and `pascal-nm run` \
executes this folder.

```sh
# in the folder above this one, here called bundle: a bundle that holds other files is refused
pascal-nm verify bundle                        # whole, and executed from its registers
pascal-nm verify bundle --answers answers.npz  # a board's: arrays by the names of check.npz
cc -std=c99 -O2 -o reference bundle/reference.c
python -c "import numpy as np; x = np.load('bundle/check.npz')['inputs']; \
np.savetxt('inputs.txt', x.reshape(len(x), -1), fmt='%d')"
./reference < inputs.txt                       # every count and potential
```

No vendor's simulator has these neurons.

| file | holds |
|---|---|
| `program.json` | populations (kind, shape, levels, `exponent` E, `payload_bits` \
of the signed numbers that its spikes carry; 0: a spike is +1 or -1), projections (ends, operator with its parameters, \
`exponent` e, pooling in front), the `shift` s of the registers and their `widths` in bits; of the host: how pixels \
become inputs, the classes, and what schedule and integers were made by; what the places of cores serve |
| `registers.npz` | `NAME.threshold`, `NAME.bias`, `NAME.bias_exponents` of populations, `SOURCE__TARGET.weight` of \
projections: mantissas. In units of the membrane a weight is mantissa * 2**(s + e), a threshold mantissa * 2**s, a \
bias mantissa * 2**exponent; a unit of a population's own integers is 2**(s + E) of them. `NAME.scale` of the input \
(an input over it, plus `NAME.offset`, is what is injected), of linear populations (for one of what they send) and \
of the readout (its potential over it is the source network's output) |
| `schedule.json` | for every population its stages, in timesteps of one image (half-open); `initiation_interval`: \
after so many timesteps the next image may start; `delays` of projections, by name, where their synapses have some |
| `cores.json` | for every core its tile (column, row over all chips side by side), \
population, and ranges of channels, rows and columns (half-open) |
| `routes.npz` | for every projection pairs of cores: spikes of the first one's neurons travel to the second, if they \
have synapses there; -1 is the host, which injects the input |
| `check.npz` | `inputs` (integers, what the input population injects), `count_NAME` (spikes of each neuron), \
`potential` of the readout |
| `reference.c` | the same network and schedule in C, without dependencies |
| `network.nir` | the same network, for people and other programs (NIR with pascal-nm's metadata) |
| `manifest.json` | versions, chip, limits, and the SHA-256 of every file |
{_missing(program)}
## The neuron

Integers throughout: potential v and counter s, threshold theta, levels L. Before an image v = theta // 2 \
(0 where `schedule.json` has a `shift`: theta // 2 is added in that timestep) and s = 0.
A spike that is sent in timestep t arrives in t + {program.schedule.delay}, and, behind synapses with a delay d in \
`schedule.json`, in t + {program.schedule.delay} + d. In each timestep, by stage:

- accumulate: v += input
- integrate: v += input + share of the bias; where v >= theta: s += 1, v -= theta
- correct: where v >= theta: s += 1, v -= theta; where v < 0: s -= 1, v += theta
- encode: v += input + bias; s = min(max(v // theta, 0), L)
- emit: where s >= 1: send a spike, s -= 1
- stream: v += input (and the bias, in the first timestep); where v >= theta and s < L: send +1, s += 1, v -= theta; \
where v < 0 and s > 0: send -1, s -= 1, v += theta
- change: v += input + bias; n = min(max(v // theta, 0), L); where n != s: send the number n - s as one spike; s = n. \
What arrives is the number times the weight. Of a further frame v and s stay, the bias is 0, and of the input, too, \
the change of each value is sent

A `max` population adds up what each neuron of its window has sent, and sends the change of the largest sum (of the \
smallest, where its threshold is -1).
A `linear` population sends its input, in every timestep in which there is some: one signed number, and nothing where \
it is 0.
In `integrate` over n timesteps the bias comes in n shares that differ by at most one: in the k-th, \
b // n + ((k + 1) r // n - k r // n) with r = b - n (b // n).
The readout adds up its input and its bias and never fires; the class with the largest potential is the answer.
"""
