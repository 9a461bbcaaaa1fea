"""NIR files of other tools on data: as their own tools answer, in torch and in Lava; and our own
profiles read back.
"""

import itertools
import json
import subprocess
from pathlib import Path

import nir
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pascal_nm import QCFS, convert, quantize
from pascal_nm.data import Dataset
from pascal_nm.errors import ConversionError, DataError, FileError, GraphError, TargetError
from pascal_nm.export import rate, unrolled
from pascal_nm.export.nir_modules import Reading
from pascal_nm.export.profile import METADATA, profile_of
from pascal_nm.export.readers import READERS
from pascal_nm.export.untrusted import read_raw
from pascal_nm.hw_targets import nir_network, rates
from pascal_nm.hw_targets.nir_network import NirProgram
from pascal_nm.interop import readers
from pascal_nm.simulation import simulate
from tests import networks
from tests.export import foreign_writers

ENVIRONMENTS = Path(__file__).parents[2] / ".readers"


def convolutional():
    rng = np.random.default_rng(0)
    full = np.full((4, 5, 5), 1.0)
    pair = np.array([2, 2])
    nodes = {
        "input": nir.Input({"input": np.array([2, 8, 8])}),
        "conv": nir.Conv2d((8, 8), rng.normal(size=(4, 2, 3, 3)), 1, 1, 1, 1, rng.normal(size=4)),
        "pool": nir.SumPool2d(pair, pair, np.array([1, 1])),
        "lif": nir.LIF(full * 1e-3, full, full * 0, full * 0.3),
        "skip": nir.LIF(full * 2e-3, full, full * 0, full * 0.2),
        "flat": nir.Flatten({"input": np.array([4, 5, 5])}, 0, -1),
        "fc": nir.Affine(rng.normal(size=(3, 100)), rng.normal(size=3)),
        "fire": nir.IF(np.ones(3), np.full(3, 2.0)),
        "output": nir.Output({"output": np.array([3])}),
    }
    chain = ["input", "conv", "pool", "lif", "skip", "flat", "fc", "fire", "output"]
    edges = [*itertools.pairwise(chain), ("lif", "flat")]
    return nir.NIRGraph(nodes, edges, type_check=False)


@pytest.mark.parametrize("after_spike", ["zero", "subtract"])
def test_lava_gives_what_torch_gives(after_spike):
    pytest.importorskip("lava")
    raw, x = convolutional(), np.random.default_rng(1).normal(size=(5, 2, 8, 8))
    reading = Reading(after_spike=after_spike)
    found = [NirProgram(raw, 9, reading, target, torch.float64).run(x) for target in ("torch", "lava")]
    np.testing.assert_array_equal(found[0].outputs, found[1].outputs)
    assert found[0].counts.keys() == found[1].counts.keys() == {"lif", "skip", "fire"}
    for name, count in found[0].counts.items():
        np.testing.assert_array_equal(count, found[1].counts[name])
        assert count.any(), name


