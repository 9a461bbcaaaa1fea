"""One NIR file, one batch, one timestep, in another simulator: ``python runner.py READER FILE INPUTS.npy OUTPUTS.npy``.

This file is also run by Python environments that have the reader but not this package, so it imports nothing of it. Every reader is called
through its own public import function.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

Array = Any


def run(reader: str, path: str, inputs: Array) -> Array:
    """The reader's output (N, classes) for inputs (N, C, H, W), each image for one timestep from rest."""
    import numpy as np
    import torch

    with torch.no_grad():
        network = LOADERS[reader](path, len(inputs))
        output = network(torch.from_numpy(np.ascontiguousarray(inputs, np.float32)))
    if isinstance(output, tuple):  # readers that return their neurons' state, too
        output = output[0]
    return output.reshape(len(inputs), -1).numpy()


def _norse(path: str, images: int) -> Any:
    import nir
    import norse.torch

    return norse.torch.from_nir(nir.read(path))


def _sinabs(path: str, images: int) -> Any:
    import nir
    from sinabs.nir import from_nir

    return from_nir(nir.read(path), batch_size=images)


def _snntorch(path: str, images: int) -> Any:
    import nir
    from snntorch.import_nir import import_from_nir

    return import_from_nir(nir.read(path))


def _spikingjelly(path: str, images: int) -> Any:
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    return import_from_nir(path, dt=1.0)


LOADERS: dict[str, Callable[[str, int], Any]] = {
    "norse": _norse,
    "sinabs": _sinabs,
    "snntorch": _snntorch,
    "spikingjelly": _spikingjelly,
}


if __name__ == "__main__":
    import numpy

    numpy.save(sys.argv[4], run(sys.argv[1], sys.argv[2], numpy.load(sys.argv[3])))
