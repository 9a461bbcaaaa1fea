"""Networks on cores: every neuron once, every limit kept, every message counted, against loops
over single neurons.
"""

import dataclasses
import itertools
import statistics
import time
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pascal_nm import build, convert, quantize
from pascal_nm.common import memory
from pascal_nm.errors import TargetError
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import cost, fixed_point, mapping, mesh, traffic
from pascal_nm.hw_targets.blocks import Joins
from pascal_nm.hw_targets.objectives import OBJECTIVES, TRAVEL, Estimate
from pascal_nm.hw_targets.traffic import Traffic
from pascal_nm.network.graph import Graph, Population, Projection, Quantization, Timing
from pascal_nm.network.operators import Conv2d, Dense, Identity
from pascal_nm.network.reach import Pattern
from pascal_nm.simulation import events, schedule, simulate
from pascal_nm.simulation.session import Session
from pascal_nm.source import checkpoint
from pascal_nm.source.tracing import SourceNetwork
from tests import digests, pace
from tests.cores import Trains, core_of, synapses
from tests.hw_targets.test_chip import one_neuron
from tests.strategies import inputs_for, integer_graphs

SMALL = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


OPERATIONS = ("synaptic_operation", "graded_operation", "multiply_accumulate")

SCHEDULES = st.sampled_from(["pasc", "two_phase", "streaming", "graded"])


@st.composite
def small_chips(draw):
    """Loihi 1 with cores so small that everything is split, and both ways to count axons and
    to store filters.
    """
    compartments = draw(st.integers(1, 3))
    core = dataclasses.replace(
        chips.load("loihi1").core,
        compartments=compartments,
        beside=draw(st.sampled_from([0.0, 0.16, 14.7])),
        index=draw(st.sampled_from([0, 10])),
        neurons=draw(st.integers(compartments, 40)),
        memory_bits=draw(st.integers(8000, 80000)),
        in_axons=draw(st.integers(300, 600)),
        out_axons=draw(st.integers(60, 600)),
        shared_convolution=draw(st.booleans()),
        population_axons=draw(st.booleans()),
    )
    width, height = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    mesh = chips.Mesh(width, height, 2, min(5, 2 * width * height), "a test")
    return dataclasses.replace(chips.load("loihi1_calibrated"), core=core, mesh=mesh)


def placed(graph, chip, objective="time"):
    try:
        return mapping.place(graph, chip, objective)
    except TargetError as error:
        assert "bits, a core has" in str(error) or "axons" in str(error)
        return None


