"""The AL metric against independent statistics, and levels that follow from it."""

import json
import math
from fractions import Fraction

import kmeans1d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pascal_nm import QCFS, build, convert
from pascal_nm.common.layer_files import read_levels
from pascal_nm.errors import DataError, FileError
from pascal_nm.paper import analysis
from pascal_nm.search import adaptive
from pascal_nm.simulation import simulate
from pascal_nm.source.tracing import SourceNetwork
from tests.strategies import inputs_for, integer_graphs

HISTOGRAMS = st.lists(st.integers(0, 300), min_size=4, max_size=17).filter(
    lambda h: sum(h) >= 4 and sum(n > 0 for n in h) >= 2
)


@settings(max_examples=200, deadline=None)
@given(histogram=HISTOGRAMS)
def test_the_papers_reading_is_equations_4_and_5_on_the_samples(histogram):
    """scipy's statistics of all samples one by one, brought to the paper's normalizations."""
    samples = np.repeat(np.arange(len(histogram)), histogram)
    n = len(samples)
    (found,) = adaptive.measure({"layer": np.array(histogram)})
    assert found.skewness == pytest.approx(stats.skew(samples) * ((n - 1) / n) ** 1.5, rel=1e-9, abs=1e-12)
    unbiased_excess = stats.kurtosis(samples, bias=False)
    assert found.kurtosis == pytest.approx(unbiased_excess + 3 * (n - 1) ** 2 / ((n - 2) * (n - 3)), rel=1e-9)


def authors_metric(samples, bins):
    """get_stats.py of the authors' repository, from its description: statistics of
    numpy's histogram.
    """
    frequencies, _ = np.histogram(samples, bins)
    occupied = (frequencies >= frequencies.sum() / bins).sum()
    bimodality = (stats.skew(frequencies) ** 2 + 1) * (
        stats.kurtosis(frequencies) + 3 * bins**2 / ((bins - 2) * (bins - 3))
    )
    return (1 - (occupied - 1) / (bins - 1)) * bimodality


@settings(max_examples=200, deadline=None)
@given(histogram=HISTOGRAMS.filter(lambda h: h[0] > 0 and h[-1] > 0 and len(set(h)) > 1))
def test_the_authors_reading_is_the_statistics_of_numpys_histogram(histogram):
    samples = np.repeat(np.arange(len(histogram)) * 0.37, histogram)
    (found,) = adaptive.measure({"layer": np.array(histogram)}, "authors")
    assert found.metric == pytest.approx(authors_metric(samples, len(histogram)), rel=1e-9, abs=1e-9)


def test_agreement_counts_occupied_levels():
    occupied = {0.05: 1 - 3 / 4, 0.15: 1 - 1 / 4, 0.6: 1 - 0 / 4}
    for alpha, expected in occupied.items():
        (found,) = adaptive.measure({"layer": np.array([61, 19, 10, 10, 0])}, alpha=alpha)
        assert found.agreement == expected


def test_alpha_is_the_number_that_is_written():
    """In binary, 0.07 of 100 samples is a little more than 7."""
    (found,) = adaptive.measure({"layer": np.array([93, 7, 0])}, alpha=0.07)
    assert found.agreement == 1 - 1 / 2


@pytest.mark.parametrize(
    ("histogram", "alpha", "agreement"),
    [
        ([22, 20, 20, 19, 19], 0.25, 1 - 2 / 4),  # three levels have a fifth at least
        ([20, 20, 20, 20, 20], 0.25, 0),
        ([85, 10, 5], 0.9, 1),
        ([1, 98, 1], 0.99, 1),
    ],
)
def test_where_no_level_has_a_share_of_alpha_a_spread_layer_still_agrees_less_than_a_peak(histogram, alpha, agreement):
    (found,) = adaptive.measure({"layer": np.array(histogram)}, alpha=alpha)
    assert (found.agreement, found.lowered, found.alpha) == (agreement, True, 1 / len(histogram))


@settings(max_examples=300)
@given(
    histogram=HISTOGRAMS,
    alpha=st.none() | st.floats(1e-6, 1, exclude_max=True),
    reading=st.sampled_from(adaptive.READINGS),
    factor=st.integers(1, 10**9),
)
def test_agreement_lies_between_0_and_1_and_is_of_shares_alone(histogram, alpha, reading, factor):
    one, many = (adaptive.measure({"layer": np.array(histogram) * n}, reading, alpha)[0] for n in (1, factor))
    assert 0 <= one.agreement <= 1
    assert (one.agreement, one.lowered) == (many.agreement, many.lowered)


