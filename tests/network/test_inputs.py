"""What data a network takes: the same numbers in the same order; pixels never as inputs."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import pascal_nm as pnm
from pascal_nm.errors import DataError
from pascal_nm.network.graph import Pixels, Preprocessing, merges

shapes = st.lists(st.integers(1, 6), min_size=1, max_size=5).map(tuple)


def reference(given, wanted):
    """By every way of putting commas between the axes, with all axes of length 1 left out."""
    left, right = ([n for n in shape if n != 1] for shape in (given, wanted))

    def ways(axes):
        if not axes:
            yield []
        for cut in range(1, len(axes) + 1):
            for rest in ways(axes[cut:]):
                yield [math.prod(axes[:cut]), *rest]

    return right in ways(left)


@given(shapes, shapes)
def test_shapes_merge_as_all_ways_of_putting_axes_together_say(one, other):
    assert merges(one, other) == reference(one, other)


@given(shapes, st.data())
def test_any_neighbours_merge_and_axes_of_one_come_and_go(shape, data):
    cuts = sorted(data.draw(st.sets(st.integers(1, len(shape)))) | {len(shape)})
    merged = [math.prod(shape[a:b]) for a, b in zip([0, *cuts], cuts, strict=False)]
    place = data.draw(st.integers(0, len(merged)))
    merged.insert(place, 1)
    assert merges(shape, tuple(merged))
    if sum(n > 1 for n in shape) > sum(n > 1 for n in merged):
        assert not merges(tuple(merged), shape)  # no axis is divided


@given(shapes, st.data())
def test_axes_that_change_places_are_refused(shape, data):
    moved = tuple(data.draw(st.permutations(shape)))
    same = [n for n in shape if n > 1] == [n for n in moved if n > 1]
    assert merges(shape, moved) == same


def network(shape, preprocessing=None, dtype=torch.float32):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 5), pnm.QCFS(4), nn.Linear(5, 3)).to(dtype)
    return pnm.convert(module.eval(), torch.zeros(1, *shape, dtype=dtype), preprocessing=preprocessing)


PRE = Preprocessing(255, (0.5,), (0.25,))


@pytest.mark.parametrize("given", [(16,), (1, 4, 4), (4, 4), (2, 2, 4), (4, 4, 1), (1, 16, 1)])
@pytest.mark.parametrize("bits", [None, 8])
def test_a_vector_is_taken_of_any_image_that_merges_to_it(given, bits):
    graph = network((16,), PRE)
    graph = graph if bits is None else pnm.quantize(graph, bits)
    pixels = np.random.default_rng(0).integers(0, 256, (5, *given)).astype(np.uint8)
    for x in (pixels, PRE(pixels)):
        found, expected = pnm.run(graph, x), pnm.run(graph, x.reshape(5, 16))
        np.testing.assert_array_equal(found.logits, expected.logits)
        for name, count in expected.counts.items():
            np.testing.assert_array_equal(found.counts[name], count)


@pytest.mark.parametrize(
    ("shape", "given", "why"),
    [
        ((3, 4, 5), (4, 5, 3), "channels come last"),
        ((3, 4, 5), (3, 20), "takes inputs of shape"),
        ((1, 4, 4), (16,), "takes inputs of shape"),
        ((16,), (15,), "takes inputs of shape"),
    ],
)
def test_another_order_or_size_is_refused(shape, given, why):
    for preprocessing in (None, PRE):
        with pytest.raises(DataError, match=why):
            pnm.run(network(shape, preprocessing), np.zeros((2, *given), np.float32))


def test_a_single_image_is_told_from_a_batch():
    with pytest.raises(DataError, match=r"x\[None\]"):
        pnm.run(network((3, 4, 4)), np.zeros((3, 4, 4), np.float32))


@pytest.mark.parametrize("bits", [None, 8])
@pytest.mark.parametrize("kind", ["uint8", "int64", "uint16", "tensor"])
def test_whole_numbers_are_preprocessed_where_the_network_knows_how(kind, bits):
    graph = network((1, 4, 4), PRE)
    graph = graph if bits is None else pnm.quantize(graph, bits)
    pixels = np.random.default_rng(1).integers(0, 256, (6, 1, 4, 4)).astype(np.uint8)
    found = pnm.run(graph, torch.from_numpy(pixels) if kind == "tensor" else pixels.astype(kind))
    expected = pnm.run(graph, graph.pixels(pixels))
    np.testing.assert_array_equal(found.logits, expected.logits)
    np.testing.assert_array_equal(expected.logits, pnm.run(graph, PRE(pixels)).logits)


PIXELS = np.random.default_rng(2).integers(0, 256, (4, 1, 4, 4))


@pytest.mark.parametrize(
    ("preprocessing", "data", "why"),
    [
        (None, PIXELS.astype(np.uint8), "does not say how pixels become inputs"),
        (None, torch.from_numpy(PIXELS).to(torch.uint8), "does not say how pixels become inputs"),
        (PRE, PIXELS.astype(np.float32), "makes 2 at most: give pixels as they are stored as uint8"),
        (PRE, torch.from_numpy(PIXELS).double(), "makes 2 at most"),
        (PRE, PIXELS * 2, "go from 0 to 255: the data is int64"),
        (PRE, PIXELS - 128, "go from 0 to 255"),
        (PRE, PIXELS > 128, "the data is bool"),
        (Preprocessing(16, (0.5,), (0.25,)), PIXELS.astype(np.uint8), "go from 0 to 16"),
    ],
)
def test_pixels_are_never_run_as_inputs(preprocessing, data, why):
    with pytest.raises(DataError, match=why):
        pnm.run(network((1, 4, 4), preprocessing), data)


def test_numbers_of_a_float_type_are_inputs_as_they_are():
    graph, values = network((16,)), PIXELS.reshape(4, 16)
    np.testing.assert_array_equal(pnm.run(graph, values * 1.0).logits, pnm.run(graph, values).logits)
    unscaled = network((16,), Preprocessing())  # a scale of 1 says nothing of how large pixels are
    np.testing.assert_array_equal(pnm.run(unscaled, values * 1.0).logits, pnm.run(graph, values * 1.0).logits)


@given(st.integers(1, 3), st.integers(1, 4))
def test_the_preprocessing_of_channels_is_repeated_where_depth_is_merged_into_them(channels, depth):
    rng = np.random.default_rng(channels)
    pre = Preprocessing(255, tuple(rng.random(channels)), tuple(rng.random(channels) + 0.1))
    volume = rng.integers(0, 256, (2, channels, depth, 3, 2)).astype(np.uint8)
    merged = Pixels(volume.reshape(2, channels * depth, 3, 2), pre.repeated(depth))
    np.testing.assert_array_equal(merged.inputs.reshape(volume.shape), pre(volume))
