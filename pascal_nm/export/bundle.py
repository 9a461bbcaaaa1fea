"""What a person with a chip needs to program it: a folder with the integer network, the cores, the timesteps, and checksums of all of it.

=================  ==================================================================================================
``network.nir``    the integer network: weights, thresholds, biases, levels, schedule (:mod:`pascal_nm.export.nir_format`)
``cores.json``     where every population is: its blocks of channels, rows and columns, core by core, with the tile
``schedule.json``  the stages of every population, in timesteps of one image
``registers.npz``  mantissas and exponents of weights, thresholds and biases, where the chip has such registers
``check.npz``      a few inputs with every spike count and the readout's potential, to compare the chip with
``manifest.json``  versions, chip, and the SHA-256 of each file
``README.md``      what the files mean and how a neuron works, for who programs the chip
=================  ==================================================================================================
"""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pascal_nm.errors import FileError
from pascal_nm.export.nir_format import read_nir, write_nir
from pascal_nm.files import sha256
from pascal_nm.graph import Array, Graph
from pascal_nm.schedule import Schedule

FILES = ("network.nir", "cores.json", "schedule.json", "check.npz", "README.md", "registers.npz")


def write_bundle(
    folder: str | Path,
    graph: Graph,
    plan: Schedule,
    cores: Mapping[str, Any],
    check: Mapping[str, Array],
    about: Mapping[str, Any],
    registers: Mapping[str, Array] | None = None,
) -> None:
    """Write a bundle; the folder appears whole, or not at all.

    Args:
        folder: must not exist, or be a bundle, which is replaced.
        graph: an integer network.
        plan: its schedule.
        cores: from :func:`cores_json`.
        check: arrays for ``check.npz``.
        about: what else the manifest says: versions, chip, its limits.
        registers: arrays for ``registers.npz``; without them there is no such file.

    Raises:
        FileError: the folder is something else, or cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / "manifest.json").is_file():
        raise FileError(f"{folder} exists and is no bundle: give another folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise FileError(f"cannot write {folder}: {error.strerror}") from error
    try:
        write_nir(graph, beside / "network.nir")
        _dump(beside / "cores.json", cores)
        _dump(beside / "schedule.json", schedule_json(plan))
        np.savez_compressed(beside / "check.npz", **check)  # type: ignore[arg-type]  # numpy's stub
        if registers:
            np.savez_compressed(beside / "registers.npz", **registers)  # type: ignore[arg-type]
        (beside / "README.md").write_text(_readme(graph, about, bool(registers)))
        files = {name: sha256(beside / name) for name in FILES if (beside / name).exists()}
        _dump(beside / "manifest.json", {**about, "files": files})
        if folder.exists():
            shutil.rmtree(folder)
        beside.chmod(0o755)
        beside.rename(folder)
    except OSError as error:
        raise FileError(f"cannot write {folder}: {error.strerror}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def read_bundle(folder: str | Path) -> tuple[Graph, dict[str, Array], dict[str, Any]]:
    """The network, the arrays to check with, and the manifest of a bundle.

    Raises:
        FileError: a file is missing, or is not the one that the manifest names by its checksum.
    """
    folder = Path(folder)
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        for name, expected in manifest["files"].items():
            if name not in FILES:
                raise FileError(f"{folder}: the manifest names {name!r}, which no bundle has")
            if sha256(folder / name) != expected:
                raise FileError(f"{folder / name} is not the file that the manifest names: it was changed since")
        with np.load(folder / "check.npz") as arrays:
            check = {name: arrays[name] for name in arrays.files}
    except FileError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileError(f"{folder} is no whole bundle of `pascal-nm deploy` ({error})") from error
    return read_nir(folder / "network.nir"), check, manifest


def cores_json(blocks: Mapping[str, Any], places: Array) -> dict[str, Any]:
    """Every core: its number, tile, population and half-open ranges of channels, rows and columns."""
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
    """The stages of every population, in timesteps; ``stop`` is the first timestep after a stage."""
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
    path.write_text(json.dumps(content, indent=1) + "\n")


REGISTERS = """| `registers.npz` | for every population `NAME_…`: `exponent` E (one unit of its integers is 2**(6 + E) units of the membrane), `threshold` and `bias` mantissas, \
`bias_exponents`, and `weight_exponent_from_SOURCE` of the weights' mantissas (the integers without their common power of two) |
"""


def _readme(graph: Graph, about: Mapping[str, Any], registers: bool) -> str:
    shapes = "x".join(str(n) for n in graph.input.shape)
    return f"""# A spiking network for {about["chip"]}

`network.nir` is an integer network: inputs of shape {shapes}, {graph.output.size} outputs, {sum(1 for _ in graph.spiking)} spiking layers, {about["cores"]} cores on {about["chips"]} chip(s).
{about.get("remark") or ""}
Run as written here it gives, bit for bit, the integer QCFS network's spike counts and potentials; `check.npz` has some to compare with.

| file | holds |
|---|---|
| `network.nir` | weights, thresholds, biases and levels (NIR with pascal-nm's metadata; `pascal_nm.export.read_nir` reads it) |
| `cores.json` | for every core its tile (column, row over all chips side by side), population, and ranges of channels, rows and columns (half-open) |
| `schedule.json` | for every population its stages, in timesteps of one image (half-open) |
| `check.npz` | `inputs` (integers, what the input population injects), `count_NAME` (spikes of each neuron), `potential` of the readout |
{REGISTERS if registers else ""}| `manifest.json` | versions, chip, limits, and the SHA-256 of every file |

## The neuron

Integers throughout: potential v and counter s, threshold theta, levels L. Before an image v = theta // 2 (0 where `schedule.json` has a `shift`: theta // 2 is added in that timestep) and s = 0.
A spike that is sent in timestep t arrives in t + {about["delay"]}. In each timestep, by stage:

- accumulate: v += input
- integrate: v += input + share of the bias; where v >= theta: s += 1, v -= theta
- correct: where v >= theta: s += 1, v -= theta; where v < 0: s -= 1, v += theta
- encode: v += input + bias; s = min(max(v // theta, 0), L)
- emit: where s >= 1: send a spike, s -= 1
- stream: v += input (and the bias, in the first timestep); where v >= theta and s < L: send +1, s += 1, v -= theta; where v < 0 and s > 0: send -1, s -= 1, v += theta

In `integrate` over n timesteps the bias comes in n shares that differ by at most one: in the k-th, b // n + ((k + 1) r // n - k r // n) with r = b - n (b // n).
The readout adds up its input and its bias and never fires; the class with the largest potential is the answer.
"""
