"""The Processes on their own, wired by hand as a user of Lava would, with Vars read and stock
Processes beside them.
"""

import numpy as np
import pytest
import torch

pytest.importorskip("lava.magma", exc_type=ImportError)

from pascal_nm import convert, quantize
from pascal_nm.errors import GraphError, TargetError
from pascal_nm.network.graph import Timing
from pascal_nm.network.operators import Dense, Identity
from pascal_nm.network.windows import Span, Window
from pascal_nm.neuron import Stage
from pascal_nm.process_models.analog.process import AnalogInput
from pascal_nm.process_models.memory import shared_zeros
from pascal_nm.process_models.pasc.process import Pasc
from pascal_nm.process_models.pasc_network.process import PascNetwork
from pascal_nm.process_models.readout.process import Readout
from pascal_nm.process_models.runtime import Session
from pascal_nm.process_models.synapse.process import Synapse
from pascal_nm.process_models.timing import Cycle
from pascal_nm.simulation import simulate
from tests import networks


def encoder(levels: int) -> Window:
    return Window((Span(Stage.ENCODE, 1, 2), Span(Stage.EMIT, 2, 2 + levels)))


CHANGES = Window((Span(Stage.CHANGE, 0, 1),))
"""In every timestep: add what arrives, and send by how much the level changes."""


def test_signed_counter_and_potential_can_be_read_as_vars():
    currents = np.array([[[7, -3, 25]]], np.int32)
    source = AnalogInput(currents=currents)
    synapse = Synapse(Dense(np.eye(3, dtype=np.int8)), shape_in=(3,), largest=25)
    neuron = Pasc(shape=(3,), vth=np.array([5], np.int32), levels=4, window=encoder(4))
    source.s_out.connect(synapse.s_in)
    synapse.a_out.connect(neuron.a_in)
    with Session(neuron, tag="fixed_pt") as session:
        session.run(2)
        # Equation 1 with theta 5: floor(7 / 5 + 1/2) = 1, clip(floor(-3 / 5 + 1/2)) = 0,
        # clip(floor(25 / 5 + 1/2)) = 4
        np.testing.assert_array_equal(neuron.s.get(), [[1, 0, 4]])
        session.run(1)
        np.testing.assert_array_equal(neuron.s.get(), [[0, 0, 3]])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"vth": np.array([5.9])}, "vth is of type float64; int32 models take integers"),
        ({"vth": np.array([0], np.int32)}, "vth must be positive"),
        ({"vth": np.array([5, 5], np.int32)}, r"vth of shape \(2,\) does not broadcast to \(3,\)"),
        ({"bias": np.zeros((3, 1), np.int32)}, "bias of shape"),
        ({"levels": 5}, "5 levels spikes in 5 timesteps; its window has 4"),
        ({"window": Window((Span(Stage.ENCODE, 1, 2),))}, "its window has 0"),
        ({"window": CHANGES, "levels": 128}, "a graded spike has 8 bits here, and carries up to 127, not 128"),
        ({"kept": True}, "neurons that end in stage emit keep no state for frames"),
    ],
)
def test_a_neuron_that_would_go_wrong_in_a_child_is_refused_where_it_is_made(changed, message):
    with pytest.raises(GraphError, match=message):
        Pasc(**({"shape": (3,), "vth": np.array([5], np.int32), "levels": 4, "window": encoder(4)} | changed))


def test_windows_have_no_gaps_and_readouts_a_timestep():
    with pytest.raises(GraphError, match="integrate ends before timestep 3, emit starts in 4"):
        Window((Span(Stage.INTEGRATE, 1, 3), Span(Stage.EMIT, 4, 6)))
    with pytest.raises(GraphError, match="at least one stage"):
        Window(())
    with pytest.raises(GraphError, match="no timestep"):
        Readout(shape=(2,), window=range(0))


def test_spikes_drive_a_stock_lava_neuron():
    from lava.proc.lif.process import LIF

    source = AnalogInput(currents=np.array([[[13]]], np.int32))
    synapse = Synapse(Dense(np.ones((1, 1), np.int8)), shape_in=(1,), largest=13)
    neuron = Pasc(shape=(1,), vth=np.array([5], np.int32), levels=4, window=encoder(4))
    stock = LIF(shape=(1, 1), vth=1000, du=4095, dv=0)
    source.s_out.connect(synapse.s_in)
    synapse.a_out.connect(neuron.a_in)
    neuron.s_out.connect(stock.a_in)
    with Session(neuron, tag="fixed_pt") as session:
        session.run(10)
        # floor(13 / 5 + 1/2) = 3 spikes; Lava's fixed-point LIF shifts what arrives by 6 bits.
        assert stock.v.get().item() == 3 * 2**6


