"""Neurons stepped once more through a recorded run do what the simulator did."""

import numpy as np
import pytest

from pascal_nm import Preprocessing, convert, quantize
from pascal_nm.network.graph import Timing
from pascal_nm.report.traces import record, trace
from tests.networks import Residual, convolutional, images, randomized


@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize("timing", [Timing(), Timing("two_phase"), Timing("streaming"), Timing("streaming", 2)])
@pytest.mark.parametrize("module", [Residual, convolutional])
def test_traced_neurons_send_what_the_simulator_counted(module, timing, integer):
    inputs = images(1)
    graph = convert(randomized(module(), 3), inputs, preprocessing=Preprocessing(1.0, (0.5, 0.5), (0.1, 0.1)))
    graph = (quantize(graph) if integer else graph).replace(timing=timing)
    result, recording = record(graph, inputs.numpy())
    for p in graph.spiking:
        neurons = np.arange(p.size)
        sent = recording.sent(p.name, neurons, int(result.timesteps[0]))
        assert np.array_equal(sent.sum(0), result.counts[p.name].reshape(-1))
        found = trace(graph, result, recording, p.name, neurons)
        assert found.potential.shape == found.counter.shape == sent.shape
        moved = found.counter[-1] if timing.schedule != "pasc" else found.counter[-1] + sent.sum(0)
        if timing.schedule == "pasc" and found.inside.any():  # what moved the counter is what stands on it or has left
            assert np.array_equal(found.inside.sum(0), moved)
        elif timing.schedule != "pasc":
            assert np.array_equal(moved, result.counts[p.name].reshape(-1))
    out = trace(graph, result, recording, graph.output.name, np.arange(graph.output.size))
    assert np.allclose(out.potential[-1], result.logits[0], rtol=1e-9, atol=1e-9)