@SMALL
@given(graph=integer_graphs(), chip=small_chips(), objective=st.sampled_from(OBJECTIVES))
def test_every_core_keeps_every_limit(graph, chip, objective):
    found = placed(graph, chip, objective)
    if found is None:
        return
    assert len(found.places) == sum(blocks.cores for blocks in found.blocks.values())
    assert found.chips == -(-found.cores // chip.mesh.cores)
    per_tile = np.unique(found.places, axis=0, return_counts=True)[1]
    assert per_tile.max() <= 2
    for name, blocks in found.blocks.items():
        cores = core_of(found, name)
        assert np.array_equal(np.bincount(cores.reshape(-1))[found.first[name] :], blocks.sizes)
        assert blocks.sizes.min() > 0
        for limit, used in found.use[name].used.items():
            assert used.max() <= found.use[name].limits[limit], (name, limit)
        assert blocks.sizes.max() * chip.core.compartments <= chip.core.neurons
        heard = np.zeros(blocks.cores, int)
        for q in graph.incoming(name):
            if q.source in found.blocks and not (isinstance(q.operator, Dense) and q.pool):
                joined = synapses(q, graph[q.source].shape) > 0
                apart = isinstance(q.operator, Dense) or isinstance(q.reach(graph[q.source].shape), Pattern)
                ends = _axons_of(found, q, chip.core.population_axons and not apart)
                for core in range(blocks.cores):
                    mine = joined[cores.reshape(-1) == core + found.first[name]].any(0)
                    heard[core] += len(np.unique(ends[mine]))
            elif q.source in found.blocks:
                return
        assert np.array_equal(heard, found.use[name].used["in_axons"])


def _axons_of(found, projection, shared):
    """The axon of each source neuron: its own, or that of its pixel on its core."""
    cores = core_of(found, projection.source)
    if not shared:
        return np.arange(cores.size)
    pixels = np.arange(cores[0].size).reshape(cores[0].shape)
    return (cores * cores[0].size + pixels).reshape(-1)


@SMALL
@given(
    graph=integer_graphs(),
    chip=small_chips(),
    seed=st.integers(0, 2**32 - 1),
    name=SCHEDULES,
    together=st.sampled_from([1, traffic.FRAME_VALUES]),
    frames=st.booleans(),
)
def test_every_message_is_counted_once_for_each_core_that_it_reaches(graph, chip, seed, name, together, frames):
    """By a loop over single neurons, from the spikes that they sent: operations by
    core, messages, hops.
    """
    graph = graph.replace(timing=Timing(name))
    found = placed(graph, chip)
    if found is None:
        return
    with mock.patch.object(traffic, "FRAME_VALUES", together):
        inputs, watcher = inputs_for(graph, seed, 2), Traffic(found)
        if frames:
            result = Session(graph, watcher=watcher).run(inputs)
        else:
            result = simulate.steps(graph, inputs, watcher=watcher)
    layers = {layer.name: layer for layer in events.count(graph, result)}
    operations = np.zeros((2, found.cores))
    for p in graph.populations:
        if p.name not in result.spikes:
            continue
        spikes = result.spikes[p.name].reshape(2, -1).astype(int)
        if p.kind == "analog":
            for q in graph.outgoing(p.name):
                onto = synapses(q, p.shape).astype(int) @ spikes.T
                np.add.at(operations.T, core_of(found, q.target).reshape(-1), onto)
            continue
        cores, sent, hops = core_of(found, p.name).reshape(-1), np.zeros(2, int), np.zeros((2, 2), int)
        for q in graph.outgoing(p.name):
            count = synapses(q, p.shape)
            targets = core_of(found, q.target).reshape(-1)
            for core in np.unique(targets):
                onto = count[targets == core].sum(0).astype(int)
                operations[:, core] += spikes @ onto
                reached = onto > 0
                sent += spikes[:, reached].sum(1)
                way = np.abs(found.places[cores[reached]] - found.places[core])
                hops += spikes[:, reached] @ way
        np.testing.assert_array_equal(layers[p.name].messages, sent, err_msg=p.name)
        np.testing.assert_array_equal(layers[p.name].hops_x, hops[:, 0])
        np.testing.assert_array_equal(layers[p.name].hops_y, hops[:, 1])
    by_core = [result.cores.by_core(event) for event in ("synaptic_operation", "graded_operation")]
    np.testing.assert_array_equal(sum(by_core), operations)
    for event in OPERATIONS:
        for layer in layers.values():
            counted = np.broadcast_to(getattr(layer, f"{event}s"), 2)
            np.testing.assert_array_equal(result.cores.total(event, layer.name), counted, err_msg=event)
    total = sum(layer.messages for layer in layers.values())
    np.testing.assert_array_equal(result.cores.by_core("message").sum(1), total)
    np.testing.assert_array_equal(result.cores.by_core("message_in").sum(1), total)
    np.testing.assert_array_equal(sum(layer.messages_in for layer in layers.values()), total)
    assert (cost.seconds(result, found, chip) > 1e-9 * 600 * result.timesteps).all()


@SMALL
@given(graph=integer_graphs(), chip=small_chips(), name=SCHEDULES)
def test_each_objective_is_served_at_least_as_well_as_by_the_fewest_cores_on_no_more_chips(graph, chip, name):
    graph = graph.replace(timing=Timing(name))
    found = {objective: placed(graph, chip, objective) for objective in OBJECTIVES}
    if None in found.values():
        return
    estimate = Estimate(Joins(graph), chip, chip.mesh)
    assert estimate.seconds(found["time"].blocks) <= estimate.seconds(found["cores"].blocks)
    assert mapping.joules(estimate, found["energy"]) <= mapping.joules(estimate, found["cores"])
    assert len({placement.chips for placement in found.values()}) == 1
    for objective, placement in found.items():
        assert placement.cores >= found["cores"].cores
        assert placement.objective == objective
        assert placement.same_as(mapping.place(graph, chip, objective)), "the same every time"


def timed(chip, which):
    """A chip with the times of another one."""
    other = chips.load(which)
    return dataclasses.replace(chip, latency=other.latency, barrier=other.barrier)


@pytest.mark.slow
def _axons_of(found, projection, shared):
    """The axon of each source neuron: its own, or that of its pixel on its core."""
    cores = core_of(found, projection.source)
    if not shared:
        return np.arange(cores.size)
    pixels = np.arange(cores[0].size).reshape(cores[0].shape)
    return (cores * cores[0].size + pixels).reshape(-1)


@SMALL
@given(
    graph=integer_graphs(),
    chip=small_chips(),
    seed=st.integers(0, 2**32 - 1),
    name=SCHEDULES,
    together=st.sampled_from([1, cost.CORE_NUMBERS]),
)
def test_the_time_of_an_image_is_that_of_a_loop_over_timesteps_and_synapses(graph, chip, seed, name, together):
    """On two chips, of one run."""
    graph = graph.replace(timing=Timing(name))
    found = placed(graph, chip)
    if found is None:
        return
    inputs = inputs_for(graph, seed, 2)
    result = simulate.steps(graph, inputs, watcher=Traffic(found))
    simulate.steps(graph, inputs, watcher=(trains := Trains()))
    for priced in (chip, timed(chip, "loihi2")):
        with mock.patch.object(cost, "CORE_NUMBERS", together):
            seconds, follows = cost.seconds(result, found, priced), cost.pipelined(result, found, priced)
        busy, way, barrier = looped(graph, found, trains, priced)
        steps = busy.max(2) + way + barrier
        alone = [1e-9 * steps[: result.timesteps[image], image].sum() for image in range(2)]
        np.testing.assert_allclose(seconds, alone, rtol=1e-12)
        if name in ("pasc", "graded"):
            answer, interval = overlapped(graph, found, trains, priced)
            np.testing.assert_allclose(follows.answer, answer, rtol=1e-12)
            np.testing.assert_allclose(follows.interval, interval, rtol=1e-12)
            assert (follows.interval <= seconds * (1 + 1e-12)).all()


def overlapped(graph, found, trains, chip):
    """Seconds to the answer, and from one to the next, in a long sequence of each image again and
    again: work of all that are under way is added up on each core.
    """
    plan, ns = schedule.of(graph), chip.nanoseconds
    busy, way, barrier = looped(graph, found, trains, chip)
    idle = np.zeros((plan.steps, found.cores))
    for name in found.blocks:
        idle += np.bincount(core_of(found, name).reshape(-1), minlength=found.cores) * ns("idle")
    repeats = 2 * plan.steps
    line = np.zeros((repeats * plan.initiation_interval + plan.steps, *busy.shape[1:]))
    longest = np.zeros(line.shape[:2])
    for i in range(repeats):
        begin = i * plan.initiation_interval
        line[begin : begin + plan.steps] += busy - idle[:, None]  # what is more than looking at every neuron
        longest[begin : begin + plan.steps] = np.maximum(longest[begin : begin + plan.steps], way)
    steps = 1e-9 * ((line + idle[0]).max(2) + longest + barrier)
    begin = plan.steps * plan.initiation_interval
    return steps[begin : begin + plan.steps].sum(0), steps[begin : begin + plan.initiation_interval].sum(0)


def looped(graph, found, trains, chip):
    """Nanoseconds by timestep and image of each core, of the longest way, and of the barrier, by a
    loop over timesteps, spikes and synapses.
    """
    plan, ns = schedule.of(graph), chip.nanoseconds
    busy, way = np.zeros((plan.steps, 2, found.cores)), np.zeros((plan.steps, 2))
    for p in graph.populations:
        if p.name in found.blocks:
            window, cores = plan.windows[p.name], np.bincount(core_of(found, p.name).reshape(-1), minlength=found.cores)
            for t in range(plan.steps):
                busy[t] += cores * ns("update" if window.start <= t < window.stop else "idle")
        for q in graph.outgoing(p.name):
            count, targets = synapses(q, p.shape), core_of(found, q.target).reshape(-1)
            onto = np.stack([count[targets == core].sum(0) for core in range(found.cores)])
            first, train = trains.kept[p.name]
            operation = ns("synaptic_operation") + chip.more(events.synapses(q))[1]
            if p.name not in found.blocks:
                values = (train[0].flatten(1).numpy() != 0) if plan.graded else np.ones((2, p.size))
                busy[plan.way(q)] += values @ onto.T * operation
                continue
            own = core_of(found, p.name).reshape(-1)
            for t, image, neuron in zip(*np.nonzero(train.flatten(2).numpy()), strict=True):
                core = own[neuron]
                if q is graph.outgoing(p.name)[0]:
                    busy[first + t, image, core] += ns("emitted")
                for other in np.flatnonzero(onto[:, neuron]):
                    busy[first + t, image, core] += ns("message")
                    busy[first + t + plan.delay, image, other] += ns("message_in")
                    busy[first + t + plan.way(q), image, other] += onto[other, neuron] * operation
                    hops = np.abs(found.places[core] - found.places[other]) @ [ns("hop_x"), ns("hop_y")]
                    way[first + t, image] = max(way[first + t, image], hops)
    return busy, way, chip.barrier.at(len(np.unique(found.places, axis=0)), found.chips)


def _axons_of(found, projection, shared):
    """The axon of each source neuron: its own, or that of its pixel on its core."""
    cores = core_of(found, projection.source)
    if not shared:
        return np.arange(cores.size)
    pixels = np.arange(cores[0].size).reshape(cores[0].shape)
    return (cores * cores[0].size + pixels).reshape(-1)


@SMALL
@given(
    graph=integer_graphs(),
    chip=small_chips(),
    seed=st.integers(0, 2**32 - 1),
    name=SCHEDULES,
)
def test_images_run_one_by_one_cause_what_they_cause_together(graph, chip, seed, name):
    """Their trains of spikes are of different lengths where they stream."""
    graph = graph.replace(timing=Timing(name))
    found = placed(graph, chip)
    if found is None:
        return
    inputs = inputs_for(graph, seed, 3)
    whole = simulate.steps(graph, inputs, watcher=Traffic(found))
    with mock.patch.object(memory, "TRAIN", 1):
        parts = simulate.steps(graph, inputs, watcher=Traffic(found))
    for event in ("emitted", "message", "message_in", *OPERATIONS):
        np.testing.assert_array_equal(parts.cores.by_core(event), whole.cores.by_core(event), err_msg=event)
    np.testing.assert_array_equal(cost.seconds(parts, found, chip), cost.seconds(whole, found, chip))


@pytest.mark.parametrize("name", ["loihi1", "loihi2"])
def test_mnist_runs_faster_placed_for_time_than_on_the_fewest_cores(name):
    """The committed network, and a measured run: the time is what the events of a run take."""
    chip = chips.load(name)
    chip = dataclasses.replace(chip, barrier=dataclasses.replace(chip.barrier, chips=None))  # it would be most of it
    graph = fixed_point.fit(checkpoint.load(digests.MODELS / "mnist.pt").graph(), chip, Quantization(8))
    inputs = graph.preprocessing(digests.images(graph.input.shape))
    runs = {}
    for objective in OBJECTIVES:
        found = mapping.place(graph, chip, objective)
        runs[objective] = result = simulate.steps(graph, inputs, watcher=Traffic(found))
        runs[objective] = cost.seconds(result, found, chip), cost.energy(events.count(graph, result), chip)
    seconds = {objective: seconds.mean() for objective, (seconds, _) in runs.items()}
    joules = {objective: sum(layer.dynamic for layer in layers) for objective, (_, layers) in runs.items()}
    gain = {"loihi1": 1.4, "loihi2": 1.3}  # where most cores are full, or most of the time is the barrier
    assert seconds["time"] < seconds["cores"] / gain[name]
    assert joules["energy"] <= joules["cores"] < joules["time"] < 1.05 * joules["cores"]


@pytest.mark.parametrize("name", ["pasc", "graded"])
def test_what_would_arrive_after_a_run_was_stopped_takes_no_time(name):
    """In the first timestep both cores have one neuron, which waits, and nothing else to do."""
    graph, chip = one_neuron().replace(timing=Timing(name, stop=1)), chips.load("loihi1_calibrated")
    found = mapping.place(graph, chip)
    result = simulate.steps(graph, np.ones((1, 1)), watcher=Traffic(found))
    assert cost.seconds(result, found, chip) == pytest.approx([1e-9 * (3 * 6.0 + 600)], rel=1e-9), "three compartments"


def test_a_network_whose_spikes_carry_numbers_is_expected_to_send_once():
    """One neuron in four sends; those of the paper send counts of 1, 2, 3 and 4 spike by spike."""
    chip = chips.load("loihi2")
    graph = one_neuron()
    graded, paper = (Estimate(Joins(graph.replace(timing=Timing(n))), chip, chip.mesh) for n in ("graded", "pasc"))
    assert (graded.spikes("neuron"), paper.spikes("neuron")) == (1 / 4, 1 / 4 + 1 / 8 + 1 / 16 + 1 / 32)
    blocks = mapping.place(graph, chip).blocks
    assert graded.seconds(blocks) < paper.seconds(blocks)


def test_on_a_chip_without_times_the_fewest_cores_are_taken_and_it_says_so():
    chip = dataclasses.replace(chips.load("loihi1"), latency={})
    module = build("cnn", (1, 8, 8), 10, 4, width=0.5).eval()
    graph = quantize(convert(module, torch.zeros(1, 1, 8, 8)), input_range=1.0)
    fewest, other = (mapping.place(graph, chip, objective) for objective in ("cores", "time"))
    assert other.same_as(fewest)
    assert other.objective == "cores"
    assert np.isnan(cost.seconds(simulate.steps(graph, np.zeros((1, 1, 8, 8)), watcher=Traffic(other)), other, chip))
    free = dataclasses.replace(chip, energy={k: v for k, v in chip.energy.items() if k not in TRAVEL})
    assert mapping.place(graph, free, "energy").objective == "cores"
    assert mapping.place(graph, chip, "energy").objective == "energy"
    with pytest.raises(TargetError, match="unknown objective 'speed': choose from time, energy, cores"):
        mapping.place(graph, chip, "speed")


@SMALL
@given(data=st.data(), cores=st.integers(1, 14))
def test_cores_are_put_where_no_swap_of_two_shortens_the_ways(data, cores):
    messages = data.draw(arrays(np.float32, (cores, cores), elements=st.integers(0, 5)))
    grid = chips.Mesh(data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)), 2, 5, "a test")
    places = mesh.arranged(messages, dataclasses.replace(grid, cores=min(5, 2 * grid.width * grid.height)))

    def length(places):
        return (np.abs(places[:, None] - places).sum(2) * messages).sum()

    for a, b in itertools.combinations(range(cores), 2):
        swapped = places.copy()
        swapped[[a, b]] = swapped[[b, a]]
        assert length(swapped) >= length(places)
    assert np.unique(places, axis=0, return_counts=True)[1].max() <= 2


