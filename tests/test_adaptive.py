"""The AL metric against independent statistics, and levels that follow from it."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pascal_nm import adaptive, simulate
from pascal_nm.errors import DataError, FileError
from pascal_nm.layer_files import read_levels
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
    """get_stats.py of the authors' repository, from its description: statistics of numpy's histogram."""
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


def test_a_layer_of_one_level_needs_no_others():
    constant, varied = adaptive.measure({"a": np.array([9, 0, 0, 0, 0]), "b": np.array([5, 1, 1, 1, 1])})
    assert math.isinf(constant.metric)
    made = adaptive.plan([constant, varied], 1, [4])
    assert made.levels == [4, 4]
    assert adaptive.cluster([math.inf, 1.0, 5.0], 2) == [1, 0, 1]


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
    if clusters > len(metrics):
        with pytest.raises(DataError, match="cannot be divided"):
            adaptive.cluster(metrics, clusters)
        return

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
    with pytest.raises(DataError, match="alpha"):
        adaptive.measure(found, alpha=1.5)
    with pytest.raises(DataError, match="calibration images"):
        adaptive.measure({"layer": np.zeros(3, int)})
    with pytest.raises(DataError, match="1 clusters need 1 levels"):
        adaptive.plan(adaptive.measure(found), 1, [4, 2])
