"""Trained QCFS networks to spiking networks with exactly the same answers.

The short way through::

    import pascal_nm as pnm

    net = pnm.convert(model, x)  # a torch module with pnm.QCFS activations, and an input of it
    pnm.export.write_nir(net, "model.nir")
    result = pnm.run(net, data, target="lava")
    print(pnm.verify(model, net, data))  # says what is exact, and with what it was compared

Names are imported when they are first used, so that ``import pascal_nm`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pascal_nm import data, export, hw_targets, training
    from pascal_nm.data import Dataset
    from pascal_nm.errors import PascalError
    from pascal_nm.hw_targets import energy, run, verify
    from pascal_nm.hw_targets.bill import Bill
    from pascal_nm.hw_targets.evaluation import Evaluation
    from pascal_nm.network.graph import Graph, Population, Preprocessing, Projection, Quantization, Timing
    from pascal_nm.network.operators import Conv2d, Dense, Identity, SumPool2d
    from pascal_nm.network.quantization import quantize
    from pascal_nm.network.unroll import unroll
    from pascal_nm.simulation.result import RunResult
    from pascal_nm.simulation.session import Session
    from pascal_nm.source import checkpoint
    from pascal_nm.source.activations import to_qcfs
    from pascal_nm.source.architectures import build
    from pascal_nm.source.conversion import convert
    from pascal_nm.source.qcfs import QCFS
    from pascal_nm.source.tracing import SourceNetwork
    from pascal_nm.source.verification import Verification

__all__ = [
    "QCFS",
    "Bill",
    "Conv2d",
    "Dataset",
    "Dense",
    "Evaluation",
    "Graph",
    "Identity",
    "PascalError",
    "Population",
    "Preprocessing",
    "Projection",
    "Quantization",
    "RunResult",
    "Session",
    "SourceNetwork",
    "SumPool2d",
    "Timing",
    "Verification",
    "build",
    "checkpoint",
    "convert",
    "data",
    "energy",
    "export",
    "hw_targets",
    "quantize",
    "run",
    "to_qcfs",
    "training",
    "unroll",
    "verify",
]

_HOMES = {
    "Bill": "hw_targets.bill",
    "QCFS": "source.qcfs",
    "Quantization": "network.graph",
    "Timing": "network.graph",
    "Conv2d": "network.operators",
    "Dataset": "data",
    "Dense": "network.operators",
    "Evaluation": "hw_targets.evaluation",
    "Graph": "network.graph",
    "Identity": "network.operators",
    "PascalError": "errors",
    "Population": "network.graph",
    "Preprocessing": "network.graph",
    "Projection": "network.graph",
    "RunResult": "simulation.result",
    "Session": "simulation.session",
    "SourceNetwork": "source.tracing",
    "SumPool2d": "network.operators",
    "Verification": "source.verification",
    "build": "source.architectures",
    "convert": "source.conversion",
    "energy": "hw_targets",
    "quantize": "network.quantization",
    "run": "hw_targets",
    "to_qcfs": "source.activations",
    "unroll": "network.unroll",
    "verify": "hw_targets",
}
"""Where each name is defined."""

_MODULES = {
    "checkpoint": "source.checkpoint",
    "events": "simulation.events",
    "neuron": "neuron",
    "schedule": "simulation.schedule",
    "simulate": "simulation.simulate",
}
"""Modules that go by a short name; what else :data:`__all__` lists is a room."""


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"pascal_nm.{_HOMES[name]}"), name)
    if name in _MODULES or name in __all__:
        return importlib.import_module(f"pascal_nm.{_MODULES.get(name, name)}")
    raise AttributeError(f"module 'pascal_nm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