def test_operations_beyond_what_float32_holds_are_counted_exactly():
    """Most of 4,096 neurons spike at once, each through up to 33,759 synapses onto one core."""
    shape, channels, kernel = (1, 64, 64), 31, 33
    one = np.ones((1, 1, 1), np.int32)
    graph = Graph(
        (
            Population("input", "analog", shape, 1),
            Population("neuron", "pasc", shape, 1, one, 0 * one),
            Population("output", "readout", (channels, 64, 64), 1, np.ones(()), np.zeros((channels, 1, 1), np.int32)),
        ),
        (
            Projection("input", "neuron", Identity(one)),
            Projection("neuron", "output", Conv2d(np.ones((channels, 1, kernel, kernel), np.int8), padding=(16, 16))),
        ),
    )
    chip = chips.load("loihi1")
    core = dataclasses.replace(chip.core, neurons=2**20, memory_bits=2**40, in_axons=2**20, out_axons=2**20)
    chip = dataclasses.replace(chip, core=core)
    inputs = (np.random.default_rng(0).random((1, *shape)) < 0.9).astype(float)
    result = simulate.steps(graph, inputs, watcher=Traffic(mapping.place(graph, chip)))
    along = np.convolve(np.ones(64, int), np.ones(kernel, int))[16:-16]
    expected = int(inputs[0, 0].astype(int).ravel() @ np.outer(along, along).ravel()) * channels
    assert expected > 2**24
    assert expected % 4
    assert result.cores.by_core("synaptic_operation").sum() == expected


