"""Lava's stock Processes on either side of this package's, each against plain NumPy arithmetic."""

import itertools
import threading

import numpy as np
import pytest

pytest.importorskip("lava.magma", exc_type=ImportError)

from pascal_nm import quantize
from pascal_nm.errors import GraphError, TargetError
from pascal_nm.network.operators import Conv2d, Dense
from pascal_nm.network.windows import Span, Window
from pascal_nm.neuron import Stage
from pascal_nm.process_models.analog.process import AnalogInput
from pascal_nm.process_models.compat import Loihi2SimCfg, RunSteps
from pascal_nm.process_models.pasc.process import Pasc
from pascal_nm.process_models.pasc_network.process import PascNetwork
from pascal_nm.process_models.readout.process import Readout
from pascal_nm.process_models.runtime import Session
from pascal_nm.process_models.synapse.process import Synapse
from tests import networks

# isort: split
# This package's come first: they mend the import of Lava.
from lava.proc.conv.process import Conv as StockConv
from lava.proc.dense.process import DelayDense
from lava.proc.dense.process import Dense as StockDense
from lava.proc.graded.process import GradedVec
from lava.proc.io.dataloader import SpikeDataloader, StateDataloader
from lava.proc.io.extractor import Extractor, PyLoihiExtractorModel
from lava.proc.io.injector import Injector, PyLoihiInjectorModel
from lava.proc.io.reset import Reset
from lava.proc.io.sink import Read, RingBuffer
from lava.proc.io.source import RingBuffer as Source
from lava.proc.io.utils import ChannelConfig, ReceiveEmpty, ReceiveNotEmpty
from lava.proc.lif.process import LIF, LIFRefractory, LIFReset, TernaryLIF
from lava.proc.monitor.process import Monitor
from lava.proc.sdn.process import Delta, Sigma
from lava.proc.sparse.process import Sparse
from scipy.sparse import csr_matrix

DTYPES = {"fixed_pt": np.int32, "floating_pt": np.float64}
both_tags = pytest.mark.parametrize("tag", DTYPES)

CHANGES = Window((Span(Stage.CHANGE, 0, 1),))
"""In every timestep: add what arrives, and send by how much the level changes."""

ENCODES = Window((Span(Stage.ENCODE, 0, 1), Span(Stage.EMIT, 1, 5)))
"""4 levels: what arrives in the first timestep of 5, sent as so many spikes from the second on."""


def level(current, theta, levels):
    """Equation 1."""
    return np.clip(np.floor(current / theta + 0.5), 0, levels).astype(int)


def pasc(tag, shape, theta, levels, window, **options):
    dtype = DTYPES[tag]
    vth = np.full((1,) * len(shape), theta, dtype)
    return Pasc(shape=shape, vth=vth, levels=levels, window=window, dtype=dtype, **options)


def brought(sink):
    """What a sink of shape (1, ...) heard, (..., steps), as integers that it is."""
    heard = sink.data.get()
    np.testing.assert_array_equal(heard, np.rint(heard))
    return heard.astype(int)


# -- synapses ------------------------------------------------------------------------------------


def dense(rng, bits):
    weights = 2 * rng.integers(-9, 10, (6, 6))  # of both signs, Lava rounds down to even numbers
    return StockDense(weights=weights, num_message_bits=bits), lambda x: weights @ x


def positive_dense(rng, bits):
    weights = rng.integers(0, 14, (6, 6))  # of one sign, odd ones stay
    return StockDense(weights=weights, num_message_bits=bits), lambda x: weights @ x


def delay_dense(rng, bits):
    weights, delays = 2 * rng.integers(-9, 10, (6, 6)), rng.integers(0, 3, (6, 6))
    synapses = DelayDense(weights=weights, delays=delays, max_delay=2, num_message_bits=bits)
    return synapses, lambda x: sum((weights * (delays == d)) @ np.roll(x, d, -1) for d in range(3))


def sparse(rng, bits):
    weights = 2 * rng.integers(-9, 10, (6, 6)) * (rng.random((6, 6)) < 0.6)
    return Sparse(weights=csr_matrix(weights), num_message_bits=bits), lambda x: weights @ x


