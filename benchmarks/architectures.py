"""Do real architectures convert, from ReLU, with exactly the same answers?

A hundred by name: those of torchvision, timm and pytorchcv that are installed, and networks of the
field that are written out in ``networks/field.py``. Weights are random, in double precision;
statistics of normalizations are those of random images, shaken. Activations become QCFS with
``to_qcfs``, calibrated on random images; every level and output is compared with the source network
in closed form (``counts``), timestep by timestep (``steps``), and in 8 bits; the file is read back.

    python benchmarks/architectures.py [--only NAME ...] [--results architectures.jsonl]

Each network runs in a process of its own with limits of memory and time. Results are appended to a
file, a line for each; what stands there is not run again. ``--list`` prints the names, ``--table``
the Markdown tables of the results at hand. ``--part chips`` runs the networks in Lava and on the
cores of a chip, ``--part spikingjelly`` runs SpikingJelly's ``ann2snn`` on the same weights, and
compares both kinds of spiking network with the ReLU network.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from networks.field import FIELD
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import pascal_nm as pnm
from pascal_nm.errors import PascalError
from pascal_nm.hw_targets.lava import LavaTarget
from pascal_nm.hw_targets.loihi import LoihiTarget
from pascal_nm.simulation import schedule, simulate

IMAGES, LEVELS = 2, 4
"""On which all is compared, and steps of each QCFS activation."""

BESIDE, TIMESTEPS = 8, (4, 16, 64)
"""Images for the comparison with SpikingJelly; its timesteps, and our levels."""

TIMESTEPS_AT_MOST = 2000
"""Of the schedule ``pasc``; networks that take more run under ``two_phase``."""

CHIP = "loihi2"
"""A chip whose spikes carry numbers, which linear populations need."""

CHECKS = ("counts", "steps", "int8", "nir")
"""What is exact: in double precision in closed form and by timesteps, in 8 bits, from the file."""

TORCHVISION = """
alexnet vgg11 resnet18 resnet50 resnet101 resnext50_32x4d wide_resnet50_2 densenet121 squeezenet1_0 googlenet
inception_v3:96 shufflenet_v2_x1_0 mobilenet_v2 mnasnet0_5 regnet_x_400mf fcn_resnet50 deeplabv3_resnet50
r3d_18:8x32x32 mc3_18:8x32x32 r2plus1d_18:8x32x32 regnet_y_400mf efficientnet_b0 mobilenet_v3_small vit_b_16
"""
TIMM = """
resnet26d resnet50d resnetv2_18 resnetv2_50 resnetblur18 resnetaa50 repvgg_a0 dla34 dla46_c hrnet_w18_small vovnet39a
darknet53 xception41 legacy_xception selecsls42b dpn68 res2net50_26w_4s tf_efficientnet_lite0 efficientnet_lite0
tf_mobilenetv3_small_minimal_100 efficientnet_es nf_resnet26 gernet_s mobileone_s0 fasternet_s
mobilenetv4_conv_small inception_v4:96 inception_resnet_v2:96 densenetblur121d mobilenetv1_100 convmixer_768_32
hgnetv2_b0 regnetx_002 resnet50_gn resnest14d seresnet18 skresnet18 ghostnet_100 hardcorenas_a starnet_s050
"""
PYTORCHCV = """
preresnet20_cifar10:32 preresnet110_cifar10:32 pyramidnet110_a48_cifar10:32 densenet40_k12_cifar10:32
wrn16_10_cifar10:32 nin_cifar10:32 shakeshakeresnet20_2x16d_cifar10:32 fractalnet_cifar10:32 diaresnet20_cifar10:32
shufflenet_g3_wd4 menet108_8x1_g3 condensenet74_c8_g8 igcv3_wd4 channelnet bagnet9 sqnxt23_w1 hardnet39ds peleenet
diracnet18v2 octresnet10_ad2 segnet_cityscapes linknet_cityscapes
"""
"""Names, with the images' size where it is not 64x64."""