def test_a_timestep_lasts_as_long_as_its_slowest_core():
    """One neuron on each core: the times can be added up by hand."""
    graph = one_neuron(levels=9)
    chip = chips.load("loihi1_calibrated")
    ns = {name: figure.value for name, figure in chip.latency.items()}
    found = mapping.place(graph, chip)
    result = simulate.steps(graph, np.array([[2.0], [0.0]]), watcher=Traffic(found))
    plan = schedule.of(graph)
    hops = np.abs(found.places[0] - found.places[1]) @ [ns["hop_x"], ns["hop_y"]]
    neuron, output = (plan.windows[name] for name in ("neuron", "output"))
    for image, sends in enumerate((2, 0)):
        total = 0.0
        for t in range(plan.steps):
            spiking = neuron.emit.start <= t < neuron.emit.start + sends
            arriving = neuron.emit.start + 1 <= t < neuron.emit.start + 1 + sends
            first = 3 * (ns["update"] if neuron.start <= t < neuron.stop else ns["idle"])  # compartments
            first += ns["synaptic_operation"] * (t == 1) + spiking * (ns["emitted"] + ns["message"])
            second = 3 * (ns["update"] if output.start <= t < output.stop else ns["idle"])
            second += arriving * (ns["synaptic_operation"] + ns["message_in"])
            total += max(first, second) + spiking * hops + 600
        assert cost.seconds(result, found, chip)[image] == pytest.approx(1e-9 * total, rel=1e-12)