def conv(rng, bits):
    weight = rng.integers(-9, 10, (2, 3, 3, 2))  # (C_out, W, H, C_in)
    synapses = StockConv(weight=weight, input_shape=(4, 5, 2), padding=1, num_message_bits=bits)
    return synapses, lambda x: np.stack([convolved(frame, weight) for frame in np.moveaxis(x, -1, 0)], -1)


def convolved(x, weight):
    """Convolution of x (W, H, C), padded by 1: Lava's kernels are flipped in W and H."""
    padded, kernels = np.pad(x, ((1, 1), (1, 1), (0, 0))), weight[:, ::-1, ::-1]
    out = np.empty((*x.shape[:2], len(kernels)), int)
    for i, j in np.ndindex(*x.shape[:2]):
        out[i, j] = (padded[i : i + 3, j : j + 3] * kernels).sum((1, 2, 3))
    return out


@both_tags
@pytest.mark.parametrize(
    ("make", "bits"),
    [(dense, 0), (positive_dense, 8), (delay_dense, 8), (sparse, 0), (sparse, 8), (conv, 0), (conv, 8)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_stock_synapses_bring_spikes_to_our_neurons_and_take_theirs_on(make, bits, tag):
    """Spikes of 0 and 1 without a payload, or numbers, come in; through the paper's stages spikes
    without one go out.
    """
    rng = np.random.default_rng(3)
    (before, weigh), (after, weigh_on) = make(rng, bits), make(rng, 0)
    shape, steps = before.a_out.shape, 24
    sent = np.zeros((*shape, steps), int)
    sent[..., :4] = rng.integers(-3, 4, (*shape, 4)) if bits else rng.random((*shape, 4)) < 0.5
    bias = rng.integers(-9, 100, shape).astype(DTYPES[tag])
    stages = ((Stage.INTEGRATE, 1, 7), (Stage.CORRECT, 7, 14), (Stage.EMIT, 14, 18))
    neuron = pasc(tag, shape, 30, 4, Window(tuple(itertools.starmap(Span, stages))), bias=bias)
    source, sink = Source(data=sent), RingBuffer(shape=shape, buffer=steps)
    source.s_out.connect(before.s_in)
    before.a_out.reshape((1, *shape)).connect(neuron.a_in)
    neuron.s_out.reshape(shape).connect(after.s_in)
    after.a_out.connect(sink.a_in)
    with Session(neuron, tag=tag) as session:
        session.run(steps)
        heard = brought(sink)
    count = level(weigh(sent).sum(-1) + bias, 30, 4)
    assert len(np.unique(count)) > 2
    spikes = np.zeros_like(sent)
    spikes[..., 14:18] = count[..., None] > np.arange(4)
    np.testing.assert_array_equal(heard, np.roll(weigh_on(spikes), 1, -1))  # they deliver in the next timestep


@both_tags
def test_a_stock_convolution_is_ours_with_axes_in_another_order_and_kernels_flipped(tag):
    """(C_out, C_in, H, W) and (C, H, W) here; (C_out, W, H, C_in) flipped, and (W, H, C) there.

    Strides, padding and dilation of both are given in the order of their axes.
    """
    rng, dtype = np.random.default_rng(4), DTYPES[tag]
    weight = rng.integers(-9, 10, (4, 1, 3, 2)).astype(np.int8 if tag == "fixed_pt" else dtype)
    options = {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2), "groups": 2}
    frame = rng.integers(-5, 6, (1, 2, 7, 6)).astype(dtype)
    source = AnalogInput(currents=frame[None])
    ours = Synapse(Conv2d(weight, **options), shape_in=(2, 7, 6), largest=5)
    turned = {key: value[::-1] if key != "groups" else value for key, value in options.items()}
    kernel = weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1)
    stock = StockConv(weight=kernel, input_shape=(6, 7, 2), num_message_bits=8, **turned)
    sinks = [RingBuffer(shape=ours.a_out.shape, buffer=2), RingBuffer(shape=stock.a_out.shape, buffer=2)]
    source.s_out.connect(ours.s_in)
    source.s_out.reshape((2, 7, 6)).transpose((2, 1, 0)).connect(stock.s_in)
    ours.a_out.connect(sinks[0].a_in)
    stock.a_out.connect(sinks[1].a_in)
    with Session(ours, tag=tag) as session:
        session.run(2)
        here, there = (brought(sink)[..., 1] for sink in sinks)
    assert here.any()
    np.testing.assert_array_equal(here[0], there.transpose(2, 1, 0))


