"""A whole network as one Process: from a file, at any time, with its populations to look at; what
comes while nobody listens is an error.
"""

import numpy as np
import pytest

pytest.importorskip("lava.magma", exc_type=ImportError)

from pascal_nm import quantize
from pascal_nm.errors import FileError, GraphError, TargetError
from pascal_nm.export import write_nir
from pascal_nm.network.graph import Timing
from pascal_nm.network.operators import Dense, SumPool2d
from pascal_nm.network.windows import Span, Window
from pascal_nm.neuron import Stage
from pascal_nm.process_models.analog.process import AnalogInput
from pascal_nm.process_models.max_pool.process import MaxPool
from pascal_nm.process_models.pasc.process import Pasc
from pascal_nm.process_models.pasc_network.process import PascNetwork
from pascal_nm.process_models.readout.process import Readout
from pascal_nm.process_models.runtime import Session
from pascal_nm.process_models.synapse.process import Synapse
from pascal_nm.process_models.timing import Cycle
from pascal_nm.simulation import simulate
from tests import networks


@pytest.fixture(scope="module")
def graph():
    return quantize(networks.for_digits(), 8)


def images(graph, count=2):
    values = np.random.default_rng(7).uniform(0, 1, (count, *graph.input.shape)).astype(np.float32)
    assert all(counts.any() for counts in simulate.counts(graph, values).counts.values()), "every population fires"
    return values


def shown(network, values, first):
    """A stock source that sends an image's currents every interval, from a timestep on."""
    from lava.proc.io.source import RingBuffer as Source

    currents = np.zeros((*network.inp.shape, first + len(values) * network.interval), network.graph.dtype)
    for number, current in enumerate(network.graph.currents(values)):
        currents[..., first + number * network.interval] = current
    source = Source(data=currents)
    source.s_out.connect(network.inp)
    return currents.shape[-1]


@pytest.mark.parametrize("offset", [0, 5])
@pytest.mark.parametrize("timing", ["pasc", "streaming", "graded"])
def test_its_populations_are_read_monitored_and_connected(graph, timing, offset):
    from lava.proc.io.sink import RingBuffer
    from lava.proc.monitor.process import Monitor

    graph = graph.replace(timing=Timing(timing))
    network, values = PascNetwork(graph, offset=offset), images(graph)
    steps = shown(network, values, offset)
    sinks = {layer.name: RingBuffer(shape=layer.s_out.shape, buffer=steps) for layer in network.layers if layer.s_out}
    for layer in network.layers:
        if layer.s_out is not None:
            layer.s_out.connect(sinks[layer.name].a_in)
    monitor = Monitor()
    monitor.probe(network.layers[-1].v, steps)
    expected = simulate.steps(graph, values)
    with Session(network, tag="fixed_pt") as session:
        session.run(steps)
        spikes = {name: sink.data.get()[0, ..., offset:] for name, sink in sinks.items()}
        (potentials,) = monitor.get_data()[network.name].values()
        np.testing.assert_array_equal(network.layers[-1].v.get(), network.v.get())
    for name, sent in spikes.items():
        sums = sent.reshape(*sent.shape[:-1], len(values), network.interval).sum(-1)
        np.testing.assert_array_equal(np.moveaxis(sums, -1, 0), expected.counts[name])
    ends = offset + network.interval * np.arange(1, len(values) + 1) - 1
    np.testing.assert_array_equal(potentials[ends, 0], expected.potential)
    assert len(network) == len(network.layers) == len(graph.populations) - 1
    assert str(network) == repr(graph)
    assert repr(network.layers[-1]).startswith("output: readout")


def test_a_network_comes_from_a_file_by_either_name(graph, tmp_path):
    write_nir(graph, tmp_path / "model.nir")
    values = images(graph, 1)
    answers = []
    for network in (PascNetwork(tmp_path / "model.nir"), PascNetwork(net_config=str(tmp_path / "model.nir"))):
        steps = shown(network, values, 0)
        with Session(network, tag="fixed_pt") as session:
            session.run(steps)
            answers.append(network.v.get())
    np.testing.assert_array_equal(answers[0], simulate.counts(graph, values).potential)
    np.testing.assert_array_equal(answers[1], answers[0])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, GraphError, "takes a network, a Graph or the path of a .nir file, once; it was given NoneType"),
        ({"graph": 3}, GraphError, "it was given int"),
        ({"graph": "none.nir"}, FileError, "none.nir does not exist"),
        ({"offset": -1}, GraphError, "timestep 0 or later, not in -1"),
    ],
)
def test_what_is_no_network_is_refused_in_a_line(graph, arguments, error, message):
    with pytest.raises(error, match=message) as found:
        PascNetwork(**({"graph": graph} if "offset" in arguments else {}) | arguments)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("timing", ["pasc", "streaming", "graded"])