def level(current, theta, levels):
    """Equation 1."""
    return np.clip(np.floor(current / theta + 0.5), 0, levels).astype(int)


def test_synapses_deliver_after_their_delay():
    source = AnalogInput(currents=np.array([[[3]], [[5]]], np.int32), cycle=Cycle(interval=1, batches=2))
    synapse = Synapse(Dense(np.full((1, 1), 2, np.int8)), shape_in=(1,), largest=5, delay=3)
    potential = shared_zeros((1, 6, 1, 1), np.int32)
    readout = Readout(shape=(1,), window=range(6), potential=potential)
    source.s_out.connect(synapse.s_in)
    synapse.a_out.connect(readout.a_in)
    with Session(readout, tag="fixed_pt") as session:
        session.run(6)
    np.testing.assert_array_equal(potential.ravel(), [0, 0, 0, 6, 16, 16])
    with pytest.raises(GraphError, match="1 timestep or more, not 0"):
        Synapse(Dense(np.ones((1, 1), np.int8)), shape_in=(1,), delay=0)


@pytest.mark.parametrize("integer", [True, False])
def test_a_stock_graded_source_drives_a_neuron_and_its_changes_drive_a_stock_dense(integer):
    """Lava's own RingBuffer and Dense around a neuron that keeps its state: what Dense has given
    in all is its weights times the levels.
    """
    from lava.proc.dense.process import Dense as StockDense
    from lava.proc.io.sink import RingBuffer
    from lava.proc.io.source import RingBuffer as Source

    dtype = np.int32 if integer else np.float64
    rng = np.random.default_rng(0)
    changes, steps = rng.integers(-40, 41, (4, 12)).astype(dtype), 12
    first, second = (2 * rng.integers(-9, 10, shape) for shape in ((3, 4), (2, 3)))  # Lava's mixed weights are even
    theta, bias = np.array([50, 70, 90], dtype), np.array([30, -20, 0], dtype)
    source = Source(data=changes)
    inwards = StockDense(weights=first, num_message_bits=8)
    neuron = Pasc(shape=(3,), vth=theta, bias=bias, levels=6, window=CHANGES, kept=True, dtype=dtype)
    outwards = StockDense(weights=second, num_message_bits=8)
    sink = RingBuffer(shape=(2,), buffer=steps)
    source.s_out.connect(inwards.s_in)
    inwards.a_out.reshape((1, 3)).connect(neuron.a_in)
    neuron.s_out.reshape((3,)).connect(outwards.s_in)
    outwards.a_out.connect(sink.a_in)
    with Session(neuron, tag="fixed_pt" if integer else "floating_pt") as session:
        session.run(steps)
        brought = sink.data.get().cumsum(1)
    # Two Dense delay by a timestep each.
    shown = first @ changes.cumsum(1)[:, : steps - 2] + bias[:, None]
    levels = level(shown, theta[:, None], 6)
    assert (np.diff(levels) < -1).any() and (np.diff(levels) > 1).any()
    np.testing.assert_array_equal(brought[:, 2:], second @ levels)


@pytest.mark.parametrize("integer", [True, False])
def test_changes_of_levels_drive_a_stock_convolution(integer):
    from lava.proc.conv.process import Conv
    from lava.proc.io.sink import RingBuffer

    dtype = np.int32 if integer else np.float64
    rng = np.random.default_rng(1)
    frames = rng.integers(-99, 100, (5, 1, 2, 4, 6)).astype(dtype)
    changes = np.diff(frames, axis=0, prepend=np.zeros_like(frames[:1]))
    source = AnalogInput(currents=changes, cycle=Cycle(interval=1, batches=5))
    synapse = Synapse(Identity(np.ones((1, 1, 1), np.int8 if integer else np.float64)), shape_in=(2, 4, 6), largest=198)
    neuron = Pasc(shape=(2, 4, 6), vth=np.full((1, 1, 1), 20, dtype), levels=4, window=CHANGES, kept=True, dtype=dtype)
    weight = rng.integers(-9, 10, (3, 3, 3, 2))  # (C_out, W, H, C_in), as Lava has it
    stock = Conv(weight=weight, input_shape=(6, 4, 2), num_message_bits=8)
    sink = RingBuffer(shape=stock.a_out.shape, buffer=7)
    source.s_out.connect(synapse.s_in)
    synapse.a_out.connect(neuron.a_in)
    neuron.s_out.reshape((2, 4, 6)).transpose((2, 1, 0)).connect(stock.s_in)
    stock.a_out.connect(sink.a_in)
    with Session(neuron, tag="fixed_pt" if integer else "floating_pt") as session:
        session.run(7)
        brought = sink.data.get().cumsum(-1)[..., 2:]
    kernel = weight[:, ::-1, ::-1].transpose(0, 3, 2, 1).copy()  # torch correlates, Lava convolves
    levels = torch.from_numpy(level(frames[:, 0], 20, 4)).double()
    expected = torch.conv2d(levels, torch.from_numpy(kernel).double())
    np.testing.assert_array_equal(brought, expected.permute(3, 2, 1, 0).numpy())


