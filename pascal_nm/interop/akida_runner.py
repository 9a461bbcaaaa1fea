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


def build(folder: Path) -> Any:
    """The model of a bundle's arrays."""
    program, registers = read(folder)
    model = akida.Model()
    for layer in program["layers"]:
        model.add(_layer(layer))
        made = model.layers[-1]
        for name, values in _held(layer, registers).items():
            made.set_variable(name, values)
    return model


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """Layers, and what their registers hold."""
    program = json.loads((folder / "program.json").read_text(encoding="utf-8"))
    with np.load(folder / "registers.npz", allow_pickle=False) as registers:
        return program, dict(registers)


def _layer(layer: dict[str, Any]) -> Any:
    """A layer of the vendor's software, without its registers."""
    given = {"name": layer["name"], "weights_bits": layer["weight_bits"]}
    counts = layer["activation_bits"] > 0
    given |= {"activation": counts, **({"act_bits": layer["activation_bits"]} if counts else {})}
    filters, side, window = layer["output"][2], (layer["kernel"],) * 2, (layer["pool"],) * 2
    if layer["kind"] == "dense":
        return akida.FullyConnected(units=filters, **given)
    given |= {"filters": filters, "kernel_size": side, "kernel_stride": (layer["stride"],) * 2}
    if (layer["pool"], layer["pool_stride"]) != (1, 1):
        given |= {"pool_type": akida.PoolType.Max, "pool_size": window, "pool_stride": (layer["pool_stride"],) * 2}
    if layer["kind"] == "image":
        return akida.InputConvolutional(input_shape=tuple(layer["input"]), padding=akida.Padding.Valid, **given)
    return akida.Convolutional(padding=akida.Padding.Same, **given)


def _held(layer: dict[str, Any], registers: dict[str, Array]) -> dict[str, Array]:
    """The variables of a layer by the vendor's names."""
    found = {"weights": registers[layer["name"] + ".weights"].astype(np.int8)}
    if layer["activation_bits"]:
        found["threshold"] = registers[layer["name"] + ".threshold"].astype(np.int32)
        found["act_step"] = (registers[layer["name"] + ".step"] / _FRACTION).astype(np.float32)
    return found


def differences(model: Any, folder: Path) -> list[str]:
    """What a model holds that the bundle's arrays do not, one line each."""
    program, registers = read(folder)
    names = [layer.name for layer in model.layers]
    if names != [layer["name"] for layer in program["layers"]]:
        return [f"the layers are {', '.join(names)}"]
    found = []
    for layer, made in zip(program["layers"], model.layers, strict=True):
        wanted, given = _layer(layer).to_dict()["parameters"], made.to_dict()["parameters"]
        found += [
            f"{layer['name']}: {key} is {given.get(key)}, not {wanted[key]}"
            for key in wanted
            if given.get(key) != wanted[key]
        ]
        if list(made.input_dims) != layer["input"] or list(made.output_dims) != layer["output"]:
            found.append(f"{layer['name']}: takes {made.input_dims} and sends {made.output_dims}")
        for name, values in _held(layer, registers).items():
            held = made.get_variable(name)
            if held.shape != values.shape or held.dtype != values.dtype:
                found.append(f"{layer['name']}: {name} is {held.dtype} {held.shape}")
            elif wrong := int(np.count_nonzero(held != values)):
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
        "processors": sum(count for kind, count in kinds.items() if kind != "HRC"),
        "of": len(device.mesh.nps),
        "components": kinds,
        "program_bytes": sum(len(sequence.program or b"") for sequence in model.sequences),
        "sequences": len(model.sequences),
        "passes": sum(len(sequence.passes) for sequence in model.sequences),
        "layers": layers,
    }


def sent(model: Any, images: Array) -> dict[str, Array]:
    """What every layer sends for images (N, rows, columns, C), in the software backend.

    Each layer runs on what the one before it sent; the last has to send what the whole model does.

    Raises:
        RuntimeError: it sends something else.
    """
    found, values = {}, images
    for layer in model.layers:
        values = akida.Model(layers=[layer]).forward(values)
        found[layer.name] = values
    if not np.array_equal(values, model.forward(images)):
        raise RuntimeError("the model as a whole answers otherwise than its layers one by one")
    return found


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
    parser.add_argument("--map", metavar="CHIP", help="say what the model takes of a chip: AKD1000, AKD1500")
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
    for name, values in found.items():
        differ = int(np.count_nonzero(values != expected[name]))
        print(f"{name}: {differ} of {values.size} values differ")
        wrong += [name] * bool(differ)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(_main())
