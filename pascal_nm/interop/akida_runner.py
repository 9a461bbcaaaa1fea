"""A bundle for Akida in BrainChip's own software: its simulator, its mapper, its boards.

``python run_akida.py``, in the folder of a bundle, compares ``model.fbz`` with the arrays beside
it, and what each layer sends for the images of ``check.npz`` with what it has to send, in the
software backend. ``--device`` does the last on the board that is connected, output by output, and
``--map AKD1000`` says what the model takes of a chip, without one.

This file is also run by Python environments that have ``akida`` but not pascal-nm, so it imports
nothing of it. Models are built from the bundle's ``program.json`` and ``registers.npz``.
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import akida
import numpy as np

Array = Any
_FRACTION = 16
"""``act_step`` is held in sixteenths."""

_SECOND = {
    "bias": ("bias", np.int8, 1),
    "bias_shift": ("bias_shift", np.uint8, 1),
    "scale": ("output_scales", np.uint8, 1),
    "shift": ("output_shift", np.int8, -1),
    "most": ("max_value", np.uint8, 1),
    "most_shift": ("max_value_shift", np.uint8, 1),
    "input_shift": ("input_shift", np.uint8, 1),
}
"""Of version 2, by register the vendor's variable, its type, and the sign that it has there."""


def build(folder: Path) -> Any:
    """The model of a bundle's arrays."""
    program, registers = read(folder)
    model = akida.Model()
    for layer in program["layers"]:
        _add(model, layer, program["version"])
        made = model.layers[-1]
        for name, values in _held(layer, registers, program["version"]).items():
            made.set_variable(name, values)
    return model


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """Layers, and what their registers hold."""
    program = json.loads((folder / "program.json").read_text(encoding="utf-8"))
    with np.load(folder / "registers.npz", allow_pickle=False) as registers:
        return program, dict(registers)


def _add(model: Any, layer: dict[str, Any], version: int) -> None:
    """Add a layer of the vendor's software, without its registers; several sources are joined."""
    before = [model.get_layer(name) for name in layer.get("sources", ())]
    if len(before) > 1:
        model.add(akida.Concatenate(name=_joined(layer)), before)
        before = [model.layers[-1]]
    made = _first(layer) if version == 1 else _second(layer)
    model.add(made, before) if before else model.add(made)


def _joined(layer: dict[str, Any]) -> str:
    return str(layer["name"]) + "_joined"


def _first(layer: dict[str, Any]) -> Any:
    """A layer of version 1."""
    given = {"name": layer["name"], "weights_bits": layer["weight_bits"]}
    counts = layer["activation_bits"] > 0
    given |= {"activation": counts, **({"act_bits": layer["activation_bits"]} if counts else {})}
    filters, side, window = layer["output"][2], (layer["kernel"],) * 2, (layer["pool"],) * 2
    if layer["kind"] == "full":
        return akida.FullyConnected(units=filters, **given)
    given |= {"filters": filters, "kernel_size": side, "kernel_stride": (layer["stride"],) * 2}
    if (layer["pool"], layer["pool_stride"]) != (1, 1):
        given |= {"pool_type": akida.PoolType.Max, "pool_size": window, "pool_stride": (layer["pool_stride"],) * 2}
    if layer["kind"] == "image":
        return akida.InputConvolutional(input_shape=tuple(layer["input"]), padding=akida.Padding.Valid, **given)
    return akida.Convolutional(padding=akida.Padding.Same, **given)