@pytest.mark.parametrize("timing", ["pasc", "streaming", "graded"])
@pytest.mark.parametrize("integer", [True, False])
def test_a_whole_network_is_one_process_among_stock_ones(timing, integer):
    """Two images one after the other, from a stock RingBuffer and into one: the simulator's
    potentials and spikes, image by image.
    """
    from lava.proc.io.sink import RingBuffer
    from lava.proc.io.source import RingBuffer as Source

    graph = convert(networks.randomized(networks.Residual()), networks.images()).replace(timing=Timing(timing))
    graph = quantize(graph, input_range=6.0) if integer else graph
    inputs = networks.images(2, seed=3).numpy()
    network = PascNetwork(graph=graph)
    currents = np.zeros((*network.a_in.shape, 2 * network.interval), graph.dtype)
    currents[..., [0, network.interval]] = np.moveaxis(graph.currents(inputs), 0, -1)
    source = Source(data=currents)
    sink = RingBuffer(shape=network.s_out.shape, buffer=2 * network.interval)
    source.s_out.connect(network.a_in)
    network.s_out.connect(sink.a_in)
    expected = simulate.steps(graph, inputs)
    last = list(expected.counts.values())[-1]
    with Session(network, tag="fixed_pt" if integer else "floating_pt") as session:
        for image in range(2):
            session.run(network.interval)
            np.testing.assert_allclose(
                network.v.get()[0], expected.potential[image], rtol=0 if integer else 1e-12, atol=0 if integer else 1e-9
            )
        spikes = sink.data.get().reshape(*network.s_out.shape, 2, network.interval).sum(-1)
    np.testing.assert_array_equal(np.moveaxis(spikes[0], -1, 0), last)


def potentials(operator, currents, tag, **options):
    """What synapses make of currents, one image in every timestep, in a readout."""
    source = AnalogInput(currents=np.asarray(currents), cycle=Cycle(interval=1, batches=len(currents)))
    synapse = Synapse(operator, shape_in=currents.shape[2:], **options)
    steps, outputs = len(currents) + 1, operator.weight.shape[0]
    potential = shared_zeros((1, steps, 1, outputs), np.int32 if tag == "fixed_pt" else np.float64)
    dtype = {} if tag == "fixed_pt" else {"dtype": np.float64}
    readout = Readout(shape=(outputs,), window=range(steps), potential=potential, **dtype)
    source.s_out.connect(synapse.s_in)
    synapse.a_out.connect(readout.a_in)
    with Session(readout, tag=tag) as session:
        session.run(steps)
    return potential[0, 1:, 0]


def test_whole_weights_do_not_wrap_in_floating_point():
    weight = np.array([[127, 127, 3], [-128, -128, 1]], np.int8)
    currents = np.array([[[1.0, 1.0, 2.0]], [[0.5, -1.0, 4.0]]])
    np.testing.assert_array_equal(
        potentials(Dense(weight), currents, "floating_pt"), np.cumsum(currents[:, 0] @ weight.T.astype(float), 0)
    )


def test_fractions_are_not_rounded_in_fixed_point_but_refused():
    with pytest.raises(TargetError, match=r"weights of type float64 in a fixed_pt model.*quantize.*floating_pt"):
        potentials(Dense(np.array([[0.6]])), np.ones((2, 1, 1), np.int32), "fixed_pt", largest=1)


def test_what_arrives_beyond_the_proof_of_exact_sums_is_refused():
    """In float32, 2^24 + 1 would be 2^24."""
    weight = Dense(np.array([[1, 1]], np.int8))
    large = np.array([[[2**24, 1]]], np.int32)
    with pytest.raises(TargetError, match=rf"{2**24} arrives, .* up to 1: make it with largest={2**24} or more"):
        potentials(weight, large, "fixed_pt")
    assert potentials(weight, large, "fixed_pt", largest=2**24).tolist() == [[2**24 + 1]]


@pytest.mark.parametrize(
    ("integer", "tag", "message"),
    [(False, "fixed_pt", r"float\d+ in a fixed_pt model"), (True, "floating_pt", "int32 in a floating_pt model")],
)
def test_a_network_of_the_other_arithmetic_is_refused_by_its_models(integer, tag, message):
    graph = networks.for_digits()
    graph = quantize(graph, 8) if integer else graph
    network = PascNetwork(graph=graph)
    with pytest.raises(TargetError, match=message), Session(network, tag=tag) as session:
        session.run(network.interval)