@pytest.mark.parametrize("late", [1, 2])
def test_an_image_that_comes_at_another_time_is_an_error_and_no_answer(graph, timing, late):
    network = PascNetwork(graph.replace(timing=Timing(timing)))
    steps = shown(network, images(graph, 1), late)
    heard = rf"something arrives in timestep {late}, and is heard in 0 of every {network.interval} alone.*offset="
    with pytest.raises(TargetError, match=heard), Session(network, tag="fixed_pt") as session:
        session.run(steps)


def test_a_network_that_is_stopped_is_refused(graph):
    """Its images would run into each other."""
    with pytest.raises(GraphError, match="runs every image to its end, and this network is stopped after 5"):
        PascNetwork(graph.replace(timing=Timing("pasc", 0, 5)))


@pytest.mark.parametrize(
    ("form", "value", "message"),
    [
        ("float", np.nan, "NaN or an infinite number arrives"),
        ("integer", 10**6, "1000000 arrives, and its sums are exact for entries of up to"),
    ],
)
def test_currents_that_the_network_is_not_made_for_are_refused(graph, form, value, message):
    from lava.proc.io.source import RingBuffer as Source

    network = PascNetwork(graph if form == "integer" else networks.for_digits())
    currents = np.zeros((*network.inp.shape, network.interval), network.graph.dtype)
    currents[(0,) * len(network.inp.shape)][0] = value
    source = Source(data=currents)
    source.s_out.connect(network.inp)
    tag = "fixed_pt" if form == "integer" else "floating_pt"
    with pytest.raises(TargetError, match=message), Session(network, tag=tag) as session:
        session.run(network.interval)


def late_neuron():
    return Pasc(
        shape=(3,),
        vth=np.array([5], np.int32),
        levels=4,
        window=Window((Span(Stage.ENCODE, 1, 2), Span(Stage.EMIT, 2, 6))),
    )


def test_what_comes_back_while_a_neuron_emits_is_not_lost_in_silence():
    """Feedback, without a window for it."""
    source = AnalogInput(currents=np.array([[[9, 9, 9]]], np.int32))
    there = Synapse(Dense(np.eye(3, dtype=np.int8)), shape_in=(3,), largest=9)
    back = Synapse(Dense(np.eye(3, dtype=np.int8)), shape_in=(3,))
    neuron = late_neuron()
    source.s_out.connect(there.s_in)
    there.a_out.connect(neuron.a_in)
    neuron.s_out.connect(back.s_in)
    back.a_out.connect(neuron.a_in)
    with (
        pytest.raises(TargetError, match="something arrives in timestep 3, and is heard in 1 of every 5 alone"),
        Session(neuron, tag="fixed_pt") as session,
    ):
        session.run(5)


@pytest.mark.parametrize(
    ("listener", "port", "shape", "heard"),
    [
        (lambda: late_neuron(), "a_in", (3,), "1 of every 5"),
        (lambda: Readout(shape=(3,), window=range(1, 3), cycle=Cycle(4)), "a_in", (3,), "1 to 2 of every 4"),
        (
            lambda: MaxPool(shape_in=(3, 2, 2), window=SumPool2d((2, 2), (2, 2)), receive=range(1, 3), cycle=Cycle(4)),
            "s_in",
            (3, 2, 2),
            "1 to 2 of every 4",
        ),
    ],
    ids=["Pasc", "Readout", "MaxPool"],
)
def test_whoever_does_not_listen_says_so(listener, port, shape, heard):
    listener = listener()
    frames = np.zeros((4, 1, *shape), np.int32)
    frames[3] = 1
    source = AnalogInput(currents=frames, cycle=Cycle(interval=1, batches=4))
    spikes = Synapse(Dense(np.eye(3, dtype=np.int8)), shape_in=(3,)) if len(shape) == 1 else None
    if spikes is None:
        neuron = Pasc(
            shape=shape,
            vth=np.full((1, 1, 1), 1, np.int32),
            levels=1,
            window=Window((Span(Stage.CHANGE, 0, 1),)),
            kept=True,
        )
        source.s_out.connect(neuron.a_in)
        neuron.s_out.connect(getattr(listener, port))
    else:
        source.s_out.connect(getattr(listener, port))
    with (
        pytest.raises(TargetError, match=f"something arrives in timestep 3, and is heard in {heard} alone"),
        Session(listener, tag="fixed_pt") as session,
    ):
        session.run(5)
