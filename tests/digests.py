"""What every committed network computes, as short digests: what a change of the code changes.

``python -m tests.digests`` makes the digests of ``models/*.pt`` anew and compares them with
``tests/digests.json``: it prints a line for each difference, and exits with 1 where there is one.
Names of networks choose some of them; ``--write`` writes the file instead.

A digest is of one quantity of one layer: in float64 and in integers of 8 bits, under every
schedule, on every target. Of integers it is their sum and a hash, compared exactly. Of what files
hold it is a hash of every bit. Logits, joules and seconds are numbers, and compared within
:data:`TOLERANCE`, since sums of floats depend on the processor.

The functions of the first part alone touch the package: when its names move, these move with them.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import importlib.util
import io
import itertools
import json
import platform
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits

import pascal_nm
from pascal_nm.cli.main import main as command_line
from pascal_nm.export.unrolled import write_unrolled
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import cost, find, fixed_point
from pascal_nm.hw_targets.loihi import LoihiTarget
from pascal_nm.hw_targets.traffic import Traffic
from pascal_nm.network.graph import Graph, Inputs, Quantization, Timing
from pascal_nm.simulation import events as vocabulary
from pascal_nm.simulation import simulate
from pascal_nm.simulation.result import RunResult
from pascal_nm.source import checkpoint

Array = npt.NDArray[Any]
Content = dict[str, Any]
"""What JSON holds: of a network, by schedule, arithmetic, target and quantity."""

MODELS = Path(__file__).parents[1] / "models"
ELSEWHERE = {"mnist.akida.pt", "cifar10.akida.pt"}
"""Networks of 15 levels, made for a chip whose vendor's software counts every layer of them."""
FILE = Path(__file__).with_name("digests.json")

IMAGES = 4

SCHEDULES = {"pasc": ("pasc", 0), "two_phase": ("two_phase", 0), "streaming": ("streaming", 0)}
SCHEDULES |= {"streaming with lag 1": ("streaming", 1)}

IN_LAVA = ("mnist.pt",)
"""The networks that run in Lava, too, which takes seconds for each run."""

ROWS = "by layer"
"""The name under which a quantity has a list, one value for each layer of the network."""

TOLERANCE = 1e-6
"""Relative, of floats: far above what the order of a sum changes, far below what a spike does."""


# The package, as these digests see it.


def graphs(path: Path) -> dict[str, Graph]:
    """The spiking network of a model file, by arithmetic: in float64, and in integers of 8 bits."""
    model = checkpoint.load(path)
    return {"float64": model.in_double().graph(), "int8": pascal_nm.quantize(model.graph(), 8)}


def fitted(path: Path, names: Iterable[str]) -> dict[str, Graph]:
    """The spiking network of a model file in 8-bit integers that fit a chip's
    registers, by chip.
    """
    graph = checkpoint.load(path).graph()
    return {name: fixed_point.fit(graph, chips.load(name), Quantization(8)) for name in names}


def integer_chips() -> list[str]:
    """The chips that compute in integers, on cores: ``deploy`` writes for them.

    The newest is first.
    """
    return [name for name in reversed(chips.available()) if chips.load(name).widths]


def every_target() -> list[str]:
    """Where a network runs: ``torch``, ``lava``, and the target ``loihi`` by the
    name of each chip.
    """
    return ["torch", "lava", *integer_chips()]


PRICES = {"float64": ["cmos45_fp32"], "int8": ["cmos45_int8"]}
"""The chips that only price events, by the arithmetic that they are for."""


def layers(graph: Graph) -> list[str]:
    """The names of the populations, from first to last, without the input."""
    return [p.name for p in graph.populations if p.kind != "analog"]


def inputs(graph: Graph, pixels: Array) -> Inputs:
    """The network's inputs, of pixels (N, *shape) from 0 to 255."""
    return graph.pixels(pixels)


def scheduled(graph: Graph, schedule: str, lag: int) -> Graph:
    """The network under another schedule."""
    return graph.replace(timing=Timing(schedule, lag))