GATES = {
    "squeeze-and-excitation": "regnet_y_400mf efficientnet_b0 mobilenet_v3_small seresnet18 ghostnet_100 hardcorenas_a",
    "sigmoid gate": "menet108_8x1_g3",
    "attention": "vit_b_16 resnest14d skresnet18 diaresnet20_cifar10",
    "product of two branches": "starnet_s050",
}
"""Networks that multiply activations with each other, which is not linear."""


class Architecture(NamedTuple):
    """Where a network comes from, what makes it, and the shapes of its inputs."""

    package: str
    make: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]


def _load_torchvision() -> None:
    """Give torchvision's compiled operators their names: without them, it cannot be imported.

    They do not load beside every build of torch; models need none of them.
    """
    global _operators
    if "torchvision::nms" not in torch._C._dispatch_get_all_op_names():
        _operators = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            _operators.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def _torchvision(name: str) -> nn.Module:
    _load_torchvision()
    from torchvision import models

    segments, transforms = name.startswith(("fcn", "deeplab")), name.startswith("vit")
    more = {"weights_backbone": None} if segments else {"image_size": 64} if transforms else {}
    return models.get_model(name, weights=None, **more)


def _timm(name: str) -> nn.Module:
    _load_torchvision()  # it is imported there, too
    import timm

    return timm.create_model(name)


def _pytorchcv(name: str) -> nn.Module:
    _load_torchvision()
    from pytorchcv.model_provider import get_model

    if name.endswith("cityscapes"):
        return get_model(name, in_size=(64, 64))
    network = get_model(name)
    pool = getattr(network.features, "final_pool", None)
    if isinstance(pool, nn.AvgPool2d) and not name.endswith("cifar10"):
        network.features.final_pool = nn.AdaptiveAvgPool2d(1)  # it is of the size of the map of 224x224
    return network


def architectures() -> dict[str, Architecture]:
    """All, by name, whether installed or not."""
    found = {}
    for package, names, make in (
        ("torchvision", TORCHVISION, _torchvision),
        ("timm", TIMM, _timm),
        ("pytorchcv", PYTORCHCV, _pytorchcv),
    ):
        for entry in names.split():
            name, _, size = entry.partition(":")
            size = [int(n) for n in (size or "64").split("x")]
            shape = (3, *(size * 2 if len(size) == 1 else size))
            found[name] = Architecture(package, lambda make=make, name=name: make(name), (shape,))
    for name, (make, shape) in FIELD.items():
        found[name] = Architecture("", make, shape if isinstance(shape[0], tuple) else (shape,))
    return found


