"""Energy, messages and hops on Loihi 1 against SANA-FE's own simulation of the same mapped network
and spikes (`make cross-checks`).
"""

import dataclasses
import itertools

import numpy as np
import pytest

from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import cost, mapping
from pascal_nm.hw_targets.traffic import Traffic
from pascal_nm.network.graph import Graph, Population, Projection, Timing
from pascal_nm.network.operators import Conv2d, Dense
from pascal_nm.simulation import events, schedule, simulate
from tests.cores import Trains, core_of

sanafe = pytest.importorskip("sanafe")


def network(seed):
    rng = np.random.default_rng(seed)
    first = rng.integers(-7, 8, (6, 2, 3, 3)).astype(np.int8)
    second = rng.choice([-3, -1, 2, 5], (5, 6 * 36)).astype(np.int8)
    populations = (
        Population("input", "analog", (2, 6, 6), 9),
        Population("hidden", "pasc", (6, 6, 6), 4, np.array(40, np.int32), np.array(5, np.int32)),
        Population("output", "readout", (5,), 1, np.ones(()), np.zeros((), np.int32)),
    )
    projections = (
        Projection("input", "hidden", Conv2d(first, (1, 1), (1, 1))),
        Projection("hidden", "output", Dense(second)),
    )
    return Graph(populations, projections)


def theirs(graph, found, inputs):
    """SANA-FE's simulation: the hidden spikes are given, the outputs only add up."""
    trains = Trains()
    simulate.steps(graph, inputs, watcher=trains)
    steps = schedule.of(graph).steps
    first, train = trains.kept["hidden"]
    train = np.abs(train[:, 0].flatten(1).numpy()).astype(int)
    spikes = np.zeros((steps, train.shape[1]), int)
    spikes[first : first + len(train)] = train[: steps - first]
    architecture, net = sanafe.load_loihi(), sanafe.Network()
    hidden = net.create_neuron_group("hidden", spikes.shape[1], soma_hw_name="loihi_lif")
    output = net.create_neuron_group("output", 5, model_attributes={"threshold": 1e9}, soma_hw_name="loihi_lif")
    slots = {}

    def place(neuron, core):
        x, y = (int(n) for n in found.places[core])
        on_tile = slots.setdefault((x, y), [])
        if core not in on_tile:
            on_tile.append(core)
        neuron.map_to_core(architecture.tiles[4 * x + y].cores[on_tile.index(core)])

    seen = {}
    for i, core in enumerate(core_of(found, "hidden").reshape(-1)):
        seen[core] = seen.get(core, -1) + 1
        given = {"spikes": [int(n) for n in spikes[:, i]]}
        hidden[i].set_attributes(soma_hw_name=f"loihi_inputs[{seen[core]}]", model_attributes=given)
        place(hidden[i], core)
    for j, core in enumerate(core_of(found, "output").reshape(-1)):
        place(output[j], core)
    weight = graph.incoming("output")[0].operator.weight
    for i, j in itertools.product(range(spikes.shape[1]), range(5)):
        hidden[i].connect_to_neuron(output[j], {"weight": float(weight[j, i])})
    chip = sanafe.SpikingChip(architecture)
    chip.load(net)
    return chip.sim(steps, timing_model="simple", perf_trace=True)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", ["pasc", "two_phase", "streaming"])
def test_energy_and_hops_are_sana_fes(seed, name):
    """Synapses, axons, hops and the outputs' neurons, to the last digit.

    Its hidden neurons are given spikes, and cost nothing there.
    """
    graph = network(seed).replace(timing=Timing(name))
    described = chips.load("loihi1_calibrated")
    described = dataclasses.replace(described, core=dataclasses.replace(described.core, neurons=12, compartments=1))
    found = mapping.place(graph, described, "cores")
    assert found.cores > 16, "several tiles"
    inputs = np.random.default_rng(seed).integers(-9, 10, (1, 2, 6, 6)).astype(float)
    expected = theirs(graph, found, inputs)
    result = simulate.steps(graph, inputs, watcher=Traffic(found))
    hidden, output = events.count(graph, result)
    assert int(hidden.hops_x[0] + hidden.hops_y[0]) == sum(expected["perf_trace"]["hops"])
    pj = {event: figure.value for event, figure in described.energy.items()}
    network_energy = (
        hidden.messages[0] * pj["message"] + hidden.hops_x[0] * pj["hop_x"] + hidden.hops_y[0] * pj["hop_y"]
    )
    assert 1e-12 * network_energy == pytest.approx(expected["energy"]["network"], rel=1e-9)
    synapses = output.synaptic_operations[0] * pj["synaptic_operation"]
    assert 1e-12 * synapses == pytest.approx(expected["energy"]["synapse"], rel=1e-9)
    # SANA-FE updates a neuron where something arrives; ours are updated as long as something may.
    updates = sum(1 for spikes in expected["perf_trace"]["spikes"] if spikes) * 5
    steps = schedule.of(graph).steps
    soma = updates * pj["update"] + (5 * steps - updates) * pj["idle"]
    assert 1e-12 * soma == pytest.approx(expected["energy"]["soma"], rel=1e-9)


def test_the_time_is_near_sana_fes_simple_model():
    """The same sums on the slowest core; SANA-FE lets a core's neurons and its messages overlap,
    ours follow each other.
    """
    graph = network(0)
    described = chips.load("loihi1_calibrated")
    described = dataclasses.replace(described, core=dataclasses.replace(described.core, neurons=12, compartments=1))
    found = mapping.place(graph, described, "cores")
    inputs = np.random.default_rng(0).integers(-9, 10, (1, 2, 6, 6)).astype(float)
    expected = theirs(graph, found, inputs)["sim_time"]
    # The given neurons and inputs take no time there.
    idle = {event: chips.Figure(0.0, "given") for event in ("update", "idle")}
    timed = dataclasses.replace(described, latency={**described.latency, **idle})
    silent = np.zeros_like(inputs)
    runs = [simulate.steps(graph, values, watcher=Traffic(found)) for values in (inputs, silent)]
    seconds, rest = (cost.seconds(run, found, timed)[0] for run in runs)
    assert seconds > rest
    assert expected < seconds < 1.35 * expected