@settings(max_examples=100)
@given(histogram=HISTOGRAMS, reading=st.sampled_from(adaptive.READINGS))
def test_layers_that_use_their_levels_alike_tie_to_the_last_bit(histogram, reading):
    """Neither reading knows which end of the histogram is zero."""
    one, other = adaptive.measure({"a": np.array(histogram), "b": np.array(histogram[::-1])}, reading)
    assert one.metric == other.metric


def test_equal_frequencies_are_the_lowest_metric_of_the_authors_reading():
    """get_stats.py divides zero by zero there; a layer that uses all its levels needs them."""
    for equal in ([7, 7, 7, 7, 7], [20, 20, 20, 20]):
        found = {"equal": np.array(equal), "peak": np.array([96, 1, 1, 1, 1]), "mid": np.array([60, 25, 9, 4, 2])}
        made = adaptive.plan(adaptive.measure(found, "authors"), 3)
        assert made.metrics[0].metric == 0
        assert made.labels[0] == 0
        assert made.levels[0] == 4


def test_a_layer_of_one_level_needs_no_others():
    constant, varied = adaptive.measure({"a": np.array([9, 0, 0, 0, 0]), "b": np.array([5, 1, 1, 1, 1])})
    assert math.isinf(constant.metric)
    assert constant.constant and not varied.constant
    assert adaptive.plan([constant, varied], 1, [4]).levels == [4, 4]
    made = adaptive.plan([constant, varied], 2)
    assert made.levels == [2, 4]
    assert made.remarks == ("constant over these images, all neurons at one level, so a single one would do: a",)
    assert adaptive.cluster([math.inf, 1.0, 5.0], 2) == [1, 0, 1]
    assert adaptive.cluster([math.inf, 1.0, 5.0], 3) == [2, 0, 1]


@pytest.mark.parametrize("reading", adaptive.READINGS)
@pytest.mark.parametrize("places", [[0, 0, 0], [0, 2, 4]])
def test_a_network_whose_layers_are_all_constant_gets_no_levels(reading, places):
    found = {f"layer{i}": 9 * np.eye(5, dtype=int)[place] for i, place in enumerate(places)}
    with pytest.raises(DataError, match="every layer is constant"):
        adaptive.plan(adaptive.measure(found, reading), 3)


@pytest.mark.parametrize("layers", [1, 2, 17])
def test_layers_that_use_all_their_levels_keep_them(layers):
    """Agreement 0 makes every metric exactly 0, so there is nothing to divide."""
    found = {f"layer{i}": np.array([30 - i, 20, 20, 20, 20]) for i in range(layers)}
    metrics = adaptive.measure(found, alpha=0.01)
    assert [m.metric for m in metrics] == [0] * layers
    made = adaptive.plan(metrics, 3)
    assert made.levels == [4] * layers
    assert made.cluster_levels == [4]
    (remark,) = made.remarks
    assert remark.startswith("1 cluster instead of 3") and "L = 2 and L = 1" in remark


def test_ties_share_a_cluster_and_the_lowest_is_the_first():
    assert adaptive.cluster([0, 0, 0, 5], 3) == [0, 0, 0, 1]
    assert adaptive.cluster([5, 0, 5, 5, 7], 2) == [1, 0, 1, 1, 1]
    assert adaptive.cluster([3, 3], 1) == [0, 0]


METRICS = st.lists(
    st.floats(0, allow_infinity=True, allow_nan=False)
    | st.sampled_from([0.0, 5e-324, 1.0, 1 + 2**-52, 1 - 2**-53, 1e16, 1e308, math.inf]),
    min_size=1,
    max_size=12,
)


@settings(max_examples=300)
@given(metrics=METRICS, clusters=st.integers(1, 6), data=st.data())
def test_clusters_rise_with_the_metric_whatever_ties_and_however_large(metrics, clusters, data):
    labels = adaptive.cluster(metrics, clusters)
    ordered = sorted(zip(metrics, labels, strict=True))
    assert [label for _, label in ordered] == sorted(labels)
    assert all(a[1] == b[1] for a in ordered for b in ordered if a[0] == b[0])
    assert sorted(set(labels)) == list(range(min(clusters, len(set(metrics)))))
    order = data.draw(st.permutations(range(len(metrics))))
    assert adaptive.cluster([metrics[i] for i in order], clusters) == [labels[i] for i in order]


LAYERS = st.lists(
    st.lists(st.integers(0, 60), min_size=5, max_size=5).filter(lambda h: sum(h) >= 4)
    | st.sampled_from([[9, 0, 0, 0, 0], [20, 20, 20, 20, 20], [96, 1, 1, 1, 1]]),
    min_size=1,
    max_size=8,
).filter(lambda layers: any(sum(n > 0 for n in h) > 1 for h in layers))