@both_tags
def test_a_negative_spike_is_a_positive_one_to_stock_synapses_without_message_bits(tag):
    """Lava's rule, of which docs/stock_lava.md warns: streaming and graded neurons take bits."""
    neuron = pasc(tag, (1,), 10, 1, CHANGES, kept=True)
    source = Source(data=np.array([[[10, -10, 0, 0]]]))
    sinks = {bits: RingBuffer(shape=(1,), buffer=4) for bits in (0, 8)}
    source.s_out.connect(neuron.a_in)
    for bits, sink in sinks.items():
        synapses = StockDense(weights=np.array([[4]]), num_message_bits=bits)
        neuron.s_out.reshape((1,)).connect(synapses.s_in)
        synapses.a_out.connect(sink.a_in)
    with Session(neuron, tag=tag) as session:
        session.run(4)
        heard = {bits: brought(sink).tolist() for bits, sink in sinks.items()}
    assert heard == {0: [[0, 4, 4, 0]], 8: [[0, 4, -4, 0]]}


# -- neurons -------------------------------------------------------------------------------------


def integrated(currents, bias, high, low=-np.inf, reset=lambda t: False):
    """LIF without a leak: spikes of currents (N, steps), and the last potential."""
    v, spikes = np.zeros(len(currents)), np.zeros(currents.shape, int)
    for t, current in enumerate(currents.T):
        v = v * (not reset(t)) + current + bias
        spikes[:, t] = (v > high).astype(int) - (v < low)
        v[spikes[:, t] != 0] = 0
    return spikes, v


def unleaky(tag):
    """Options of a LIF without a leak whose fixed-point bias has 6 bits below, as its inputs and
    thresholds have.
    """
    return {"du": 4095, "dv": 0, "bias_exp": 6} if tag == "fixed_pt" else {"du": 1.0, "dv": 0}


@both_tags
@pytest.mark.parametrize("signed", [False, True])
def test_stock_neurons_drive_ours(signed, tag):
    bias = np.array([[3, 5, -4, 7]])
    thresholds = {"vth_hi": 9, "vth_lo": -11} if signed else {"vth": 9}
    stock = (TernaryLIF if signed else LIF)(shape=(1, 4), bias_mant=bias, **thresholds, **unleaky(tag))
    weights = np.random.default_rng(1).integers(-9, 10, (5, 4))
    synapses = Synapse(Dense(weights.astype(np.int8)), shape_in=(4,))
    neuron, steps = pasc(tag, (5,), 20, 6, CHANGES, kept=True), 20
    sink = RingBuffer(shape=(1, 5), buffer=steps)
    stock.s_out.connect(synapses.s_in)
    synapses.a_out.connect(neuron.a_in)
    neuron.s_out.connect(sink.a_in)
    with Session(neuron, tag=tag) as session:
        session.run(steps)
        changes = brought(sink)[0]
    spikes, _ = integrated(np.zeros((4, steps)), bias[0], 9, -11 if signed else -np.inf)
    assert (spikes < 0).any() == signed
    levels = level(weights @ spikes.cumsum(1), 20, 6)[:, :-1]  # the synapses delay by a timestep
    np.testing.assert_array_equal(changes.cumsum(1)[:, 1:], levels)


@both_tags
@pytest.mark.parametrize("interval", [None, 5])
def test_our_spikes_drive_stock_neurons_which_may_be_reset_at_every_image(interval, tag):
    """LIFReset counts timesteps from 1: offset 1 is the first timestep of every image."""
    rng, images, steps = np.random.default_rng(2), 3, 15
    sent = np.zeros((1, 4, steps), int)
    sent[..., ::5] = rng.integers(-20, 90, (1, 4, images))
    neuron = pasc(tag, (4,), 20, 4, ENCODES)
    options = {"shape": (1, 4), "vth": 2, "bias_mant": np.zeros((1, 4), int), **unleaky(tag)}
    stock = LIFReset(reset_interval=interval, reset_offset=1, **options) if interval else LIF(**options)
    source, sink = Source(data=sent), RingBuffer(shape=(1, 4), buffer=steps)
    source.s_out.connect(neuron.a_in)
    neuron.s_out.connect(stock.a_in)
    stock.s_out.connect(sink.a_in)
    with Session(neuron, tag=tag) as session:
        session.run(steps)
        heard, v = brought(sink)[0], stock.v.get()[0]
    trains = np.zeros((4, steps), int)
    for image in range(images):
        count = level(sent[0, :, 5 * image], 20, 4)
        trains[:, 5 * image + 1 : 5 * image + 5] = count[:, None] > np.arange(4)
    spikes, potential = integrated(trains, 0, 2, reset=lambda t: interval is not None and t % interval == 0)
    assert spikes.any()
    np.testing.assert_array_equal(heard, spikes)
    np.testing.assert_array_equal(v, potential * (64 if tag == "fixed_pt" else 1))


