"""The neuron's own code, run on symbols: z3 looks for currents, of any size, at which it goes
wrong, and proves that there are none.

Nothing is modelled anew: ``pascal_nm.neuron`` computes with :class:`Symbol` as it does with
arrays. Thresholds, levels and numbers of timesteps are small and given; currents, biases and
weights are unknowns.
"""

import itertools

import numpy as np
import pytest
import z3

from pascal_nm import neuron
from pascal_nm.neuron import Stage, State


class Symbol:
    """An integer that z3 may choose, with the operators that the neuron uses."""

    dtype = np.dtype(np.int64)

    def __init__(self, term):
        self.term = term

    def __add__(self, other):
        return Symbol(self.term + term(other))

    def __sub__(self, other):
        return Symbol(self.term - term(other))

    def __mul__(self, other):
        return Symbol(self.term * term(other))

    def __floordiv__(self, other):
        return Symbol(self.term / term(other))  # z3's rounds down for positive divisors

    def clip(self, low, high):
        return Symbol(z3.If(self.term < low, low, z3.If(self.term > high, high, self.term)))

    def __ge__(self, other):
        return Symbol(z3.If(self.term >= term(other), 1, 0))

    def __lt__(self, other):
        return Symbol(z3.If(self.term < term(other), 1, 0))

    def astype(self, dtype):
        return self


def term(x):
    return x.term if isinstance(x, Symbol) else int(x)


def unknown(name):
    return Symbol(z3.Int(name))


def level(total, theta, levels):
    """Equation 1, of a total that has its theta // 2: z3's division rounds down for
    positive divisors.
    """
    quotient = term(total) / theta
    return z3.If(quotient < 0, 0, z3.If(quotient > levels, levels, quotient))


def prove(claim, *given):
    solver = z3.Solver()
    solver.add(*given, z3.Not(claim))
    assert solver.check() == z3.unsat, solver.model()


def streamed(currents, theta, levels, *, hesitates):
    """States and spikes of a streaming neuron: the currents, then silence for
    ``levels`` timesteps.
    """
    shift = theta // 2
    state = State(Symbol(z3.IntVal(0 if hesitates else shift)), Symbol(z3.IntVal(0)))
    for i, current in enumerate([*currents, *[Symbol(z3.IntVal(0))] * levels]):
        if hesitates and i == 1:
            current = current + shift
        spikes, state = neuron.step(Stage.STREAM, state, current, theta, levels)
        yield spikes, state


SMALL = list(itertools.product((1, 2, 3, 5), (1, 2, 3, 4)))


