"""A NIR file in another simulator.

It is started by ``python runner.py READER FILE``, then takes one line of JSON for each batch
on standard input.

This file is also run by Python environments that have the reader but not this package, so it
imports nothing of it. Every reader is called through its own public import function, and its output
of spikes is read by torch's hooks.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

Array = Any
Tensor = Any
_Present = Callable[[Tensor, int], Tensor]
"""Shows images (N, C, H, W) for some timesteps, from rest; gives the sum of the outputs,
(N, classes, 1, 1)."""


def _serve(reader: str, path: str) -> None:
    """Answer every request, which is one line of JSON.

    It holds ``inputs`` (FILE.npy), ``outputs`` (FILE.npy), ``timesteps`` (T), ``levels`` (FILE.npz
    or null) and ``copies`` ({...}).

    ``levels`` holds the expected level of each neuron, (N, *shape) by the name of its node, for
    networks whose ``copies`` stand for levels. The reply has ``version`` ("1.0"), ``load`` and
    ``run`` (seconds), and ``differing`` ({node: levels that differ}), nodes that the reader hides
    left out.
    """
    import numpy as np
    import torch

    torch.set_grad_enabled(False)
    for line in sys.stdin:
        request = json.loads(line)
        inputs = torch.from_numpy(np.ascontiguousarray(np.load(request["inputs"]), np.float32))
        start = time.perf_counter()
        network, present = LOADERS[reader](path, len(inputs))
        loaded = time.perf_counter()
        seen = _watched(network, request["copies"] if request["levels"] else {})
        outputs = present(inputs, request["timesteps"]).reshape(len(inputs), -1)
        times = {"load": loaded - start, "run": time.perf_counter() - loaded}
        differing: dict[str, int] = {}
        reply = {"version": version(reader), **times, "differing": differing}
        np.save(request["outputs"], outputs.numpy())
        if request["levels"]:
            with np.load(request["levels"]) as expected:
                for node, spikes in seen.items():
                    found = _levels(spikes.numpy(), expected[node].shape, request["copies"][node])
                    differing[node] = int(np.count_nonzero(found != expected[node]))
        print(json.dumps(reply), file=_replies, flush=True)


def _watched(network: Any, copies: dict[str, int]) -> dict[str, Tensor]:
    """What the modules of the nodes in ``copies`` send, filled in while the network runs."""
    seen: dict[str, Tensor] = {}

    def watch(node: str) -> Callable[..., None]:
        def keep(module: Any, arguments: Any, output: Any) -> None:
            seen[node] = _first(output)

        return keep

    for name, module in network.named_modules():
        node = name.rpartition(".")[2]
        if node in copies:
            module.register_forward_hook(watch(node))
    return seen


def _levels(spikes: Array, shape: tuple[int, ...], copies: int) -> Array:
    """Levels (N, channels, …) from the spikes of copies (N, at least channels * copies, H, W)."""
    n, channels, *image = shape
    return spikes[:, : channels * copies].reshape(n, channels, copies, *image).sum(2)


def _first(output: Any) -> Any:
    """Readers return their neurons' state, too, as one of a tuple."""
    return output[0] if isinstance(output, tuple) else output


def _with_state(network: Any) -> _Present:
    """For readers whose network takes the state and returns it."""

    def present(x: Tensor, timesteps: int) -> Tensor:
        state, total = None, 0
        for _ in range(timesteps):
            output, state = network(x) if state is None else network(x, state)
            total = total + output
        return total

    return present


def _norse(path: str, images: int) -> tuple[Any, _Present]:
    import nir
    import norse.torch

    network = norse.torch.from_nir(nir.read(path))
    return network, _with_state(network)


def _sinabs(path: str, images: int) -> tuple[Any, _Present]:
    import nir
    from sinabs.nir import from_nir

    network = from_nir(nir.read(path), batch_size=images)

    def present(x: Tensor, timesteps: int) -> Tensor:
        return sum(_first(network(x)) for _ in range(timesteps))  # neurons keep their state

    return network, present


def _snntorch(path: str, images: int) -> tuple[Any, _Present]:
    import nir
    from snntorch import SpikingNeuron
    from snntorch.import_nir import import_from_nir

    # Else every network that was ever loaded stays in memory, with what its neurons saw last.
    SpikingNeuron.instances.clear()
    network = import_from_nir(nir.read(path))
    return network, _with_state(network)


def _spikingjelly(path: str, images: int) -> tuple[Any, _Present]:
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    network = import_from_nir(path, dt=1.0)
    return network, _with_state(network)


LOADERS: dict[str, Callable[[str, int], tuple[Any, _Present]]] = {
    "norse": _norse,
    "sinabs": _sinabs,
    "snntorch": _snntorch,
    "spikingjelly": _spikingjelly,
}


if __name__ == "__main__":
    _replies, sys.stdout = sys.stdout, sys.stderr  # readers print what they like
    _serve(sys.argv[1], sys.argv[2])