@both_tags
def test_delta_tells_our_neurons_what_has_changed_and_sigma_adds_up_what_they_tell(tag):
    """Frames whose state is kept, with the stock halves of sigma-delta networks."""
    frames = np.random.default_rng(10).integers(-40, 90, (1, 3, 8))
    source, delta, sigma = Source(data=frames), Delta(shape=(1, 3), vth=0), Sigma(shape=(1, 3))
    neuron, sink = pasc(tag, (3,), 20, 4, CHANGES, kept=True), RingBuffer(shape=(1, 3), buffer=8)
    source.s_out.connect(delta.a_in)
    delta.s_out.connect(neuron.a_in)
    neuron.s_out.connect(sigma.a_in)
    sigma.s_out.connect(sink.a_in)
    with Session(neuron, tag=tag) as session:
        session.run(8)
        np.testing.assert_array_equal(brought(sink), level(frames, 20, 4))


@pytest.mark.parametrize(("stock", "tag"), [(LIFRefractory, "fixed_pt"), (GradedVec, "floating_pt")])
def test_a_process_without_a_model_for_the_tag_is_refused(stock, tag):
    options = {"vth": 1} | ({"refractory_period": 2} if stock is LIFRefractory else {})
    behind, neuron = stock(shape=(1, 1), **options), pasc(tag, (1,), 20, 4, CHANGES)
    neuron.s_out.connect(behind.a_in)
    with pytest.raises(AssertionError, match=rf"No ProcessModels found with tag '{tag}'"), Session(neuron, tag=tag):
        pass


# -- what reads and writes Vars ------------------------------------------------------------------


def network_of_changes(tag, steps):
    """Currents into neurons in stage CHANGE and on into a readout; in each timestep, by Vars and
    ports: what NumPy says.
    """
    shape = (2, 3, 2)  # volumes have their channels last in memory
    sent = np.random.default_rng(5).integers(-30, 31, (1, *shape, steps))
    source, readout = Source(data=sent), Readout(shape=shape, window=range(steps), dtype=DTYPES[tag])
    neuron = pasc(tag, shape, 20, 4, CHANGES, kept=True)
    source.s_out.connect(neuron.a_in)
    neuron.s_out.connect(readout.a_in)
    s = level(sent.cumsum(-1), 20, 4)
    expected = {"v": sent.cumsum(-1) + 10, "s": s, "s_out": np.diff(s, axis=-1, prepend=0), "readout": s}
    return {"v": neuron.v, "s": neuron.s, "s_out": neuron.s_out, "readout": readout.v}, expected, neuron


@both_tags
def test_monitors_and_reads_show_vars_and_ports(tag):
    """Monitor in every timestep, Read at intervals, of Vars alone."""
    targets, expected, neuron = network_of_changes(tag, 6)
    monitors, reads = {name: Monitor() for name in targets}, {}
    for name, monitor in monitors.items():
        monitor.probe(targets[name], 6)
    for name in ("v", "s", "readout"):
        reads[name] = Read(buffer=2, interval=3, offset=2)
        reads[name].connect_var(targets[name])
    with Session(neuron, tag=tag) as session:
        session.run(6)
        for name, monitor in monitors.items():
            np.testing.assert_array_equal(np.moveaxis(watched(monitor), 0, -1), expected[name])
        for name, read in reads.items():
            np.testing.assert_array_equal(read.data.get(), expected[name][..., 2::3])


def watched(monitor):
    """What a Monitor of one Var or port has seen, (steps, ...)."""
    ((found,),) = (data.values() for data in monitor.get_data().values())
    return found


