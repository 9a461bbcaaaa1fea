"""The graphs of the NIR paper, run in torch and in Lava, and by their equations in plain NumPy.

    git clone https://github.com/neuromorphs/NIR
    python benchmarks/nir_paper.py NIR [--timesteps 100]

Inputs are random spikes (a fifth of them 1), others in every timestep. What must be equal are the
outputs, summed. Of the LIF neuron the repository has traces, too: the voltage that Norse wrote down
for its own file.
"""

import argparse
import sys
from pathlib import Path

import nir
import numpy as np
import torch

from pascal_nm.errors import PascalError
from pascal_nm.export import nir_modules
from pascal_nm.export.nir_modules import Reading
from pascal_nm.export.untrusted import read_raw
from pascal_nm.hw_targets.nir_network import NirProgram

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.export import interpreter


def differences(raw, reading, timesteps):
    """Of torch and Lava against the equations, and the spikes of the first."""
    program = NirProgram(raw, timesteps, reading, dtype=torch.float64)
    x = (np.random.default_rng(0).random((4, timesteps, *program.input_shape)) < 0.2).astype(np.float64)
    expected = interpreter.run(raw, list(x.swapaxes(0, 1)), timesteps, reading.after_spike, reading.current)
    found = program.run(x)
    lava = NirProgram(raw, timesteps, reading, "lava", torch.float64).run(x)
    counts = sum(int((lava.counts[name] != count).sum()) for name, count in found.counts.items())
    return (
        np.abs(found.outputs - expected).max(),
        np.abs(lava.outputs - expected).max(),
        counts,
        int(sum(count.sum() for count in found.counts.values())),
    )


def trace(folder):
    """The largest difference of voltages from Norse's trace of its LIF, and spikes that differ."""
    rows = np.loadtxt(folder / "paper/01_lif/lif_norse.csv", delimiter=",")
    network = nir_modules.to_torch(read_raw(folder / "paper/01_lif/lif_norse.nir"), Reading(), torch.float64)
    state, voltages, spikes = None, [], []
    for x in rows[:, 0]:
        fired, state = network(torch.tensor([[x]]), state)
        voltages.append(state.nodes["1"].v.item())
        spikes.append(fired.item())
    return np.abs(np.array(voltages) - rows[:, 1]).max(), int((np.array(spikes) != rows[:, 2]).sum()), len(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--timesteps", type=int, default=100)
    options = parser.parse_args()
    print("| file | reset | nodes | spikes | torch - equations | Lava - equations | counts Lava / torch differ |")
    print("|---|---|---|---|---|---|---|")
    for path in sorted(options.folder.rglob("*.nir")):
        name = path.relative_to(options.folder)
        reset = "subtract" if "subtract" in path.name else "zero"
        try:
            raw = read_raw(path)
            torch_, lava, counts, spikes = differences(raw, Reading(after_spike=reset), options.timesteps)
        except PascalError as error:
            print(f"| {name} | {error} | | | | | |")
            continue
        nodes = sum(not isinstance(node, (nir.Input, nir.Output)) for node in raw.nodes.values())
        print(f"| {name} | {reset} | {nodes} | {spikes:,} | {torch_:.1g} | {lava:.1g} | {counts} |", flush=True)
    if not (options.folder / "paper/01_lif/lif_norse.csv").exists():
        return
    voltage, spikes, steps = trace(options.folder)
    print(f"lif_norse.nir against lif_norse.csv: voltages differ by up to {voltage:.1g}, spikes in {spikes} of {steps}")


if __name__ == "__main__":
    main()