@pytest.mark.parametrize(("theta", "levels"), SMALL)
@pytest.mark.parametrize("hesitates", [False, True])
def test_a_streaming_neuron_ends_on_the_level_of_any_currents(theta, levels, hesitates):
    """Theorems 1 and 3: the counter stays in 0 to L, and L timesteps after the last current it is
    the level, and stays.
    """
    currents = [unknown(f"x{i}") for i in range(4)]
    total = Symbol(sum((x.term for x in currents), z3.IntVal(theta // 2)))
    for _, state in streamed(currents, theta, levels, hesitates=hesitates):
        prove(z3.And(state.s.term >= 0, state.s.term <= levels))
    prove(state.s.term == level(total, theta, levels))
    spikes, _ = neuron.step(Stage.STREAM, state, Symbol(z3.IntVal(0)), theta, levels)
    prove(spikes.term == 0)


def test_the_bound_is_tight_and_a_wrong_claim_is_found_out():
    """L spikes from the last current's own timestep on may be needed, and one timestep less is not
    enough: z3 finds the currents.
    """
    currents = [unknown("x0"), unknown("x1")]
    total = Symbol(sum((x.term for x in currents), z3.IntVal(1)))
    *_, (_, before), (_, after), _ = streamed(currents, 2, 3, hesitates=False)
    prove(after.s.term == level(total, 2, 3))
    with pytest.raises(AssertionError):
        prove(before.s.term == level(total, 2, 3))


@pytest.mark.parametrize(("theta", "levels"), SMALL)
def test_a_quiet_streaming_neuron_holds_the_level(theta, levels):
    """Theorem 2, from any state that Theorem 1 allows: no spike means that the counter is the level
    of all that came.
    """
    total, count = unknown("total"), unknown("s")
    state = State(total - count * theta, count)
    spikes, _ = neuron.step(Stage.STREAM, state, Symbol(z3.IntVal(0)), theta, levels)
    allowed = z3.And(count.term >= 0, count.term <= levels)
    prove(count.term == level(total, theta, levels), allowed, spikes.term == 0)


@pytest.mark.parametrize(("theta", "levels"), [(1, 1), (2, 2), (3, 3), (3, 4), (5, 2)])
@pytest.mark.parametrize("steps", [1, 3, 4])
def test_the_papers_neuron_ends_on_the_level_of_any_currents(theta, levels, steps):
    """Algorithm 1: n timesteps of any currents, max(n, L) - 1 of correction, L of emission."""
    currents = [unknown(f"x{i}") for i in range(steps)]
    state = State(Symbol(z3.IntVal(theta // 2)), Symbol(z3.IntVal(0)))
    for current in currents:
        state = neuron.step(Stage.INTEGRATE, state, current, theta, levels).state
    for _ in range(max(steps, levels) - 1):
        state = neuron.step(Stage.CORRECT, state, None, theta, levels).state
    sent = z3.IntVal(0)
    for _ in range(levels):
        spikes, state = neuron.step(Stage.EMIT, state, None, theta, levels)
        sent = sent + spikes.term
    total = Symbol(sum((x.term for x in currents), z3.IntVal(theta // 2)))
    prove(sent == level(total, theta, levels))


@pytest.mark.parametrize(("theta", "levels"), [(1, 1), (2, 2), (3, 3)])
@pytest.mark.parametrize("stages", ["the paper's", "streaming", "streaming, theta / 2 later"])
def test_a_potential_leaves_its_bound_for_no_currents(stages, theta, levels):
    """All that comes, the bias too, moves the potential's own sum within a range: the potential
    stays within the length of that range and a threshold.
    """
    currents, low, high = [unknown(f"x{i}") for i in range(4)], z3.Int("low"), z3.Int("high")
    sums = itertools.accumulate(x.term for x in currents)
    given = [z3.And(low <= 0, high >= 0), *(z3.And(low <= total, total <= high) for total in sums)]
    if stages == "the paper's":
        state, states = State(Symbol(z3.IntVal(theta // 2)), Symbol(z3.IntVal(0))), []
        for stage, current in [*((Stage.INTEGRATE, x) for x in currents), *((Stage.CORRECT, None),) * levels]:
            state = neuron.step(stage, state, current, theta, levels).state
            states.append(state)
    else:
        states = [state for _, state in streamed(currents, theta, levels, hesitates="later" in stages)]
    for state in states:
        reach = high - low + theta
        prove(z3.And(-reach <= state.v.term, state.v.term <= reach), *given)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_two_streaming_layers_are_two_qcfs_layers_for_any_weights(levels):
    """Two neurons into one with a timestep of delay, at lag 0: any input currents, weights
    -2 to 2, any bias.
    """
    theta = (3, 2)
    inputs = [[unknown(f"x{j}_{i}") for i in range(2)] for j in range(2)]
    weights, bias = [unknown(f"w{j}") for j in range(2)], unknown("b")
    trains = [[spikes for spikes, _ in streamed(currents, theta[0], levels, hesitates=True)] for currents in inputs]
    arriving = [
        sum((w * s for w, s in zip(weights, step, strict=True)), Symbol(z3.IntVal(0)))
        for step in zip(*trains, strict=True)
    ]
    arriving[0] = arriving[0] + bias
    *_, (_, last) = streamed(arriving, theta[1], levels, hesitates=True)
    total = bias + theta[1] // 2
    for currents, weight in zip(inputs, weights, strict=True):
        whole = Symbol(sum((x.term for x in currents), z3.IntVal(theta[0] // 2)))
        total = total + weight * Symbol(level(whole, theta[0], levels))
    given = [z3.And(w.term >= -2, w.term <= 2) for w in weights]
    prove(last.s.term == level(total, theta[1], levels), *given)


def zero():
    return Symbol(z3.IntVal(0))


@pytest.mark.parametrize(("theta", "levels"), SMALL)
def test_a_neuron_that_sends_changes_has_sent_its_level_after_any_currents(theta, levels):
    """Theorem 5, of one neuron: from any potential, in every timestep; no number is larger than L,
    and none is sent where nothing comes.
    """
    potential, current = unknown("V"), unknown("x")
    state = State(potential, Symbol(level(potential, theta, levels)))
    sent, after = neuron.step(Stage.CHANGE, state, current, theta, levels)
    total = potential + current
    prove(state.s.term + sent.term == level(total, theta, levels))
    prove(z3.And(after.s.term == level(total, theta, levels), after.v.term == total.term))
    prove(z3.And(sent.term >= -levels, sent.term <= levels))
    prove(sent.term == 0, current.term == 0)


def test_no_smaller_number_than_the_levels_holds_every_change():
    potential, current = unknown("V"), unknown("x")
    state = State(potential, Symbol(level(potential, 3, 4)))
    sent, _ = neuron.step(Stage.CHANGE, state, current, 3, 4)
    for term_, holds in ((sent.term, 4), (-sent.term, 4)):
        prove(term_ <= holds)
        with pytest.raises(AssertionError):
            prove(term_ <= holds - 1)


WEIGHTS = [(1, 1), (2, -1), (-3, 2), (-1, -2)]


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("thetas", [(1, 1), (3, 5), (2, 3)])
@pytest.mark.parametrize("levels", [(1, 3), (4, 2)])
def test_two_graded_layers_are_two_qcfs_layers_in_each_of_three_frames(weights, thetas, levels):
    """Two neurons into one, and the input by a shortcut: any inputs, any biases, no reset between
    frames.
    """
    frames = [[unknown(f"x{j}_{k}") for j in range(2)] for k in range(3)]
    biases = [unknown(f"b{j}") for j in range(3)]
    first = [State(bias + thetas[0] // 2, zero()) for bias in biases[:2]]
    second, shown = State(biases[2] + thetas[1] // 2, zero()), [zero(), zero()]
    for frame in frames:
        changes = [new - old for new, old in zip(frame, shown, strict=True)]
        pairs = zip(first, changes, strict=True)
        steps = [neuron.step(Stage.CHANGE, state, x, thetas[0], levels[0]) for state, x in pairs]
        arriving = changes[0] + sum((step.spikes * w for step, w in zip(steps, weights, strict=True)), zero())
        second = neuron.step(Stage.CHANGE, second, arriving, thetas[1], levels[1]).state
        first, shown = [step.state for step in steps], frame
        total = biases[2] + thetas[1] // 2 + frame[0]
        for x, bias, w in zip(frame, biases, weights, strict=False):
            total = total + Symbol(level(x + bias + thetas[0] // 2, thetas[0], levels[0])) * w
        prove(second.s.term == level(total, thetas[1], levels[1]))


@pytest.mark.parametrize(("theta", "levels"), SMALL)
def test_a_streaming_neuron_that_is_kept_ends_each_frame_on_its_level(theta, levels):
    """Theorem 5: from any settled state, L timesteps after the last current of the next frame."""
    before, currents = unknown("V"), [unknown(f"x{i}") for i in range(3)]
    count = Symbol(level(before, theta, levels))
    state, sent = State(before - count * theta, count), zero()
    for current in [*currents, *[zero()] * (levels - 1)]:
        spikes, state = neuron.step(Stage.STREAM, state, current, theta, levels)
        sent = sent + spikes
        prove(z3.And(state.s.term >= 0, state.s.term <= levels))
    total = before + sum(currents, zero())
    prove(state.s.term == level(total, theta, levels))
    prove(sent.term == level(total, theta, levels) - count.term)
    prove(state.v.term == total.term - state.s.term * theta)
    spikes, _ = neuron.step(Stage.STREAM, state, zero(), theta, levels)
    prove(spikes.term == 0)


@pytest.mark.parametrize(("theta", "levels"), [(1, 1), (3, 2), (5, 4)])
def test_where_all_of_a_frame_comes_at_once_no_spike_is_taken_back(theta, levels):
    """The corollary on two phases, of frames: as many spikes as the level changes by."""
    before, current = unknown("V"), unknown("x")
    count = Symbol(level(before, theta, levels))
    state, sent = State(before - count * theta, count), 0
    for x in [current, *[zero()] * (levels - 1)]:
        spikes, state = neuron.step(Stage.STREAM, state, x, theta, levels)
        sent = sent + z3.Abs(spikes.term)
    prove(sent == z3.Abs(level(before + current, theta, levels) - count.term))


@pytest.mark.parametrize(("theta", "levels"), [(1, 1), (2, 3), (3, 2)])
def test_a_kept_potential_leaves_its_bound_for_no_currents(theta, levels):
    """From any state within the bound from which a neuron may go on, whatever came before: all that
    comes moves V within a range.
    """
    low, high, potential, count = (unknown(name) for name in ("low", "high", "V", "s"))
    currents, total = [unknown(f"x{i}") for i in range(3)], potential
    state = State(potential - count * theta, count)
    given = [
        z3.And(low.term <= 0, high.term >= 0, count.term >= 0, count.term <= levels),
        z3.And(low.term <= potential.term, potential.term <= high.term),
        # Where spikes stand, the last of them left 0 or more, and V was in its range.
        z3.Implies(count.term > 0, state.v.term >= potential.term - high.term),
    ]
    for current in currents:
        _, state = neuron.step(Stage.STREAM, state, current, theta, levels)
        total = total + current
        given.append(z3.And(low.term <= total.term, total.term <= high.term))
        reach = high.term - low.term + theta
        prove(z3.And(-reach <= state.v.term, state.v.term <= reach), *given)
        prove(z3.Implies(state.s.term > 0, state.v.term >= total.term - high.term), *given)