@settings(max_examples=200)
@given(layers=LAYERS, clusters=st.integers(1, 5), reading=st.sampled_from(adaptive.READINGS), data=st.data())
def test_the_level_never_falls_as_the_metric_falls_and_the_lowest_keeps_l(layers, clusters, reading, data):
    found = {str(i): np.array(h) for i, h in enumerate(layers)}
    made = adaptive.plan(adaptive.measure(found, reading), clusters)
    ordered = sorted(zip((m.metric for m in made.metrics), made.levels, strict=True))
    assert [level for _, level in ordered] == sorted(made.levels, reverse=True)
    assert ordered[0][1] == 4
    order = data.draw(st.permutations(list(found)))
    again = adaptive.plan(adaptive.measure({name: found[name] for name in order}, reading), clusters)
    assert dict(zip(order, again.levels, strict=True)) == dict(zip(found, made.levels, strict=True))


@settings(max_examples=30, deadline=None)
@given(graph=integer_graphs(), seed=st.integers(0, 2**32 - 1))
def test_histograms_do_not_depend_on_batches(graph, seed):
    inputs = inputs_for(graph, seed, 5)
    whole = adaptive.histograms(graph, [inputs])
    parts = adaptive.histograms(graph, [inputs[:1], inputs[1:]])
    counts = simulate.steps(graph, inputs).counts
    for p in graph.populations:
        if p.kind == "pasc":
            np.testing.assert_array_equal(whole[p.name], parts[p.name])
            np.testing.assert_array_equal(whole[p.name], np.bincount(counts[p.name].ravel(), minlength=p.levels + 1))


@settings(max_examples=100, deadline=None)
@given(metrics=st.lists(st.floats(0, 100), min_size=1, max_size=8), clusters=st.integers(1, 4))
def test_clusters_are_the_best_of_all_partitions(metrics, clusters):
    clusters = min(clusters, len(metrics))

    def cost(labels):
        groups = [np.array([m for m, g in zip(metrics, labels, strict=True) if g == k]) for k in set(labels)]
        return sum(((group - group.mean()) ** 2).sum() for group in groups)

    from itertools import combinations

    order = np.argsort(metrics, kind="stable")
    best = math.inf
    for borders in combinations(range(1, len(metrics)), clusters - 1):
        labels = np.empty(len(metrics), int)
        labels[order] = np.searchsorted(borders, np.arange(len(metrics)), side="right")
        best = min(best, cost(list(labels)))
    assert cost(adaptive.cluster(metrics, clusters)) == pytest.approx(best, rel=1e-6, abs=1e-6)


@settings(max_examples=100)
@given(metrics=st.lists(st.integers(0, 50), min_size=1, max_size=20), clusters=st.integers(1, 6))
def test_clusters_are_as_good_as_those_of_kmeans1d(metrics, clusters):
    """An independent program (https://github.com/dstein64/kmeans1d), on numbers that it adds
    without rounding.
    """
    clusters = min(clusters, len(set(metrics)))

    def cost(labels):
        groups = [[Fraction(m) for m, g in zip(metrics, labels, strict=True) if g == k] for k in set(labels)]
        return sum(sum((m - sum(group) / len(group)) ** 2 for m in group) for group in groups)

    theirs = cost(kmeans1d.cluster(metrics, clusters).clusters)
    assert cost(adaptive.cluster(metrics, clusters)) <= theirs == pytest.approx(float(theirs))
    assert float(cost(adaptive.cluster(metrics, clusters))) == pytest.approx(float(theirs), rel=1e-9)


def test_a_higher_metric_gets_fewer_levels(tmp_path):
    found = {
        "flat": np.array([20, 20, 20, 20, 20]),
        "peak": np.array([96, 1, 1, 1, 1]),
        "mid": np.array([60, 25, 9, 4, 2]),
    }
    made = adaptive.plan(adaptive.measure(found), 3)
    assert made.levels == [4, 1, 2]
    adaptive.write(made, tmp_path / "levels.json")
    assert read_levels(tmp_path / "levels.json") == (4, 1, 2)
    assert [layer["name"] for layer in json.loads((tmp_path / "levels.json").read_text())["layers"]] == list(found)


@pytest.mark.parametrize("text", ["{}", "[1]", '{"levels": []}', '{"levels": [0]}', '{"levels": ["4"]}', "no"])
def test_a_damaged_levels_file_is_refused(tmp_path, text):
    (tmp_path / "levels.json").write_text(text)
    with pytest.raises(FileError, match="not a levels file"):
        read_levels(tmp_path / "levels.json")


