"""One network under every method: exact ones agree with the source network, the figures are those
of the runs, and several trainings have a spread.
"""

from dataclasses import replace

import numpy as np
import pytest

from pascal_nm import quantize
from pascal_nm.data import load
from pascal_nm.errors import DataError
from pascal_nm.network.graph import Timing
from pascal_nm.search import comparison
from pascal_nm.search.comparison import Comparison, Interval, Row
from pascal_nm.simulation import rate_coding, simulate
from pascal_nm.source.architectures import qcfs_layers, set_levels
from pascal_nm.source.checkpoint import Model
from tests import networks

IMAGES = load("digits", limit=60)
GRAPH = networks.for_digits()
INPUTS = GRAPH.preprocessing(IMAGES.pixels)


@pytest.fixture(scope="module")
def made():
    return comparison.compare(GRAPH, IMAGES, calibration=load("digits", "train", limit=20), timesteps=(1, 4, 16))


def rows(made, beginning):
    return [row for row in made.rows if row.method.startswith(beginning)]


def test_every_exact_schedule_gives_the_source_networks_classes(made):
    exact = rows(made, "exact")
    assert [row.method for row in exact] == [
        "exact, pasc",
        "exact, two_phase",
        "exact, streaming, lag 0",
        "exact, graded",
        "exact, streaming, lag 1",
    ]
    assert all(row.agreement == 1 and row.exact and row.gained == row.lost == 0 for row in exact)
    assert all(row.accuracy == made.source for row in exact)
    assert not any(row.exact for row in rows(made, comparison._RATE))


def test_figures_of_an_exact_schedule_are_those_of_its_run(made):
    result = simulate.steps(GRAPH.replace(timing=Timing("two_phase")), INPUTS)
    (row,) = rows(made, "exact, two_phase")
    assert row.to_answer == result.timesteps.mean()
    assert row.at_most == result.timesteps.max()
    assert row.spikes == result.counts["hidden"].sum() / len(INPUTS)
    assert row.operations == 10 * row.spikes
    assert row.timesteps == 4


def test_graded_counts_each_active_neuron_once_and_no_operations_of_the_input_as_all_methods(made):
    counts = simulate.counts(GRAPH, INPUTS).counts["hidden"]
    (row,) = rows(made, "exact, graded")
    assert row.to_answer == row.at_most == 3
    assert row.spikes == np.count_nonzero(counts) / len(INPUTS)
    assert row.operations == pytest.approx(10 * row.spikes, rel=1e-12)


def test_figures_of_rate_coding_are_those_of_its_run(made):
    run = rate_coding.run(rate_coding.qcfs(GRAPH), INPUTS, 16)
    source = simulate.counts(GRAPH, INPUTS).predictions
    for row in rows(made, comparison._RATE):
        t = int(row.timesteps)
        answers = run.answers[:, t - 1]
        right, before = answers == IMAGES.labels, source == IMAGES.labels
        assert row.accuracy == right.mean()
        assert row.agreement == np.mean(answers == source)
        assert (row.gained, row.lost) == ((right & ~before).sum(), (~right & before).sum())
        assert row.spikes == run.spikes[:, t - 1].mean()
        assert row.to_answer == row.at_most == t + 2  # two projections
        assert made.curves[comparison._RATE][t - 1] == row.accuracy


def test_an_early_exit_is_between_one_and_all_timesteps_and_takes_what_was_sent_by_then(made):
    run = rate_coding.run(rate_coding.qcfs(GRAPH), INPUTS, 16)
    for row, confidence in zip(rows(made, comparison._EXIT), comparison.CONFIDENCES, strict=True):
        stops = run.exits(confidence)
        assert row.timesteps == stops.mean()
        assert row.at_most == stops.max() + 2
        assert row.spikes == np.mean([run.spikes[i, t - 1] for i, t in enumerate(stops)])


@pytest.mark.parametrize("name", networks.ALL)
@pytest.mark.parametrize("factor", [2, 3])
def test_more_levels_in_a_network_are_more_levels_in_its_source(name, factor):
    module = networks.randomized(networks.ALL[name]()).double().eval()
    more = comparison.with_more_levels(Model(module, (2, 8, 8)).graph(), factor)
    set_levels(module, [layer.levels * factor for _, layer in qcfs_layers(module)])
    expected = Model(module, (2, 8, 8)).graph()
    inputs = networks.images(8).numpy()
    found, wanted = (simulate.counts(graph, inputs) for graph in (more, expected))
    assert all(np.array_equal(found.counts[p], wanted.counts[p]) for p in wanted.counts)
    assert np.allclose(found.logits, wanted.logits, rtol=1e-9, atol=1e-9)


def test_figures_of_more_levels_are_those_of_their_run(made):
    more = comparison.with_more_levels(GRAPH, 4).replace(timing=Timing("two_phase"))
    result = simulate.steps(more, INPUTS)
    (row,) = rows(made, f"{comparison._LEVELS} 4")
    assert row.accuracy == np.mean(result.predictions == IMAGES.labels)
    assert row.timesteps == 16
    assert row.at_most == result.schedule.length
    assert row.spikes == result.counts["hidden"].sum() / len(INPUTS)
    assert row.operations == 10 * row.spikes


def test_the_weights_with_relu_are_judged_with_and_without_spikes(made):
    plain = rate_coding.relu_logits(GRAPH, INPUTS).argmax(1)
    (row,) = rows(made, "ReLU weights")
    assert row.accuracy == np.mean(plain == IMAGES.labels)
    assert row.spikes is None
    assert len(rows(made, comparison._RELU)) == 3