@both_tags
def test_reset_sets_a_readout_at_intervals(tag):
    """At the end of a timestep, counted from 0, that leaves the offset."""
    sent = np.random.default_rng(6).integers(-9, 10, (1, 2, 10))
    source, readout = Source(data=sent), Readout(shape=(2,), window=range(10), dtype=DTYPES[tag])
    reset, monitor = Reset(reset_value=5, interval=4, offset=3), RingBuffer(shape=(1, 2), buffer=10)
    source.s_out.connect(readout.a_in)
    source.s_out.connect(monitor.a_in)
    reset.connect_var(readout.v)
    found = []
    with Session(readout, tag=tag) as session:
        for _ in range(10):
            session.run(1)
            found.append(readout.v.get()[0])
    v, expected = np.zeros(2), []
    for t in range(10):
        v = v + sent[0, :, t] if t % 4 != 3 else np.full(2, 5)
        expected.append(v)
    np.testing.assert_array_equal(found, expected)


@both_tags
@pytest.mark.parametrize("how", ["set", "Reset", "StateDataloader"])
def test_a_quiet_neuron_whose_potential_is_written_spikes(how, tag):
    """By 35 it passes its threshold 10 three times; nothing arrives meanwhile."""
    source, sink = Source(data=np.zeros((1, 1, 1))), RingBuffer(shape=(1, 1), buffer=9)
    neuron = pasc(tag, (1,), 10, 4, Window((Span(Stage.STREAM, 0, 20),)))
    source.s_out.connect(neuron.a_in)
    neuron.s_out.connect(sink.a_in)
    if how == "Reset":
        Reset(reset_value=35, interval=20, offset=3).connect_var(neuron.v)
    elif how == "StateDataloader":
        StateDataloader(dataset=[(np.array([[35]]), 0)], interval=20, offset=3).connect_var(neuron.v)
    with Session(neuron, tag=tag) as session:
        session.run(4)
        if how == "set":
            neuron.v.set(np.array([[35]]))
        session.run(5)
        assert brought(sink).ravel().tolist() == [0, 0, 0, 0, 1, 1, 1, 0, 0]
        assert neuron.v.get().item() == 5


@both_tags
def test_a_var_of_volumes_is_set_in_the_order_in_which_it_is_read(tag):
    values = np.arange(48).reshape(2, 2, 3, 4) % 10
    neuron = pasc(tag, (2, 3, 4), 10, 4, Window((Span(Stage.STREAM, 0, 20),)), batch=2)
    with Session(neuron, tag=tag) as session:
        session.run(1)
        neuron.v.set(values)
        np.testing.assert_array_equal(neuron.v.get(), values)
        session.run(1)
        np.testing.assert_array_equal(neuron.v.get(), values)


# -- numbers that do not fit ---------------------------------------------------------------------


@both_tags
def test_spikes_of_8_bits_add_up_beyond_8_bits(tag):
    """Two neurons that send 100 each into one port."""
    readout = Readout(shape=(1,), window=range(9), dtype=DTYPES[tag])
    for _ in range(2):
        source, neuron = Source(data=np.full((1, 1, 1), 1000)), pasc(tag, (1,), 10, 100, CHANGES, kept=True)
        source.s_out.connect(neuron.a_in)
        neuron.s_out.connect(readout.a_in)
    with Session(readout, tag=tag) as session:
        session.run(1)
        assert readout.v.get().item() == 200


def from_outside(tag):
    """The run configuration that chooses models for Processes whose models have no tag."""
    models = {Injector: PyLoihiInjectorModel, Extractor: PyLoihiExtractorModel}
    return Loihi2SimCfg(select_tag=tag, exception_proc_model_map=models)


