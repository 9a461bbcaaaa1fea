"""What a person with a chip needs to program it.

It is a folder with the integer network, the cores, the timesteps, and checksums of all of it.

=================  =================================================================================
``network.nir``    the integer network: weights, thresholds, biases, levels, schedule
                   (:mod:`pascal_nm.export.nir_format`)
``cores.json``     where every population is: its blocks of channels, rows and columns, core by
                   core, with the tile
``schedule.json``  the stages of every population, in timesteps of one image
``registers.npz``  mantissas and exponents of weights, thresholds and biases, where the chip has
                   such registers
``check.npz``      a few inputs with every spike count and the readout's potential, to compare the
                   chip with
``manifest.json``  versions, chip, and the SHA-256 of each file: of these, and of no other
``README.md``      what the files mean and how a neuron works, for who programs the chip
=================  =================================================================================
"""

from __future__ import annotations

import itertools
import json
import os
import re
import stat
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pascal_nm import __version__
from pascal_nm.common.arrays import Array
from pascal_nm.common.files import aside, replacing_folder, sha256
from pascal_nm.errors import FileError, described
from pascal_nm.export.nir_format import read_nir, write_nir
from pascal_nm.network.bounds import common_exponent
from pascal_nm.network.graph import Graph, Population
from pascal_nm.simulation import schedule
from pascal_nm.simulation.schedule import Schedule

FORMAT = 1
"""Version of the folder's contents. A reader refuses others."""

MANIFEST = "manifest.json"

REQUIRED = ("network.nir", "cores.json", "schedule.json", "check.npz", "README.md")

FILES = (*REQUIRED, "registers.npz")

LARGEST = 1 << 24
"""Bytes of a JSON file at most: one that describes 32,768 cores has some 8 million."""

MOST_INPUTS = 16
"""Inputs in ``check.npz`` at most."""


def write_bundle(
    folder: str | Path,
    graph: Graph,
    plan: Schedule,
    cores: Mapping[str, Any],
    check: Mapping[str, Array],
    about: Mapping[str, Any],
    registers: Mapping[str, Array] | None = None,
    prove: Callable[[Path], object] | None = None,
) -> None:
    """Write a bundle; the folder appears whole, or not at all.

    Args:
        folder: must not exist, or be a bundle that is as it was written, and is replaced. A link to
            one is followed.
        graph: an integer network.
        plan: its schedule.
        cores: from :func:`cores_json`.
        check: arrays for ``check.npz``: ``inputs``, ``count_NAME`` of each population,
            and ``potential``.
        about: what else the manifest says: chip, its limits.
        registers: arrays for ``registers.npz``; without them there is no such file.
        prove: called with the written folder before it takes its place; what it raises leaves the
            old one. Without it the folder is read.

    Raises:
        FileError: the folder is something else, holds something else, or cannot be written.
    """
    folder = place(folder)
    with replacing_folder(folder, owned) as beside:
        write_nir(graph, beside / "network.nir")
        _dump(beside / "cores.json", cores)
        _dump(beside / "schedule.json", schedule_json(plan))
        np.savez_compressed(beside / "check.npz", **check)  # type: ignore[arg-type]  # numpy's stub
        if registers:
            np.savez_compressed(beside / "registers.npz", **registers)  # type: ignore[arg-type]
        (beside / "README.md").write_text(_readme(graph, about, bool(registers)), encoding="utf-8")
        files = {name: sha256(beside / name) for name in FILES if (beside / name).exists()}
        ours = {"bundle": FORMAT, "pascal_nm": __version__, "registers": bool(registers), "files": files}
        _dump(beside / MANIFEST, {**about, **ours})
        (prove or read_bundle)(beside)


def place(folder: str | Path) -> Path:
    """Where a bundle of that name is written: links are followed.

    Raises:
        FileError: the folder is there, and is no bundle, holds more than one, or holds the folder
            that the process runs in.
    """
    folder = Path(os.path.realpath(folder))
    if folder.exists():
        owned(folder)
        here = Path.cwd().resolve()
        if folder in (here, *here.parents):
            raise FileError(f"{folder} is, or holds, the current folder, and is not replaced: give another folder")
    return folder


def is_bundle(folder: Path) -> bool:
    """Whether a folder has a manifest that :func:`write_bundle` wrote."""
    return _manifest(folder) is not None