@pytest.mark.parametrize("tool", ["norse", "sinabs", "snntorch", "spikingjelly"])
def test_a_file_of_another_tool_runs_as_that_tool_runs_it(tool, tmp_path):
    """Trained on nothing, but written and run by code that nobody here wrote;
    `make readers` installs them.
    """
    python = readers.python_of(tool, ENVIRONMENTS)
    if python is None:
        pytest.skip(f"{tool} is not installed")
    subprocess.run([python, foreign_writers.__file__, tool, tmp_path], check=True, capture_output=True, timeout=120)
    # Norse 1.1.0 writes tau = dt / tau_mem_inv where 1 / tau_mem_inv is meant (docs/readers.md): a
    # thousandth of it.
    reading = Reading(dt=1e-6 if tool == "norse" else None, current="new")
    raw = read_raw(tmp_path / "network.nir")
    result = NirProgram(raw, foreign_writers.TIMESTEPS, reading).run(np.load(tmp_path / "inputs.npy"))
    expected = np.load(tmp_path / "outputs.npy")
    assert all(spikes.mean() > 1 for spikes in result.spikes.values())
    np.testing.assert_allclose(result.outputs, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("target", ["torch", "lava"])
def test_a_graph_inside_a_graph_runs(target):
    if target == "lava":
        pytest.importorskip("lava")
    inner = nir.NIRGraph(
        {
            "input": nir.Input({"input": np.array([3])}),
            "i": nir.I(np.ones(3)),
            "output": nir.Output({"output": np.array([3])}),
        },
        [("input", "i"), ("i", "output")],
        type_check=False,
    )
    ends = {"input": nir.Input({"input": np.array([3])}), "output": nir.Output({"output": np.array([3])})}
    raw = nir.NIRGraph({**ends, "inner": inner}, [("input", "inner"), ("inner", "output")], type_check=False)
    outputs = NirProgram(raw, 3, target=target).run(np.ones((2, 3), np.float32)).outputs
    np.testing.assert_array_equal(outputs, np.full((2, 3), 1 + 2 + 3))


def test_inputs_that_change_are_shown_one_in_each_timestep():
    ends = {"input": nir.Input({"input": np.array([3])}), "output": nir.Output({"output": np.array([3])})}
    raw = nir.NIRGraph({**ends, "i": nir.I(np.ones(3))}, [("input", "i"), ("i", "output")], type_check=False)
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    found = NirProgram(raw, 5, dtype=torch.float64).run(x).outputs
    np.testing.assert_allclose(found, x.astype(float).cumsum(1).sum(1), rtol=1e-12)
    with pytest.raises(DataError, match="the data has 5 timesteps, 6 are to be run"):
        NirProgram(raw, 6).run(x)
    assert nir_network.over_time((1, 3), (3,)) == 1
    assert nir_network.over_time((3,), (3,)) is None
    assert nir_network.over_time((1, 8, 8), (64,)) is None
    assert nir_network.over_time((5, 8, 8), (64,)) == 5
    with pytest.raises(DataError, match=r"takes inputs of shape \(3,\), the data has \(4,\)"):
        nir_network.over_time((4,), (3,))


def test_bad_use_is_refused():
    raw = convolutional()
    with pytest.raises(TargetError, match="at least one timestep, not 0"):
        NirProgram(raw, 0)
    with pytest.raises(TargetError, match="not on 'loihi'"):
        NirProgram(raw, 1, target="loihi")
    with pytest.raises(DataError, match=r"takes inputs of shape \(2, 8, 8\), the data has \(3,\)"):
        NirProgram(raw, 1).run(np.zeros((1, 3)))
    raw.nodes["fc"] = nir.Affine(np.ones((3, 99)), np.ones(3))
    with pytest.raises(GraphError, match="node 'fc' does not fit what reaches it"):
        NirProgram(raw, 1)


def dataset(n=20):
    pixels = np.random.default_rng(0).integers(0, 256, (n, 2, 8, 8)).astype(np.uint8)
    return Dataset("random", pixels, np.arange(n) % 3, ("0", "1", "2"))


def converted(make):
    module = networks.randomized(make()).float()
    return convert(module, networks.images().float(), preprocessing=dataset().preprocessing())


@pytest.mark.parametrize("integer", [False, True], ids=["float", "integer"])
@pytest.mark.parametrize("make", [networks.Residual, networks.convolutional, networks.max_before_activation])
def test_an_unrolled_file_read_back_gives_every_level(make, integer, tmp_path):
    graph = converted(make)
    graph = quantize(graph) if integer else graph
    unrolled.write_unrolled(graph, tmp_path / "u.nir")
    raw = read_raw(tmp_path / "u.nir")
    profile = profile_of(raw)
    data = dataset()
    result = NirProgram(raw, profile.timesteps, dtype=torch.float64).run(profile.inputs(data.pixels))
    expected = simulate.counts(graph, graph.preprocessing(data.pixels))
    assert set(profile.shapes) == set(expected.counts)
    for name, count in expected.counts.items():
        np.testing.assert_array_equal(profile.levels(name, result.counts[name]), count)
    np.testing.assert_array_equal(result.predictions, expected.predictions)


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1), levels=st.integers(1, 16), start=st.sampled_from(["shifted", "drip"]))
def test_a_rate_network_of_one_layer_gives_the_level_in_l_timesteps(seed, levels, start):
    """A constant current and soft reset: after T = L timesteps the count is the level,
    by the same floor.
    """
    torch.manual_seed(seed)
    module = torch.nn.Sequential(torch.nn.Linear(5, 8), QCFS(levels, 1.0), torch.nn.Linear(8, 3)).double()
    x = torch.randn(30, 5, dtype=torch.float64) * 2
    graph = convert(module, x)
    raw = rate.rate_network(graph, levels, start=start)
    program = NirProgram(raw, levels, Reading(after_spike="subtract"), dtype=torch.float64)
    expected = simulate.counts(graph, x.numpy())
    (name,) = (p.name for p in graph.spiking)
    count = program.run(graph.currents(x)).counts[name].reshape(30, 8)
    # A neuron spikes once a timestep at most, and files hold single precision: sums within its
    # rounding of a step may fall to either side.
    z = (module[0](x).detach().numpy()) * levels + 0.5
    clear = np.abs(z - np.rint(z)) > 1e-4
    np.testing.assert_array_equal(count[clear], expected.counts[name][clear])
    assert clear.mean() > 0.9


class RateCoded(torch.nn.Module):
    """In the place of a QCFS: integrate and fire from half a threshold, one spike of a whole
    threshold a timestep, soft reset (Bu et al.).
    """

    def __init__(self, threshold):
        super().__init__()
        self.threshold, self.v, self.spikes = threshold, 0.5, 0

    def forward(self, x):
        self.v = self.v + x / self.threshold
        fired = (self.v >= 1).to(x.dtype)
        self.v, self.spikes = self.v - fired, self.spikes + fired
        return fired * self.threshold