def test_bad_requests_are_refused():
    found = {"layer": np.array([5, 3, 1])}
    with pytest.raises(DataError, match="unknown reading"):
        adaptive.measure(found, "mine")
    with pytest.raises(DataError, match="fewer than 3 levels; layer has 2"):
        adaptive.measure(found, "authors")
    for alpha in (0, 1, 1.5, -0.1, math.nan):
        with pytest.raises(DataError, match="alpha must lie between 0 and 1"):
            adaptive.measure(found, alpha=alpha)
    for samples in ([0, 0, 0], [2, 1, 0]):
        with pytest.raises(DataError, match=f"layer has {sum(samples)} samples.*give more images"):
            adaptive.measure({"layer": np.array(samples)})
    with pytest.raises(DataError, match="no QCFS layers"):
        adaptive.measure({})
    with pytest.raises(DataError, match="1 clusters need 1 levels"):
        adaptive.plan(adaptive.measure(found), 1, [4, 2])
    with pytest.raises(DataError, match="at least 1 cluster"):
        adaptive.cluster([1.0, 2.0], 0)
    with pytest.raises(DataError, match="NaN"):
        adaptive.cluster([1.0, math.nan], 1)


@pytest.mark.parametrize("levels", [(1, 2, 4), (4, 1, 2)])
def test_levels_that_rise_with_the_metric_are_refused(levels):
    metrics = adaptive.measure({"a": np.array([5, 3, 1]), "b": np.array([9, 1, 1]), "c": np.array([5, 1, 5])})
    with pytest.raises(DataError, match="must not rise"):
        adaptive.plan(metrics, 3, levels)
    with pytest.raises(DataError, match="must not rise"):
        adaptive.Choice(3, levels)


def test_levels_of_clusters_that_are_not_made_are_named():
    found = {"a": np.array([60, 25, 9, 4, 2]), "b": np.array([96, 1, 1, 1, 1])}
    made = adaptive.plan(adaptive.measure(found), 4, (8, 4, 2, 1))
    assert made.levels == [8, 4]
    assert made.remarks == (
        "2 clusters instead of 4: 2 layers with 2 different metrics; no cluster is there for L = 2 and L = 1",
    )


def test_clusters_that_cannot_differ_are_named():
    found = {"a": np.array([60, 25, 9]), "b": np.array([96, 1, 1]), "c": np.array([80, 10, 9])}
    made = adaptive.plan(adaptive.measure(found), 3)
    assert sorted(made.levels) == [1, 1, 2]
    assert made.remarks == ("clusters share their levels (2, 1, 1): there are not as many different ones",)


def test_a_network_of_one_level_has_none_to_give_away():
    found = {"a": np.array([60, 25]), "b": np.array([96, 1])}
    with pytest.raises(DataError, match="L = 1 already"):
        adaptive.plan(adaptive.measure(found), 2)
    assert sorted(adaptive.plan(adaptive.measure(found), 2, (2, 1)).levels) == [1, 2]


def test_alpha_of_figures_1_and_3_is_a_share_of_the_layers():
    assert adaptive.share(0.5, 15) == Fraction(1, 30)
    assert adaptive.share(0.75, 15) == Fraction(1, 20)
    found = {f"layer{i}": np.array([60 + i, 25, 9, 4, 2]) for i in range(4)}
    assert adaptive.measure(found) == adaptive.measure(found, alpha=adaptive.share(0.5, 4))
    with pytest.raises(DataError, match="alpha = 1 / 1 layers must lie between 0 and 1"):
        adaptive.share(1, 1)
    with pytest.raises(DataError, match="alpha = 0 / 3 layers"):
        adaptive.share(0, 3)


def test_effective_timesteps_are_equation_16_over_the_layers_with_neurons():
    """The classifier, the last of the architecture's layers, has none."""
    import torch

    torch.manual_seed(0)
    module = build("cnn", (3, 16, 16), 10, 4, width=0.25)
    graph = convert(SourceNetwork(module, torch.randn(1, 3, 16, 16)))
    levels = [4, 2, 1]
    matmuls = analysis.by_architecture("cnn", (3, 16, 16), 10, width=0.25)[:-1]
    terms = []
    for layer, level in zip(matmuls, levels, strict=True):
        ratio = 1 / (layer.fan_in * 0.75)
        terms.append(level * (1 + (5 * level - 2) * ratio) / (1 + level * ratio))
    assert adaptive.effective_timesteps(graph, levels) == pytest.approx(sum(terms) / 3, rel=1e-12)


def test_effective_timesteps_of_no_synapses_are_refused():
    import torch
    from torch import nn

    module = nn.Sequential(nn.Flatten(), QCFS(4), nn.Identity())
    graph = convert(SourceNetwork(module, torch.randn(1, 1, 2, 2)))
    with pytest.raises(DataError, match="T_eff has nothing to count"):
        adaptive.effective_timesteps(graph, [4])