def owned(folder: Path) -> list[Path]:
    """The files of a bundle, which may be removed with it; the manifest comes last.

    Raises:
        FileError: the folder is no bundle, or holds what its manifest does not name; the
            message names it.
    """
    manifest = _manifest(folder)
    if manifest is None:
        raise FileError(f"{folder} exists and is no bundle: give another folder")
    files = manifest["files"]
    for entry in _entries(folder):
        if entry.name not in files or not _regular(entry):
            raise FileError(
                f"{folder} also holds {entry.name!r}, which is not the bundle's, and is not replaced: move it"
            )
        if sha256(entry) != files[entry.name]:
            raise FileError(f"{entry} was changed since the bundle was written, and is not replaced: move it")
    return [*_entries(folder), folder / MANIFEST]


def read_bundle(folder: str | Path) -> tuple[Graph, dict[str, Array], dict[str, Any]]:
    """The network, the arrays to check with, and the manifest of a bundle.

    Every file of the bundle fits the network.

    Raises:
        FileError: a file is missing, is not the one that the manifest names by its checksum, is of
            no bundle, or contradicts the network.
    """
    folder = Path(folder)
    manifest = _manifest(folder)
    if manifest is None:
        left = aside(folder)
        hint = f": one that was to be replaced is in {left}" if not folder.exists() and left.is_dir() else ""
        raise FileError(f"{folder} is no whole bundle of `pascal-nm deploy`{hint}")
    if manifest.get("bundle") != FORMAT or not isinstance(manifest.get("registers"), bool):
        raise FileError(f"{folder} is a bundle of another version: `pascal-nm deploy` writes it anew")
    _check_files(folder, manifest)
    try:
        graph = read_nir(folder / "network.nir")
        if not graph.is_integer:
            raise FileError("network.nir holds no integers")
        _check_manifest(graph, manifest)
        if _json(folder / "schedule.json") != schedule_json(schedule.of(graph)):
            raise FileError("schedule.json is not the schedule of network.nir")
        _check_cores(graph, _json(folder / "cores.json"), manifest["cores"])
        check = _read_check(folder / "check.npz", graph)
        if manifest["registers"]:
            _check_registers(folder / "registers.npz", graph)
    except FileError as error:
        raise FileError(f"{folder} is no whole bundle: {error}") from error
    return graph, check, manifest


def _manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a bundle, if that is what the folder is."""
    try:
        content = _json(folder / MANIFEST)
    except (FileError, OSError):
        return None
    files = content.get("files") if isinstance(content, dict) and isinstance(content.get("pascal_nm"), str) else None
    if not isinstance(files, dict) or not all(name in FILES and _is_digest(digest) for name, digest in files.items()):
        return None
    return dict(content)


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def _check_files(folder: Path, manifest: Mapping[str, Any]) -> None:
    """That a folder has every file of a bundle, as the manifest names it, and no other."""
    names = FILES if manifest["registers"] else REQUIRED
    files = manifest["files"]
    for name in names:
        if name not in files or not _regular(folder / name):
            raise FileError(f"{folder} is no whole bundle: {name} is missing")
    for entry in _entries(folder):
        if entry.name not in names:
            raise FileError(f"{folder} also holds {entry.name!r}, which no bundle has")
        if sha256(entry) != files[entry.name]:
            raise FileError(f"{entry} is not the file that the manifest names: it was changed since")


def _entries(folder: Path) -> list[Path]:
    """Everything in a folder but the manifest."""
    return sorted(entry for entry in folder.iterdir() if entry.name != MANIFEST)


def _regular(path: Path) -> bool:
    """Whether a path is a file itself, no link, folder or pipe."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _json(path: Path) -> Any:
    if not _regular(path) or path.stat().st_size > LARGEST:
        raise FileError(f"{path.name} is no file of at most {LARGEST:,} bytes")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path.name} is not JSON ({described(error)})") from error


def _check_manifest(graph: Graph, manifest: Mapping[str, Any]) -> None:
    kinds = {"chip": str, "cores": int, "chips": int, "delay": int}
    for name, kind in kinds.items():
        if type(manifest.get(name)) is not kind:
            raise FileError(f"the manifest does not say {name!r}, or not as {kind.__name__}")
    if manifest["delay"] != schedule.of(graph).delay:
        raise FileError("the manifest's delay is not that of the schedule")