def _second(layer: dict[str, Any]) -> Any:
    """A layer of version 2."""
    counts, kinds = layer["activation_bits"] > 0, akida.ActivationType
    given = {"name": layer["name"], "weights_bits": layer["weight_bits"]}
    given |= {"output_bits": layer["activation_bits"] or 32, "activation": kinds.ReLU if counts else kinds.NoActivation}
    if layer["kind"] == "full":
        return akida.Dense1D(units=layer["output"][2], **given)
    given |= {"filters": layer["output"][2], "kernel_size": layer["kernel"], "kernel_stride": layer["stride"]}
    if (layer["pool"], layer["pool_stride"]) != (1, 1):
        given |= {"pool_type": akida.PoolType.Max, "pool_size": layer["pool"], "pool_stride": layer["pool_stride"]}
    if layer["kind"] == "image":
        return akida.InputConv2D(input_shape=tuple(layer["input"]), padding=akida.Padding.Valid, **given)
    padding = akida.Padding.SameUpper if layer["upper"] else akida.Padding.Same
    return akida.Conv2D(padding=padding, **given)


def _held(layer: dict[str, Any], registers: dict[str, Array], version: int) -> dict[str, Array]:
    """The variables of a layer by the vendor's names."""
    name = layer["name"]
    found = {"weights": registers[name + ".weights"].astype(np.int8)}
    if version == 1:
        if layer["activation_bits"]:
            found["threshold"] = registers[name + ".threshold"].astype(np.int32)
            found["act_step"] = (registers[name + ".step"] / _FRACTION).astype(np.float32)
        return found
    for register, (variable, dtype, sign) in _SECOND.items():
        if f"{name}.{register}" in registers:
            found[variable] = (sign * registers[f"{name}.{register}"]).astype(dtype)
    return found


def differences(model: Any, folder: Path) -> list[str]:
    """What a model holds that the bundle's arrays do not, one line each."""
    program, registers = read(folder)
    wanted, version = build(folder), program["version"]
    shown = [(layer.name, [before.name for before in layer.inbounds]) for layer in model.layers]
    if shown != [(layer.name, [before.name for before in layer.inbounds]) for layer in wanted.layers]:
        return [f"the layers are {', '.join(name for name, _ in shown)}"]
    found = []
    for given, ours in zip(model.layers, wanted.layers, strict=True):
        if given.to_dict()["parameters"] != ours.to_dict()["parameters"]:
            found.append(f"{ours.name}: it is another layer than in program.json")
        if (given.input_dims, given.output_dims) != (ours.input_dims, ours.output_dims):
            found.append(f"{ours.name}: takes {given.input_dims} and sends {given.output_dims}")
    for layer in program["layers"]:
        given, ours = model.get_layer(layer["name"]), wanted.get_layer(layer["name"])
        if list(given.input_dims) != layer["input"] or list(given.output_dims) != layer["output"]:
            found.append(f"{layer['name']}: takes {given.input_dims} and sends {given.output_dims}")
        for name in ours.get_variable_names():
            held, values = given.get_variable(name), ours.get_variable(name)
            known = _held(layer, registers, version).get(name, values)
            if held.shape != values.shape or held.dtype != values.dtype:
                found.append(f"{layer['name']}: {name} is {held.dtype} {held.shape}")
            elif wrong := int(np.count_nonzero((held != values) | (held != known))):
                found.append(f"{layer['name']}: {wrong} of {held.size} values of {name} differ")
    return found


def mapped(model: Any, device: Any) -> dict[str, Any]:
    """What a model takes of a chip where all of it runs there.

    Raises:
        RuntimeError: it does not fit; the vendor's words.
    """
    model.map(device, hw_only=True)
    layers: dict[str, int] = {}
    for sequence in model.sequences:
        for part in sequence.passes:
            for layer in part.layers:
                layers[layer.name] = 0 if layer.mapping is None else len(layer.mapping.nps)
    kinds = {kind.name: int(count) for kind, count in model.component_count.items()}
    return {
        "version": akida.__version__,
        "device": str(device.version),
        "processors": sum(count for kind, count in kinds.items() if "NP" in kind),
        "of": len(device.mesh.nps),
        "components": kinds,
        "program_bytes": sum(len(sequence.program or b"") for sequence in model.sequences),
        "sequences": len(model.sequences),
        "passes": sum(len(sequence.passes) for sequence in model.sequences),
        "layers": layers,
    }