def inputs(architecture: Architecture, images: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Random inputs in double precision."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(images, *s, generator=generator, dtype=torch.float64) for s in architecture.shapes)


def relu_network(architecture: Architecture) -> nn.Module:
    """The network with random weights, in double precision, as if it were trained.

    Normalizations have the statistics of random images, shaken, and scales and shifts of their own;
    so does every other parameter or bias that begins as zero or one.
    """
    torch.manual_seed(0)
    network = architecture.make().double()
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias") and not parameter.any():
                parameter.normal_(0, 0.1)
        for norm in norms:
            norm.momentum = None  # the mean over all batches
            if norm.affine:
                norm.weight.uniform_(0.7, 1.3)
                norm.bias.normal_(0, 0.2)
        network.eval()
        for norm in norms:
            norm.train()
        network(*inputs(architecture, 8, 1))
        for norm in norms:
            if norm.running_var is not None:
                norm.running_var.mul_(torch.empty_like(norm.running_var).uniform_(0.8, 1.25)).clamp_(min=1e-3)
                norm.running_mean.add_(norm.running_var.sqrt() * 0.1 * torch.randn_like(norm.running_mean))
    return network.eval()


class _Products(TorchDispatchMode):
    """Counts the products of weights and inputs of one image, but those with padding."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        aten = torch.ops.aten
        if function is aten.convolution.default:
            x, weight, _, *rest = args
            ones = torch.ones_like(x[:1], dtype=torch.float64)
            self.count += round(float(function(ones, torch.ones_like(weight, dtype=ones.dtype), None, *rest).sum()))
        elif function in (aten.mm.default, aten.addmm.default, aten.bmm.default):
            *_, a, b = args
            self.count += a[..., :, :].numel() * b.shape[-1]
        return function(*args, **(kwargs or {}))


def products(network: nn.Module, architecture: Architecture) -> int:
    """Multiply-accumulates of one image: products with padding do not count."""
    with torch.no_grad(), _Products() as counted:
        network(*inputs(architecture, 1, 2))
    return counted.count


def synapses(graph: pnm.Graph) -> int:
    """Of all projections with weights, those of a pooling in front included."""
    return sum(
        int(q.reach(graph[q.source].shape).fan_out.sum())
        for q in graph.projections
        if graph[q.target].dynamics.weighted
    )


def qcfs_network(relu: nn.Module, architecture: Architecture, levels: int) -> nn.Module:
    """With thresholds from random images."""
    batch = inputs(architecture, 8, 1)
    return pnm.to_qcfs(relu, levels, calibration=batch[0] if len(batch) == 1 else [(batch, None)])


def examine(architecture: Architecture) -> dict[str, Any]:
    """What the table of conversions says of one network."""
    relu = relu_network(architecture)
    found: dict[str, Any] = {"products": products(relu, architecture)}
    example, x = run_inputs(architecture)
    try:
        qcfs = qcfs_network(relu, architecture, LEVELS)
        begin = time.process_time()
        source = pnm.SourceNetwork(qcfs, example)
        graph = pnm.convert(source, example)
        found["seconds"] = time.process_time() - begin
    except PascalError as error:
        return found | {"refused": str(error)}
    truth = source.levels(x)
    kinds = [p.kind for p in graph.populations]
    found |= {"populations": len(kinds), "projections": len(graph.projections), "synapses": synapses(graph)}
    stepped = in_time(graph)
    found |= {"linear": kinds.count("linear"), "schedule": stepped.timing.schedule}
    found["timesteps"] = schedule.of(stepped).length
    found |= {"layers": len(truth[1]), "full": sum(len(np.unique(level)) > LEVELS for level in truth[1].values())}
    return found | _each(
        {
            "counts": lambda: exact(truth, simulate.counts(graph, x)),
            "steps": lambda: exact(truth, simulate.steps(stepped, x)),
            "int8": lambda: whole_numbers(stepped, x),
            "nir": lambda: round_trip(graph),
        }
    )


def in_time(graph: pnm.Graph) -> pnm.Graph:
    """Under the schedule ``pasc``, or ``two_phase`` where its windows grow too long.

    A sum that is carried over many layers is known late: windows of ``pasc`` double with each
    layer that waits for it, those of ``two_phase`` do not.
    """
    if schedule.of(graph).length <= TIMESTEPS_AT_MOST:
        return graph
    return graph.replace(timing=pnm.Timing("two_phase"))


def deploy(architecture: Architecture) -> dict[str, Any]:
    """The network in 8 bits in Lava's fixed point, and in registers on the cores of a chip.

    Where sums that are passed on take more bits than these have, all linear layers are composed.
    """
    example, x = run_inputs(architecture)
    network = qcfs_network(relu_network(architecture), architecture, LEVELS)
    found: dict[str, Any] = {}
    for composed in (False, True):
        floats = pnm.convert(network, example, growth=math.inf) if composed else pnm.convert(network, example)
        found = _deployed(pnm.quantize(floats, 8, input_range=float(np.abs(x).max())), x) | {"composed": composed}
        if found["lava"] == found["chip"] == "yes":
            break
    return found


def _deployed(graph: pnm.Graph, x: np.ndarray) -> dict[str, Any]:
    expected = simulate.counts(graph, x)
    found: dict[str, Any] = {}

    def chip() -> str:
        execution = LoihiTarget(CHIP, cores=True).compile(graph)
        found["cores"], found["hops"] = execution.placement.cores, round(execution.placement.mean_hops, 1)
        return same(simulate.counts(execution.graph, x), execution.run(x))

    return _each({"lava": lambda: same(expected, LavaTarget().compile(graph).run(x)), "chip": chip}) | found


def run_inputs(architecture: Architecture) -> tuple[Any, np.ndarray]:
    """The example of a conversion, and the same as a run takes it: several inputs side by side."""
    given = inputs(architecture, IMAGES, 3)
    if len(given) == 1:
        return given[0], given[0].numpy()
    return given, torch.cat([x.flatten(1) for x in given], 1).numpy()


def _each(checks: dict[str, Callable[[], str]]) -> dict[str, str]:
    """What each check says, or why it fails."""
    found = {}
    for name, check in checks.items():
        try:
            found[name] = check()
        except Exception as error:  # of a part that does not know an operator
            found[name] = _first_line(error)
            found["traceback"] = traceback.format_exc(limit=-6)
    return found


def exact(truth: tuple[np.ndarray, Mapping[str, np.ndarray]], result: pnm.RunResult) -> str:
    """``yes``, where each level and output is the source network's, or what differs."""
    logits, levels = truth
    other = sum(np.count_nonzero(result.counts[name].reshape(levels[name].shape) != levels[name]) for name in levels)
    apart = np.abs(result.logits - logits).max() / np.abs(logits).max()
    return "yes" if not other and apart < 1e-9 else f"{other:,} levels differ, outputs by {apart:.2g} of the largest"


def whole_numbers(graph: pnm.Graph, x: np.ndarray) -> str:
    """In 8 bits, timestep by timestep against the closed form."""
    graph = pnm.quantize(graph, 8, input_range=float(np.abs(x).max()))
    return same(simulate.counts(graph, x), simulate.steps(graph, x))


def same(expected: pnm.RunResult, found: pnm.RunResult) -> str:
    """``yes``, where every count and every potential is the same integer."""
    pairs = [(expected.potential, found.potential), *((n, found.counts[name]) for name, n in expected.counts.items())]
    other = sum(np.count_nonzero(a != b) for a, b in pairs)
    return f"{other:,} numbers differ" if other else "yes"


def round_trip(graph: pnm.Graph) -> str:
    """The network from its own NIR file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "network.nir")
        pnm.export.write_nir(graph, file)
        differences = graph.differences(pnm.export.read_nir(file))
    return f"{len(differences)} parameters differ" if differences else "yes"


def _classes(output: Any) -> np.ndarray | None:
    """The largest output of each image, at each place of a map; None where there is only one."""
    choices = [t.argmax(1).flatten(1) if t.ndim > 2 else t.argmax(1)[:, None] for t in tree_leaves(output)]
    return torch.cat(choices, 1).numpy() if all(t.shape[1] > 1 for t in tree_leaves(output)) else None


def _agreement(expected: np.ndarray, output: Any) -> float:
    return round(100 * float((_classes(output) == expected).mean()), 1)


def beside(architecture: Architecture) -> dict[str, Any]:
    """Predictions that are the ReLU network's, in %: QCFS at L levels, SpikingJelly at T steps."""
    relu = relu_network(architecture)
    x, calibration = inputs(architecture, BESIDE, 4), inputs(architecture, 8, 1)
    found: dict[str, Any] = {}
    with torch.no_grad():
        expected = _classes(relu(*x))
        if expected is None:
            return {"spikingjelly": "not compared: outputs are no classes"}
        for levels in TIMESTEPS:
            try:
                found[f"L{levels}"] = _agreement(expected, qcfs_network(relu, architecture, levels)(*x))
            except PascalError as error:
                found["ours"] = str(error)
        try:
            spiking, left = _rate_coded(relu, calibration)
        except Exception as error:  # it raises many types
            return found | {"spikingjelly": _first_line(error)}
        found["spikingjelly"] = f"{left} activations stay as they are" if left else "yes"
        total: list[torch.Tensor] = []
        for step in range(1, TIMESTEPS[-1] + 1):
            try:
                now = tree_leaves(spiking(*x))
            except Exception as error:  # as above
                return found | {"spikingjelly": _first_line(error)}
            total = [a + b for a, b in zip(total, now, strict=True)] if total else now
            if step in TIMESTEPS:
                found[f"T{step}"] = _agreement(expected, total)
    return found


def _rate_coded(relu: nn.Module, calibration: tuple[torch.Tensor, ...]) -> tuple[nn.Module, int]:
    """SpikingJelly's network, made as it documents, and how many activations it left."""
    from spikingjelly.activation_based import ann2snn, functional

    recipe = ann2snn.RateCodingRecipe([(calibration[0], torch.zeros(len(calibration[0])))], mode="99.9%")
    spiking = ann2snn.Converter(recipe).convert(copy.deepcopy(relu))
    functional.reset_net(spiking)
    names = ("relu", "hardtanh", "clamp")
    modules = dict(spiking.named_modules())
    kinds = (
        type(modules[n.target]).__name__ if n.op == "call_module" else getattr(n.target, "__name__", n.target)
        for n in spiking.graph.nodes
        if n.op.startswith("call")
    )
    return spiking, sum(any(name in str(kind).lower() for name in names) for kind in kinds)


PARTS = {"conversion": examine, "chips": deploy, "spikingjelly": beside}


def _child(answers: Connection, architecture: Architecture, part: str, memory: float, seconds: int) -> None:
    """One network, in a process of its own."""
    resource.setrlimit(resource.RLIMIT_AS, (int(memory * 2**30),) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        try:
            found = PARTS[part](architecture)
        except Exception as error:
            found = {"failed": _first_line(error), "traceback": traceback.format_exc(limit=-6)}
    answers.send(found)


def _run(architecture: Architecture, part: str, memory: float, seconds: int) -> dict[str, Any]:
    forks = multiprocessing.get_context("fork")  # what this process has imported, its children need not
    answers, end = forks.Pipe(duplex=False)
    child = forks.Process(target=_child, args=(end, architecture, part, memory, seconds))
    child.start()
    end.close()
    try:
        return answers.recv()
    except EOFError:
        child.join()
        if child.exitcode == -signal.SIGXCPU:
            return {"failed": f"takes more than {seconds} seconds"}
        return {"failed": f"its process ends with exit code {child.exitcode}, with {memory:g} GiB of memory"}
    finally:
        child.join()


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


def gate(name: str) -> str:
    """How a network multiplies activations with each other; empty where it does not."""
    return next((kind for kind, names in GATES.items() if name in names.split()), "")


def _conversion_row(name: str, package: str, found: dict[str, Any]) -> str:
    reason = found.get("failed") or found.get("refused")
    if gate(name):
        reason = f"no: {gate(name)}"
    elif reason:
        reason = f"no: {reason.partition(';')[0]}"  # behind it stands what to do
    numbers = [""] * 6
    if "synapses" in found:
        growth = found["synapses"] / found["products"]
        numbers = [
            f"{found['seconds']:.1f}", f"{found['synapses'] / 1e6:.2f}", f"{growth:.2f}",
            f"{found['populations']}", f"{found['linear']}", f"{found['projections']}",
        ]  # fmt: skip
    checks = [found.get(check, "") for check in CHECKS]
    return f"| {' | '.join([name, package or 'written out', reason or 'yes', *numbers, *checks])} |"


def _beside_row(name: str, found: dict[str, Any]) -> str:
    values = [found.get(f"{letter}{n}", "") for letter in "LT" for n in TIMESTEPS]
    cells = [name, found.get("ours", "yes"), *map(str, values[:3]), found.get("failed") or found["spikingjelly"]]
    return f"| {' | '.join([*cells, *map(str, values[3:])])} |"


def table(results: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Print the results at hand as Markdown, and what they come to."""
    packages = {name: a.package for name, a in architectures().items()}
    rows = {name: results[name, "conversion"] for name in packages if (name, "conversion") in results}
    if rows:
        print(
            "| network | from | converts | seconds | synapses, millions | growth | populations | linear | projections "
            f"| {' | '.join(CHECKS)} |\n|---|---|---|---:|---:|---:|---:|---:|---:|{'---|' * len(CHECKS)}"
        )
        for name, found in rows.items():
            print(_conversion_row(name, packages[name], found))
        plain = {name: found for name, found in rows.items() if not gate(name)}
        converted = [found for found in plain.values() if "synapses" in found]
        exactly = sum(all(found.get(check) == "yes" for check in CHECKS) for found in converted)
        print(
            f"\n{len(plain)} networks without a multiplicative gate: {len(converted)} convert "
            f"({100 * len(converted) / max(1, len(plain)):.0f} %), {exactly} of them exact in all columns; "
            f"{len(rows) - len(plain)} with a gate."
        )
        full, layers = (sum(found[key] for found in converted) for key in ("full", "layers"))
        print(f"Each level from 0 to {LEVELS} occurs in {full:,} of {layers:,} layers.")
    rows = {name: results[name, "chips"] for name in packages if (name, "chips") in results}
    if rows:
        columns = ("network", "Lava, fixed point", f"registers of a {CHIP}", "cores", "hops of a message")
        print(f"\n| {' | '.join(columns)} |\n|---|---|---|---:|---:|")
        for name, found in rows.items():
            cells = [found.get("failed") or found["lava"], found.get("chip"), found.get("cores"), found.get("hops")]
            title = f"{name}, composed" if found.get("composed") else name
            print(f"| {' | '.join([title, *(str('' if cell is None else cell) for cell in cells)])} |")
    rows = {name: results[name, "spikingjelly"] for name in packages if (name, "spikingjelly") in results}
    if rows:
        columns = [f"{letter} = {n}" for letter in "LT" for n in TIMESTEPS]
        print(f"\n| network | QCFS | {' | '.join(columns[:3])} | SpikingJelly | {' | '.join(columns[3:])} |")
        print(f"|---|---|{'---:|' * 3}---|{'---:|' * 3}")
        for name, found in rows.items():
            print(_beside_row(name, found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these networks instead of all")
    parser.add_argument("--results", type=Path, default=Path("architectures.jsonl"))
    parser.add_argument("--again", action="store_true", help="run what stands in the results, too")
    parser.add_argument("--memory", type=float, default=10, help="GiB of address space of each network's process")
    parser.add_argument("--seconds", type=int, default=600, help="of one core, for each network")
    parser.add_argument(
        "--part",
        choices=PARTS,
        default="conversion",
        help="chips: Lava's fixed point, a chip's registers and cores; spikingjelly: its ann2snn on the same weights",
    )
    parser.add_argument("--list", action="store_true", help="print the names and where they come from")
    parser.add_argument("--table", action="store_true", help="print the table of the results, and run nothing")
    options = parser.parse_args()
    known = architectures()
    names = options.only or list(known)
    if unknown := [name for name in names if name not in known]:
        parser.error(f"unknown: {', '.join(unknown)}; --list prints the names")
    if options.list:
        for name in names:
            print(f"{name:36}{known[name].package or 'written out':14}{gate(name)}")
        return
    results: dict[tuple[str, str], dict[str, Any]] = {}
    if options.results.exists():
        for line in options.results.read_text().splitlines():
            result = json.loads(line)
            results[result["name"], result["part"]] = result
    if not options.table:
        missing = {a.package for n, a in known.items() if n in names and a.package and not find_spec(a.package)}
        if missing:
            print(f"not installed, left out: {', '.join(sorted(missing))}", file=sys.stderr)
        for name in names:
            if known[name].package in missing or ((name, options.part) in results and not options.again):
                continue
            result = {
                "name": name,
                "part": options.part,
                **_run(known[name], options.part, options.memory, options.seconds),
            }
            results[name, options.part] = result
            with options.results.open("a") as file:
                print(json.dumps(result), file=file)
            reason = result.get("failed") or result.get("refused")
            print(f"{name}: {reason or 'done'}", file=sys.stderr, flush=True)
    table({key: found for key, found in results.items() if key[0] in names})


if __name__ == "__main__":
    main()