def _check_cores(graph: Graph, content: Any, number: int) -> None:
    """That every neuron of the network is on one of the cores, and on no other."""
    cores = content.get("cores") if isinstance(content, dict) else None
    if not isinstance(cores, list) or len(cores) != number:
        raise FileError(f"cores.json does not list the {number} cores of the manifest")
    free = {p.name: np.ones(_cube(p), bool) for p in graph.populations if p.kind != "analog"}
    for i, core in enumerate(cores):
        name, block = _block(core, i, free)
        if not free[name][block].all():
            raise FileError(f"cores.json has neurons of {name!r} on two cores")
        free[name][block] = False
    for name, each in free.items():
        if each.any():
            raise FileError(f"cores.json has {int(each.sum()):,} neurons of {name!r} on no core")


def _block(core: Any, number: int, free: Mapping[str, Array]) -> tuple[str, tuple[slice, ...]]:
    """The population of a core, and its part of it."""
    keys = ("channels", "rows", "columns")
    right = isinstance(core, dict) and set(core) == {"core", "tile", "population", *keys} and core["core"] == number
    pairs = [core[key] for key in ("tile", *keys)] if right else []
    right = right and all(isinstance(pair, list) and [type(n) for n in pair] == [int, int] for pair in pairs)
    if not right or min(pairs[0]) < 0 or not isinstance(core["population"], str) or core["population"] not in free:
        raise FileError(f"cores.json does not describe core {number} of this network")
    shape = free[core["population"]].shape
    if not all(0 <= low < high <= n for (low, high), n in zip(pairs[1:], shape, strict=True)):
        raise FileError(f"cores.json has core {number} hold neurons that {core['population']!r} does not have")
    return core["population"], tuple(slice(*pair) for pair in pairs[1:])


def _cube(p: Population) -> tuple[int, ...]:
    """Channels, rows and columns of a population; of a vector one row and column."""
    return (*p.shape, 1, 1)[:3]


def _read_check(path: Path, graph: Graph) -> dict[str, Array]:
    shapes: dict[str, tuple[int, ...]] = {f"count_{p.name}": p.shape for p in graph.spiking}
    shapes |= {f"count_{p.name}": p.shape for p in graph.populations if p.kind == "max"}
    shapes |= {"inputs": graph.input.shape, "potential": graph.output.shape}
    arrays = _arrays(path, shapes, batch=True)
    limits = {"inputs": graph.input.levels} | {f"count_{p.name}": p.levels for p in graph.populations}
    for name, array in arrays.items():
        if np.abs(array).max(initial=0) > limits.get(name, np.inf):
            raise FileError(f"check.npz has values in {name!r} beyond the {limits[name]} levels of the network")
    return arrays


def _check_registers(path: Path, graph: Graph) -> None:
    """That mantissas and exponents are the network's integers."""
    shapes: dict[str, tuple[int, ...]] = {"shift": ()}
    for p in graph.weighted:
        shapes |= {f"{p.name}_exponent": (), f"{p.name}_bias": p.bias.shape, f"{p.name}_bias_exponents": p.bias.shape}
        shapes |= {f"{p.name}_weight_exponent_from_{q.source}": () for q in graph.incoming(p.name)}
        shapes |= {} if p.kind == "readout" else {f"{p.name}_threshold": p.threshold.shape}
    arrays = {name: array.astype(np.float64) for name, array in _arrays(path, shapes).items()}
    for p in graph.weighted:
        exponent = arrays[f"{p.name}_exponent"]
        right = all(
            arrays[f"{p.name}_weight_exponent_from_{q.source}"] == exponent + common_exponent(q.operator.weight)
            for q in graph.incoming(p.name)
        )
        bias = arrays[f"{p.name}_bias"] * 2.0 ** arrays[f"{p.name}_bias_exponents"]
        right &= np.array_equal(bias, p.bias * 2.0 ** (arrays["shift"] + exponent))
        if p.kind != "readout":
            right &= np.array_equal(arrays[f"{p.name}_threshold"], p.threshold * 2.0**exponent)
        if not right:
            raise FileError(f"registers.npz does not hold the weights, threshold and bias of {p.name!r}")


def _arrays(path: Path, shapes: Mapping[str, tuple[int, ...]], *, batch: bool = False) -> dict[str, Array]:
    """The integer arrays of a .npz file, which has these and no others.

    With ``batch``, each has one for each of ``inputs``.
    """
    found: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            if sorted(archive.namelist()) != sorted(f"{name}.npy" for name in shapes):
                raise FileError(f"{path.name} does not hold the arrays of this network")
            declared = {name: _header(archive, name) for name in shapes}
            images = declared["inputs"][:1] if batch else ()
            if any(n > MOST_INPUTS for n in images):
                raise FileError(f"{path.name} holds more than {MOST_INPUTS} inputs")
            for name, shape in shapes.items():
                if declared[name] != (*images, *shape):
                    raise FileError(f"{path.name} holds {name!r} of shape {declared[name]}, which is not the network's")
                with archive.open(f"{name}.npy") as file:
                    found[name] = np.lib.format.read_array(file, allow_pickle=False)
    except FileError:
        raise
    except Exception as error:  # zip, zlib and numpy raise many types for damaged files
        raise FileError(f"{path.name} is damaged ({described(error)})") from error
    return found


