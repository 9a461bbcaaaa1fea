"""A convolution and its population of neurons in Lava.

Stock ``Conv`` and ``LIF`` against this package's ``Synapse`` and ``Pasc``, side by side.

Both sides get the same random spikes from the same Process, in fixed point, C channels to C
channels with 3x3 kernels. Stock ports have no batch axis, so a batch of B images costs stock Lava B
runs: its time an image and step is that of one image. Before the timing both sides run a few
timesteps with all their currents and spikes recorded; currents must be equal in every timestep, and
every neuron's first spike must fall in the same timestep (after it the neurons differ on purpose:
``LIF`` is reset to zero, ``Pasc`` keeps what exceeds the threshold).

``python benchmarks/lava_vs_stock.py --help`` lists sizes, batches and repetitions. Rounds
alternate between the sides, so that a busy machine slows them alike; the table shows medians over
the rounds, the ratio that of the rounds' ratios. ``CPU ratio`` compares the processor time of all
children together: it does not see that ours work beside each other, and does not see either what
else the machine does.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.network.operators import Conv2d
from pascal_nm.network.windows import Span, Window
from pascal_nm.neuron import Stage
from pascal_nm.process_models.analog.process import AnalogInput
from pascal_nm.process_models.memory import shared_zeros
from pascal_nm.process_models.pasc.process import Pasc
from pascal_nm.process_models.readout.process import Readout
from pascal_nm.process_models.runtime import Session
from pascal_nm.process_models.synapse.process import Synapse
from pascal_nm.process_models.timing import Cycle

THRESHOLD = 600
"""About the standard deviation of a current: many neurons spike within a few timesteps, and not
all in the first."""

CHECKED = 3
"""Timesteps in which currents and spikes are compared."""


class Sums(NamedTuple):
    """Currents and spikes of a side, added up over time.

    (1, steps, batch axis, ...), in shared memory.
    """

    currents: Array
    spikes: Array

    def frames(self, order: tuple[int, ...] | None = None) -> tuple[Array, Array]:
        """Currents and spikes of each timestep, with axes in another order."""
        over_time = (np.diff(x[0], axis=0, prepend=0) for x in self)
        currents, spikes = (x if order is None else x.transpose(order) for x in over_time)
        return currents, spikes


class Side(NamedTuple):
    """A network of one side: input, synapses and neurons."""

    entry: Any
    synapse: Any
    neuron: Any


def stock(spikes: Array, weight: Array) -> Side:
    """Lava's own Processes. Spikes (T, C, H, W) of one image; Lava has the channels last."""
    from lava.proc.conv import utils as convolution
    from lava.proc.conv.process import Conv as StockConv
    from lava.proc.lif.process import LIF

    _mend(convolution)
    frames = np.ascontiguousarray(spikes.transpose(0, 2, 3, 1)).astype(np.int32)
    source = AnalogInput(currents=frames, cycle=Cycle(1, len(frames)))
    # Lava convolves where others correlate: kernels are mirrored.
    kernels = np.ascontiguousarray(weight.transpose(0, 2, 3, 1)[:, ::-1, ::-1])
    synapse = StockConv(weight=kernels, input_shape=frames.shape[1:], padding=1)
    neuron = LIF(shape=frames.shape[1:], vth=THRESHOLD - 1, du=4095, dv=0)
    source.s_out.connect(synapse.s_in)
    synapse.a_out.connect(neuron.a_in)
    return Side(source, synapse, neuron)


def _mend(convolution: Any) -> None:
    """Lava's Conv holds the number of groups as int8, by which NumPy 2 refuses to divide 128
    channels: hand it over as int.
    """
    if convolution.conv.__name__ == "conv":
        original = convolution.conv
        convolution.conv = lambda *arguments: original(*arguments[:-1], int(arguments[-1]))


def ours(spikes: Array, weight: Array) -> Side:
    """This package's Processes. Spikes (T, B, C, H, W)."""
    steps, batch, *shape = spikes.shape
    never = steps + 1  # the half threshold of PASC, which LIF does not have
    source = AnalogInput(currents=spikes.astype(np.int32), cycle=Cycle(1, steps))
    synapse = Synapse(Conv2d(weight, padding=(1, 1)), shape_in=tuple(shape), batch=batch)
    neuron = Pasc(
        shape=tuple(shape),
        vth=np.full((1, 1, 1), THRESHOLD, np.int32),
        levels=steps,
        window=Window((Span(Stage.STREAM, 0, steps),), shift=never),
        batch=batch,
    )
    source.s_out.connect(synapse.s_in)
    synapse.a_out.connect(neuron.a_in)
    return Side(source, synapse, neuron)


