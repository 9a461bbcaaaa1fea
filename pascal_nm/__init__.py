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
    from pascal_nm import checkpoint, data, export, hw_targets, training
    from pascal_nm.conversion import convert
    from pascal_nm.data import Dataset
    from pascal_nm.errors import PascalError
    from pascal_nm.graph import Graph, Population, Preprocessing, Projection, Quantization, Timing
    from pascal_nm.hw_targets import energy, run, verify
    from pascal_nm.hw_targets.bill import Bill
    from pascal_nm.hw_targets.evaluation import Evaluation
    from pascal_nm.models import build, to_qcfs
    from pascal_nm.qcfs import QCFS
    from pascal_nm.quantization import quantize
    from pascal_nm.result import RunResult
    from pascal_nm.source import SourceNetwork
    from pascal_nm.verification import Verification

__all__ = [
    "QCFS",
    "Bill",
    "Dataset",
    "Evaluation",
    "Graph",
    "PascalError",
    "Population",
    "Preprocessing",
    "Projection",
    "Quantization",
    "RunResult",
    "SourceNetwork",
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
    "verify",
]

_HOMES = {
    "Bill": "hw_targets.bill",
    "QCFS": "qcfs",
    "Quantization": "graph",
    "Timing": "graph",
    "Dataset": "data",
    "Evaluation": "hw_targets.evaluation",
    "Graph": "graph",
    "PascalError": "errors",
    "Population": "graph",
    "Preprocessing": "graph",
    "Projection": "graph",
    "RunResult": "result",
    "SourceNetwork": "source",
    "Verification": "verification",
    "build": "models",
    "convert": "conversion",
    "energy": "hw_targets",
    "quantize": "quantization",
    "run": "hw_targets",
    "to_qcfs": "models",
    "verify": "hw_targets",
}
"""Where each name is defined; what else :data:`__all__` lists is a module."""


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"pascal_nm.{_HOMES[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"pascal_nm.{name}")
    raise AttributeError(f"module 'pascal_nm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