def _header(archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    """The shape of an array of integers, without its values."""
    with archive.open(f"{name}.npy") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("another version of .npy")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.kind not in "iu":
        raise ValueError(f"{name} holds no integers")
    return tuple(shape)


def cores_json(blocks: Mapping[str, Any], places: Array) -> dict[str, Any]:
    """Every core: number, tile, population and half-open ranges of channels, rows and columns."""
    numbers = itertools.count()
    cores = []
    for name, edges in blocks.items():
        for channels, rows, columns in edges.ranges():
            core = next(numbers)
            tile = [int(n) for n in places[core]]
            ranges = {"channels": channels, "rows": rows, "columns": columns}
            cores.append({"core": core, "tile": tile, "population": name, **ranges})
    return {"cores": cores}


def schedule_json(plan: Schedule) -> dict[str, Any]:
    """The stages of every population, in timesteps.

    ``stop`` is the first timestep after a stage.
    """
    return {
        "timesteps": plan.steps,
        "initiation_interval": plan.initiation_interval,
        "delay": plan.delay,
        "populations": {
            name: {
                "shift": window.shift,
                "stages": [{"stage": s.stage.value, "start": s.start, "stop": s.stop} for s in window.spans],
            }
            for name, window in plan.windows.items()
        },
    }


def _dump(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


REGISTERS = """| `registers.npz` | for every population `NAME_…`: `exponent` E (one unit of its integers is \
2**(`shift` + E) units of the membrane), `threshold` and `bias` mantissas, `bias_exponents`, and \
`weight_exponent_from_SOURCE` of the weights' mantissas (the integers without their common power of two) |
"""


def _readme(graph: Graph, about: Mapping[str, Any], registers: bool) -> str:
    shapes = "x".join(str(n) for n in graph.input.shape)
    return f"""# A spiking network for {about["chip"]}

`network.nir` is an integer network: inputs of shape {shapes}, {graph.output.size} outputs, \
{sum(1 for _ in graph.spiking)} spiking layers, {about["cores"]} cores on {about["chips"]} chip(s).
{about.get("remark") or ""}
Run as written here it gives, bit for bit, the integer QCFS network's spike counts and potentials; \
`check.npz` has some to compare with.

| file | holds |
|---|---|
| `network.nir` | weights, thresholds, biases and levels (NIR with pascal-nm's metadata; \
`pascal_nm.export.read_nir` reads it) |
| `cores.json` | for every core its tile (column, row over all chips side by side), \
population, and ranges of channels, rows and columns (half-open) |
| `schedule.json` | for every population its stages, in timesteps of one image (half-open) |
| `check.npz` | `inputs` (integers, what the input population injects), `count_NAME` (spikes of each neuron), \
`potential` of the readout |
{REGISTERS if registers else ""}| `manifest.json` | versions, chip, limits, and the SHA-256 of every file |

## The neuron

Integers throughout: potential v and counter s, threshold theta, levels L. Before an image v = theta // 2 \
(0 where `schedule.json` has a `shift`: theta // 2 is added in that timestep) and s = 0.
A spike that is sent in timestep t arrives in t + {about["delay"]}. In each timestep, by stage:

- accumulate: v += input
- integrate: v += input + share of the bias; where v >= theta: s += 1, v -= theta
- correct: where v >= theta: s += 1, v -= theta; where v < 0: s -= 1, v += theta
- encode: v += input + bias; s = min(max(v // theta, 0), L)
- emit: where s >= 1: send a spike, s -= 1
- stream: v += input (and the bias, in the first timestep); where v >= theta and s < L: send +1, s += 1, v -= theta; \
where v < 0 and s > 0: send -1, s -= 1, v += theta

In `integrate` over n timesteps the bias comes in n shares that differ by at most one: in the k-th, \
b // n + ((k + 1) r // n - k r // n) with r = b - n (b // n).
The readout adds up its input and its bias and never fires; the class with the largest potential is the answer.
"""
