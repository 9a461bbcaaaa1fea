"""The schedule against the paper's figures."""

import pascal_nm as pnm
from pascal_nm import schedule
from pascal_nm.neuron import Stage
from tests import networks


def test_the_windows_of_the_papers_neuron():
    graph = pnm.convert(networks.randomized(networks.perceptron()), networks.images())
    plan = schedule.pasc(graph, delay=1)
    first, second = graph.spiking
    assert (first.levels, second.levels) == (1, 16)
    encode, emit = plan.windows[first.name].spans
    assert (encode.stage, encode.steps, emit.steps) == (Stage.ENCODE, 1, 1)
    integrate, correct, emit = plan.windows[second.name].spans
    # Algorithm 1: L_in steps, max(L_in, L_out) - 1 steps, L_out steps.
    assert (integrate.steps, correct.steps, emit.steps) == (1, 15, 16)
    assert integrate.start == encode.stop + 1, "a spike that is sent in t arrives in t + 1"


def test_an_early_residual_branch_waits_without_firing():
    graph = pnm.convert(networks.randomized(networks.Residual()), networks.images())
    plan = schedule.pasc(graph)
    stages = [span.stage for span in plan.windows["act"].spans]
    assert stages == [Stage.ACCUMULATE, Stage.INTEGRATE, Stage.CORRECT, Stage.EMIT]
    assert plan.initiation_interval < plan.steps