def test_what_cannot_fit_is_refused_with_the_limit_and_what_helps():
    chip = chips.load("loihi1")
    tiny = dataclasses.replace(chip, core=dataclasses.replace(chip.core, memory_bits=1))
    with pytest.raises(TargetError, match=r"neuron: the synapses of one neuron take 3 bits, a core has 1: fewer bits"):
        mapping.place(one_neuron(), tiny)
    deaf = dataclasses.replace(chip, core=dataclasses.replace(chip.core, in_axons=0))
    with pytest.raises(TargetError, match=r"output: one neuron needs 1 in-axons, a core has 0: narrower source layers"):
        mapping.place(one_neuron(), deaf)
    with pytest.raises(TargetError, match="described without cores"):
        mapping.place(one_neuron(), chips.load("cmos45_int8"))


def network(arch, images, classes, **options):
    """A network with random weights, in 8 bits; normalized on the images, so that all
    its layers spike.
    """
    torch.manual_seed(0)
    module, images = build(arch, images.shape[1:], classes, **options), torch.from_numpy(images)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        module.train()(images)
    return quantize(convert(SourceNetwork(module.eval(), images[:1])), input_range=float(images.abs().max()))


def images(count, size):
    return np.random.default_rng(0).normal(size=(count, 3, size, size)).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["loihi1", "loihi2"])