def recorded(side: Side, steps: int) -> Sums:
    """Run a side with a Readout at its currents and another at its spikes."""
    shape = side.neuron.s_out.shape
    sums = Sums(*(shared_zeros((1, steps, *shape), np.int32) for _ in range(2)))
    for port, potential in zip((side.synapse.a_out, side.neuron.s_out), sums, strict=True):
        readout = Readout(shape=shape[1:], batch=shape[0], window=range(steps), potential=potential)
        port.connect(readout.a_in)
    with Session(side.entry, tag="fixed_pt") as session:
        session.run(steps)
    return sums


def check(spikes: Array, weight: Array) -> float:
    """Refuse to compare what is not the same; gives the share of neurons that have spiked."""
    steps = len(spikes)
    their_currents, their_spikes = recorded(stock(spikes[:, 0], weight), steps).frames((0, 3, 1, 2))
    our_currents, our_spikes = (x[:, 0] for x in recorded(ours(spikes, weight), steps).frames())
    assert their_currents.any(), "the input silences the network"
    np.testing.assert_array_equal(our_currents, their_currents)
    firsts = [np.cumsum(np.cumsum(x > 0, 0), 0) == 1 for x in (our_spikes, their_spikes)]
    np.testing.assert_array_equal(*firsts)
    return float(firsts[0].any(0).mean())


@contextmanager
def running(side: Side) -> Iterator[Session]:
    """A session of a side, past its first timesteps.

    In the first no spikes have arrived yet, in the second memory is touched for the first time.
    """
    with Session(side.entry, tag="fixed_pt") as session:
        session.run(3)
        yield session


def milliseconds(session: Session, steps: int) -> tuple[float, float]:
    """Time of a timestep, and processor time of all children."""
    start, before = time.perf_counter(), processor(session)
    session.run(steps)
    return 1e3 * (time.perf_counter() - start) / steps, 1e3 * (processor(session) - before) / steps


def processor(session: Session) -> float:
    """Seconds of processor time that the children have had, all threads."""
    files = [file for pid in session.pids.values() for file in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


def measure(
    size: tuple[int, int, int], batch: int, options: argparse.Namespace, random: np.random.Generator
) -> list[str]:
    height, width, channels = size
    steps = 3 + options.rounds * max(options.steps, options.stock_steps)
    spikes = (random.random((steps, batch, height, width, channels)) < options.rate).astype(np.int8)
    spikes = np.moveaxis(spikes, -1, 2)  # both sides have the channels last in memory
    weight = random.integers(-127, 128, (channels, channels, 3, 3)).astype(np.int8)
    spiked = check(spikes[:CHECKED], weight)
    with ExitStack() as stack:
        sides = [stack.enter_context(running(side)) for side in (stock(spikes[:, 0], weight), ours(spikes, weight))]
        rounds = [
            (*milliseconds(sides[0], options.stock_steps), *(x / batch for x in milliseconds(sides[1], options.steps)))
            for _ in range(options.rounds)
        ]
    theirs, _, mine, _ = (statistics.median(times) for times in zip(*rounds, strict=True))
    ratio = statistics.median(wall / ours for wall, _, ours, _ in rounds)
    processor_ratio = statistics.median(cpu / ours for _, cpu, _, ours in rounds)
    return [
        f"{height}x{width}x{channels}",
        str(batch),
        f"{theirs:.1f}",
        f"{mine:.3f}",
        f"{ratio:.0f}",
        f"{processor_ratio:.0f}",
        f"{100 * spiked:.0f} %",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sizes", nargs="+", default=["8x8x64", "16x16x128", "32x32x64"], help="height x width x channels"
    )
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--rate", type=float, default=0.1, help="spikes a neuron and timestep")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stock-steps", type=int, default=2, help="timesteps of a round in stock Lava")
    parser.add_argument("--steps", type=int, default=10, help="timesteps of a round in ours")
    options = parser.parse_args()

    random = np.random.default_rng(0)
    print("3x3 convolution, C to C, and its neurons; fixed point; currents and first spikes equal")
    heads = ("HxWxC", "batch", "stock, ms", "ours, ms", "ratio", "CPU ratio", "spiked")
    print("".join(f"{head:>11}" for head in heads), "  (ms an image and timestep)")
    for size in options.sizes:
        height, width, channels = (int(x) for x in size.split("x"))
        for batch in options.batches:
            print("".join(f"{x:>11}" for x in measure((height, width, channels), batch, options, random)), flush=True)


if __name__ == "__main__":
    main()
