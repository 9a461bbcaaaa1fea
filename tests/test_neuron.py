"""The neuron against Equation 1, in integers bit for bit."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pascal_nm import neuron
from pascal_nm.neuron import Stage, State

LEVELS = st.integers(1, 16)


def qcfs_level(z, theta, levels):
    """Equation 1 in units of spikes, in exact integers: clip(floor(z / theta + 1/2), 0, L)."""
    return np.clip((2 * z + theta) // (2 * theta), 0, levels)


def run_algorithm_1(current, bias, theta, levels, convert):
    """All stages of Algorithm 1 on currents of shape (steps, neurons); also gives the internal
    and emitted spikes.
    """
    n = len(current)
    theta, bias = convert(np.full(1, theta)), convert(np.full(1, bias))
    zeros = convert(np.zeros(current.shape[1]))
    state = State(zeros + neuron.initial_potential(theta), zeros)
    internal, emitted = [], []
    for t in range(n):
        spikes, state = neuron.step(
            Stage.INTEGRATE, state, convert(current[t]) + neuron.bias_share(bias, t, n), theta, levels
        )
        internal.append(np.asarray(spikes))
    for _ in range(max(n, levels) - 1):
        spikes, state = neuron.step(Stage.CORRECT, state, None, theta, levels)
        internal.append(np.asarray(spikes))
    settled = state
    for _ in range(levels):
        spikes, state = neuron.step(Stage.EMIT, state, None, theta, levels)
        emitted.append(np.asarray(spikes))
    return np.array(internal), np.array(emitted), settled


LIBRARIES = {
    "numpy": lambda a: np.asarray(a).astype(np.int32),
    "torch": lambda a: torch.from_numpy(np.asarray(a).astype(np.int32)),
}


@pytest.mark.parametrize("library", LIBRARIES)
@given(data=st.data(), before=LEVELS, levels=LEVELS, theta=st.integers(1, 50), bias=st.integers(-300, 300))
def test_algorithm_1_gives_the_level_of_equation_1_for_any_integers(library, data, before, levels, theta, bias):
    shape = (before, 8)
    current = np.array(data.draw(st.lists(st.integers(-200, 200), min_size=before * 8, max_size=before * 8))).reshape(
        shape
    )
    internal, emitted, settled = run_algorithm_1(current, bias, theta, levels, LIBRARIES[library])
    expected = qcfs_level(current.sum(0) + bias, theta, levels)
    np.testing.assert_array_equal(emitted.sum(0), expected)
    np.testing.assert_array_equal(internal.sum(0), np.asarray(settled.s))


@given(data=st.data(), before=LEVELS, levels=LEVELS, theta=st.integers(1, 50))
def test_the_emitted_train_is_a_thermometer(data, before, levels, theta):
    current = np.array(data.draw(st.lists(st.integers(-99, 99), min_size=before, max_size=before))).reshape(before, 1)
    _, emitted, _ = run_algorithm_1(current, 0, theta, levels, LIBRARIES["numpy"])
    assert np.all(np.diff(emitted, axis=0) <= 0)


@pytest.mark.parametrize("library", LIBRARIES)
@given(z=st.integers(-3000, 3000), theta=st.integers(1, 99), levels=LEVELS)
def test_algorithm_2_gives_the_level_of_equation_1_at_once(library, z, theta, levels):
    convert = LIBRARIES[library]
    theta_array = convert([theta])
    state = State(neuron.initial_potential(theta_array), convert([0]))
    spikes, state = neuron.step(Stage.ENCODE, state, convert([z]), theta_array, levels)
    assert spikes is None
    assert int(state.s[0]) == qcfs_level(z, theta, levels)


def test_inhibitory_spikes_take_back_what_was_counted_too_early():
    internal, emitted, _ = run_algorithm_1(np.array([[10], [10], [-20], [0]]), 0, 4, 4, LIBRARIES["numpy"])
    assert internal[:, 0].tolist() == [1, 1, 0, 0, -1, -1, 0]
    assert emitted.sum() == 0


@given(bias=st.integers(-(2**30), 2**30), steps=st.integers(1, 64))
def test_integer_bias_shares_sum_to_the_bias(bias, steps):
    shares = [int(neuron.bias_share(np.array([bias], np.int32), t, steps)[0]) for t in range(steps)]
    assert sum(shares) == bias
    assert max(shares) - min(shares) <= 1


@given(bias=st.floats(-1e3, 1e3, width=32), steps=st.sampled_from([1, 2, 4, 8, 16]))
def test_float_bias_shares_sum_to_the_bias_exactly_for_powers_of_two(bias, steps):
    shares = [neuron.bias_share(np.array([bias], np.float64), t, steps)[0] for t in range(steps)]
    assert sum(shares) == bias


def test_numpy_and_torch_floats_take_the_same_steps():
    rng = np.random.default_rng(0)
    current = rng.normal(size=(5, 1000)).astype(np.float32)
    as_numpy = run_algorithm_1(current, 0.25, 0.5, 7, lambda a: np.asarray(a, np.float32))
    as_torch = run_algorithm_1(current, 0.25, 0.5, 7, lambda a: torch.from_numpy(np.asarray(a, np.float32)))
    np.testing.assert_array_equal(as_numpy[0], as_torch[0])
    np.testing.assert_array_equal(as_numpy[1], as_torch[1])