def test_resnet34_for_imagenet_is_mapped_within_every_limit(name):
    chip = chips.load(name)
    graph = network("resnet34", images(1, 224), 1000, stem="imagenet")
    start = time.process_time()
    found = mapping.place(graph, chip)
    assert pace.since(start) < 30
    assert sum(blocks.sizes.sum() for blocks in found.blocks.values()) == sum(p.size for p in graph.populations[1:])
    for use in found.use.values():
        assert max(use.shares.values()) <= 1
    assert np.unique(found.places, axis=0, return_counts=True)[1].max() <= chip.mesh.cores_per_tile


@pytest.mark.slow
@pytest.mark.parametrize("timing", [Timing(), Timing("streaming", 1)])
def test_counting_everything_takes_at_most_half_as_long_as_the_run(timing):
    """In the processor's time of one thread, of which other programs take nothing."""
    inputs, chip = images(32, 32), chips.load("loihi1")
    graph = network("vgg16", inputs, 10, width=0.125).replace(timing=timing)
    watcher, threads = Traffic(mapping.place(graph, chip, "cores")), torch.get_num_threads()

    def seconds(watcher):
        start = time.process_time()
        result = simulate.steps(graph, inputs, watcher=watcher)
        if watcher is not None:
            events.count(graph, result)
            cost.seconds(result, watcher.placement, chip)
        return time.process_time() - start

    torch.set_num_threads(1)
    try:
        ratios = [seconds(watcher) / seconds(None) for _ in range(7)]
    finally:
        torch.set_num_threads(threads)
    assert statistics.median(ratios) <= 1.5
