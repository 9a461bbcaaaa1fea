"""Operators as matrices: what they compute, and what two of them in a row compute."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pascal_nm.errors import GraphError
from pascal_nm.network import operators
from pascal_nm.network.operators import (
    Conv2d,
    ConvTranspose2d,
    Dense,
    Identity,
    IndexMap,
    Operator,
    Sparse,
    SumPool2d,
    base,
    sparse,
)
from pascal_nm.network.operators.index_map import channel_map
from pascal_nm.network.reach import kron

PROPERTY = settings(max_examples=60, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)


def whole(rng, shape):
    """Weights whose sums and products are exact."""
    return rng.integers(-9, 10, shape).astype(np.float64)


def shapes(rng, axes=(1, 3)):
    return tuple(int(n) for n in rng.integers(1, 5, rng.choice(axes)))


def index_map(rng, shape):
    kind = rng.integers(4 if len(shape) == 3 else 1)
    if kind == 0:
        target = shapes(rng)
        index = rng.integers(-1, math.prod(shape), target)
    elif kind == 1:
        moved = channel_map(rng.integers(-1, shape[0], rng.integers(1, 6)), np.ones((1, 1, 1)), shape)
        index, target = moved.index, moved.index.shape
    else:
        places = np.arange(math.prod(shape)).reshape(shape)
        around = rng.integers(0, 3, (2, 2)) if kind == 2 else np.zeros((2, 2), int)
        padded = np.pad(places, ((0, 0), *around), constant_values=-1)
        rows, columns = (slice(rng.integers(0, min(2, n)), None, rng.integers(1, 3)) for n in padded.shape[1:])
        index = padded[rng.permutation(shape[0])][:, rows, columns]
        target = index.shape
    sides = [target, tuple(1 for _ in target), (target[0], *(1 for _ in target[1:]))]
    return IndexMap(whole(rng, sides[rng.integers(3)]), index, shape)


def any_sparse(rng, shape):
    target = shapes(rng)
    full = whole(rng, (math.prod(target), math.prod(shape))) * (rng.random((math.prod(target), math.prod(shape))) < 0.3)
    return Sparse.of(full, target, shape)


def convolution(rng, shape):
    groups = shape[0] if rng.integers(2) else 1
    kernel = [int(rng.integers(1, n + 1)) for n in shape[1:]]
    weight = whole(rng, (groups * rng.integers(1, 4), shape[0] // groups, *kernel))
    stride, padding = rng.integers(1, 3, 2).tolist(), rng.integers(0, 3, 2).tolist()
    return Conv2d(weight, tuple(stride), tuple(padding), groups=groups)


def transposed(rng, shape):
    groups = shape[0] if rng.integers(2) else 1
    weight = whole(rng, (groups * rng.integers(1, 4), shape[0] // groups, *rng.integers(1, 4, 2)))
    stride, dilation = rng.integers(1, 4, 2), rng.integers(1, 3, 2)
    room = (np.array(shape[1:]) - 1) * stride + dilation * (np.array(weight.shape[2:]) - 1)
    padding = np.minimum(rng.integers(0, 3, 2), room // 2)
    more = rng.integers(0, np.maximum(stride, dilation))
    pairs = (tuple(map(int, each)) for each in (stride, padding, more, dilation))
    return ConvTranspose2d(weight, *pairs, groups=groups)


def any_operator(rng, shape):
    kinds = [
        index_map,
        any_sparse,
        lambda rng, shape: Dense(whole(rng, (rng.integers(1, 5), math.prod(shape)))),
        lambda rng, shape: Identity(whole(rng, (shape[0], *(1 for _ in shape[1:])))),
    ]
    if len(shape) == 3:
        kinds += [convolution, transposed]
    return kinds[rng.integers(len(kinds))](rng, shape)


def applied(operator, x):
    return operator.apply(torch.from_numpy(operator.weight))(torch.from_numpy(x)).numpy()


@PROPERTY
@given(seed=SEEDS)
def test_an_operator_is_its_matrix_and_its_synapses_are_the_entries(seed):
    rng = np.random.default_rng(seed)
    shape = shapes(rng)
    operator, x = any_operator(rng, shape), whole(rng, (3, *shape))
    matrix, y = operator.matrix(shape).toarray(), applied(operator, x)
    target = operator.output_shape(shape)
    assert y.shape[1:] == target
    np.testing.assert_array_equal(x.reshape(3, -1) @ matrix.T, y.reshape(3, -1))
    np.testing.assert_array_equal(Operator.matrix(operator, shape).toarray(), matrix)
    ones = operator.with_weight(np.ones_like(operator.weight))
    synapses = Operator.matrix(ones, shape).toarray()
    reach = operator.reach((*shape, 1, 1)[:3])
    np.testing.assert_array_equal(reach.fan_out.reshape(-1), synapses.sum(0))
    np.testing.assert_array_equal(reach.fan_in.reshape(-1), synapses.sum(1))
    pattern = kron(reach) if not hasattr(reach, "matrix") else reach.matrix
    np.testing.assert_array_equal(pattern.toarray(), synapses)
    assert operator.fan_in >= synapses.sum(1).max()
    assert (operator.sums() >= np.abs(matrix).sum(1).reshape(target[0], -1).max(1)).all()


@PROPERTY
@given(seed=SEEDS)
def test_bounds_and_sums_by_channel_are_those_of_the_matrix(seed):
    rng = np.random.default_rng(seed)
    shape = shapes(rng)
    operator = any_sparse(rng, shape)
    full = np.abs(operator.matrix().toarray()).reshape(operator.shape[0], -1, math.prod(shape))
    np.testing.assert_array_equal(operator.sums(), full.sum(2).max(1))
    np.testing.assert_array_equal(operator.peaks(3).reshape(-1), full.max((1, 2)))
    np.testing.assert_array_equal(operator.added(np.abs(operator.weight)), full.sum((1, 2)))
    moved = index_map(rng, shape)
    full = np.abs(moved.matrix(shape).toarray()).sum(1).reshape(len(moved.index), -1)
    np.testing.assert_array_equal(moved.sums(), full.max(1))
    np.testing.assert_array_equal(moved.peaks(3).reshape(-1), full.max(1))
    np.testing.assert_array_equal(moved.added(np.abs(moved.weight)), full.sum(1))


@PROPERTY
@given(seed=SEEDS)
def test_an_operator_behind_another_is_the_product_of_their_matrices(seed):
    rng = np.random.default_rng(seed)
    inner = shapes(rng)
    first = any_operator(rng, inner)
    shape = first.output_shape(inner)
    second = any_operator(rng, shape)
    found = second.after(first, shape, inner)
    if found is None:
        filters = Conv2d | ConvTranspose2d
        assert isinstance(first, filters) or isinstance(second, filters)
        if isinstance(moved := first if isinstance(second, filters) else second, IndexMap):
            assert moved.channels is None or not moved.uniform
        else:
            assert isinstance(first, filters | Dense)
            assert isinstance(second, filters)
        return
    assert found.output_shape(inner) == second.output_shape(shape)
    expected = second.matrix(shape) @ first.matrix(inner)
    np.testing.assert_array_equal(found.matrix(inner).toarray(), expected.toarray())


@PROPERTY
@given(seed=SEEDS, groups=st.sampled_from([1, 2, 4]), behind=st.booleans())
def test_moved_channels_before_or_behind_a_convolution_are_a_convolution(seed, groups, behind):
    rng = np.random.default_rng(seed)
    inner = (4, 3, 2)
    taken = rng.permutation(4) if rng.integers(2) else rng.integers(-1, 4, 4)
    if rng.integers(2):  # within their groups
        taken = np.arange(4) // (4 // groups) * (4 // groups) + rng.integers(0, 4 // groups, 4)
    moved = channel_map(taken, whole(rng, (4, 1, 1)), inner)
    kind = [Conv2d, ConvTranspose2d][rng.integers(2)]
    conv = kind(whole(rng, (4, 4 // groups, 2, 2)), padding=(1, 0), groups=groups)
    first, second = (conv, moved) if behind else (moved, conv)
    shape = first.output_shape(inner)
    if behind:
        second = channel_map(taken, moved.weight, shape)
    found = second.after(first, shape, inner)
    assert isinstance(found, kind)
    kept = (taken[taken >= 0] // (4 // groups) == (np.arange(4) // (4 // groups))[taken >= 0]).all()
    assert found.groups == (groups if kept else 1)
    expected = second.matrix(shape) @ first.matrix(inner)
    np.testing.assert_array_equal(found.matrix(inner).toarray(), expected.toarray())


@PROPERTY
@given(seed=SEEDS, copies=st.booleans())
def test_a_convolution_behind_borders_or_copies_of_pixels_is_one_of_either_kind(seed, copies):
    rng = np.random.default_rng(seed)
    inner = (2, *(int(n) for n in rng.integers(2, 6, 2)))
    index = np.arange(math.prod(inner)).reshape(inner)[rng.permutation(2)]
    around = rng.integers(0, 3, (2, 2)) if rng.integers(2) else rng.integers(0, 3, (2, 1)).repeat(2, 1)
    if copies:
        index = index.repeat(rng.integers(1, 4), 1).repeat(rng.integers(1, 4), 2)
    else:
        index = np.pad(index, ((0, 0), *around), constant_values=-1)
    moved = IndexMap(whole(rng, (2, 1, 1)), index, inner)
    groups, kernel = int(rng.integers(1, 3)), rng.integers(1, 4, 2)
    stride, padding, dilation = (tuple(rng.integers(low, high, 2).tolist()) for low, high in ((1, 4), (0, 2), (1, 3)))
    second = Conv2d(whole(rng, (2, 2 // groups, *kernel)), stride, padding, dilation, groups)
    try:
        expected = second.matrix(index.shape) @ moved.matrix(inner)
    except GraphError:  # the kernel is larger than the image
        return
    found = second.after(moved, index.shape, inner)
    same = copies or (around[:, 0] == around[:, 1]).all() or stride == (1, 1) == dilation
    if found is None:
        too_wide = any(p > d * (k - 1) for p, d, k in zip(padding, dilation, kernel, strict=True))
        assert not same or (copies and (max(stride) > 1 or too_wide))
        return
    assert isinstance(found, ConvTranspose2d if copies and index.shape != inner else Conv2d)
    np.testing.assert_array_equal(found.matrix(inner).toarray(), expected.toarray())
    if not copies and (around[:, 0] == around[:, 1]).all():
        assert found.kernel == second.kernel


@PROPERTY
@given(seed=SEEDS)
def test_a_pooling_is_its_matrix_and_joins_what_stands_in_front_of_it(seed):
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 4)), 6, 5)
    kernel, stride = rng.integers(1, 4, 2).tolist(), rng.integers(1, 3, 2).tolist()
    pool = SumPool2d(tuple(kernel), tuple(stride), (int(rng.integers(0, kernel[0] // 2 + 1)), 0))
    x = whole(rng, (2, *shape))
    y = torch.nn.functional.avg_pool2d(torch.from_numpy(x), pool.kernel, pool.stride, pool.padding, divisor_override=1)
    np.testing.assert_array_equal(x.reshape(2, -1) @ pool.matrix(shape).toarray().T, y.reshape(2, -1).numpy())
    channels = channel_map(rng.integers(-1, shape[0], 3), whole(rng, (1, 1, 1)), shape)
    anywhere = IndexMap(whole(rng, (1, 1, 1)), rng.integers(-1, math.prod(shape), (2, 4, 5)), shape)
    full = whole(rng, (40, math.prod(shape)))
    for operator in (channels, anywhere, Sparse.of(full, (2, 4, 5), shape)):
        found, before = operator.pooled(None, pool)
        first = before.matrix(shape).toarray() if before else np.eye(math.prod(shape))
        inner = before.output_shape(shape) if before else shape
        expected = pool.matrix(operator.output_shape(shape)) @ operator.matrix(shape)
        np.testing.assert_array_equal(found.matrix(inner) @ first, expected.toarray())
    assert before is None


@PROPERTY
@given(seed=SEEDS)
def test_factors_sums_and_copies_are_those_of_the_matrix(seed):
    rng = np.random.default_rng(seed)
    shape = shapes(rng)
    for operator in (index_map(rng, shape), any_sparse(rng, shape)):
        target, matrix = operator.output_shape(shape), operator.matrix(shape).toarray()
        for side in (shape, (shape[0], *(1 for _ in shape[1:]))):
            factor = whole(rng, side)
            found = operator.scale_input(factor, shape).matrix(shape).toarray()
            np.testing.assert_array_equal(found, matrix * np.broadcast_to(factor, shape).reshape(-1))
        factor = whole(rng, (target[0], *(1 for _ in target[1:])))
        found = operator.scale_output(factor).matrix(shape).toarray()
        np.testing.assert_array_equal(found, matrix * np.broadcast_to(factor, target).reshape(-1, 1))
        twice = operator.plus(operator.with_weight(operator.weight * 2))
        np.testing.assert_array_equal(twice.matrix(shape).toarray(), 3 * matrix)
        copies = operator.repeated(2, 3, shape)
        copied = (2 * shape[0], *shape[1:])
        full = matrix.reshape(target[0], 1, -1, shape[0], 1, math.prod(shape[1:]))
        full = np.broadcast_to(full, (target[0], 3, full.shape[2], shape[0], 2, full.shape[5]))
        np.testing.assert_array_equal(
            copies.matrix(copied).toarray(), full.reshape(3 * math.prod(target), 2 * math.prod(shape))
        )


def test_a_map_of_each_neuron_to_itself_joins_a_shortcut():
    itself = channel_map(np.arange(3), np.full((1, 1, 1), 2.0), (3, 2, 2))
    for joined in (itself.plus(Identity(np.ones((1, 1, 1)))), Identity(np.ones((1, 1, 1))).plus(itself)):
        assert isinstance(joined, Identity)
        np.testing.assert_array_equal(joined.weight, [[[3.0]]])
    other = channel_map(np.array([1, 0, 2]), np.ones((1, 1, 1)), (3, 2, 2))
    assert other.plus(itself) is None
    assert other.plus(Identity(np.ones((1, 1, 1)))) is None


@PROPERTY
@given(seed=SEEDS)
def test_a_map_that_moves_rows_and_columns_in_steps_is_a_convolution(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 6, 3))
    operator = index_map(rng, shape)
    try:
        form = operator.as_convolution(shape)
    except GraphError:
        return
    conv = Conv2d(form.weight(), form.stride, form.padding, form.dilation)
    assert math.prod(conv.output_shape(shape)) == operator.index.size
    np.testing.assert_array_equal(conv.matrix(shape).toarray(), operator.matrix(shape).toarray())


@PROPERTY
@given(seed=SEEDS)
def test_a_transposed_convolution_is_torchs_and_its_bounds_are_reached(seed):
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 5)), *(int(n) for n in rng.integers(7, 10, 2)))
    operator = transposed(rng, shape)
    (out, per_group, *kernel), groups = operator.weight.shape, operator.groups
    theirs = np.zeros((shape[0], out // groups, *kernel))
    for o, i in np.ndindex(out, per_group):
        theirs[o // (out // groups) * per_group + i, o % (out // groups)] = operator.weight[o, i]
    x = whole(rng, (2, *shape))
    parameters = (operator.stride, operator.padding, operator.output_padding, groups, operator.dilation)
    y = torch.nn.functional.conv_transpose2d(torch.from_numpy(x), torch.from_numpy(theirs), None, *parameters)
    np.testing.assert_array_equal(applied(operator, x), y.numpy())
    magnitudes = np.abs(operator.matrix(shape).toarray())
    assert operator.fan_in == operator.reach(shape).fan_in.max()
    np.testing.assert_array_equal(operator.sums(), magnitudes.sum(1).reshape(out, -1).max(1))
    try:
        form = operator.as_convolution(shape)
    except GraphError:
        assert operator.stride != (1, 1) or max(operator.padding + operator.output_padding) > 0
        return
    conv = Conv2d(form.weight(), form.stride, form.padding, form.dilation)
    np.testing.assert_array_equal(conv.matrix(shape).toarray(), operator.matrix(shape).toarray())


@pytest.mark.parametrize("behind", [True, False])
def test_a_convolution_of_single_pixels_joins_a_transposed_one(behind):
    rng = np.random.default_rng(0)
    up, mix = ConvTranspose2d(whole(rng, (3, 3, 2, 3)), (2, 1), (1, 0)), Conv2d(whole(rng, (3, 3, 1, 1)))
    first, second = (up, mix) if behind else (mix, up)
    inner = (3, 4, 2)
    shape = first.output_shape(inner)
    found = second.after(first, shape, inner)
    assert isinstance(found, ConvTranspose2d)
    expected = second.matrix(shape) @ first.matrix(inner)
    np.testing.assert_array_equal(found.matrix(inner).toarray(), expected.toarray())


@pytest.mark.parametrize(
    ("operator", "message"),
    [
        (lambda: IndexMap(np.ones((1,)), np.array([0, 4]), (4,)), "from 0 to 3, not 0 to 4"),
        (lambda: IndexMap(np.ones((1,)), np.array([0, -2]), (4,)), "from 0 to 3, not -2 to 0"),
        (lambda: IndexMap(np.ones((1,)), np.array([0.0]), (4,)), "must be whole numbers"),
        (lambda: IndexMap(np.ones((3,)), np.array([0, 1]), (4,)), "does not broadcast"),
        (lambda: IndexMap(np.ones((1, 1)), np.zeros((2, 2), int), (4,)), "1 or 3 axes"),
        (lambda: Sparse(np.ones(2), np.array([0, 1]), np.array([0, 4]), (2,), (4,)), "from 0 to 3, not 0 to 4"),
        (lambda: Sparse(np.ones(2), np.array([0, 1]), np.array([0, -1]), (2,), (4,)), "in order .* each once"),
        (lambda: Sparse(np.ones(2), np.array([-1, 1]), np.array([0, 1]), (2,), (4,)), "in order .* each once"),
        (lambda: Sparse(np.ones(2), np.array([1, 0]), np.array([0, 1]), (2,), (4,)), "in order .* each once"),
        (lambda: Sparse(np.ones(2), np.array([1, 1]), np.array([2, 2]), (2,), (4,)), "in order .* each once"),
        (lambda: Sparse(np.ones(2), np.array([1, 1]), np.array([2, 1]), (2,), (4,)), "in order .* each once"),
        (lambda: Sparse(np.ones(3), np.array([0, 1]), np.array([0, 1]), (2,), (4,)), r"\(2,\) for \(3,\)"),
        (lambda: Sparse(np.ones(0), np.array([], int), np.array([], int), (2,), (4,)), "at least one"),
    ],
)
def test_arrays_that_are_no_synapses_are_refused(operator, message):
    with pytest.raises(GraphError, match=message):
        operator()


def test_a_matrix_that_memory_has_no_room_for_is_refused_by_its_number(monkeypatch):
    monkeypatch.setattr(base, "MOST_SYNAPSES", 20)
    monkeypatch.setattr(sparse, "_ROWS", 2)
    conv, dense = Conv2d(np.ones((2, 3, 2, 2))), Dense(np.ones((2, 12)))
    with pytest.raises(GraphError, match="it has 24 synapses, and at most 20"):
        conv.matrix((3, 2, 2))
    with pytest.raises(GraphError, match="it has 24 synapses, and at most 20"):
        dense.matrix((3, 2, 2))
    one = Sparse.of(np.ones((4, 1)), (4,), (1,))
    with pytest.raises(GraphError, match="it has 24 synapses, and at most 20"):  # of 28, refused after rows of 12
        Sparse.of(np.ones((1, 12)), (1,), (12,)).then(one, (1,), (12,))
    with pytest.raises(GraphError, match="it has 24 synapses"):
        one.repeated(2, 3, (1,))


def test_no_synapse_is_one_of_weight_zero():
    nothing = Sparse.of(np.zeros((3, 4)), (3,), (4,))
    assert nothing.weight.tolist() == [0.0]
    np.testing.assert_array_equal(applied(nothing, np.ones((2, 4))), np.zeros((2, 3)))


def test_all_operators_are_tested_here():
    assert {"conv2d", "conv_transpose2d", "dense", "identity", "index_map", "sparse"} == set(operators.OPERATORS)