def rate_coded(module, x, timesteps):
    """Spikes of each activation, and the sum of the outputs: the source network itself, with other
    activations, run again in every timestep.
    """
    found = []
    for name, layer in [*module.named_modules()]:
        if isinstance(layer, QCFS):
            parent, _, child = name.rpartition(".")
            found.append(RateCoded(layer.threshold.detach()))
            setattr(module.get_submodule(parent), child, found[-1])
    with torch.no_grad():
        outputs = sum(module(x) for _ in range(timesteps))
    return [layer.spikes.numpy() for layer in found], outputs.numpy()


@pytest.mark.parametrize("timesteps", [1, 5, 16])
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
@pytest.mark.parametrize("make", [networks.Residual, networks.adaptive_pooling, networks.perceptron])
def test_a_rate_network_is_qcfs_rate_coding_spike_for_spike(make, seed, timesteps, tmp_path):
    """Strides, shortcuts, pooling, padding and negative thresholds: every neuron of the file on the
    disk begins at half a threshold.
    """
    module, x = networks.randomized(make(), seed), networks.images(12)
    graph = convert(module, x)
    rate.write_rate(graph, tmp_path / "r.nir", timesteps)
    raw = read_raw(tmp_path / "r.nir")
    assert profile_of(raw).start == "shifted"
    result = NirProgram(raw, timesteps, Reading(after_spike="subtract"), dtype=torch.float64).run(x.numpy())
    spikes, outputs = rate_coded(module, x, timesteps)
    for p, count in zip(graph.spiking, spikes, strict=True):
        own = result.counts[p.name][:, : count.shape[1]]
        np.testing.assert_array_equal(own.reshape(count.shape), count)
    np.testing.assert_allclose(result.outputs / graph.output.threshold, outputs, rtol=1e-4, atol=1e-4)


def test_half_a_threshold_dripped_in_is_another_network_with_later_spikes():
    module, x = networks.randomized(networks.Residual()), networks.images(12)
    graph = convert(module, x)
    reading, total = Reading(after_spike="subtract"), {}
    for start in ("shifted", "drip"):
        result = NirProgram(rate.rate_network(graph, 8, start=start), 8, reading, dtype=torch.float64).run(x.numpy())
        total[start] = [int(result.counts[p.name][:, : p.shape[0]].sum()) for p in graph.spiking]
    assert total["drip"][0] == total["shifted"][0], "a constant current brings as many spikes in all, only later"
    assert sum(total["drip"]) < sum(total["shifted"])


def test_readers_get_the_best_start_that_they_can_do_and_no_other(tmp_path):
    graph = converted(networks.Residual)
    for reader in READERS:
        if reader in ("nengo", "lava-dl"):
            continue
        raw = rate.rate_network(graph, 4, reader)
        resets = {float(np.min(n.v_reset)) for n in raw.nodes.values() if isinstance(n, (nir.IF, nir.LIF))}
        wanted = ("shifted", {-0.5}) if reader == "generic" else ("drip", {0.0})
        assert (profile_of(raw).start, resets) == wanted
    assert profile_of(rate.rate_network(graph, 4, start="drip")).start == "drip"
    with pytest.raises(ConversionError, match="for sinabs can start by drip, not by 'shifted'"):
        rate.write_rate(graph, tmp_path / "r.nir", 4, "sinabs", start="shifted")
    with pytest.raises(ConversionError, match="shifted or drip, not by 'pulse'"):
        rate.rate_network(graph, 4, start="pulse")


def test_a_rate_file_of_an_earlier_version_is_read_as_it_was_written(tmp_path):
    graph = converted(networks.Residual)
    rate.write_rate(graph, tmp_path / "r.nir", 4, start="drip")
    raw = read_raw(tmp_path / "r.nir")
    content = json.loads(raw.metadata[METADATA])
    del content["start"]
    raw.metadata[METADATA] = json.dumps(content)
    assert profile_of(raw).start == "drip"
    raw.metadata[METADATA] = json.dumps(content | {"start": ["pulse"]})
    with pytest.raises(FileError, match="'start' must be one of shifted, drip"):
        profile_of(raw)


def test_the_rate_file_says_what_was_measured(tmp_path):
    graph, data = converted(networks.Residual), dataset(30)
    measured = rates.measure(graph, data, rates.doublings(4, 16))
    assert [(m.timesteps, m.reset) for m in measured] == [(t, r) for r in ("zero", "subtract") for t in (4, 8, 16)]
    rate.write_rate(graph, tmp_path / "r.nir", 16, measured=measured)
    raw = read_raw(tmp_path / "r.nir")
    profile = profile_of(raw)
    assert (profile.name, profile.timesteps, list(profile.measured)) == ("rate", 16, measured)
    result = nir_network.evaluate(NirProgram(raw, 16, Reading(after_spike="subtract")), data, profile.inputs)
    assert result.accuracy == measured[-1].accuracy, "the file does what was measured"


def test_a_rate_network_without_time_or_with_a_minimum_is_refused():
    with pytest.raises(ConversionError, match="at least one timestep, not 0"):
        rate.rate_network(converted(networks.Residual), 0)