@pytest.mark.parametrize(
    ("into", "value"), [("Pasc", 3.7), ("Pasc", np.nan), ("Pasc", 2.0**31), ("Readout", 0.5), ("Synapse", -np.inf)]
)
def test_what_is_no_whole_number_of_32_bits_is_refused_in_fixed_point(into, value):
    """Injectors send floats."""
    injector = Injector(shape=(1, 1))
    targets = {
        "Pasc": lambda: pasc("fixed_pt", (1,), 10, 4, CHANGES).a_in,
        "Readout": lambda: Readout(shape=(1,), window=range(9)).a_in,
        "Synapse": lambda: Synapse(Dense(np.ones((1, 1), np.int8)), shape_in=(1,), largest=9).s_in,
    }
    injector.out_port.connect(targets[into]())
    with (
        pytest.raises(TargetError, match=r"arrives, and a port of integers takes whole numbers.* 32 bits.*floating_pt"),
        Session(injector, tag="fixed_pt", run_config=from_outside("fixed_pt"), patience=None) as session,
    ):
        injector.send(np.array([[value]]))
        session.run(1)


@pytest.mark.parametrize("values", [np.full((1, 1, 1), 3.7), np.full((1, 1, 1), 2**31, np.int64)])
def test_an_analog_input_s_fractions_and_large_numbers_are_not_cut_but_refused(values):
    source, readout = AnalogInput(currents=values), Readout(shape=(1,), window=range(9))
    source.s_out.connect(readout.a_in)
    with (
        pytest.raises(TargetError, match=r"arrives, and a port of integers takes whole numbers of 32 bits"),
        Session(readout, tag="fixed_pt"),
    ):
        pass


@both_tags
def test_a_readout_s_potential_is_of_the_model_s_arithmetic(tag):
    other = next(dtype for name, dtype in DTYPES.items() if name != tag)
    with (
        pytest.raises(TargetError, match=rf"Readout: a potential of type {np.dtype(other)} in a {tag} model"),
        Session(Readout(shape=(1,), window=range(9), dtype=other), tag=tag),
    ):
        pass


def test_a_readout_s_bias_fits_it():
    with pytest.raises(GraphError, match="Readout: bias is of type float64; int32 models take integers"):
        Readout(shape=(1,), window=range(9), bias=np.array([0.75]))
    with pytest.raises(GraphError, match=r"Readout: bias of shape \(2,\) does not broadcast to \(3,\)"):
        Readout(shape=(3,), window=range(9), bias=np.array([1, 2]))


# -- the world outside ---------------------------------------------------------------------------


@both_tags
def test_an_injector_drives_our_neurons_and_an_extractor_hears_them_while_they_run(tag):
    currents = np.random.default_rng(7).integers(-40, 41, (6, 1, 2))
    injector, extractor = Injector(shape=(1, 2)), Extractor(shape=(1, 2))
    neuron = pasc(tag, (2,), 20, 4, CHANGES, kept=True)
    injector.out_port.connect(neuron.a_in)
    neuron.s_out.connect(extractor.in_port)
    heard = []
    with Session(neuron, tag=tag, run_config=from_outside(tag), patience=None) as session:
        neuron.run(condition=RunSteps(num_steps=4, blocking=False))
        for current in currents[:4]:  # each is answered before the next is known
            injector.send(current)
            heard.append(extractor.receive())
        neuron.wait()
        for current in currents[4:]:
            injector.send(current)
        session.run(2)
        heard += [extractor.receive() for _ in range(2)]
    np.testing.assert_array_equal(np.cumsum(heard, 0), level(currents.cumsum(0), 20, 4))


def test_an_injector_may_add_up_what_waits_and_send_zeros_where_nothing_does():
    injector = Injector(
        shape=(1, 1),
        channel_config=ChannelConfig(
            receive_empty=ReceiveEmpty.NON_BLOCKING_ZEROS, receive_not_empty=ReceiveNotEmpty.ACCUMULATE
        ),
    )
    readout = Readout(shape=(1,), window=range(9))
    injector.out_port.connect(readout.a_in)
    with Session(readout, tag="fixed_pt", run_config=from_outside("fixed_pt")) as session:
        session.run(1)
        for value in (1, 2, 3):
            injector.send(np.array([[value]]))
        session.run(1)
        assert readout.v.get().item() == 6
        session.run(1)
        assert readout.v.get().item() == 6


def test_an_injector_without_its_model_named_and_a_program_that_sends_nothing_are_told():
    def network():
        injector, readout = Injector(shape=(1, 1)), Readout(shape=(1,), window=range(9))
        injector.out_port.connect(readout.a_in)
        return injector

    with (
        pytest.raises(AssertionError, match=r"No ProcessModels found with tag 'fixed_pt'.*Injector"),
        Session(network(), tag="fixed_pt"),
    ):
        pass
    with (
        pytest.raises(TargetError, match=r"sends or receives less than its neighbours expect"),
        Session(network(), tag="fixed_pt", run_config=from_outside("fixed_pt"), patience=0.5) as session,
    ):
        session.run(1)