def sent(model: Any, images: Array) -> dict[str, Array]:
    """What every layer sends for images (N, rows, columns, C), in the software backend.

    Each layer runs on what those before it sent; the last has to send what the whole model does.

    Raises:
        RuntimeError: it sends something else.
    """
    found: dict[str, Array] = {}
    values = images
    for layer in model.layers:
        before = [found[each.name] for each in layer.inbounds]
        if len(before) > 1:
            values = np.concatenate(before, 3)
        else:
            values = akida.Model(layers=[layer]).forward(before[0] if before else images)
        found[layer.name] = values
    if not np.array_equal(values, model.forward(images)):
        raise RuntimeError("the model as a whole answers otherwise than its layers one by one")
    return {name: values if values.dtype == np.int32 else values.astype(np.uint8) for name, values in found.items()}


def _answered(request: dict[str, Any]) -> dict[str, Any]:
    """A request is ``do`` (build, compare, map or run) with ``folder``, and what that needs.

    ``build`` writes ``model.fbz`` into the folder. ``map`` has a ``device``. ``run`` takes
    ``images`` (FILE.npy) and writes ``outputs`` (FILE.npz), by layer.
    """
    folder, do = Path(request["folder"]), request["do"]
    if do == "build":
        build(folder).save(str(folder / "model.fbz"))
        return {"version": akida.__version__}
    model = akida.Model(str(folder / "model.fbz"))
    if do == "compare":
        return {"version": akida.__version__, "differences": differences(model, folder)}
    if do == "map":
        return mapped(model, getattr(akida, request["device"])())
    np.savez(request["outputs"], **sent(model, np.load(request["images"], allow_pickle=False)))
    return {"version": akida.__version__}


def _serve() -> None:
    """Answer every request, which is one line of JSON; a failure is an ``error``, in one line."""
    replies, sys.stdout = sys.stdout, sys.stderr  # the vendor's software prints what it likes
    for line in sys.stdin:
        try:
            reply = _answered(json.loads(line))
        except Exception as error:  # the vendor's software raises many types
            reply = {"error": " ".join(str(error).split()) or type(error).__name__}
        print(json.dumps(reply), file=replies, flush=True)


def _main() -> int:
    parser = ArgumentParser(description="Compare a bundle with BrainChip's software, or with a board.")
    parser.add_argument("--serve", action="store_true", help="answer lines of JSON")
    parser.add_argument(
        "--map", metavar="CHIP", help="say what the model takes of a chip: AKD1000, AKD1500, SixNodesIPv2"
    )
    parser.add_argument("--device", action="store_true", help="run the images of check.npz on the connected board")
    asked = parser.parse_args()
    if asked.serve:
        _serve()
        return 0
    folder = Path(__file__).resolve().parent
    model = akida.Model(str(folder / "model.fbz"))
    wrong = differences(model, folder)
    print("\n".join(wrong) or "model.fbz holds the weights, thresholds and steps of registers.npz")
    if asked.map:
        print(json.dumps(mapped(model, getattr(akida, asked.map)()), indent=1))
        return int(bool(wrong))
    with np.load(folder / "check.npz", allow_pickle=False) as check:
        images, expected = (
            check["images"],
            {name.removeprefix("sent_"): check[name] for name in check if name != "images"},
        )
    if asked.device:
        devices = akida.devices()
        if not devices:
            print("no board is connected")
            return 1
        model.map(devices[0], hw_only=True)
        last = model.layers[-1].name
        found = {last: model.forward(images)}
    else:
        found = sent(model, images)
    for name, wanted in expected.items():
        if name not in found:
            continue  # a board sends the output alone
        differ = int(np.count_nonzero(found[name] != wanted))
        print(f"{name}: {differ} of {wanted.size} values differ")
        wrong += [name] * bool(differ)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(_main())
