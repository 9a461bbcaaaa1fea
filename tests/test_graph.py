"""A graph that exists is well formed: what arithmetic would get wrong later is refused at once, by number."""

from dataclasses import replace

import numpy as np
import pytest

import pascal_nm as pnm
from pascal_nm import schedule, simulate
from pascal_nm.errors import DataError, GraphError
from pascal_nm.graph import MAX_LEVELS, Dense, Population, Projection
from tests import networks


def changed(graph, population=None, projection=None, **changes):
    """The graph with some fields of one population, or the weights of one projection, changed."""
    if population is not None:
        return graph.replace(
            populations=[replace(p, **changes) if p.name == population else p for p in graph.populations]
        )
    projections = list(graph.projections)
    projections[projection] = replace(projections[projection], operator=Dense(changes["weight"]))
    return graph.replace(projections=projections)


def floats():
    return networks.for_digits()


def integers():
    return pnm.quantize(networks.for_digits())


def test_most_levels_count_rightly_and_one_more_is_refused():
    graph = changed(floats(), "hidden", levels=MAX_LEVELS, threshold=np.full((1,), 1e-6))
    inputs = graph.preprocessing(np.full((2, 1, 8, 8), 16.0))
    result = simulate.counts(graph, inputs)
    assert result.counts["hidden"].max() == MAX_LEVELS
    for levels in (MAX_LEVELS + 1, 40_000, 10**9):
        with pytest.raises(GraphError, match=rf"1 to {MAX_LEVELS:,}, not {levels}"):
            changed(floats(), "hidden", levels=levels)


def test_many_levels_are_run_within_memory_or_refused():
    graph = changed(floats(), "hidden", levels=MAX_LEVELS)
    inputs = graph.preprocessing(np.full((400, 1, 8, 8), 16.0))
    images = simulate._images_together(graph, schedule.of(graph))
    assert images * MAX_LEVELS * 16 <= simulate.STEPS_NUMBERS
    np.testing.assert_array_equal(
        simulate.steps(graph, inputs[:1]).counts["hidden"], simulate.counts(graph, inputs[:1]).counts["hidden"]
    )
    wide = Population("wide", "pasc", (70_000,), levels=MAX_LEVELS)
    projections = (
        Projection("input", "wide", Dense(np.ones((70_000, 64)))),
        Projection("wide", "output", Dense(np.ones((10, 70_000)))),
    )
    with pytest.raises(GraphError, match="too many to run timestep by timestep"):
        simulate.steps(
            graph.replace(populations=(graph.input, wide, graph.output), projections=projections), inputs[:1]
        )


@pytest.mark.parametrize("levels", [0, -1, 1.5, True, float("nan")])
def test_levels_are_whole_numbers_from_one_on(levels):
    with pytest.raises(GraphError, match="levels must be a whole number"):
        changed(floats(), "hidden", levels=levels)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32])
def test_the_least_number_of_an_integer_type_has_no_magnitude_in_it_and_is_refused(dtype):
    least = np.iinfo(dtype).min
    with pytest.raises(GraphError, match=str(least)):
        changed(integers(), "hidden", bias=np.full((1,), least, dtype))
    with pytest.raises(GraphError, match=str(least)):
        changed(integers(), projection=0, weight=np.full((16, 64), least, dtype))
    assert changed(integers(), "hidden", bias=np.full((1,), least + 1, dtype)).is_integer


@pytest.mark.parametrize("field", ["threshold", "bias"])
def test_an_integer_graph_has_no_float_thresholds_or_biases(field):
    with pytest.raises(GraphError, match=f"{field} of hidden"):
        changed(integers(), "hidden", **{field: np.full((1,), 3.0)})
    with pytest.raises(GraphError, match="bias of output"):
        changed(integers(), "output", bias=np.full((1,), 3.0))


def test_projections_of_integers_and_floats_do_not_mix():
    with pytest.raises(GraphError, match=r"integers only, but the weights of hidden__output are of type float64"):
        changed(integers(), projection=1, weight=np.ones((10, 16)))
    with pytest.raises(GraphError, match="one type"):
        changed(floats(), projection=1, weight=np.ones((10, 16), np.float32))


@pytest.mark.parametrize("dtype", [np.float16, np.int64, np.uint8, bool, complex, ">f8", object])
def test_numbers_of_other_types_are_refused(dtype):
    with pytest.raises(GraphError, match="signed integers"):
        changed(floats(), projection=1, weight=np.ones((10, 16)).astype(dtype))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(value):
    with pytest.raises(GraphError, match="NaN or infinite"):
        changed(floats(), projection=1, weight=np.full((10, 16), value))


@pytest.mark.parametrize("dtype, large", [(np.float32, 1e38), (np.float64, 1e307)])
def test_weights_whose_sums_overflow_are_refused_and_inputs_that_make_them_overflow(dtype, large):
    graph = floats().astype(dtype)
    with pytest.raises(GraphError, match="beyond the range"):
        changed(graph, projection=1, weight=np.full((10, 16), large, dtype))
    heavy = changed(graph, projection=0, weight=np.full((16, 64), large, dtype))
    with pytest.raises(DataError, match="beyond float"):
        simulate.counts(heavy, np.full((1, 1, 8, 8), 2.0))
    with pytest.raises(DataError, match=r"beyond float|infinite"):
        simulate.counts(graph, np.full((1, 1, 8, 8), large * 10))