def test_without_images_for_its_thresholds_there_is_no_relu_conversion():
    found = comparison.compare(GRAPH, IMAGES, timesteps=(2,))
    assert not [row for row in found.rows if "ReLU" in row.method]


def test_integers_are_compared_with_integers():
    found = comparison.compare(quantize(GRAPH, 8), IMAGES, timesteps=(4,))
    assert all(row.agreement == 1 for row in found.rows if row.exact)


def test_the_classes_of_another_source_network_are_what_is_agreed_with():
    found = comparison.compare(GRAPH, IMAGES, lambda inputs: np.zeros(len(inputs), int), timesteps=(2,))
    assert found.source == np.mean(IMAGES.labels == 0)
    assert rows(found, "exact, pasc")[0].agreement < 1


def row(method, accuracy, gained=0, lost=0, **figures):
    return Row(method, method.startswith("exact"), accuracy, Interval(0, 1), 0.9, gained, lost, **figures)


EXACT = row("exact, two_phase", 0.8, to_answer=30.0, spikes=10.0, operations=100.0)


@pytest.mark.parametrize(
    ("gained", "lost", "where"),
    [
        (30, 5, "above"),
        (5, 30, "below"),
        (6, 5, "not told apart from"),
        (0, 0, "not told apart from"),
        (5, 0, "not told apart from"),
        (6, 0, "above"),
    ],
)
def test_where_a_method_stands_is_asked_of_the_images_that_it_changes(gained, lost, where):
    """McNemar's test: of n changed images, 6 to 0 has p = 2 / 2^6 = 0.03, and 5 to 0 has 0.06."""
    judged = row(comparison._RATE, 0.8, gained, lost)
    assert Comparison(0.8, 100, [EXACT, judged], {}).stands(judged) == where


def test_the_verdict_says_where_rate_coding_wins_and_at_what_cost():
    below = row(f"{comparison._RATE}, T = 4", 0.7, 2, 12, timesteps=4.0, operations=100.0)
    above = row(f"{comparison._RATE}, T = 16", 0.9, 12, 2, timesteps=16.0, operations=400.0)
    lines = Comparison(0.8, 100, [EXACT, below, above], {}).verdict()
    assert "below its source (80.00 %) at T = 4 (70.00 %)" in lines[1]
    assert "above its source (80.00 %) at T = 16 (90.00 %)" in lines[2]
    assert "by 10.00 points at T = 16 (12 images gained, 2 lost" in lines[3]
    assert "4.0 times the synaptic operations" in lines[3]
    finer = row(f"{comparison._LEVELS} 2, two_phase", 0.92, timesteps=8.0)
    assert Comparison(0.8, 100, [EXACT, finer, above], {}).verdict()[-1].endswith("92.00 % with 8 levels")
    assert len(Comparison(0.8, 100, [EXACT, below], {}).verdict()) == 2


def test_a_network_that_sends_no_spike_has_a_verdict():
    dead = networks.for_digits()
    hidden = replace(dead["hidden"], bias=np.array(-1e6))
    dead = dead.replace(populations=(dead.input, hidden, dead.output))
    made = comparison.compare(dead, IMAGES, timesteps=(2,))
    assert all(row.spikes == 0 for row in rows(made, "exact"))
    assert "100.00 % of the images" in made.verdict()[0]
    assert f"not told apart from its source ({100 * made.source:.2f} %) by 60 images" in made.verdict()[1]


def test_networks_with_other_levels_are_no_trainings_of_one_network():
    more = comparison.with_more_levels(GRAPH, 2)
    comparison.check_trainings({"a.pt": GRAPH, "b.pt": networks.for_digits()})
    with pytest.raises(DataError, match=r"b\.pt and a\.pt are not trainings of one network"):
        comparison.check_trainings({"a.pt": GRAPH, "b.pt": more})


def test_intervals_are_wilsons():
    """Newcombe, Statistics in Medicine 17, 1998, Table I: 81 of 263 has 0.2553 to 0.3662."""
    low, high = comparison._interval(81, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_trainings_have_a_mean_and_a_spread():
    trainings = [Comparison(0.8, 10, [row("exact, pasc", accuracy, timesteps=4.0)], {}) for accuracy in (0.7, 0.8, 0.9)]
    (found,) = comparison.spread(trainings)
    assert found.mean["accuracy"] == pytest.approx(0.8)
    assert found.deviation["accuracy"] == pytest.approx(0.1)
    assert found.deviation["timesteps"] == 0
    assert found.trainings == 3
    assert "spikes" not in found.mean


def test_of_one_training_or_of_different_methods_there_is_no_spread():
    one = Comparison(0.8, 10, [row("exact, pasc", 0.8)], {})
    for others in (
        [one],
        [one, Comparison(0.8, 10, [EXACT], {})],
        [one, Comparison(0.8, 11, [row("exact, pasc", 0.8)], {})],
    ):
        with pytest.raises(DataError, match="two or more trainings"):
            comparison.spread(others)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timesteps": ()}, "not none"),
        ({"timesteps": (4, 0)}, "not 4, 0"),
        ({"confidences": (1.5,)}, "a confidence lies between 0 and 1, not 1.5"),
        ({"confidences": (0.9, 0)}, "a confidence lies between 0 and 1, not 0.9, 0"),
    ],
)
def test_what_cannot_be_asked_is_refused(options, message):
    with pytest.raises(DataError, match=message):
        comparison.compare(GRAPH, IMAGES, **options)
