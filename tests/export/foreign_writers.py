"""Networks that other tools make, run and write: ``python foreign_writers.py TOOL FOLDER``, in the
environment that has the tool.

Writes ``FOLDER/network.nir`` with the tool's own export, and what the tool itself answers:
inputs.npy (N, *shape) and outputs.npy (N, outputs), summed over TIMESTEPS of the same input.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

TIMESTEPS = 12


def weights(network):
    """Weights and inputs so large that neurons spike often, and no sum comes near a
    threshold by chance.
    """
    generator = torch.Generator().manual_seed(3)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 3 / parameter[0].numel() ** 0.5
        elif parameter.ndim == 1 and parameter.shape[0] > 1:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    return network


def sized(graph):
    """Norse and Sinabs leave out the size of a convolution's input, and nir cannot write that."""
    for node in graph.nodes.values():
        if type(node).__name__ == "Conv2d" and node.input_shape is None:
            node.input_shape = (8, 8)  # of both convolutions here
    return graph


def norse(folder, x):
    import nir
    from norse.torch import IAFCell, LIFBoxCell, LIFBoxParameters, SequentialState
    from norse.torch.utils.export_nir import to_nir

    p = LIFBoxParameters(tau_mem_inv=torch.tensor(300.0))
    network = weights(SequentialState(nn.Conv2d(2, 4, 3, padding=1), LIFBoxCell(p), nn.Conv2d(4, 3, 8), IAFCell()))
    nir.write(folder / "network.nir", sized(to_nir(network, x[0])), compression=None)
    state, total = None, 0
    for _ in range(TIMESTEPS):
        output, state = network(x, state)
        total = total + output
    return total


def sinabs(folder, x):
    import nir
    import sinabs.layers as sl
    from sinabs.activation import MembraneReset, SingleSpike
    from sinabs.nir import to_nir

    def neurons():
        return sl.IAFSqueeze(batch_size=len(x), spike_fn=SingleSpike, reset_fn=MembraneReset())

    network = weights(nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), neurons(), nn.Conv2d(4, 3, 8), neurons()))
    output = network(x.repeat_interleave(TIMESTEPS, 0)).reshape(len(x), TIMESTEPS, -1).sum(1)
    nir.write(folder / "network.nir", sized(to_nir(network, x[:1].repeat(len(x), 1, 1, 1))))
    return output


def snntorch(folder, x):
    import nir
    import snntorch as snn
    from snntorch.export_nir import export_to_nir

    leaky = snn.Leaky(beta=0.8 * torch.ones(16), threshold=torch.ones(16), init_hidden=True, reset_mechanism="zero")
    network = weights(nn.Sequential(nn.Linear(128, 16), leaky, nn.Linear(16, 3)))
    nir.write(folder / "network.nir", export_to_nir(network, x[0].flatten()))
    leaky.mem = leaky.reset_mem()
    return sum(network(x.flatten(1)) for _ in range(TIMESTEPS))


def spikingjelly(folder, x):
    import nir
    from spikingjelly.activation_based import functional, layer, neuron
    from spikingjelly.activation_based.nir_exchange import export_to_nir

    network = weights(
        nn.Sequential(
            layer.Conv2d(2, 4, 3, padding=1),
            neuron.LIFNode(tau=3.0, decay_input=True),
            layer.AvgPool2d(2),
            layer.Flatten(),
            layer.Linear(64, 3),
            neuron.IFNode(),
        )
    )
    total = sum(network(x) for _ in range(TIMESTEPS))
    functional.reset_net(network)
    graph = export_to_nir(network, x[:1], dt=1e-4)
    nir.write(folder / "network.nir", graph)
    return total


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    place = Path(sys.argv[2])
    given = torch.rand(6, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    np.save(place / "inputs.npy", given.numpy())
    np.save(place / "outputs.npy", globals()[sys.argv[1]](place, given).flatten(1).numpy())