def closed_form(graph: Graph, pixels: Array) -> RunResult:
    """The counts without timesteps."""
    return simulate.counts(graph, inputs(graph, pixels))


def run(graph: Graph, target: str, pixels: Array) -> RunResult:
    """A run on ``torch`` or ``lava``."""
    return find(target).compile(graph).run(inputs(graph, pixels))


def run_on_cores(graph: Graph, chip: str, pixels: Array) -> tuple[RunResult, Content]:
    """A run of the target ``loihi``, in which messages between cores are counted, and what the
    cores did.
    """
    program = LoihiTarget(chip, cores=True).compile(graph)
    result, watcher = program.run(inputs(graph, pixels)), program.watcher
    assert isinstance(watcher, Traffic), "the target counts on cores"
    assert result.cores is not None, "the target counts on cores"
    names = {"operations of": "synaptic_operation", "messages from": "message", "messages to": "message_in"}
    found: Content = {
        f"{what} cores": digest(result.cores.by_core(event).astype(np.int64)) for what, event in names.items()
    }
    return result, {**found, "seconds": numbers(cost.seconds(result, watcher.placement, chips.load(chip)))}


def outcome(result: RunResult) -> Content:
    """What a run gives as a whole."""
    found: Content = {
        "timesteps": whole(result.timesteps),
        "predictions": whole(result.predictions),
        "potential": exact_or_numbers(result.potential),
    }
    if result.answers is not None:
        found["answers over time"] = digest(result.answers)
    return found


def counts(result: RunResult) -> dict[str, Mapping[str, Array]]:
    """Spikes of every neuron: their sum, and where it differs, their number; by
    quantity and layer.
    """
    found = {"counts": result.counts}
    return found if result.sent is None else {**found, "sent": result.sent}


def windows(result: RunResult) -> dict[str, Any]:
    """By layer the timesteps of each stage, and that in which a late half threshold comes."""
    return {
        name: [[(s.stage.value, s.start, s.stop) for s in window.spans], window.shift]
        for name, window in result.schedule.windows.items()
    }


EVENTS = (
    *("synaptic_operations", "multiply_accumulates", "emitted", "internal", "updates", "idle"),
    *("messages", "hops_x", "hops_y"),
)


def events(graph: Graph, result: RunResult) -> dict[str, dict[str, Array]]:
    """Counted events of each image, by quantity and layer."""
    counted = vocabulary.count(graph, result)
    names = EVENTS if result.cores is not None else EVENTS[:-3]
    found = {name: {layer.name: np.asarray(getattr(layer, name)) for layer in counted} for name in names}
    internal = {name: each.inhibitory for name, each in result.activity.items()}
    return found | {"inhibitory": internal}


def joules(graph: Graph, result: RunResult, chip: str) -> dict[str, dict[str, float]]:
    """Mean joules of an image on a chip, and of the source network on the same, by
    quantity and layer.

    Where the chip counts memory traffic apart, they are there without it and with it.
    """
    counted = vocabulary.count(graph, result)
    tables = {chip: chips.load(chip), f"{chip} with memory": chips.load(chip, memory=True)}
    found = {}
    for name, described in tables.items():
        if name == chip or described.memory is not None:
            found[f"joules on {name}"] = {e.name: e.dynamic for e in cost.energy(counted, described)}
            found[f"source's joules on {name}"] = cost.source_energy(graph, described)
    return found


