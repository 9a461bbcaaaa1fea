"""SpikingJelly's ``ann2snn`` on one of our networks, by an environment that has it.

Usage: ``python ann2snn.py MODEL INPUTS.npy CALIBRATION.npy TIMESTEPS ANSWERS.npy``.

The network's weights with ReLU in place of QCFS, converted as its documentation says (rate coding,
thresholds at the 99.9th percentile of the activations of the calibration images), each image shown
as a constant current. ``ANSWERS`` gets the class of the summed outputs after each timestep,
(N, timesteps); printed is the version.
"""

from __future__ import annotations

import copy
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn

if __name__ == "__main__":  # that environment borrows this package's packages, not the package
    sys.path.insert(0, str(Path(__file__).parents[2]))

from pascal_nm.source import checkpoint
from pascal_nm.source.architectures import qcfs_layers


def _with_relu(model: checkpoint.Model) -> nn.Module:
    """The source network with ReLU in place of QCFS."""
    assert isinstance(model.module, nn.Module), "a program's activations cannot be changed"
    network = copy.deepcopy(model.module).eval()
    for name, _ in qcfs_layers(network):
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, nn.ReLU())
    return network


def _main(model: str, inputs: str, calibration: str, timesteps: str, answers: str) -> None:
    """Convert, run and write; all but the number of timesteps are paths."""
    from spikingjelly.activation_based import ann2snn, functional

    images, examples = (torch.from_numpy(np.load(path)) for path in (inputs, calibration))
    recipe = ann2snn.RateCodingRecipe([(examples, torch.zeros(len(examples)))], mode="99.9%")
    with torch.no_grad():
        spiking = ann2snn.Converter(recipe).convert(_with_relu(checkpoint.load(model)))
        functional.reset_net(spiking)
        total, given = torch.zeros(()), []
        for _ in range(int(timesteps)):
            total = total + spiking(images)
            given.append(total.argmax(1))
    np.save(answers, torch.stack(given, 1).numpy())


if __name__ == "__main__":
    answered, sys.stdout = sys.stdout, sys.stderr  # it prints what it likes
    _main(*sys.argv[1:])
    print(version("spikingjelly"), file=answered)