def test_what_waits_for_a_network_that_failed_or_is_closed_is_told():
    """Lava's own ports wait for ever, or write to memory that is gone."""
    injector, extractor = Injector(shape=(1, 1), buffer_size=1), Extractor(shape=(1, 1))
    neuron = pasc("fixed_pt", (1,), 20, 4, CHANGES)
    injector.out_port.connect(neuron.a_in)
    neuron.s_out.connect(extractor.in_port)
    with Session(neuron, tag="fixed_pt", run_config=from_outside("fixed_pt"), patience=None):
        neuron.run(condition=RunSteps(num_steps=2, blocking=False))
        injector.send(np.array([[0.5]]))
        with pytest.raises(TargetError, match=r"0\.5 arrives"):
            extractor.receive()
        with pytest.raises(TargetError, match=r"0\.5 arrives"):
            for _ in range(9):
                injector.send(np.array([[1]]))
    for use in (lambda: injector.send(np.ones((1, 1))), extractor.receive):
        with pytest.raises(AssertionError, match="Runtime needs to be created"):
            use()


def test_a_thread_that_waits_for_an_extractor_ends_with_the_session():
    source, extractor = Source(data=np.zeros((1, 1, 1))), Extractor(shape=(1, 1))
    source.s_out.connect(extractor.in_port)
    told = []

    def wait():
        with pytest.raises(TargetError, match="inside the Session's with block") as caught:
            extractor.receive()
        told.append(caught.value)

    with Session(source, tag="fixed_pt", run_config=from_outside("fixed_pt")):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
    thread.join(10)
    assert told


# -- data loaders, and whole networks ------------------------------------------------------------


def qcfs(graph, currents):
    """Levels of the hidden neurons and potentials of the outputs for currents (N, ...)."""
    hidden, output = (graph[name] for name in ("hidden", "output"))
    first, second = (projection.operator.weight for projection in graph.projections)
    half = hidden.threshold // 2 if graph.dtype.kind == "i" else hidden.threshold / 2
    z = currents.reshape(len(currents), -1) @ first.T.astype(currents.dtype) + hidden.bias + half
    count = np.clip(np.floor(z / hidden.threshold), 0, hidden.levels)
    return count.astype(int), count @ second.T + output.bias


def digits(tag, images):
    """A network, and currents of images for it (N, 1, 8, 8)."""
    graph = networks.for_digits()
    graph = quantize(graph, 8) if tag == "fixed_pt" else graph
    return graph, np.asarray(graph.currents(np.random.default_rng(8).random((images, 1, 8, 8))))


@both_tags
def test_a_data_loader_shows_images_from_its_second_interval_on(tag):
    """SpikeDataloader loads at the end of a timestep, and sends from the next on: with
    offset = interval - 1 its first image comes in the first timestep of the second interval.
    """
    graph, currents = digits(tag, 2)
    network = PascNetwork(graph=graph)
    dataset = [(image[..., None], label) for label, image in enumerate(currents[:, None], 7)]
    loader = SpikeDataloader(dataset=dataset, interval=network.interval, offset=network.interval - 1)
    labels = RingBuffer(shape=(1,), buffer=3 * network.interval)
    spikes = RingBuffer(shape=network.s_out.shape, buffer=3 * network.interval)
    loader.s_out.connect(network.a_in)
    loader.ground_truth.connect(labels.a_in)
    network.s_out.connect(spikes.a_in)
    potential = []
    with Session(network, tag=tag) as session:
        for _ in range(3):
            session.run(network.interval)
            potential.append(network.v.get()[0])
        shown = brought(labels).reshape(3, -1)
        sent = brought(spikes).reshape(*network.s_out.shape[1:], 3, -1).sum(-1).T
    count, expected = qcfs(graph, np.concatenate([np.zeros_like(currents[:1]), currents]))
    assert count.any()
    np.testing.assert_array_equal(sent, count)
    np.testing.assert_allclose(potential, expected, rtol=0, atol=0 if tag == "fixed_pt" else 1e-9)
    assert shown[1:].tolist() == [[7] * network.interval, [8] * network.interval]