def deploy(path: Path, chip: str, folder: Path) -> None:
    """Write a bundle of stages for a chip, and have it prove itself, as the command does."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try:
            _command("deploy", path, "--chip", chip, "--schedule", "pasc", "-o", folder)
        except SystemExit as end:
            if end.code:
                raise RuntimeError(f"deploy failed for {path.name} on {chip}: {said.getvalue()}") from end


def _command(*arguments: object) -> None:
    kept, sys.argv = sys.argv, ["pascal-nm", *map(str, arguments)]
    try:
        command_line()
    finally:
        sys.argv = kept


def write_file(graph: Graph, profile: str, path: Path) -> None:
    """Write a NIR file: ``nir``, which the package reads, or ``unrolled``, which others run."""
    if profile == "unrolled":
        write_unrolled(graph, path)
    else:
        pascal_nm.export.write_nir(graph, path)


# What is kept of it.


def of(path: Path, targets: Sequence[str]) -> Content:
    """The digests of one network.

    Args:
        path: a model file.
        targets: which of :func:`every_target` run.
    """
    made = graphs(path)
    names, pixels = layers(made["float64"]), images(made["float64"].input.shape)
    found: Content = {"layers": names}
    found["closed form"] = {arithmetic: in_closed_form(graph, pixels, names) for arithmetic, graph in made.items()}
    for profile in ("nir", "unrolled"):
        found[profile] = {arithmetic: file(graph, profile, names) for arithmetic, graph in made.items()}
    on_chips = fitted(path, [chip for chip in integer_chips() if chip in targets])
    found["bundle"] = {chip: bundle(path, chip, names) for chip in on_chips}
    engines = [t for t in targets if t == "torch" or (t == "lava" and path.name in IN_LAVA)]
    for schedule, timing in SCHEDULES.items():
        section: Content = {arithmetic: {} for arithmetic in made}
        for arithmetic, target in itertools.product(made, engines):
            graph = scheduled(made[arithmetic], *timing)
            section[arithmetic][target] = ran(graph, run(graph, target, pixels), names, PRICES[arithmetic])
        fitting: Content = {}
        for chip, fits in on_chips.items():
            graph = scheduled(fits, *timing)
            result, on_cores = run_on_cores(graph, chip, pixels)
            fitting[chip] = ran(graph, result, names, [chip], on_cores)
        found[schedule] = {**section, "int8 that fits": fitting}
    return found


def in_closed_form(graph: Graph, pixels: Array, names: Sequence[str]) -> Content:
    """The digests of the counts without timesteps."""
    result = closed_form(graph, pixels)
    return {"potential": exact_or_numbers(result.potential), ROWS: rows(names, digests_of(counts(result)))}


def ran(
    graph: Graph, result: RunResult, names: Sequence[str], prices: Iterable[str], on_cores: Content | None = None
) -> Content:
    """The digests of a run, with its price on some chips, and what happened on cores."""
    by_layer: dict[str, Mapping[str, Any]] = {"window": {n: hashed(w) for n, w in windows(result).items()}}
    by_layer |= digests_of(counts(result)) | digests_of(events(graph, result))
    for chip in prices:
        priced = joules(graph, result, chip)
        by_layer |= {quantity: {n: rounded(x) for n, x in each.items()} for quantity, each in priced.items()}
    return {**outcome(result), **(on_cores or {}), ROWS: rows(names, by_layer)}


def file(graph: Graph, profile: str, names: Sequence[str]) -> Content:
    """The digests of a portable file of a network."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.nir"
        write_file(graph, profile, path)
        return by_owner(nodes(path), names)


def by_owner(found: Mapping[str, str], names: Sequence[str]) -> Content:
    """The digests of the nodes of each layer, with those that lead to it, and of
    the rest of a file.
    """
    owned: dict[str, list[tuple[str, str]]] = collections.defaultdict(list)
    for node in sorted(found):
        end = f"{node.split('__')[-1]}_"  # a node between two layers is called source__target
        owner = max((name for name in names if end.startswith(f"{name}_")), key=len, default="")
        owned[owner].append((node, found[node]))
    rest = hashed(owned.pop("", []))
    return {"other nodes": rest, ROWS: rows(names, {"nodes": {name: hashed(each) for name, each in owned.items()}})}


