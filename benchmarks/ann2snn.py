"""SpikingJelly's ann2snn on one of our networks: accuracy after each timestep, as JSON. Run by the Python of an environment that has SpikingJelly.

.readers/spikingjelly/bin/python benchmarks/ann2snn.py MODEL --data DATA [--limit 200] [--timesteps 64]

The network's weights with ReLU in place of QCFS, converted as the documentation says (rate coding, thresholds at the 99.9th percentile of the
activations of 200 images: of the training part where the data have parts, or else of the tested ones, which helps it), each image shown as a
constant current, answers by the sum of the outputs.
"""

import argparse
import copy
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from pascal_nm import checkpoint, data
from pascal_nm.models import qcfs_layers


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--timesteps", type=int, default=64)
    options = parser.parse_args()
    from spikingjelly.activation_based import ann2snn, functional

    model = checkpoint.load(options.model)
    relu = copy.deepcopy(model.module).eval()
    for name, _ in qcfs_layers(relu):
        parent, _, child = name.rpartition(".")
        setattr(relu.get_submodule(parent), child, nn.ReLU())
    images = data.load(options.data, limit=options.limit)
    inputs = torch.from_numpy(model.preprocessing(images.pixels))
    calibration = data.load(options.data, "train", limit=200)
    batches = [(torch.from_numpy(model.preprocessing(calibration.pixels)), torch.from_numpy(calibration.labels))]
    recipe = ann2snn.RateCodingRecipe(batches, mode="99.9%")
    with torch.no_grad():
        plain = relu(inputs).argmax(1).numpy()
        spiking = ann2snn.Converter(recipe).convert(relu)
        functional.reset_net(spiking)
        total, right = torch.zeros(()), []
        for _ in range(options.timesteps):
            total = total + spiking(inputs)
            right.append(float(np.mean(total.argmax(1).numpy() == images.labels)))
    print(json.dumps({"relu": float(np.mean(plain == images.labels)), "accuracy": right}))


if __name__ == "__main__":
    main()