@both_tags
def test_a_program_shows_a_network_its_images_one_by_one(tag):
    """What was sent before a run is there in its first timestep; in the others nothing is."""
    graph, currents = digits(tag, 3)
    network = PascNetwork(graph=graph)
    config = ChannelConfig(receive_empty=ReceiveEmpty.NON_BLOCKING_ZEROS)
    injector = Injector(shape=network.a_in.shape, channel_config=config)
    extractor = Extractor(shape=network.s_out.shape, buffer_size=network.interval)
    injector.out_port.connect(network.a_in)
    network.s_out.connect(extractor.in_port)
    count, expected = qcfs(graph, currents)
    with Session(network, tag=tag, run_config=from_outside(tag)) as session:
        for image in range(3):
            injector.send(currents[image : image + 1])
            session.run(network.interval)
            sent = sum(extractor.receive() for _ in range(network.interval))
            np.testing.assert_array_equal(sent[0], count[image])
            np.testing.assert_allclose(
                network.v.get()[0], expected[image], rtol=0, atol=0 if tag == "fixed_pt" else 1e-9
            )


@both_tags
def test_a_data_loader_drives_neurons_whose_window_starts_a_timestep_later(tag):
    dataset = [(np.array([[[value]]]), 0) for value in (25, 55)]
    loader = SpikeDataloader(dataset=dataset, interval=5, offset=0)
    neuron = pasc(tag, (1,), 20, 4, Window((Span(Stage.ENCODE, 1, 2), Span(Stage.EMIT, 2, 6))))
    sink = RingBuffer(shape=(1, 1), buffer=11)
    loader.s_out.connect(neuron.a_in)
    neuron.s_out.connect(sink.a_in)
    with Session(neuron, tag=tag) as session:
        session.run(11)
        assert brought(sink).ravel().tolist() == [0, 0, 1, 0, 0, 0, 0, 1, 1, 1, 0]


@both_tags
def test_a_network_s_potential_and_spikes_are_watched_as_those_of_any_process(tag):
    graph, currents = digits(tag, 1)
    network = PascNetwork(graph=graph)
    sent = np.zeros((1, 1, 8, 8, network.interval), graph.dtype)
    sent[0, ..., 0] = currents[0]
    source = Source(data=sent)
    source.s_out.connect(network.a_in)
    potential, spikes = Monitor(), Monitor()
    potential.probe(network.v, network.interval)
    spikes.probe(network.s_out, network.interval)
    read = Read(buffer=1, interval=network.interval, offset=network.interval - 1)
    read.connect_var(network.v)
    count, expected = qcfs(graph, currents)
    with Session(network, tag=tag) as session:
        session.run(network.interval)
        for last in (watched(potential)[-1], read.data.get()[..., 0]):
            np.testing.assert_allclose(last, expected, rtol=0, atol=0 if tag == "fixed_pt" else 1e-9)
        np.testing.assert_array_equal(watched(spikes).sum(0), count)


@both_tags
def test_a_network_s_last_weights_in_stock_synapses_give_its_readout(tag):
    """Doubled, as weights of both signs are even in Lava; a LIF without threshold adds them up."""
    graph, currents = digits(tag, 1)
    network = PascNetwork(graph=graph)
    sent = np.zeros((1, 1, 8, 8, network.interval + 1), graph.dtype)
    sent[0, ..., 0] = currents[0]
    weights = 2 * graph.projections[-1].operator.weight.astype(graph.dtype)
    source, synapses = Source(data=sent), StockDense(weights=weights)
    stock = LIF(shape=(10,), vth=2**17 - 1, **unleaky(tag))
    source.s_out.connect(network.a_in)
    network.s_out.reshape((16,)).connect(synapses.s_in)
    synapses.a_out.connect(stock.a_in)
    _, expected = qcfs(graph, currents)
    with Session(network, tag=tag) as session:
        session.run(network.interval + 1)
        v = stock.v.get() / (64 if tag == "fixed_pt" else 1)
    assert v.any()
    np.testing.assert_allclose(v / 2 + graph["output"].bias, expected[0], rtol=0, atol=0 if tag == "fixed_pt" else 1e-9)