def nodes(path: Path) -> dict[str, str]:
    """The digest of each node of a NIR file, of its edges and metadata, but not of its version."""
    held: dict[str, list[Any]] = collections.defaultdict(list)

    def see(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            node, *inside = name.removeprefix("nodes/").split("/")
            text = item.dtype.kind == "O"
            held[node] += [inside, np.asarray(item.asstr()[()]).tolist() if text else np.asarray(item[()])]

    with h5py.File(path) as file:
        file["node"].visititems(see)
    return {name: hashed(*content) for name, content in held.items()}


def bundle(path: Path, chip: str, names: Sequence[str]) -> Content:
    """The digests of the files of a bundle, but for what names versions, and for
    its page of text.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "bundle"
        deploy(path, chip, folder)
        cores, plan, manifest, program = (
            json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
            for name in ("cores", "schedule", "manifest", "program")
        )
        check, shift = arrays(folder / "check.npz"), program["shift"]
        registers = flat_registers(arrays(folder / "registers.npz"), program) if shift else {}
        network = by_owner(nodes(folder / "network.nir"), names)
    by_layer: dict[str, dict[str, Any]] = {
        "core map": {n: hashed([core for core in cores["cores"] if core["population"] == n]) for n in names},
        "stages": {n: hashed({"shift": None, **plan["populations"][n]}) for n in names},
        "counts to check": {n: digest(check[f"count_{n}"]) for n in names if f"count_{n}" in check},
        **registers_by_layer(registers, names),
    }
    kept = {key: manifest[key] for key in ("cores", "chips", "delay")}
    kept |= {"timesteps": plan["timesteps"], "quantization": hashed(manifest["quantization"])}
    kept |= {f"{name} to check": digest(check[name]) for name in ("inputs", "potential")}
    if registers:
        kept["register shift"] = shift
    return {**kept, "network.nir": network, ROWS: rows(names, by_layer)}


def arrays(path: Path) -> dict[str, Array]:
    """The arrays of a .npz file."""
    return dict(np.load(path))


def flat_registers(registers: Mapping[str, Array], program: Content) -> dict[str, Array]:
    """Thresholds, biases and every exponent of a bundle, by one name each."""
    found = {key.replace(".", "_"): a for key, a in registers.items() if not key.endswith((".weight", ".scale"))}
    weighted = [p for p in program["populations"] if f"{p['name']}.bias" in registers]
    found = {key: a for key, a in found.items() if any(key.startswith(f"{p['name']}_") for p in weighted)}
    found |= {f"{p['name']}_exponent": np.asarray(p["exponent"]) for p in weighted}
    onto = {p["name"] for p in weighted}
    for q in program["projections"]:
        if q["target"] in onto:
            found[f"{q['target']}_weight_exponent_from_{q['source']}"] = np.asarray(q["exponent"])
    return found


REGISTERS = ("exponent", "threshold", "bias", "bias_exponents", "weight_exponent")


def registers_by_layer(registers: Mapping[str, Array], names: Sequence[str]) -> dict[str, dict[str, str]]:
    """The digests of registers by quantity and layer; all projections onto a layer are one."""
    found: dict[str, dict[str, str]] = collections.defaultdict(dict)
    for name in names:
        for register in REGISTERS:
            key = f"{name}_{register}"
            held = [(k, registers[k]) for k in sorted(registers) if k == key or k.startswith(f"{key}_from_")]
            if held:
                found[f"register {register}"][name] = hashed([(k, a.tolist()) for k, a in held])
    return dict(found)


def images(shape: Sequence[int]) -> Array:
    """Handwritten digits as pixels (N, C, H, W) from 0 to 255, enlarged by a whole number.

    Each channel has another digit, with black around it.
    """
    channels, height, width = shape
    scale = min(height, width) // 8
    found = np.zeros((IMAGES, channels, height, width), np.uint8)
    top, left = (height - 8 * scale) // 2, (width - 8 * scale) // 2
    enlarged = np.kron(load_digits().images[: IMAGES * channels], np.ones((scale, scale))) * 15
    found[:, :, top : top + 8 * scale, left : left + 8 * scale] = enlarged.reshape(
        IMAGES, channels, 8 * scale, 8 * scale
    )
    return found


# The digests themselves.


def hashed(*values: Any) -> str:
    """A hash of values: of arrays every bit with type and shape, of all else what ``repr`` says."""
    found = hashlib.sha256()
    for value in values:
        if isinstance(value, np.ndarray):
            found.update(f"{value.dtype.str}{value.shape}".encode())
            found.update(np.ascontiguousarray(value).tobytes())
        else:
            found.update(repr(value).encode())
    return found.hexdigest()[:6]


def digest(array: Array) -> str:
    """The sum of an array of integers, of whatever type, and its hash; "0" where nothing
    but zeros is in it.
    """
    values = np.asarray(array).astype(np.int64, casting="safe")
    return f"{values.sum()}:{hashed(values)}" if values.any() else "0"


def digests_of(quantities: Mapping[str, Mapping[str, Array]]) -> dict[str, dict[str, str]]:
    """The digests of arrays of integers, by quantity and layer."""
    return {quantity: {name: digest(a) for name, a in by_layer.items()} for quantity, by_layer in quantities.items()}


def rows(names: Sequence[str], quantities: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Any]]:
    """By quantity one value for each layer; None where a layer has none."""
    return {quantity: [by_layer.get(name) for name in names] for quantity, by_layer in quantities.items()}


def whole(array: Array) -> list[int]:
    """Integers as they are."""
    return [int(n) for n in array]


def numbers(array: Array) -> list[float]:
    """Floats as they are, in a row."""
    return [rounded(x) for x in np.asarray(array).reshape(-1)]


def rounded(x: float) -> float:
    """A number with more digits than are compared."""
    return float(f"{x:.7g}")


def exact_or_numbers(array: Array) -> str | list[float]:
    """Integers as a digest, floats as they are."""
    return digest(array) if np.issubdtype(array.dtype, np.integer) else numbers(array)


# What differs.


def differences(before: Content, after: Content) -> list[str]:
    """A line for each quantity that differs between two contents by network: what it was and is."""
    was, now = (
        {where: v for name, content in c.items() for where, v in leaves(content, (name,))} for c in (before, after)
    )
    found = []
    for where in [*was, *(where for where in now if where not in was)]:
        one, other = was.get(where), now.get(where)
        if not same(one, other):
            found.append(f"{', '.join(where)}: was {shown(one)}, is {shown(other)}")
    return found


Where = tuple[str, ...]


def leaves(content: Content, where: Where, names: Sequence[str] = ()) -> Iterator[tuple[Where, Any]]:
    """Every value with the way to it.

    The way is the network, schedule, arithmetic and target, then the layer where the value is of
    one, and the quantity.
    """
    names = content.get("layers", names)
    for key, value in content.items():
        if key == ROWS:
            for quantity, row in value.items():
                yield from (((*where, name, quantity), each) for name, each in zip(names, row, strict=True))
        elif isinstance(value, dict):
            yield from leaves(value, (*where, key), names)
        else:
            yield (*where, key), value


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, or floats within the tolerance of each other."""
    a, b = (np.atleast_1d(np.asarray(value)) for value in (one, other))
    if a.dtype.kind != "f" or b.dtype.kind != "f":
        return bool(one == other)
    tiny = (
        TOLERANCE / 1000 * float(np.abs(a).max(initial=0))
    )  # what cancels in a sum is as inexact as its largest parts
    return a.shape == b.shape and bool(np.allclose(b, a, rtol=TOLERANCE, atol=tiny, equal_nan=True))


def shown(value: Any) -> str:
    """A value in a message."""
    return "not there" if value is None else str(value)


def only(targets: Sequence[str], content: Content) -> Content:
    """The content but for what ran on other targets."""
    others = set(every_target()) - set(targets)
    return {k: only(targets, v) if isinstance(v, dict) else v for k, v in content.items() if k not in others}


# The file.

BEFORE, ABOVE = "=", "^"
"""In the file, for a value that stands there already, in the same network: the last one under the
same name; the one under the same arithmetic, target and name in the schedule before."""


def read() -> Content:
    """The digests as they are written, by network."""
    written = json.loads(FILE.read_text(encoding="utf-8"))["networks"]
    return {name: unpacked(content, {}) for name, content in written.items()}


def write(networks: Content) -> None:
    """Write the digests, with what made them for information."""
    versions = {"pascal_nm": pascal_nm.__version__, "python": platform.python_version()}
    versions |= {"numpy": np.__version__, "torch": torch.__version__}
    packed_ones = {name: packed(content, {}) for name, content in networks.items()}
    content = {"made by": "python -m tests.digests --write", "with": versions, "networks": packed_ones}
    FILE.write_text(as_text(content) + "\n", encoding="utf-8")


def packed(content: Content, last: dict[Any, Any], where: Where = ()) -> Content:
    """The content with :data:`BEFORE` and :data:`ABOVE` for what is repeated; ``last`` keeps
    values by both ways.
    """
    found: Content = {}
    for key, value in content.items():
        if isinstance(value, dict):
            found[key] = packed(value, last, (*where, key))
            continue
        ways = _ways(where, key)
        found[key] = next((mark for mark, way in ways.items() if last.get(way) == value), value)
        last.update(dict.fromkeys(ways.values(), value))
    return found


def unpacked(content: Content, last: dict[Any, Any], where: Where = ()) -> Content:
    """The content that was packed."""
    found: Content = {}
    for key, value in content.items():
        if isinstance(value, dict):
            found[key] = unpacked(value, last, (*where, key))
            continue
        ways = _ways(where, key)
        found[key] = last[ways[value]] if value in (BEFORE, ABOVE) else value
        last.update(dict.fromkeys(ways.values(), found[key]))
    return found


def _ways(where: Where, name: str) -> dict[str, Where]:
    """By mark, under what a value is kept for those that follow it."""
    return {BEFORE: (name,), ABOVE: ("above", *where[1:], name)}


def as_text(content: Any, depth: int = 1) -> str:
    """JSON with a line for each entry of an object, and a list on one line."""
    if not isinstance(content, dict):
        return json.dumps(content, separators=(",", ":"))
    lines = [f"{' ' * depth}{json.dumps(key)}:{as_text(value, depth + 1)}" for key, value in content.items()]
    return "{\n" + ",\n".join(lines) + "\n" + " " * (depth - 1) + "}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare or write, and say whether anything differs: 1 where it does."""
    parser = argparse.ArgumentParser(prog="python -m tests.digests", description="The digests of models/*.pt.")
    every = sorted(path.name for path in MODELS.glob("*.pt"))
    parser.add_argument(
        "networks", nargs="*", metavar="NETWORK", help=f"one of {', '.join(every)}; all where none is given"
    )
    parser.add_argument("--write", action="store_true", help=f"write {FILE.name} instead of comparing with it")
    given = parser.parse_args(arguments)
    if unknown := set(given.networks) - set(every):
        parser.error(f"there is no {', '.join(sorted(unknown))} in {MODELS}")
    chosen = given.networks or [name for name in every if name not in ELSEWHERE]
    targets = every_target() if importlib.util.find_spec("lava") else [t for t in every_target() if t != "lava"]
    if given.write and "lava" not in targets:
        parser.error(f"Lava is not installed, and {FILE.name} also holds what it computes")
    written = read() if FILE.exists() else {}
    made = {name: of(MODELS / name, targets) for name in chosen}
    if given.write:
        write({name: (written | made)[name] for name in every if name in written | made})
        return 0
    found = differences({name: only(targets, written[name]) for name in chosen if name in written}, made)
    print("\n".join(found) or f"{', '.join(chosen)}: as written, on {', '.join(targets)}")
    return int(bool(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
